"""Compressed and container formats (.mkv, .mp4, ...), through PyAV."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from models.media import fraction, open_media
from nvc_cli.errors import NvcError
from nvc_cli.files import publish
from nvc_cli.frame import Color, Frame, Orientation, VideoInfo
from nvc_cli.pipeline import Behind
from nvc_cli.planar import remedy
from nvc_cli.remux import KINDS, Remuxer, describe, refused, sample_of
from nvc_cli.timing import scan
from nvc_cli.tracks import MAX_TRACKS, Sample, Track

if TYPE_CHECKING:
    import av


# ---- reading ------------------------------------------------------------------------------------


class ContainerSource:
    """The first video stream of a file, decoded, and its sound and subtitles, not decoded. Raises NvcError if there is no video.

    `info` describes the pictures after conversion to 8-bit 4:2:0 (colour tags are those of the first one), `remarks` are about what
    is not kept of them. `tracks` are sound and subtitles, of `side` bytes in all. Iterate `frames()` once; `close()` when done.

    Args:
        source: a file.
        tracks: whether sound and subtitles are wanted.
        constant: take the pictures as they come, with the rate that the file tells.
    """

    def __init__(self, source: str, tracks: bool = False, constant: bool = False) -> None:
        self.source = source
        self.remarks: list[str] = []
        with self._open() as container:
            stream = self._find_stream(container)
            wanted = [other for other in container.streams if tracks and other.type in KINDS]
            described = [(other.index, describe(other)) for other in wanted]
            self._take([(index, track) for index, track in described if track], [other.type for other in wanted])
            with _unreadable(source):
                timing = scan(container, stream, [container.streams[index] for index in self._numbers])
        self.side = timing.side
        self._tick = None if constant else timing.tick
        self._container = self._open()
        try:
            self._stream = self._find_stream(self._container)
            self._stream.thread_type = "AUTO"
            self._origin: int | None = None  # time of the first picture
            self._early: list[av.Packet] = []  # of tracks, met before that was known
            self._waiting: list[deque[Sample]] = [deque() for _ in self.tracks]
            self._pictures = self._decode()
            self._first = next(self._pictures, None)
            if self._first is None:
                raise NvcError(f"{source} has a video stream without a single picture; write the file anew")
            self._origin = self._first.pts or 0
            for packet in self._early:
                self._meet(packet)
            self.info = self._describe(self._first, timing.fps, timing.frames)
        except BaseException:
            self.close()
            raise

    def frames(self) -> Generator[Frame, None, None]:
        """Yield every picture in display order. Raises NvcError where the file is damaged or changes its size."""
        from nvc_cli.pixels import from_av

        picture, index, time = self._first, 0, -1
        self._first = None
        while picture is not None:
            if (picture.width, picture.height) != (self.info.width, self.info.height):
                raise NvcError(f"{self.source} changes from {self.info.width}x{self.info.height} to {picture.width}x"
                               f"{picture.height} at frame {index}; scale it to one size, or use --frames {index}")
            if self._tick is not None:
                time = max((picture.pts or 0) - (self._origin or 0), time + 1)
            yield replace(from_av(picture, self.info), time=None if self._tick is None else time)
            picture, index = next(self._pictures, None), index + 1

    def samples(self, until: Fraction | None) -> Iterator[Sample]:
        """Those pieces of tracks before a time, in seconds after the first picture, that were met so far; without it, all that were."""
        for track, waiting in zip(self.tracks, self._waiting):
            while waiting and (until is None or waiting[0].time * track.tick < until):
                yield waiting.popleft()

    def close(self) -> None:
        self._container.close()

    def _open(self) -> av.container.InputContainer:
        with _unreadable(self.source):
            return open_media(f"file:{self.source}")

    def _find_stream(self, container: av.container.InputContainer) -> av.VideoStream:
        import av

        cover = av.stream.Disposition.attached_pic
        streams = [s for s in container.streams.video if not s.disposition & cover]
        if not streams or container.format.name == "tty":  # ffmpeg renders text files as pictures
            raise NvcError(f"{self.source} has no video stream; give a file that holds video")
        return streams[0]

    def _take(self, described: list[tuple[int, Track]], kinds: list[str]) -> None:
        """Keep these tracks, and remark on those of all kinds that are not among them."""
        described = described[:MAX_TRACKS]
        self.tracks = tuple(track for _, track in described)
        self._numbers = {index: number for number, (index, _) in enumerate(described)}
        if lost := len(kinds) - len(described):
            self.remarks.append(f"{lost} of its {len(kinds)} tracks of sound and subtitles cannot be kept")

    def _meet(self, packet: av.Packet) -> None:
        """A piece of a track."""
        if self._origin is None:
            self._early.append(packet)
            return
        number = self._numbers[packet.stream.index]
        sample = sample_of(packet, number, self.tracks[number].tick, self._origin * fraction(self._stream.time_base or 1))
        if sample:
            self._waiting[number].append(sample)

    def _decode(self) -> Iterator[av.VideoFrame]:
        """The pictures; what else is met is waiting."""
        import av

        others = [self._container.streams[index] for index in self._numbers]
        index = 0
        try:
            for packet in self._container.demux(self._stream, *others):
                if packet.stream is not self._stream:
                    self._meet(packet)
                    continue
                for picture in cast("list[av.VideoFrame]", packet.decode()):
                    yield picture
                    index += 1
        except av.FFmpegError as error:
            raise NvcError(f"{self.source} is damaged at frame {index} ({_reason(error)}); {remedy(index)}") from error

    def _describe(self, first: av.VideoFrame, fps: Fraction, frames: int | None) -> VideoInfo:
        from nvc_cli.pixels import color_of, orientation_of

        sar = fraction(self._stream.sample_aspect_ratio or 1)
        orientation = orientation_of(first)
        if orientation is None:
            self.remarks.append(f"it asks players to turn it by {first.rotation} degrees, which is no quarter turn and is not kept")
        if first.interlaced_frame:
            self.remarks.append("its pictures are interlaced and are coded as if they were not; better deinterlace them first, as with ffmpeg -vf bwdif")
        return VideoInfo(first.width, first.height, fps, frames, color_of(first), sar, first.format.name, orientation or Orientation(), self._tick)


# ---- writing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """A kind of container, and the codec that keeps every bit in it."""

    name: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    keeps_color: bool = True
    keeps_sar: bool = False  # of its own; the H.26x codecs carry the shape of pixels themselves
    keeps_orientation: bool = False
    keeps_times: bool = True


_H26X = ("libx264", "libx265")
_X264 = {"qp": "0", "preset": "veryfast"}  # qp 0 makes it High 4:4:4 Predictive, lossless
_VP9 = {"lossless": "1", "deadline": "realtime", "cpu-used": "4"}

FORMATS = {
    ".mkv": Format("matroska", "ffv1", keeps_orientation=True),
    ".avi": Format("avi", "ffv1", keeps_color=False, keeps_times=False),
    ".nut": Format("nut", "ffv1", keeps_color=False),
    ".mp4": Format("mp4", "libx264", _X264, keeps_sar=True, keeps_orientation=True),
    ".m4v": Format("mp4", "libx264", _X264, keeps_sar=True, keeps_orientation=True),
    ".mov": Format("mov", "libx264", _X264, keeps_sar=True, keeps_orientation=True),
    ".ts": Format("mpegts", "libx264", _X264),
    ".webm": Format("webm", "libvpx-vp9", _VP9, keeps_orientation=True),
}


def choose_format(target: str, info: VideoInfo, codec: str | None, options: dict[str, str] | None) -> Format:
    """The container that the suffix of `target` stands for, with what will be in it: the lossless codec, or the one asked for.

    Raises NvcError if the codec is unknown or does not take such pictures.
    """
    form = FORMATS[Path(target).suffix.lower()]
    if codec is None and form.name == "matroska" and info.sar != 1 and not _is_odd(info):
        form = replace(form, codec="libx264", options=_X264)  # lossless as well, and keeps the shape of pixels
    if codec is not None:
        form = replace(form, codec=codec, options={})
    if options is not None:
        form = replace(form, options=options)
    _check_codec(target, info, form.codec)
    return form


def losses(form: Format, info: VideoInfo, tracks: tuple[Track, ...]) -> list[str]:
    """What is known of a video and its container will not tell, in words."""
    lost = []
    if info.color != Color() and not form.keeps_color:
        lost.append("colour tags")
    if info.sar != 1 and not form.keeps_sar and not form.codec.startswith(_H26X):
        lost.append(f"the pixel shape {info.sar.numerator}:{info.sar.denominator}")
    if info.orientation != Orientation() and not form.keeps_orientation:
        lost.append("that pictures are to be turned")
    if info.tick and not form.keeps_times:
        lost.append(f"the times of frames, which now come {float(info.fps):.5g} a second")
    return lost + [f"{track.kind} in {track.codec}" for track in refused(form.name, tracks)]


class Muxing:
    """What `container_sink` is written to through."""

    def __init__(self, container: av.container.OutputContainer, target: str, info: VideoInfo, form: Format, tracks: tuple[Track, ...]) -> None:
        self._container, self._target, self._info, self._codec = container, target, info, form.codec
        self._tick = (info.tick if form.keeps_times else None) or 1 / info.fps
        self._stream = _add_stream(container, target, info, form, self._tick)
        self._remuxer = Remuxer(container, tracks, target)
        self._behind = Behind()
        self._count = 0
        self._first: int | None = None  # time of the first frame

    def write(self, frame: Frame) -> None:
        self._behind.do(lambda: self._write(frame))

    def _write(self, frame: Frame) -> None:
        from nvc_cli.pixels import to_av

        picture = to_av(frame, self._info)
        picture.pts, picture.time_base = self._place(frame), self._tick
        self._count += 1
        with _told(self._target, self._codec, self._info):
            self._container.mux(self._stream.encode(picture))

    def copy(self, sample: Sample, start: Fraction) -> None:
        """Append a piece of a track; `start` is when the output begins, in seconds after the first picture."""
        self._behind.do(lambda: self._copy(sample, start))

    def _copy(self, sample: Sample, start: Fraction) -> None:
        with _told(self._target, self._codec, self._info):
            self._remuxer.write(sample, start)

    def finish(self) -> None:
        self._behind.finish()
        self._container.mux(self._stream.encode(None))

    def abandon(self) -> None:
        """Write nothing more."""
        self._behind.abandon()

    def _place(self, frame: Frame) -> int:
        if frame.time is None or self._tick != self._info.tick:
            return self._count
        if self._first is None:
            self._first = frame.time
        return frame.time - self._first


@contextlib.contextmanager
def container_sink(target: str, info: VideoInfo, overwrite: bool, form: Format, tracks: tuple[Track, ...]) -> Iterator[Muxing]:
    """Encode frames into `target`, and copy tracks. Raises NvcError if a codec refuses them or the file cannot be written."""
    import av

    with publish(target, overwrite) as file, _told(target, form.codec, info):
        container = av.open(file, "w", format=form.name)
        try:
            muxing = Muxing(container, target, info, form, tracks)
            try:
                yield muxing
                muxing.finish()
            finally:
                muxing.abandon()
            container.close()
        except BaseException:
            with contextlib.suppress(Exception):
                container.close()
            raise


def _check_codec(target: str, info: VideoInfo, codec: str) -> None:
    import av

    try:
        known = av.Codec(codec, "w")
    except ValueError:
        raise NvcError(f"cannot write {target}: there is no encoder {codec}; `ffmpeg -encoders` lists their names") from None
    if known.type != "video" or "yuv420p" not in [f.name for f in known.video_formats or ()]:
        raise NvcError(f"cannot write {target}: {codec} does not encode 8-bit 4:2:0 video; choose another codec")
    if codec.startswith(_H26X) and _is_odd(info):
        raise NvcError(f"cannot write {target}: {codec} takes no odd sizes such as {info.width}x{info.height}; "
                       "write a .mkv instead")


def _is_odd(info: VideoInfo) -> bool:
    return bool(info.width % 2 or info.height % 2)


def _add_stream(container: av.container.OutputContainer, target: str, info: VideoInfo, form: Format, tick: Fraction) -> av.VideoStream:
    try:
        stream = cast("av.VideoStream", container.add_stream(form.codec, rate=info.fps, options=dict(form.options)))
    except ValueError:
        raise NvcError(f"cannot write {target}: {form.name} does not hold {form.codec}; choose another codec or suffix") from None
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = info.width, info.height, "yuv420p"
    stream.time_base = context.time_base = tick
    context.sample_aspect_ratio = info.sar
    context.color_primaries = info.color.primaries
    context.color_trc = info.color.transfer
    context.colorspace = info.color.matrix
    context.color_range = 2 if info.color.full_range else 1
    if info.orientation != Orientation() and form.keeps_orientation:
        stream.set_display_rotation(90 * info.orientation.quarters, hflip=info.orientation.mirrored)
    return stream


@contextlib.contextmanager
def _unreadable(source: str) -> Iterator[None]:
    """Turn errors of PyAV on opening a file into words."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise NvcError(f"{source} is not a video that can be read ({_reason(error)}); give a raw .yuv, a .y4m or a "
                       "container that ffmpeg knows") from error


@contextlib.contextmanager
def _told(target: str, codec: str, info: VideoInfo) -> Iterator[None]:
    """Turn errors of PyAV into words."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise NvcError(f"cannot write {target}: {codec} refused {info.width}x{info.height} at {info.fps} frames/s "
                       f"({_reason(error)}); try other options, or another codec") from error


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]
