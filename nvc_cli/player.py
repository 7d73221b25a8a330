"""Playing a part of a stream: from the keyframe before it to its last frame, with something to see in place of lost frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nvc_cli.decoder import Decoder, Undecodable
from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame, blank
from nvc_cli.stream import Gap, Packet, StreamReader, Truncated

if TYPE_CHECKING:
    from nvc_cli.report import Meter

GREY = 128
HELD = 1 << 26
"""Bytes of packets that are kept, at most, until it is known whether they are needed. Beyond that they are decoded in any case."""


@dataclass(frozen=True)
class Placed:
    """A packet, the number of its frame, and the bytes of the stream before and up to its end; `gap` is what was lost right before.

    `place` is the number again, or in a stream with a tick the frame's time.
    """

    frame: int
    place: int
    packet: Packet
    begin: int
    end: int
    gap: Gap | None


def enter(reader: StreamReader, start: int) -> Iterator[Placed]:
    """The packets of a stream from the last keyframe at or before the place `start` on.

    Where the stream cannot be entered there by an index, packets are read from the beginning.

    Raises:
        NvcError: the stream has no frame there.
    """
    held: list[Placed] = []
    size, last = 0, -1
    frames = reader.seek(start) if start else None
    if frames is not None and reader.header.tick is None:
        _check_start(reader, start, frames - 1)
    for packet in reader:
        last = reader.frames - 1 if packet.time is None else packet.time
        placed = Placed(reader.frames - 1, last, packet, reader.size - reader.packet_size, reader.size, reader.gap)
        if packet.keyframe and placed.place <= start:
            held, size = [], 0
        held.append(placed)
        size += reader.packet_size
        if placed.place >= start or size > HELD:
            yield from held
            held, size = [], 0
    if start:
        _check_start(reader, start, last if reader.header.tick else reader.frames - 1)
    yield from held  # the frame at `start` is lost, but there may be one to show in its place


def _check_start(reader: StreamReader, start: int, last: int) -> None:
    """The `last` place of a stream must not be before the `start`."""
    if last < start:
        tick = reader.header.tick or 1 / reader.header.fps
        raise NvcError(
            f"the last frame of {reader.name} is at {float(last * tick):.3f} s, so none is left at {float(start * tick):.3f} s; choose an earlier --start"
        )


class Showing:
    """The decoded frames of a stream from the place `start` to that before `stop`, or to its end, by iteration. Places are the numbers
    of frames, or their times in a stream with a tick.

    If the stream is cut off, all whole frames come, and then `fault` says so. `lost` counts those of the frames asked for that are
    known to be lost. `size` is the bytes read for them.

    Raises:
        NvcError: something cannot be decoded; or there is no frame `start`.
    """

    def __init__(self, reader: StreamReader, meter: Meter, start: int = 0, stop: int | None = None) -> None:
        self.reader, self.meter = reader, meter
        self.start, self.stop = start, stop
        self.fault: NvcError | None = None
        self.lost = 0
        self.packet_size = 0  # bytes of the packet that was decoded last
        self._begin = 0  # bytes of the stream before those that are asked for
        self._next = 0 if self._timed else start  # number of the frame that comes next

    @property
    def size(self) -> int:
        return self.reader.size - self._begin

    @property
    def _timed(self) -> bool:
        return self.reader.header.tick is not None

    def __iter__(self) -> Iterator[Frame]:
        for frame in self._frames():
            place = self._next if not self._timed else frame.time or 0
            self._next += 1
            if self.stop is not None and place >= self.stop:
                break
            if place >= self.start:
                yield frame
            if not self._timed and self._next == self.stop:
                break

    def _frames(self) -> Iterator[Frame]:
        """All from the place on where the stream is entered."""
        raise NotImplementedError

    def _arrive(self, placed: Placed) -> None:
        """Note the place in the stream."""
        first = not self.packet_size
        if first:
            self._next = placed.frame if self._timed and self.start else min(placed.frame, self.start)
        if self.start and (first or placed.place <= self.start):
            self._begin = placed.begin
        self.packet_size = placed.end - placed.begin

    def _as_needed(self, placed: Placed) -> Packet:
        """The packet, which does not ask for the frame before to be enhanced if nobody will see it."""
        return placed.packet if placed.place > self.start else replace(placed.packet, enhance_last=False)


class Player(Showing):
    """Decodes frame by frame.

    With `resilient`, for which the reader should be a Salvager, what cannot be decoded is lost up to the next keyframe, which the
    meter notes; each lost frame is shown as the last good one, or grey before any, but in a stream with a tick it is not shown, since
    nobody knows when: the one before stays for longer. NvcError then means that nothing can be decoded.
    """

    def __init__(self, reader: StreamReader, decoder: Decoder, meter: Meter, start: int = 0, stop: int | None = None, resilient: bool = False) -> None:
        super().__init__(reader, meter, start, stop)
        self.decoder, self.resilient = decoder, resilient
        self._last: Frame | None = None  # the good one that came last

    def _frames(self) -> Iterator[Frame]:
        decoder, failure = self.decoder, None
        try:
            for placed in enter(self.reader, self.start):
                self._arrive(placed)
                if failure and not placed.packet.keyframe:
                    continue
                jump = failure is not None or placed.frame != decoder.frames
                if jump:
                    yield from self._good(decoder.restart(placed.frame))
                try:
                    with self.meter.frame():
                        ready = decoder.decode(self._as_needed(placed))
                except Undecodable as error:
                    if not self.resilient:
                        raise
                    failure = failure or Gap(error.reason, exact=True)
                    yield from self._good(decoder.restart(placed.frame))
                    continue
                if jump:
                    yield from self._lost(placed.frame, _joined(failure, placed.gap))
                    failure = None
                yield from self._good(ready)
        except Truncated as error:
            if not decoder.begun:
                raise
            self.fault = error
        failure = _joined(failure, self.reader.gap)
        if failure and not decoder.begun and self._last is None:
            raise NvcError(f"nothing of {self.reader.name} can be decoded ({failure.reason}); get a fresh copy of it")
        yield from self._good(decoder.finish())
        yield from self._lost(self.reader.frames, failure)
        self._tell_of_the_end()

    def _good(self, frames: list[Frame]) -> Iterator[Frame]:
        for self._last in frames:
            yield self._last

    def _lost(self, until: int, gap: Gap | None) -> Iterator[Frame]:
        """Something to see for each of the frames before number `until`."""
        first, end = self._next, until
        if not self._timed:
            first, end = max(first, self.start), until if self.stop is None else min(until, self.stop)
        if gap and first < end:
            self.lost += end - first
            self.meter.note(f"{self.reader.name}: {'' if gap.exact else 'at least '}{_range(first, end - 1)} lost ({gap.reason})")
        if self._timed:
            self._next = max(self._next, until)
        while self._next < until:
            yield self._grey() if self._last is None else self._last

    def _tell_of_the_end(self) -> None:
        """What can only be told here."""
        reader = self.reader
        if reader.gap and not reader.gap.exact:
            self.meter.note(f"{reader.name}: there is no index at its end, so more frames may be missing there")
        if reader.uncounted:
            self.lost += reader.uncounted
            self.meter.note(f"{reader.name}: {reader.uncounted} more are lost where it was not known how many, so what follows is too early")
        if reader.surplus:
            self.meter.note(f"{reader.name}: it has {reader.surplus} more than the index at its end tells of, so some may be shown twice")
        if reader.silent:
            self.meter.note(f"{reader.name}: {reader.silent} pieces of its sound or subtitles are lost")

    def _grey(self) -> Frame:
        frame, samples = blank(self.reader.header.info)
        samples[:] = GREY
        return frame


def _joined(one: Gap | None, other: Gap | None) -> Gap | None:
    """What is missing where two gaps meet, for the first one's reason."""
    return Gap(one.reason, one.exact and other.exact) if one and other else one or other


def _range(first: int, last: int) -> str:
    return f"frame {first} is" if first == last else f"frames {first} to {last} are"
