"""Compressed and container formats (.mkv, .mp4, ...), through PyAV."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from nvc_cli.errors import NvcError
from nvc_cli.files import publish
from nvc_cli.frame import Color, Frame, VideoInfo
from nvc_cli.planar import DEFAULT_FPS, remedy

if TYPE_CHECKING:
    import av


# ---- reading ------------------------------------------------------------------------------------


class ContainerSource:
    """The first video stream of a file, decoded. Raises NvcError if there is none that can be.

    `info` describes it after conversion to 8-bit 4:2:0 (colour tags are those of the first picture), `rotation` is what a
    player should turn it by, in degrees. Iterate `frames()` once; `close()` when done.
    """

    def __init__(self, source: str) -> None:
        import av

        self.source = source
        try:
            self._container = av.open(f"file:{source}")
        except av.FFmpegError as error:
            raise NvcError(f"{source} is not a video that can be read ({_reason(error)}); give a raw .yuv, a .y4m or a "
                           "container that ffmpeg knows") from error
        try:
            self._stream = self._find_stream()
            self._pictures = self._decode()
            self._first = next(self._pictures, None)
            if self._first is None:
                raise NvcError(f"{source} has a video stream without a single picture; write the file anew")
            self.info = self._describe(self._first)
            self.rotation = self._first.rotation
        except BaseException:
            self.close()
            raise

    def frames(self) -> Iterator[Frame]:
        """Yield every picture in display order. Raises NvcError where the file is damaged or changes its size."""
        from nvc_cli.pixels import from_av

        picture, index = self._first, 0
        self._first = None
        while picture is not None:
            if (picture.width, picture.height) != (self.info.width, self.info.height):
                raise NvcError(f"{self.source} changes from {self.info.width}x{self.info.height} to {picture.width}x"
                               f"{picture.height} at frame {index}; scale it to one size, or use --frames {index}")
            yield from_av(picture, self.info)
            picture, index = next(self._pictures, None), index + 1

    def close(self) -> None:
        self._container.close()

    def _find_stream(self) -> av.VideoStream:
        import av

        cover = av.stream.Disposition.attached_pic
        streams = [s for s in self._container.streams.video if not s.disposition & cover]
        if not streams or self._container.format.name == "tty":  # ffmpeg renders text files as pictures
            raise NvcError(f"{self.source} has no video stream; give a file that holds video")
        streams[0].thread_type = "AUTO"
        return streams[0]

    def _decode(self) -> Iterator[av.VideoFrame]:
        import av

        index = 0
        try:
            for picture in self._container.decode(self._stream):
                yield picture
                index += 1
        except av.FFmpegError as error:
            raise NvcError(f"{self.source} is damaged at frame {index} ({_reason(error)}); {remedy(index)}") from error

    def _describe(self, first: av.VideoFrame) -> VideoInfo:
        from nvc_cli.pixels import color_of

        stream = self._stream
        fps = stream.guessed_rate or stream.average_rate or DEFAULT_FPS
        sar = stream.sample_aspect_ratio or Fraction(1)
        return VideoInfo(first.width, first.height, Fraction(fps), stream.frames or None, color_of(first), Fraction(sar),
                         first.format.name)


# ---- writing ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """A kind of container, and the codec that keeps every bit in it."""

    name: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    keeps_color: bool = True
    keeps_sar: bool = False  # of its own; the H.26x codecs carry the shape of pixels themselves


_H26X = ("libx264", "libx265")
_X264 = {"qp": "0", "preset": "veryfast"}  # qp 0 makes it High 4:4:4 Predictive, lossless
_VP9 = {"lossless": "1", "deadline": "realtime", "cpu-used": "4"}

FORMATS = {
    ".mkv": Format("matroska", "ffv1"),
    ".avi": Format("avi", "ffv1", keeps_color=False),
    ".nut": Format("nut", "ffv1", keeps_color=False),
    ".mp4": Format("mp4", "libx264", _X264, keeps_sar=True),
    ".m4v": Format("mp4", "libx264", _X264, keeps_sar=True),
    ".mov": Format("mov", "libx264", _X264, keeps_sar=True),
    ".ts": Format("mpegts", "libx264", _X264),
    ".webm": Format("webm", "libvpx-vp9", _VP9),
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


def losses(form: Format, info: VideoInfo) -> list[str]:
    """What `info` says about the video and the container will not tell, in words."""
    lost = []
    if info.color != Color() and not form.keeps_color:
        lost.append("colour tags")
    if info.sar != 1 and not form.keeps_sar and not form.codec.startswith(_H26X):
        lost.append(f"the pixel shape {info.sar.numerator}:{info.sar.denominator}")
    return lost


@contextlib.contextmanager
def container_sink(target: str, info: VideoInfo, overwrite: bool, form: Format) -> Iterator[Callable[[Frame], None]]:
    """Encode frames into `target`. Raises NvcError if the codec refuses them or the file cannot be written."""
    import av

    from nvc_cli.pixels import to_av

    codec = form.codec
    with publish(target, overwrite) as file, _told(target, codec, info):
        container = av.open(file, "w", format=form.name)
        try:
            stream = _add_stream(container, target, info, form)
            count = 0

            def write(frame: Frame) -> None:
                nonlocal count
                picture = to_av(frame, info)
                picture.pts, picture.time_base = count, 1 / info.fps
                count += 1
                with _told(target, codec, info):
                    container.mux(stream.encode(picture))

            yield write
            container.mux(stream.encode(None))
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


def _add_stream(container: av.container.OutputContainer, target: str, info: VideoInfo, form: Format) -> av.VideoStream:
    try:
        stream = container.add_stream(form.codec, rate=info.fps, options=dict(form.options))
    except ValueError:
        raise NvcError(f"cannot write {target}: {form.name} does not hold {form.codec}; choose another codec or suffix") from None
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = info.width, info.height, "yuv420p"
    context.time_base = 1 / info.fps
    context.sample_aspect_ratio = info.sar
    context.color_primaries = info.color.primaries
    context.color_trc = info.color.transfer
    context.colorspace = info.color.matrix
    context.color_range = 2 if info.color.full_range else 1
    return stream


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
