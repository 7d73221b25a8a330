"""Video in and out: raw .yuv, .y4m and containers, files and pipes, always as 8-bit 4:2:0 frames."""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Protocol

from models.stages import staged
from nvc_cli.errors import NvcError
from nvc_cli.files import check_target, publish
from nvc_cli.frame import MAX_SIDE, Color, Frame, Orientation, VideoInfo
from nvc_cli.pipeline import ahead
from nvc_cli.planar import (
    DEFAULT_FPS,
    frame_count,
    parse_raw_name,
    read_raw,
    read_y4m,
    read_y4m_header,
    write_planes,
    write_y4m_frame,
    write_y4m_header,
)
from nvc_cli.tracks import Sample, Track

if TYPE_CHECKING:
    from nvc_cli.container import ContainerSource

__all__ = ["Color", "Frame", "VideoInfo", "VideoReader", "VideoWriter", "open_reader", "open_writer"]

RAW_SUFFIXES = (".yuv", ".i420")
Y4M_SUFFIX = ".y4m"
PIPE = "-"


# ---- reading ------------------------------------------------------------------------------------


class VideoReader:
    """An iterator over the frames of one video, once through; a context manager that closes it.

    `info` describes the video; `note` is one line for the user about what was assumed or converted, else None. `tracks` are the
    sound and subtitles that go with it, and `side` their bytes in all.
    Iterating holds one frame at a time and raises NvcError where the source is damaged, cut off, or has no frame at all.
    """

    def __init__(
        self, name: str, info: VideoInfo, frames: Iterator[Frame], close: Callable[[], None], notes: list[str], limit: int | None,
        companion: ContainerSource | None = None,
    ) -> None:  # fmt: skip
        self.info = info
        self.tracks: tuple[Track, ...] = companion.tracks if companion else ()
        self.side = companion.side if companion else 0
        self._companion, self._limited = companion, limit is not None
        self.note = f"{name}: {'; '.join(notes)}" if notes else None
        self._frames = itertools.islice(_at_least_one(name, frames), limit)
        self._close = close

    def __iter__(self) -> VideoReader:
        return self

    @staged("reading")
    def __next__(self) -> Frame:
        return next(self._frames)

    def beside(self, number: int, time: int | None) -> Iterator[Sample]:
        """The pieces of tracks, not taken yet, that begin before a frame is over. It is over when the next one would come, as far as that
        is known before it comes."""
        if not self._companion:
            return iter(())
        begin = number / self.info.fps if time is None or self.info.tick is None else time * self.info.tick
        return self._companion.samples(begin + 1 / self.info.fps)

    def rest(self) -> Iterator[Sample]:
        """After the last frame of all: the pieces of tracks that come later."""
        return self._companion.samples(None) if self._companion and not self._limited else iter(())

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._close()


def open_reader(
    source: str, size: tuple[int, int] | None = None, fps: Fraction | None = None, frames: int | None = None, tracks: bool = False
) -> VideoReader:
    """Open a video.

    source: a raw .yuv (8-bit 4:2:0), a .y4m, any container that PyAV opens, or "-" for standard input (y4m, or raw when
        `size` is given). Named pipes and devices are read like standard input.
    size: (width, height) of raw video; by default from its name, as in foreman_352x288_30.yuv
    fps: frames per second, at a constant distance; by default what the source says, and 25 where it says nothing
    frames: stop after this many
    tracks: keep the sound and subtitles of a container for `beside` and `rest`, by which they must then be taken, too

    Raises NvcError if the source is missing, empty, not video, or raw video of unknown or unfitting size.
    """
    source = os.fspath(source)
    if size is not None and not all(0 < side <= MAX_SIDE for side in size):
        raise NvcError(f"cannot read {source} as {size[0]}x{size[1]}: a side has 1 to {MAX_SIDE} pixels")
    if fps is not None and fps <= 0:
        raise NvcError(f"cannot read {source} at {fps} frames per second; give a rate above zero")
    if frames is not None and frames < 1:
        raise NvcError(f"cannot read {frames} frames of {source}; ask for one or more")
    if source == PIPE:
        return _open_forward(_stdin(), "standard input", lambda: None, size, fps, frames)
    _check_source(source)
    suffix = Path(source).suffix.lower()
    if suffix in RAW_SUFFIXES:
        return _open_raw(source, size, fps, frames)
    if suffix == Y4M_SUFFIX or not os.path.isfile(source):
        file = _open_binary(source)
        with _closing_on_error(file.close):
            return _open_forward(file, source, file.close, size, fps, frames)
    return _open_container(source, size, fps, frames, tracks)


