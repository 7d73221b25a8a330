"""Compressed and container formats (.mkv, .mp4, ...), through PyAV."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from nvc_cli.errors import NvcError
from nvc_cli.files import publish
from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.planar import DEFAULT_FPS

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
        except (av.FFmpegError, av.error.EOFError) as error:
            raise NvcError(f"{self.source} is damaged at frame {index} ({_reason(error)}); "
                           f"use --frames {index} to take what comes before it, or copy the file again") from error

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


_X264 = {"qp": "0", "preset": "veryfast"}  # qp 0 makes it High 4:4:4 Predictive, lossless
_VP9 = {"lossless": "1", "deadline": "realtime", "cpu-used": "4"}

FORMATS = {
    ".mkv": Format("matroska", "ffv1"),
    ".avi": Format("avi", "ffv1"),
    ".nut": Format("nut", "ffv1"),
    ".mp4": Format("mp4", "libx264", _X264),
    ".m4v": Format("mp4", "libx264", _X264),
    ".mov": Format("mov", "libx264", _X264),
    ".ts": Format("mpegts", "libx264", _X264),
    ".webm": Format("webm", "libvpx-vp9", _VP9),
}


@contextlib.contextmanager
def container_sink(
    target: str, info: VideoInfo, overwrite: bool, codec: str | None, options: dict[str, str] | None
) -> Iterator[Callable[[Frame], None]]:
    """Encode frames into `target`, whose suffix is one of FORMATS. Lossless unless `codec` or `options` are given.

    Raises NvcError if the codec is unknown or does not take such pictures, or the file cannot be written.
    """
    import av

    from nvc_cli.pixels import to_av

    form = FORMATS[Path(target).suffix.lower()]
    if options is None:
        options = {} if codec else form.options
    codec = codec or form.codec
    _check_codec(target, info, codec)
    with publish(target, overwrite) as file, _told(target, codec, info):
        container = av.open(file, "w", format=form.name)
        try:
            stream = _add_stream(container, info, codec, options)
            count = 0

            def write(frame: Frame) -> None:
                nonlocal count
                picture = to_av(frame, info)
                picture.pts, picture.time_base = count, 1 / info.fps
                count += 1
                with _told(target, codec, info):
                    container.mux(stream.encode(picture))

            yield write
            if count:
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
    if codec.startswith("libx26") and (info.width % 2 or info.height % 2):
        raise NvcError(f"cannot write {target}: {codec} takes no odd sizes such as {info.width}x{info.height}; "
                       "write a .mkv instead")


def _add_stream(container: av.container.OutputContainer, info: VideoInfo, codec: str, options: dict[str, str]) -> av.VideoStream:
    stream = container.add_stream(codec, rate=info.fps, options=dict(options))
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
