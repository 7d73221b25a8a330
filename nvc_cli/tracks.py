"""Sound and subtitles that go along with the pictures, as they stand in a stream: stream.md describes the bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction

from nvc_cli.fields import Source, sealed, signed, unsigned, varint

DESCRIPTION = 0xF0  # heads of what is not a picture's packet
SAMPLE = 0xF1

MAX_TRACKS = 64
MAX_DESCRIPTION = 2**24 - 1  # bytes
MAX_BODY = 2**28 - 1  # bytes
MAX_TERM = 2**31 - 1  # numerator or denominator of a fraction
MAX_TIME = 2**62 - 1  # ticks
MAX_NAME = 32  # characters


@dataclass(frozen=True)
class Track:
    """Of which kind it is ("audio" or "subtitle"), its codec as ffmpeg calls it, and the unit of its times in seconds.

    `media` is a media file without content, whose only stream has the track's parameters, language and title.
    """

    kind: str
    codec: str
    tick: Fraction
    media: bytes


@dataclass(frozen=True)
class Sample:
    """A coded piece of a track, untouched. `time` is in ticks of the track after the first picture, below 0 if before; so is `duration`."""

    track: int
    time: int
    duration: int
    keyframe: bool
    data: bytes


def pack_track(track: Track) -> bytes:
    """A description as it stands in a stream. Raises ValueError for what the layout cannot hold."""
    _check(track)
    body = bytearray()
    for text in (track.kind, track.codec):
        body += bytes((len(text),)) + text.encode("ascii")
    for number in track.tick.as_integer_ratio():
        body += varint(number)
    body += track.media
    return _unit(DESCRIPTION, body)


def pack_sample(sample: Sample) -> bytes:
    """A sample as it stands in a stream. Raises ValueError for what the layout cannot hold."""
    if abs(sample.time) > MAX_TIME or not 0 <= sample.duration <= MAX_TIME or not 0 <= sample.track < MAX_TRACKS:
        raise ValueError(f"a sample at {sample.time} for {sample.duration} ticks of track {sample.track} is out of range")
    body = bytes((sample.track, sample.keyframe)) + varint(unsigned(sample.time)) + varint(sample.duration) + sample.data
    return _unit(SAMPLE, body)


def parse_track(body: bytes) -> Track:
    """Raises ValueError or EOFError when this is not the body of a description."""
    source = Source(io.BytesIO(body))
    kind, codec = source.text(MAX_NAME), source.text(MAX_NAME)
    numerator, denominator = source.varint(MAX_TERM), source.varint(MAX_TERM)
    if not (numerator and denominator):
        raise ValueError("a fraction holds a zero")
    track = Track(kind, codec, Fraction(numerator, denominator), body[source.size :])
    _check(track)
    return track


def parse_sample(body: bytes, tracks: int) -> Sample:
    """Raises ValueError or EOFError when this is not the body of a sample of one of so many tracks."""
    source = Source(io.BytesIO(body))
    track, flags = source.take(2)
    if track >= tracks or flags > 1:
        raise ValueError("it belongs to no track, or has unknown flags")
    time, duration = signed(source.varint(2 * MAX_TIME + 1)), source.varint(MAX_TIME)
    return Sample(track, time, duration, bool(flags), body[source.size :])


def _unit(head: int, body: bytes | bytearray) -> bytes:
    if len(body) > MAX_BODY:
        raise ValueError(f"{len(body)} bytes exceed {MAX_BODY}")
    return sealed(bytes((head,)) + varint(len(body)) + body)


def _check(track: Track) -> None:
    if track.kind not in ("audio", "subtitle"):
        raise ValueError(f"a track of the kind {track.kind!r} is unknown")
    if not (1 <= len(track.codec) <= MAX_NAME and track.codec.isascii() and track.codec.isprintable()):
        raise ValueError(f"the codec {track.codec!r} of a track is not 1 to {MAX_NAME} printable ASCII characters")
    if not (track.tick > 0 and max(track.tick.as_integer_ratio()) <= MAX_TERM):
        raise ValueError(f"the unit of time {track.tick} of a track is not positive or too long a fraction")
    if len(track.media) > MAX_DESCRIPTION:
        raise ValueError(f"the description of a track has {len(track.media)} bytes, which exceed {MAX_DESCRIPTION}")