def _open_raw(source: str, size: tuple[int, int] | None, fps: Fraction | None, limit: int | None) -> VideoReader:
    said = parse_raw_name(Path(source).name)
    size = size or said.size
    if said.bits != 8:
        raise NvcError(f"{source} is {said.bits}-bit video by its name and raw video is read as 8-bit 4:2:0 only; "
                       "convert it to .y4m, for example with ffmpeg")
    if size is None or 0 in size:
        raise NvcError(f"the picture size of {source} is not known; give it as --size WxH, or in the name, "
                       "as in NAME_352x288_30.yuv")
    file = _open_binary(source)
    with _closing_on_error(file.close):
        return _raw_reader(file, source, file.close, size, fps or said.fps, limit)


def _open_forward(
    file: BinaryIO, name: str, close: Callable[[], None], size: tuple[int, int] | None, fps: Fraction | None, limit: int | None
) -> VideoReader:
    """Read what cannot be asked for its length or its name: y4m, or raw if a size is given."""
    if size is not None and not name.lower().endswith(Y4M_SUFFIX):
        return _raw_reader(file, name, close, size, fps, limit)
    header = read_y4m_header(file, name)
    _check_size(name, size, (header.width, header.height))
    rate, notes = _rate_or_default(fps or header.fps)
    info = header.info(rate)
    left = _bytes_left(file)
    count = None if left is None else frame_count(info, left)
    return VideoReader(name, _counted(info, count, limit), read_y4m(file, name, info), close, notes + _conversion(info), limit)


def _raw_reader(
    file: BinaryIO, name: str, close: Callable[[], None], size: tuple[int, int], fps: Fraction | None, limit: int | None
) -> VideoReader:
    rate, notes = _rate_or_default(fps)
    info = VideoInfo(*size, rate)
    count = None
    if (left := _bytes_left(file)) is not None:
        count, rest = divmod(left, info.frame_bytes)
        if rest:
            raise NvcError(f"{name} has {left} bytes, which is no whole number of 4:2:0 frames of {size[0]}x{size[1]} "
                           f"({info.frame_bytes} bytes each); give its true size as --size WxH")
    return VideoReader(name, _counted(info, count, limit), read_raw(file, name, info), close, notes, limit)


def _open_container(
    source: str, size: tuple[int, int] | None, fps: Fraction | None, limit: int | None, tracks: bool
) -> VideoReader:
    from nvc_cli.container import ContainerSource

    video = ContainerSource(source, tracks, constant=fps is not None)
    with _closing_on_error(video.close):
        _check_size(source, size, (video.info.width, video.info.height))
        info = replace(video.info, fps=fps or video.info.fps)
        notes = _conversion(info) + video.remarks
        # With tracks, where these go in a stream depends on how far the file has been read.
        frames = video.frames() if video.tracks else ahead(video.frames())

        def close() -> None:
            frames.close()
            video.close()

        return VideoReader(source, _counted(info, info.frames, limit), frames, close, notes, limit, video)


def _at_least_one(name: str, frames: Iterator[Frame]) -> Iterator[Frame]:
    empty = True
    for frame in frames:
        yield frame
        empty = False
    if empty:
        raise NvcError(f"{name} has no frames; nothing to read")


def _counted(info: VideoInfo, count: int | None, limit: int | None) -> VideoInfo:
    return replace(info, frames=count if count is None or limit is None else min(count, limit))


