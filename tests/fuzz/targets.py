"""What atheris fuzzes: each target takes any bytes, and may raise nothing but NvcError."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

from nvc_cli.errors import NvcError
from nvc_cli.listing import read
from nvc_cli.salvage import Salvager
from nvc_cli.stream import StreamReader
from tests.fuzz import sources
from tests.fuzz.mutations import VECTORS, refused


def stream(data: bytes) -> None:
    """The reader of streams, without decoding: `nvc info`."""
    read(StreamReader(io.BytesIO(data), "x"), lambda row: None)


def damaged(data: bytes) -> None:
    """The reader that goes on after damage."""
    for _ in Salvager(io.BytesIO(data), "x"):
        pass


def _video(name: str) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(data)
            sources.outcome(path)

    return target


SUFFIXES = {"raw": ".yuv", "y4m": ".y4m", "container": ".mkv"}
"""Of the names under which source videos are read; any container may come as a .mkv."""

TARGETS: dict[str, Callable[[bytes], None]] = {
    "stream": stream,
    "damaged": damaged,
    **{kind: _video(f"a_{sources.WIDTH}x{sources.HEIGHT}_25{suffix}") for kind, suffix in SUFFIXES.items()},
}


def seeds(target: str) -> list[bytes]:
    """Valid inputs to begin with."""
    if target not in SUFFIXES:
        return [path.read_bytes() for path in sorted(VECTORS.glob("*.nvc"))]
    kinds = {suffix: kind for kind, suffix in SUFFIXES.items()}
    return [data for name, data in sources.sources().items() if kinds.get(Path(name).suffix, "container") == target]


def attempt(target: str, data: bytes) -> None:
    """Give a target bytes; NvcError means that they are not taken, anything else goes through."""
    try:
        TARGETS[target](data)
    except NvcError as error:
        refused(error)
