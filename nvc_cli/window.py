"""A file read forward, of which any part that is ahead can be looked at first."""

from __future__ import annotations

from typing import BinaryIO

_CHUNK = 1 << 20  # bytes


class Window:
    """Reads no byte before it is asked for. `position` counts the bytes of the stream before those at hand."""

    def __init__(self, file: BinaryIO, position: int) -> None:
        self._file = file
        self._data = bytearray()
        self._begin = 0  # bytes of `_data` that are passed
        self.position = position

    @property
    def held(self) -> int:
        """Bytes at hand."""
        return len(self._data)

    def peek(self, ahead: int, count: int) -> bytes:
        """`count` bytes that begin so many ahead; fewer at the end of the file."""
        first = self._begin + ahead
        while (missing := first + count - len(self._data)) > 0:
            part = self._file.read(min(missing, _CHUNK))
            if not part:
                break
            self._data += part
        return bytes(self._data[first : first + count])

    def skip(self, count: int) -> None:
        """Go on by so many bytes, which must have been looked at."""
        self._begin += count
        self.position += count
        if self._begin >= _CHUNK:
            del self._data[: self._begin]
            self._begin = 0