def _conversion(info: VideoInfo) -> list[str]:
    from nvc_cli.pixels import NATIVE_FORMATS

    return [] if info.source_format in NATIVE_FORMATS else [f"converted from {info.source_format} to 8-bit 4:2:0"]


def _rate_or_default(fps: Fraction | None) -> tuple[Fraction, list[str]]:
    if fps is not None:
        return Fraction(fps), []
    return DEFAULT_FPS, [f"the frame rate is not known, {DEFAULT_FPS} per second are assumed"]


def _check_size(name: str, given: tuple[int, int] | None, true: tuple[int, int]) -> None:
    if given is not None and tuple(given) != true:
        raise NvcError(f"{name} holds pictures of {true[0]}x{true[1]}, not {given[0]}x{given[1]}; leave --size away")


def _check_source(source: str) -> None:
    if os.path.isdir(source):
        raise NvcError(f"{source} is a folder; give the name of a video file")
    if not os.path.exists(source):
        raise NvcError(f"there is no file {source}; check the name")
    if os.path.isfile(source) and os.path.getsize(source) == 0:
        raise NvcError(f"{source} is empty; nothing to read")


def _open_binary(source: str) -> BinaryIO:
    try:
        return open(source, "rb")
    except OSError as error:
        raise NvcError(f"cannot read {source}: {(error.strerror or str(error)).lower()}; choose another file") from error


def _stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.isatty():
        raise NvcError("standard input is not a video; pipe y4m into it, as in ffmpeg -i IN -f yuv4mpegpipe - | nvc ...")
    return sys.stdin.buffer


def _bytes_left(file: BinaryIO) -> int | None:
    """Bytes of a regular file from here to its end; None for pipes."""
    try:
        status = os.fstat(file.fileno())
    except OSError:
        return None
    return status.st_size - file.tell() if stat.S_ISREG(status.st_mode) else None


