"""Reading a damaged stream: what is whole, from keyframe to keyframe, and which frames are lost in between."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO

from nvc_cli.fields import Source, intact, seal
from nvc_cli.index import MARK, MAX_SIZE, Index, Keyframe, load, parse
from nvc_cli.stream import KEYFRAME, MAX_PAYLOAD, Gap, Packet, StreamReader
from nvc_cli.tracks import SAMPLE, parse_sample
from nvc_cli.window import Window

EFFORT = 4096
"""Bytes that are checked in vain for being a packet, at most, for each byte of the stream."""
LINKS = 4
"""A search takes nothing longer than that for a packet unless so many after it begin as packets do, or up to the end of the data."""

_LENGTHS = 5  # bytes in which a head and a length are
_PACKET_REST, _SAMPLE_REST, _INDEX_REST = 6, 4, 8  # bytes after a payload, a sample's body, and the index's
_MIN_PAYLOAD, _MIN_SAMPLE = 5, 4  # bytes
_LONGEST_SAMPLE = 2**24  # bytes


class Salvager(StreamReader):
    """Reads what is whole of a stream, as a StreamReader does: after a fault it goes on with the next keyframe whose packet is
    whole. Of a file, the index tells where that is; else it is searched for, byte by byte.

    `frames` counts the lost ones, too: all of them, if the index is there or if the lengths of the damaged packets are right; else
    those that there must have been. `uncounted` is how many more there were, if the index at the end tells that, `surplus` how many fewer. `silent` counts
    damaged pieces of tracks.

    No packet is taken to be longer than twice the samples of its picture, no piece of a track than 16 MiB, and only so many bytes are checked in vain: that keeps
    memory and time within limits whatever the data are. Raises StreamError and Truncated for the header only.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file, name)
        self._longest = min(2 * self.header.info.frame_bytes + 4096, MAX_PAYLOAD)  # bytes of a payload
        self._window = Window(file, self.size)
        self._known = load(file, self._start)
        self._coming = iter(self._known or ())
        self._numbers: dict[int, list[int]] = {}  # of the keyframes with a CRC-32; there may be some that are the same
        for keyframe in self._known or ():
            self._numbers.setdefault(keyframe.crc, []).append(keyframe.frame)
        self._entered, self._stray = -1, False  # the last keyframe's number by the index; whether what follows belongs elsewhere
        self._chained = False  # all frames since a keyframe were whole
        self._exact = self._was_exact = True  # the number of the next packet; that of the last one that was given out
        self._checked = 0  # bytes, in vain
        self.uncounted = self.silent = 0

    def _enter(self, index: Index, keyframe: Keyframe) -> None:
        super()._enter(index, keyframe)
        self._window = Window(self._file, keyframe.offset)

    def _read_packets(self) -> Iterator[Packet]:
        end = None
        while self._window.peek(0, 1) and not (end := self._index_at(0)):
            length = self._length_at(0)
            if not self._is_whole(0, length):
                self._pass_fault(length)
                continue
            data = self._window.peek(0, length)
            self._window.skip(length)
            if self._known and data[0] != SAMPLE and self._is_stray(data):
                self._lose("packets are not where the index says")
                continue
            if data[0] == SAMPLE:
                self._hand_on(data)
                self.size = self._window.position
                continue
            packet = self._unpack(data)
            self.frames += 1
            self.size, self.packet_size = self._window.position, length
            if packet:
                yield packet
                self.gap, self._was_exact = None, self._exact
        self._finish(end or self._known)

    def _unpack(self, data: bytes) -> Packet | None:
        """A whole packet's content; None if it is of no use."""
        source = Source(io.BytesIO(data))
        head = source.byte()
        payload, checksum = source.take(source.varint(MAX_PAYLOAD)), int.from_bytes(source.take(2), "little")
        keyframe = bool(head & KEYFRAME)
        self._chained |= keyframe
        if not self._chained:
            self._lose("no keyframe comes before it")
            return None
        try:
            return self._packet(keyframe, head % KEYFRAME, payload, checksum)
        except ValueError as problem:
            self._lose(str(problem))
            return None

    def _hand_on(self, data: bytes) -> None:
        """A whole piece of a track."""
        source = Source(io.BytesIO(data[1:]))
        try:
            sample = parse_sample(source.take(source.varint(_LONGEST_SAMPLE)), len(self.header.tracks))
        except (EOFError, ValueError):
            self.silent += 1
            return
        if self.on_sample:
            self.on_sample(sample)

    def _lose(self, reason: str, exact: bool = True) -> None:
        """The frame that is next is lost, and all up to a keyframe."""
        self._chained = False
        self.gap = Gap(self.gap.reason, self.gap.exact and exact) if self.gap else Gap(reason, exact)

    def _pass_fault(self, length: int) -> None:
        """Go on after something that is not a whole packet, but seems to be one of this length if that is not 0."""
        if length and self._window.peek(0, 1)[0] == SAMPLE and self._anything_at(length):
            self._window.skip(length)
            self.silent += 1
            return
        self._lose(self._fault(length))
        window, here = self._window, self._file.tell() if self._known else 0
        for keyframe in self._coming:
            if keyframe.frame > self.frames and keyframe.offset > window.position:
                self._file.seek(self._start + keyframe.offset)
                self._window = Window(self._file, keyframe.offset)
                if any(byte & KEYFRAME for byte in self._window.peek(0, 1)) and self._is_whole(0, self._length_at(0)):
                    self.frames = keyframe.frame
                    return
                self._checked += self._window.held
        if self._known:
            self._file.seek(here)
        self._window = window
        self._search(length)

    def _search(self, length: int) -> None:
        """Go on to the next packet or index that is whole, without an index to tell where."""
        window = self._window
        index = window.peek(0, 1) == MARK
        if length and self._anything_at(length):
            window.skip(length)
        else:
            window.skip(1)
            while window.peek(0, 1) and not self._anything_at(0):
                window.skip(1)
            self._exact = False
            self._lose("", exact=False)
            if index and not window.peek(0, 1):  # no frame, but the index was damaged
                return
        self.frames += 1

    def _finish(self, index: Index | None) -> None:
        """Count what is lost at the end."""
        self.size = self._window.position
        if index is None:
            self._lose("it ends without an index", exact=False)
        elif self._was_exact:
            if index.frames > self.frames or self.gap:
                self.gap = Gap(self.gap.reason if self.gap else "their packets are missing", True)
            self.surplus = max(self.frames - index.frames, 0)
            self.frames = index.frames
        else:
            self.uncounted = max(index.frames - self.frames, 0)
            self.gap = self.gap and Gap(self.gap.reason, True)

    def _anything_at(self, ahead: int) -> bool:
        length = self._length_at(ahead)
        if length > EFFORT and not self._goes_on(ahead, length):
            return False
        return self._is_whole(ahead, length) or self._index_at(ahead) is not None

    def _goes_on(self, ahead: int, length: int) -> bool:
        """Whether what follows a packet of this length could be others, or the end."""
        for _ in range(LINKS):
            ahead += length
            if self._window.peek(ahead, 1) in (b"", MARK):
                break
            length = self._length_at(ahead)
            if not length:
                return False
        return True

    def _length_at(self, ahead: int) -> int:
        """Bytes of the packet, or the piece of a track, that may begin so many bytes ahead; 0 if none does."""
        start = self._window.peek(ahead, _LENGTHS)
        if not start or (start[0] >= 2 * KEYFRAME and start[0] != SAMPLE):
            return 0
        sample = start[0] == SAMPLE
        least, longest, rest = (_MIN_SAMPLE, _LONGEST_SAMPLE, _SAMPLE_REST) if sample else (_MIN_PAYLOAD, self._longest, _PACKET_REST)
        try:
            source = Source(io.BytesIO(start[1:]))
            length = source.varint(longest)
        except (EOFError, ValueError):
            return 0
        return 1 + source.size + length + rest if length >= least else 0

    def _is_whole(self, ahead: int, length: int) -> bool:
        if not length or self._checked + length > EFFORT * self._window.position + self._longest:
            return False
        if not self._window.peek(ahead + length - 1, 1):
            return False
        whole = intact(self._window.peek(ahead, length))
        if not whole:
            self._checked += length
        return whole

    def _is_stray(self, data: bytes) -> bool:
        """Whether a whole packet is of a part that, by the index, comes before the one that was entered last, or is in none. Before a part that comes too early
        others are missing."""
        if data[0] & KEYFRAME:
            known = self._numbers.get(seal(data), [-1])
            number = next((number for number in known if number >= self.frames), known[-1])
            self._stray = number <= self._entered
            if not self._stray:
                self._entered = number
                if self._exact and number > self.frames:
                    self._lose("packets are missing")
                    self.frames = number
        return self._stray

    def _index_at(self, ahead: int) -> Index | None:
        """The whole index that begins so many bytes ahead."""
        start = self._window.peek(ahead, _LENGTHS)
        if start[:1] != MARK:
            return None
        position = self._window.position + ahead
        source = Source(io.BytesIO(start[1:]))
        try:
            body = source.varint(min(2 * position, MAX_SIZE))
        except (EOFError, ValueError):
            return None
        length = 1 + source.size + body + _INDEX_REST
        if not self._is_whole(ahead, length):
            return None
        try:
            return parse(self._window.peek(ahead, length), position)
        except ValueError:
            self._checked += length
            return None

    def _fault(self, length: int) -> str:
        if not length:
            return "it does not begin as a packet does"
        if len(self._window.peek(0, length)) < length:
            return "the stream ends inside it"
        return "its CRC-32 does not match"
