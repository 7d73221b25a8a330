"""nvc: a neural video codec for the command line, and as a library:

    from nvc_cli import Encoder, Decoder, ...

An `Encoder` turns frames into packets, a `StreamWriter` packets into bytes; a `StreamReader` and a `Decoder` turn them back. Frames are
`Frame` objects, which are made of NumPy arrays or PyAV's frames and turned into them. examples/library.py is a program of thirty lines.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nvc_cli.decoder import Decoder as Decoder
    from nvc_cli.effort import EFFORTS as EFFORTS
    from nvc_cli.effort import Effort as Effort
    from nvc_cli.encoder import Encoded as Encoded
    from nvc_cli.encoder import Encoder as Encoder
    from nvc_cli.errors import NvcError as NvcError
    from nvc_cli.frame import BT709 as BT709
    from nvc_cli.frame import Color as Color
    from nvc_cli.frame import Frame as Frame
    from nvc_cli.frame import Orientation as Orientation
    from nvc_cli.frame import VideoInfo as VideoInfo
    from nvc_cli.rate import OnePass as OnePass
    from nvc_cli.stream import Header as Header
    from nvc_cli.stream import Packet as Packet
    from nvc_cli.stream import StreamReader as StreamReader
    from nvc_cli.stream import StreamWriter as StreamWriter
    from nvc_cli.video import open_reader as open_reader
    from nvc_cli.video import open_writer as open_writer

__version__ = "0.1.0"

_HOMES = {
    "decoder": ("Decoder",),
    "effort": ("EFFORTS", "Effort"),
    "encoder": ("Encoded", "Encoder"),
    "errors": ("NvcError",),
    "frame": ("BT709", "Color", "Frame", "Orientation", "VideoInfo"),
    "rate": ("OnePass",),
    "stream": ("Header", "Packet", "StreamReader", "StreamWriter"),
    "video": ("open_reader", "open_writer"),
}
"""The modules of what this package offers. They are imported when asked for: PyTorch alone takes a second."""

__all__ = ["__version__", *sorted(name for names in _HOMES.values() for name in names)]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"nvc_cli.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