@contextlib.contextmanager
def _closing_on_error(close: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        close()
        raise


# ---- writing ------------------------------------------------------------------------------------


class Output(Protocol):
    """Something that frames and pieces of tracks can be appended to."""

    def write(self, frame: Frame) -> None: ...

    def copy(self, sample: Sample, start: Fraction) -> None: ...


Sink = contextlib.AbstractContextManager[Output]


class VideoWriter:
    """A context manager that writes frames. Leaving it normally publishes the file, an exception in it removes the part file.

    `note` is one line for the user about what the container will not keep of `info`, else None. Leaving it without a frame
    written raises NvcError.
    """

    def __init__(self, target: str, info: VideoInfo, sink: Sink, note: str | None = None) -> None:
        self.info = info
        self.note = note
        self._target = target
        self._sink = sink
        self._output: Output | None = None
        self._empty = True

    def __enter__(self) -> VideoWriter:
        self._output = self._sink.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._output = None
        if kind is not None or not self._empty:
            self._sink.__exit__(kind, error, trace)
            return
        nothing = NvcError(f"{self._target} was not written, for want of a single frame; check the source")
        self._sink.__exit__(NvcError, nothing, None)
        raise nothing

    @staged("writing")
    def write(self, frame: Frame) -> None:
        """Append a frame of the size that `info` says. Raises NvcError if the target cannot take it, ValueError for another shape
        or type of plane, and BrokenPipeError if the reader of a pipe has left."""
        if self._output is None:
            raise ValueError("write to a VideoWriter inside its with block")
        shapes = ((self.info.height, self.info.width), self.info.chroma_shape, self.info.chroma_shape)
        for plane, shape in zip(frame.planes, shapes):
            if plane.shape != shape or plane.dtype != "uint8":
                raise ValueError(f"expected a uint8 plane of shape {shape}, got {plane.dtype} {plane.shape}")
        self._output.write(frame)
        self._empty = False

    def copy(self, sample: Sample, start: Fraction = Fraction(0)) -> None:
        """Append a piece of a track, if the file has it; `start` is when the file begins, in seconds after the first frame of the
        video that it is of. Raises NvcError if the target cannot take it."""
        if self._output is None:
            raise ValueError("write to a VideoWriter inside its with block")
        self._output.copy(sample, start)


def open_writer(
    target: str, info: VideoInfo, overwrite: bool = False, codec: str | None = None, options: dict[str, str] | None = None,
    tracks: tuple[Track, ...] = (),
) -> VideoWriter:  # fmt: skip
    """Prepare to write a video; use the result in a with block.

    target: .yuv (bare planes), .y4m, a container (.mkv, .avi, .nut with ffv1; .mp4, .m4v, .mov, .ts with libx264; .webm with
        libvpx-vp9; lossless), or "-" for y4m on standard output. Devices and named pipes get y4m.
    codec, options: what PyAV should use in a container instead, with the names that ffmpeg has for them; `options` replace the
        lossless ones, they are not added to them
    tracks: sound and subtitles, whose pieces will come through `copy`; those that the container does not take are left out

    Containers carry colour tags, times of frames and the shape of pixels, the latter only with a codec of the H.26x family or in .mp4,
    .m4v and .mov (so a .mkv of pixels that are not square gets libx264, lossless too); .avi and .nut no colour tags, .avi no times but a
    rate; .avi, .nut and .ts not how pictures are to be turned. y4m keeps rate, shape of pixels and range, .yuv nothing. Raises NvcError if the target exists (without `overwrite`), is a folder,
    has an unknown suffix, or the codec is unknown or does not fit.
    """
    from nvc_cli.container import FORMATS, choose_format, container_sink, losses

    target = os.fspath(target)
    check_target(target, overwrite)
    if Path(target).suffix.lower() in FORMATS:
        form = choose_format(target, info, codec, options)
        return VideoWriter(target, info, container_sink(target, info, overwrite, form, tracks), _note(target, losses(form, info, tracks)))
    lost = ["sound and subtitles"] * bool(tracks) + ["the times of frames"] * (info.tick is not None) + ["that pictures are to be turned"] * (
        info.orientation != Orientation()
    )
    return VideoWriter(target, info, _uncompressed(target, info, overwrite, codec, options), _note(target, lost))


def _note(target: str, lost: list[str]) -> str | None:
    return f"{'y4m on standard output' if target == PIPE else target}: does not keep {' and '.join(lost)}" if lost else None


def _uncompressed(target: str, info: VideoInfo, overwrite: bool, codec: str | None, options: dict[str, str] | None) -> Sink:
    from nvc_cli.container import FORMATS

    suffix = Path(target).suffix.lower()
    special = target == PIPE or (os.path.exists(target) and not os.path.isfile(target))
    if not special and suffix not in (*RAW_SUFFIXES, Y4M_SUFFIX):
        known = ", ".join((*RAW_SUFFIXES, Y4M_SUFFIX, *FORMATS))
        raise NvcError(f"cannot write {target}: the suffix {suffix or 'is missing and'} says no known format; use one of {known}")
    if codec or options:
        raise NvcError(f"cannot write {target} with {codec or 'these options'}: it is uncompressed; "
                       "write a container such as .mkv")
    return _planar_sink(target, info, overwrite, raw=suffix in RAW_SUFFIXES)


@contextlib.contextmanager
def _planar_sink(target: str, info: VideoInfo, overwrite: bool, raw: bool) -> Iterator[Output]:
    with publish(target, overwrite) as file:
        if not raw:
            write_y4m_header(file, info)
        yield _Planar(file, raw)


class _Planar:
    """Uncompressed video, which has no place for tracks."""

    def __init__(self, file: BinaryIO, raw: bool) -> None:
        self._file, self._write = file, write_planes if raw else write_y4m_frame

    def write(self, frame: Frame) -> None:
        self._write(self._file, frame)

    def copy(self, sample: Sample, start: Fraction) -> None:
        pass
