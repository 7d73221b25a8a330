"""The index of keyframes at the end of a stream, by which a file is entered anywhere. stream.md describes its bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from nvc_cli.fields import CRC_BYTES, Source, intact, sealed, varint

MARK = b"\xfe"  # no packet begins like this: bit 7 is not set
END_MARKER = b"\xff"

MIN_PACKET = 13  # bytes: head, length, at least 5 of payload, checksum, CRC-32
MAX_NUMBER = 2**63 - 1
MAX_SIZE = 2**28 - 1  # bytes
_TAIL = 8  # bytes of size and CRC-32


@dataclass(frozen=True)
class Keyframe:
    """Which packet shows a frame, and where."""

    frame: int  # its number
    offset: int  # bytes of the stream up to the end of the packet before
    crc: int  # CRC-32 of its packet: no other keyframe can take its place


class Index:
    """The keyframes of a stream, in order, by iteration. `frames` is the number of all frames."""

    def __init__(self) -> None:
        self.frames = 0
        self.keyframes = 0
        self._entries = bytearray()
        self._last = Keyframe(0, 0, 0)

    def __iter__(self) -> Iterator[Keyframe]:
        source = Source(io.BytesIO(self._entries))
        frame = offset = 0
        for _ in range(self.keyframes):
            frame += source.varint(MAX_NUMBER)
            offset += source.varint(MAX_NUMBER)
            yield Keyframe(frame, offset, _number(source.take(CRC_BYTES)))

    def add(self, keyframe: bool, offset: int, crc: int) -> None:
        """One more frame; the packet before it ends with so many bytes of the stream, its own has this CRC-32."""
        if keyframe:
            self._enter(Keyframe(self.frames, offset, crc))
        self.frames += 1

    def last(self, frame: int) -> Keyframe | None:
        """The last keyframe at or before a frame."""
        found = None
        for keyframe in self:
            if keyframe.frame > frame:
                break
            found = keyframe
        return found

    def until(self, keyframe: Keyframe) -> Index:
        """What the index of the stream was before this keyframe came."""
        before = Index()
        for earlier in self:
            if earlier.frame >= keyframe.frame:
                break
            before._enter(earlier)
        before.frames = keyframe.frame
        return before

    def pack(self) -> bytes:
        """The index as it stands in the stream, without the end marker."""
        body = varint(self.frames) + varint(self.keyframes) + self._entries
        data = MARK + varint(len(body)) + body
        return sealed(data + (len(data) + _TAIL).to_bytes(4, "little"))

    def _enter(self, keyframe: Keyframe) -> None:
        self._entries += varint(keyframe.frame - self._last.frame) + varint(keyframe.offset - self._last.offset)
        self._entries += keyframe.crc.to_bytes(CRC_BYTES, "little")
        self._last = keyframe
        self.keyframes += 1


def parse(data: bytes, offset: int) -> Index:
    """The index that stands in a stream at this byte, without the end marker.

    Raises:
        ValueError: it is damaged, or cannot be that of a stream with so many bytes before it.
    """
    if len(data) < _TAIL or data[:1] != MARK or not intact(data):
        raise ValueError("its CRC-32 does not match")
    source, index = Source(io.BytesIO(data[1:])), Index()
    try:
        source.varint(MAX_SIZE)
        frames = source.varint(MAX_NUMBER)
        for _ in range(source.varint(MAX_SIZE)):
            last = index._last
            frame, place = last.frame + source.varint(MAX_NUMBER), last.offset + source.varint(MAX_NUMBER)
            keyframe = Keyframe(frame, place, _number(source.take(CRC_BYTES)))
            if index.keyframes:
                _check_distance(last, keyframe)
            elif keyframe.frame:
                raise ValueError("the first frame is not a keyframe")
            index._enter(keyframe)
    except EOFError:
        raise ValueError("it is too short") from None
    index.frames = frames
    if index.keyframes:
        _check_distance(index._last, Keyframe(frames, offset, 0))
    if index.pack() != data or (frames and not index.keyframes):
        raise ValueError("its fields contradict each other")
    return index


def load(file: BinaryIO, start: int) -> Index | None:
    """The index of the stream that begins at byte `start` of a file; None of a pipe, and where there is no whole index at the end.
    The file stays where it is."""
    if not file.seekable():
        return None
    here = file.tell()
    try:
        end = file.seek(0, io.SEEK_END) - len(END_MARKER)
        if end - start < _TAIL:
            return None
        file.seek(end - _TAIL)
        size = int.from_bytes(file.read(4), "little")
        if not _TAIL <= size <= min(end - start, MAX_SIZE):
            return None
        file.seek(end - size)
        data = file.read(size + len(END_MARKER))
        return parse(data[:size], end - size - start) if data[size:] == END_MARKER else None
    except ValueError:
        return None
    finally:
        file.seek(here)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


def _check_distance(first: Keyframe, following: Keyframe) -> None:
    """Raises ValueError if two places in a stream cannot be that many frames apart."""
    frames = following.frame - first.frame
    if not 0 < MIN_PACKET * frames <= following.offset - first.offset:
        raise ValueError("it has more frames than the stream has room for")
