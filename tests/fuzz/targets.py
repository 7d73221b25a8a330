"""What is fuzzed: each target takes any bytes, and may raise nothing but NvcError."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.listing import read
from nvc_cli.salvage import Salvager
from nvc_cli.stream import StreamReader
from nvc_cli.video import open_reader, open_writer

FRAMES = 3
"""Read of a video at most."""


def stream(data: bytes) -> None:
    """The reader of streams, without decoding: `nvc info`."""
    read(StreamReader(io.BytesIO(data), "x"), lambda row: None)


def damaged(data: bytes) -> None:
    """The reader that goes on after damage."""
    for _ in Salvager(io.BytesIO(data), "x"):
        pass


def _video(suffix: str) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        number, name = tempfile.mkstemp(suffix)
        try:
            with open(number, "wb") as file:
                file.write(data)
            with open_reader(name, tracks=suffix == ".mkv") as reader:
                for _ in islice(reader, FRAMES):
                    pass
        finally:
            os.unlink(name)

    return target


TARGETS: dict[str, Callable[[bytes], None]] = {
    "stream": stream,
    "damaged": damaged,
    "raw": _video("_48x32_25.yuv"),
    "y4m": _video(".y4m"),
    "container": _video(".mkv"),
}


def seeds(target: str) -> list[bytes]:
    """Valid inputs to begin with."""
    if target in ("stream", "damaged"):
        return [path.read_bytes() for path in sorted((Path(__file__).parent.parent / "vectors").glob("*.nvc"))]
    if target == "raw":
        return [bytes(range(256)) * 9, bytes(48 * 32 * 3 // 2)]
    if target == "y4m":
        body = 2 * (b"FRAME\n" + bytes(16 * 16 * 3 // 2))
        kinds = (b"", b" C420jpeg XCOLORRANGE=FULL", b" Ip A1:1 C420mpeg2", b" It C420paldv")
        return [b"YUV4MPEG2 W16 H16 F25:1" + kind + b"\n" + body for kind in kinds] + [b"YUV4MPEG2 W4 H4 F30000:1001 C444p10\nFRAME\n" + bytes(96)]
    with tempfile.TemporaryDirectory() as folder:
        return [_written(Path(folder) / f"a{suffix}") for suffix in (".mkv", ".mp4", ".avi")]


def _written(path: Path) -> bytes:
    """A small container."""
    rows, columns = np.mgrid[0:32, 0:48]
    with open_writer(str(path), VideoInfo(48, 32, Fraction(25))) as writer:
        for t in range(FRAMES):
            y = ((3 * rows + 2 * columns + 5 * t) % 256).astype(np.uint8)
            writer.write(Frame(y, y[::2, ::2], y[::2, 1::2]))
    return path.read_bytes()


def attempt(target: str, data: bytes) -> bool:
    """Whether the bytes are taken; NvcError means that they are not, anything else goes through."""
    try:
        TARGETS[target](data)
    except NvcError as error:
        if "\n" in str(error):
            raise AssertionError(f"not one sentence: {error}") from error
        return False
    return True
