"""Sound and subtitles out of a container and into another one, through PyAV, without decoding them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

from models.media import fraction, open_media
from nvc_cli.errors import NvcError
from nvc_cli.tracks import Sample, Track

if TYPE_CHECKING:
    import av

KINDS = ("audio", "subtitle")

_BLANKS: tuple[tuple[str, dict[str, str], bytes | None], ...] = (("matroska", {}, b"\0"), ("mov", {"movflags": "empty_moov+default_base_moof"}, None))
"""Containers that hold a description: their names, options, and a packet without which they cannot be read."""
_EBML = b"\x1aE\xdf\xa3"  # how Matroska begins
_AS_WRITTEN = {"fflags": "nofillin+noparse", "probesize": "32", "analyzeduration": "0"}
"""Options to read a description by what it says, not by what its packets look like."""


def describe(stream: av.stream.Stream) -> Track | None:
    """What a stream of a container is; None where that cannot be kept."""
    import av

    if stream.codec_context is None or not stream.time_base:
        return None
    for name, options, content in _BLANKS:
        with contextlib.suppress(av.FFmpegError, ValueError):
            media = _blank(stream, name, options, content)
            with _reading(media):  # can be read again
                return Track(stream.type, stream.codec_context.codec.canonical_name, fraction(stream.time_base), media)
    return None


def sample_of(packet: av.Packet, track: int, tick: Fraction, origin: Fraction) -> Sample | None:
    """A packet of a stream as a piece of its track; `origin` is the time of the first picture in seconds. None without time or content."""
    time = packet.pts if packet.pts is not None else packet.dts
    if time is None or not packet.size:
        return None
    return Sample(track, time - round(origin / tick), max(packet.duration or 0, 0), bool(packet.is_keyframe), bytes(packet))


class Remuxer:
    """The tracks of a stream in an output container, as far as that takes them.

    Args:
        container: its other streams must be there, and nothing be written yet.
        tracks: of the stream.
        target: the file's name, for messages.
    """

    def __init__(self, container: av.container.OutputContainer, tracks: tuple[Track, ...], target: str) -> None:
        self._container, self._target = container, target
        self._streams: dict[int, av.stream.Stream] = {}
        for number, track in enumerate(tracks):
            with contextlib.suppress(NvcError):
                self._streams[number] = _copy(container, track)
        self._ticks = [track.tick for track in tracks]

    def write(self, sample: Sample, start: Fraction) -> None:
        """Append a piece, unless its track is left out; `start` is when the output begins, in seconds after the first picture."""
        import av

        if sample.track not in self._streams:
            return
        tick = self._ticks[sample.track]
        packet = av.Packet(sample.data)
        packet.stream = self._streams[sample.track]
        packet.time_base = tick
        packet.pts = packet.dts = sample.time - round(start / tick)
        packet.duration, packet.is_keyframe = sample.duration, sample.keyframe
        self._container.mux(packet)


def refused(name: str, tracks: tuple[Track, ...]) -> list[Track]:
    """The tracks that a kind of container does not take."""
    import av

    out = []
    for track in tracks:
        container = av.open(io.BytesIO(), "w", format=name)
        try:
            _copy(container, track)
            container.start_encoding()
        except (NvcError, av.FFmpegError, ValueError):
            out.append(track)
        finally:
            with contextlib.suppress(av.FFmpegError, ValueError):
                container.close()
    return out


def _blank(stream: av.stream.Stream, name: str, options: dict[str, str], content: bytes | None) -> bytes:
    """A media file that says what a stream is. The same bytes every time."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=name, options={**options, "fflags": "+bitexact"}) as container:
        copy = container.add_stream_from_template(stream)
        _label(copy, stream)
        container.start_encoding()
        if content is not None:
            packet = av.Packet(content)
            packet.stream, packet.time_base = copy, fraction(stream.time_base or 1)
            packet.pts = packet.dts = 0
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
    return file.getvalue()


@contextlib.contextmanager
def _reading(media: bytes) -> Iterator[av.stream.Stream]:
    """The track that a description is of. It is read as nothing but Matroska or QuickTime, since other formats, such as playlists, name
    further files, which would then be opened."""
    form = "matroska" if media.startswith(_EBML) else "mov"
    with open_media(io.BytesIO(media), format=form, options=_AS_WRITTEN) as container:
        streams = [stream for stream in container.streams if stream.type in KINDS]
        if len(streams) != 1 or streams[0].codec_context is None:
            raise ValueError("a description is not that of one track")
        yield streams[0]


def _copy(container: av.container.OutputContainer, track: Track) -> av.stream.Stream:
    """Add a track to a container. Raises NvcError where it does not take it, or the description cannot be read."""
    import av

    try:
        with _reading(track.media) as stream:
            copy = container.add_stream_from_template(stream)
            copy.time_base = track.tick
            _label(copy, stream)
            return copy
    except (av.FFmpegError, ValueError) as error:
        raise NvcError(f"{track.codec} cannot be written there; choose another container") from error


def _label(copy: av.stream.Stream, stream: av.stream.Stream) -> None:
    """Language, title, and what players make of it."""
    for key in ("language", "title"):
        if stream.metadata.get(key):
            copy.metadata[key] = stream.metadata[key]
    copy.disposition = stream.disposition
