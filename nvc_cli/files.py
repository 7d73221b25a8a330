"""Output files: written beside their target, moved into place when whole, removed when not."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from nvc_cli.errors import NvcError

try:
    import fcntl
except ImportError:  # Windows
    LOCKS = False
else:
    LOCKS = True

STDOUT = "-"


@contextlib.contextmanager
def publish(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a binary file that appears under `path` only when the block ends without an exception.

    The bytes go to `.NAME.part` in the same folder, which one process at a time can hold. A clean exit renames it to `path`, an exception
    removes it; a process that is killed leaves it.
    Devices and named pipes are written to directly, and "-" is standard output (flushed, left open).

    Raises NvcError at once if `path` exists and `overwrite` is not set, if another process is writing it, if it is a folder, or if the folder it should
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
    file = _claim(part, path)
    try:
        yield file
        file.flush()
        check_target(path, overwrite)  # another process may have been faster
        if not LOCKS:
            file.close()
        _rename(part, target, path)  # while nobody else can open it
    except BaseException:
        with contextlib.suppress(OSError):  # a system that does not remove what is open does so below
            part.unlink(missing_ok=True)
        with contextlib.suppress(OSError, NvcError):
            file.close()  # tries once more to write what it holds
        if not LOCKS:
            part.unlink(missing_ok=True)
        raise
    file.close()


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

    def __init__(self, location: Path, path: str | os.PathLike[str], opener: Callable[[str, int], int] | None) -> None:
        self.path = path
        super().__init__(location, "w", opener=opener)

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _cannot_write(self.path, error) from error


def _open(location: Path, path: str | os.PathLike[str], opener: Callable[[str, int], int] | None = None) -> BinaryIO:
    try:
        return io.BufferedWriter(_Output(location, path, opener), buffer_size=1 << 20)
    except FileNotFoundError:
        raise NvcError(f"cannot write {path}: there is no folder {location.parent}; create it first") from None
    except OSError as error:
        raise _cannot_write(path, error) from error


def _claim(part: Path, path: str | os.PathLike[str]) -> BinaryIO:
    """Open a part file that no other process has open, empty."""
    if not LOCKS:
        return _open(part, path)

    def untouched(name: str, flags: int) -> int:
        return os.open(name, flags & ~os.O_TRUNC | os.O_NOFOLLOW, 0o666)

    while True:
        file = _open(part, path, untouched)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(part), os.fstat(file.fileno())):  # else it was renamed or removed meanwhile
                    file.truncate(0)
                    return file
        except BlockingIOError:
            file.close()
            raise NvcError(f"cannot write {path}: another process is writing it; wait for that one, or choose another name") from None
        except OSError:  # a file system without locks
            file.truncate(0)
            return file
        file.close()


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
