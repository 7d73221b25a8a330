"""Output files: written beside their target, moved into place when whole, removed when not."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nvc_cli.errors import NvcError

STDOUT = "-"


@contextlib.contextmanager
def publish(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that appears under `path` only when the block ends without an exception.

    The bytes go to `.NAME.part` in the same folder. A clean exit renames it to `path`, an exception removes it.
    Devices and named pipes are written to directly, and "-" is standard output (flushed, left open).

    Raises NvcError at once if `path` exists and `overwrite` is not set, if it is a folder, or if the folder it should
    go to is missing or closed to us; later, from `write` or at the end, if the disk is full or fails.
    BrokenPipeError goes through: a reader that has had enough is not an error.
    """
    check_target(path, overwrite)
    if os.fspath(path) == STDOUT:
        with _stdout() as file:
            yield file
        return
    if os.path.exists(path) and not os.path.isfile(path):
        with _open(Path(path), path) as file:
            yield file
        return
    target = Path(os.path.realpath(path))  # a link stays a link: what it points to is replaced
    part = target.with_name(f".{target.name}.part")
    file = _open(part, path)
    try:
        with file:
            yield file
        check_target(path, overwrite)  # another process may have been faster
        _rename(part, target, path)
    except BaseException:
        with contextlib.suppress(OSError, NvcError):
            file.close()  # tries once more to write what it holds
        part.unlink(missing_ok=True)
        raise


def check_target(path: str | os.PathLike[str], overwrite: bool) -> None:
    """Raise NvcError if `path` is a folder, a file that must not be overwritten, or "-" while standard output is a terminal."""
    if os.fspath(path) == STDOUT:
        if sys.stdout.isatty():
            raise NvcError("standard output is a terminal, which bytes would garble; send it to a pipe or a file")
        return
    if os.path.isdir(path):
        raise NvcError(f"cannot write {path}: it is a folder; give the name of a file in it")
    if os.path.isfile(path) and not overwrite:
        raise NvcError(f"{path} exists already; choose another name, or pass -y to overwrite it")


class _Output(io.FileIO):
    """A raw file whose failures to write are told in terms of the path that the user gave."""

    def __init__(self, location: Path, path: str | os.PathLike[str]) -> None:
        self.path = path
        super().__init__(location, "w")

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def _open(location: Path, path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return io.BufferedWriter(_Output(location, path), buffer_size=1 << 20)
    except FileNotFoundError:
        raise NvcError(f"cannot write {path}: there is no folder {location.parent}; create it first") from None
    except OSError as error:
        raise _cannot_write(path, error) from error


def _rename(part: Path, target: Path, path: str | os.PathLike[str]) -> None:
    try:
        os.replace(part, target)
    except OSError as error:
        raise _cannot_write(path, error) from error


@contextlib.contextmanager
def _stdout() -> Iterator[BinaryIO]:
    try:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _cannot_write("standard output", error) from error


def _cannot_write(path: str | os.PathLike[str], error: OSError) -> NvcError:
    reason = (error.strerror or str(error)).lower()
    return NvcError(f"cannot write {path}: {reason}; make room or choose another place")
