"""When the pictures of a container are shown: at a constant rate, or at times of their own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from models.media import fraction
from nvc_cli.planar import DEFAULT_FPS

if TYPE_CHECKING:
    import av

JITTER = Fraction(1, 4)
"""How far pictures of a constant rate may be off, in parts of their distance: less than a tick, by which containers round."""

MAX_TERM = 1001
"""The largest denominator of a measured rate."""


@dataclass(frozen=True)
class Timing:
    """Of a video stream. `fps` is the rate, or the mean rate where the distance of pictures varies; `tick` is the unit of their times
    in seconds, None for a constant rate. `frames` is None where that is not known; `side` counts the bytes of other streams."""

    fps: Fraction
    tick: Fraction | None
    frames: int | None
    side: int = 0


def scan(container: av.container.InputContainer, stream: av.VideoStream, others: Iterable[av.stream.Stream]) -> Timing:
    """Read through a container without decoding. Where it is damaged, what comes before counts.

    Raises:
        av.FFmpegError: nothing of it can be read.
    """
    import av

    times: list[int | None] = []
    side = 0
    try:
        for packet in container.demux(stream, *others):
            if packet.stream is not stream:
                side += packet.size
            elif packet.size and not packet.is_discard:
                times.append(packet.pts)
    except av.FFmpegError:
        if not times:
            raise
    rates = [rate for rate in (stream.guessed_rate, stream.average_rate, stream.base_rate) if rate]
    if None in times or not times or not stream.time_base:
        return Timing(fraction(rates[0]) if rates else DEFAULT_FPS, None, stream.frames or None, side)
    tick = fraction(stream.time_base)
    places = sorted(time for time in times if time is not None)
    seconds = [(place - places[0]) * tick for place in places]
    mean = _mean_rate(seconds)
    for rate in dict.fromkeys([*map(fraction, rates), *([mean] if mean else [])]):
        if _is_constant(seconds, rate, tick):
            return Timing(rate, None, len(times), side)
    return Timing(mean or fraction(rates[0]), tick, len(times), side)


def _mean_rate(seconds: list[Fraction]) -> Fraction | None:
    """Frames per second, None for a single one."""
    return ((len(seconds) - 1) / seconds[-1]).limit_denominator(MAX_TERM) if len(seconds) > 1 and seconds[-1] else None


def _is_constant(seconds: list[Fraction], rate: Fraction, tick: Fraction) -> bool:
    margin = min(tick * Fraction(101, 100), JITTER / rate)
    return all(abs(second - number / rate) <= margin for number, second in enumerate(seconds))
