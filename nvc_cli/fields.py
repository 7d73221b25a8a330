"""The kinds of fields that a stream is made of: bytes, numbers, names, and the CRC-32 that seals them."""

from __future__ import annotations

import zlib
from typing import BinaryIO

CRC_BYTES = 4
_CHUNK = 1 << 20  # bytes asked for at once: what a damaged length can make us allocate in vain


def varint(value: int) -> bytes:
    """Unsigned LEB128, shortest form."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def unsigned(value: int) -> int:
    """Numbers of any sign as ones that are not negative: 0, -1, 1, -2, ... are 0, 1, 2, 3, ..."""
    return 2 * value if value >= 0 else -2 * value - 1


def signed(value: int) -> int:
    """The number whose `unsigned` this is."""
    return -(value + 1) // 2 if value % 2 else value // 2


def sealed(data: bytes) -> bytes:
    """The data, then their CRC-32."""
    return data + zlib.crc32(data).to_bytes(CRC_BYTES, "little")


def seal(data: bytes) -> int:
    """The CRC-32 that the data end with."""
    return int.from_bytes(data[-CRC_BYTES:], "little")


def intact(data: bytes) -> bool:
    """Whether that is the one of the data before it."""
    return zlib.crc32(memoryview(data)[:-CRC_BYTES]) == seal(data)


class Source:
    """A file read forward, with the bytes counted and a running CRC-32 of them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.size = 0
        self.crc = self.seal = 0

    def take(self, count: int) -> bytes:
        """Exactly `count` bytes. Raises EOFError when the file ends first."""
        parts = []
        while count:
            part = self._file.read(min(count, _CHUNK))
            if not part:
                raise EOFError
            self.size += len(part)
            self.crc = zlib.crc32(part, self.crc)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def byte(self) -> int:
        return self.take(1)[0]

    def varint(self, limit: int) -> int:
        """An LEB128 number in its shortest form. Raises ValueError for a longer form or a number above `limit`."""
        value = 0
        for shift in range(0, limit.bit_length(), 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value > limit or (byte == 0 and shift):
                    break
                return value
        raise ValueError(f"a number exceeds {limit} or is not in its shortest form")

    def text(self, limit: int) -> str:
        length = self.byte()
        if length > limit:
            raise ValueError(f"a name is longer than {limit}")
        return self.take(length).decode("ascii")

    def check_seal(self) -> bool:
        """Read a CRC-32; true if it is that of the bytes before it. It is `seal` then."""
        self.seal = self.crc
        return int.from_bytes(self.take(4), "little") == self.seal
