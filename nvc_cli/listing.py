"""What `nvc info` finds in a stream, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nvc_cli.errors import NvcError
from nvc_cli.stream import Header, Packet, StreamError, StreamReader
from nvc_cli.tracks import Sample

if TYPE_CHECKING:
    from nvc_cli.decoder import Decoder
    from nvc_cli.frame import Frame


@dataclass(frozen=True)
class FrameRow:
    """One frame. `time` is in seconds after the first one, `qp` an eighth of the rate point; `bytes` counts the whole packet. `psnr` in dB
    is that of the decoded picture, None where it is not known."""

    number: int
    type: str  # I or P
    time: float
    qp: float
    bytes: int
    filter: bool
    refresh: bool
    enhance: bool
    psnr: float | None = None


@dataclass(frozen=True)
class TrackRow:
    """Sound or subtitles. `bytes` counts the data of the samples."""

    kind: str
    codec: str
    tick: str
    samples: int
    bytes: int


@dataclass(frozen=True)
class Totals:
    """Of the frames read. `bytes` counts all that was read: the header, sound and subtitles and, in a complete stream, index and end marker, too."""

    frames: int
    keyframes: int
    bytes: int
    seconds: float
    kbps: float
    bpp: float


@dataclass(frozen=True)
class Listing:
    """A stream up to its end or to the first fault."""

    header: Header
    rows: list[FrameRow]
    tracks: list[TrackRow]
    totals: Totals
    fault: NvcError | None


def read(reader: StreamReader, show: Callable[[FrameRow], None], quality: Callable[[Packet], float] | None = None) -> Listing:
    """Read a stream to its end.

    Args:
        show: is given each row as soon as it is complete.
        quality: the PSNR of a packet's picture in dB; called for each packet in order.
    """
    header, rows = reader.header, list[FrameRow]()
    counts = [[0, 0] for _ in header.tracks]

    def count(sample: Sample) -> None:
        counts[sample.track][0] += 1
        counts[sample.track][1] += len(sample.data)

    def add(row: FrameRow) -> None:
        rows.append(row)
        show(row)

    reader.on_sample = count
    last: FrameRow | None = None
    fault: NvcError | None = None
    try:
        for number, packet in enumerate(reader):
            if last:
                add(_enhanced(last, packet.enhance_last))
            last = _row(number, packet, header, reader.packet_size, quality(packet) if quality else None)
    except StreamError as error:
        fault = error
    if last:
        add(last)
    tracks = [TrackRow(track.kind, track.codec, str(track.tick), *counted) for track, counted in zip(header.tracks, counts)]
    return Listing(header, rows, tracks, _totals(header, rows, reader.size), fault)


def qualities(decoder: Decoder, reference: Iterator[Frame], name: str) -> Callable[[Packet], float]:
    """What tells the PSNR of each packet's picture against the next frame of the video `name`. NvcError where that ends, or is of another size."""
    from nvc_cli.metrics import frame_psnr

    def quality(packet: Packet) -> float:
        (decoded,) = decoder.decode(packet)
        frame = next(reference, None)
        if frame is None:
            raise NvcError(f"{name} has {decoder.frames - 1} frames, fewer than the stream; give the video that it was encoded from")
        try:
            return frame_psnr(frame, decoded).yuv
        except ValueError:
            height, width = frame.y.shape
            raise NvcError(f"{name} has pictures of {width}x{height}, which are not those of the stream; give the video that it was encoded from") from None

    return quality


def _row(number: int, packet: Packet, header: Header, size: int, psnr: float | None) -> FrameRow:
    time = number / header.fps if packet.time is None or header.tick is None else packet.time * header.tick
    return FrameRow(number, "I" if packet.keyframe else "P", float(time), packet.rate / 8, size, packet.filtered, packet.refresh, False, psnr)


def _enhanced(row: FrameRow, flag: bool) -> FrameRow:
    """A row, once the next packet has told its flag."""
    return replace(row, enhance=flag)


def _totals(header: Header, rows: list[FrameRow], size: int) -> Totals:
    seconds = rows[-1].time + float(1 / header.fps) if rows else 0.0
    bits = 8 * size
    return Totals(
        frames=len(rows),
        keyframes=sum(row.type == "I" for row in rows),
        bytes=size,
        seconds=seconds,
        kbps=bits / seconds / 1000 if rows else 0.0,
        bpp=bits / (len(rows) * header.width * header.height) if rows else 0.0,
    )
