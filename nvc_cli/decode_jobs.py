"""Decoding in several processes, each of which takes one segment after the other, and keeps its frames on disk until their turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame
from nvc_cli.planar import read_raw, write_planes
from nvc_cli.player import Placed, Showing, enter
from nvc_cli.report import Meter
from nvc_cli.stream import Header, Packet, StreamReader, Truncated
from nvc_cli.tracks import Sample
from nvc_cli.workers import Workers, abandoned, disk_errors, ready_decoder, scratch


@dataclass(frozen=True)
class Order:
    """How segments are decoded: all that a process must know beside the packets."""

    header: Header
    model: str  # name or file
    enhance: bool
    device: str  # auto, cpu or cuda
    threads: int  # of a process
    name: str  # of the stream, for messages
    max_pixels: int


@dataclass
class CodedSegment:
    """Packets from a keyframe up to before the next one, and this one's, which the filter out of the loop looks at."""

    placed: list[Placed]
    samples: list[Sample]  # pieces of tracks that were met on the way
    following: Packet | None = None

    @property
    def packets(self) -> list[Packet]:
        return [placed.packet for placed in self.placed]


@dataclass(frozen=True)
class Decoded:
    """What became of a segment: a file of planes, the frames' times, what each took, and what went wrong with the frame after them."""

    path: Path
    times: list[int | None]
    seconds: list[float]
    error: str | None


def decode_segment(packets: list[Packet], following: Packet | None, first: int, order: Order, path: Path) -> Decoded:
    """Decode packets as one segment into a file at `path`; `first` is the number of the first one's frame.

    Raises:
        NvcError: there is no such model or device, or it is not the stream's; or the disk is full.
    """
    from nvc_cli.decoder import Decoder, Undecodable

    model = ready_decoder(order.model, order.device, order.threads, order.enhance)
    decoder = Decoder(order.header, model, order.enhance, None, order.name, order.max_pixels)
    decoder.restart(first)
    done, error = Decoded(path, [], [], None), None
    with disk_errors(), path.open("wb") as file:

        def keep(frames: list[Frame]) -> None:
            for frame in frames:
                write_planes(file, frame)
                done.times.append(frame.time)

        try:
            for packet in packets:
                if abandoned():
                    return done
                begin = time.monotonic()
                keep(decoder.decode(packet))
                done.seconds.append(time.monotonic() - begin)
            keep(decoder.decode(following)[:1] if following and order.enhance else decoder.finish())
        except Undecodable as undecodable:
            error = str(undecodable)
    return replace(done, error=error)


class Team(Showing):
    """Decodes `jobs` segments at a time. The frames of at most `jobs` + 1 segments wait on disk."""

    def __init__(self, reader: StreamReader, order: Order, jobs: int, meter: Meter, start: int = 0, stop: int | None = None) -> None:
        super().__init__(reader, meter, start, stop)
        self.order, self.jobs = order, jobs
        self._segments: list[CodedSegment] = []  # that have not been shown
        self._deliver = reader.on_sample
        self._samples: list[Sample] = []  # that were met since the last segment
        self._end = 0  # bytes of the stream up to the last frame that was shown

    @property
    def size(self) -> int:
        return self._end - self._begin

    def _frames(self) -> Iterator[Frame]:
        self.reader.on_sample = self._samples.append
        with scratch() as folder, Workers(self.jobs) as workers:
            for decoded in workers.results(self._calls(folder)):
                yield from self._shown(self._segments.pop(0), decoded)
                decoded.path.unlink()
        self._hand_on(self._samples)
        if self.stop is None:
            self._end = self.reader.size

    def _calls(self, folder: Path) -> Iterator[Callable[[], Decoded]]:
        """What is to be done for each segment."""
        for segment in self._split():
            self._segments.append(segment)
            first = segment.placed[0].frame
            yield partial(decode_segment, segment.packets, segment.following, first, self.order, folder / str(first))

    def _split(self) -> Iterator[CodedSegment]:
        """The stream in segments, as far as it is asked for."""
        segment, begun = None, False
        try:
            for placed in enter(self.reader, self.start):
                placed = replace(placed, packet=self._as_needed(placed))
                if segment and (placed.packet.keyframe or self._over(placed)):
                    segment.following = placed.packet
                    yield segment
                    segment = None
                if self._over(placed):
                    return
                if segment is None:
                    segment, begun = CodedSegment([], self._samples[:]), True
                    self._samples.clear()
                segment.placed.append(placed)
        except Truncated as error:
            if not begun:
                raise
            self.fault = error
        if segment:
            yield segment

    def _over(self, placed: Placed) -> bool:
        return self.stop is not None and placed.place >= self.stop

    def _shown(self, segment: CodedSegment, decoded: Decoded) -> Iterator[Frame]:
        """The frames of a segment; NvcError where one could not be decoded."""
        self._hand_on(segment.samples)
        self.meter.times += decoded.seconds
        with disk_errors(), decoded.path.open("rb") as file:
            for placed, frame, moment in zip(segment.placed, read_raw(file, decoded.path.name, self.order.header.info), decoded.times):
                self._arrive(placed)
                self._end = placed.end
                yield replace(frame, time=moment)
        if decoded.error:
            raise NvcError(decoded.error)

    def _hand_on(self, samples: list[Sample]) -> None:
        """Give pieces of tracks to who waits for them."""
        for sample in samples:
            if self._deliver:
                self._deliver(sample)
