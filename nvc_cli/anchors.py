"""The codecs that nvc is measured against, each run through PyAV in a process of its own, or through a program ffmpeg
where PyAV has no such encoder. PyAV decodes them all.

What is counted is a whole elementary file, as nvc counts its whole file: Annex B for H.264, H.265 and H.266, OBU units for
AV1, all parameter sets included. Only the text in which x264 and x265 note their settings is left out, since
a short clip would pay for it without any use. There is no container around it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from nvc_cli.errors import NvcError
from nvc_cli.ffmpeg import find_program
from nvc_cli.video import Frame, VideoInfo, open_reader, open_writer

if TYPE_CHECKING:
    import av


@dataclass(frozen=True)
class Anchor:
    """A reference encoder and the settings that define it. "{threads}" in an option stands for the thread count."""

    name: str
    summary: str
    encoder: str  # as FFmpeg names it
    format: str  # elementary stream that the file is written as
    qualities: tuple[int, ...]  # values of `scale`
    options: dict[str, str] = field(default_factory=dict)
    packet_filter: str | None = None  # bitstream filter on the way to the file
    scale: str = "crf"  # the option that sets the quality
    outside: bool = False  # encoded by a program ffmpeg
    pixels: str = "yuv420p"  # what the encoder takes: this, or yuv420p10le

    @property
    def settings(self) -> str:
        """All that the encoder is told but for the quality, in one line."""
        return " ".join([self.encoder, *(f"{key}={value}" for key, value in self.options.items())])

    def program(self) -> str | None:
        """The path of the ffmpeg that encodes, None for PyAV. NvcError if neither has the encoder."""
        if self.outside:
            return find_program("encoder", self.encoder, f"leave {self.name} out of --anchors")
        import av

        if self.encoder not in av.codecs_available:
            raise NvcError(f"this PyAV has no encoder {self.encoder}; leave {self.name} out of --anchors")
        return None


# Parallel encoding must not cost the anchors bits: frames are shared among the threads, not slices or rows of blocks.
_X264_ONE_KEYFRAME = "keyint=infinite:scenecut=0:sliced-threads=0"
_X265_ONE_KEYFRAME = "keyint=-1:scenecut=0:wpp=0:frame-threads={threads}:pools={threads}:info=0:log-level=error"
_SVT_ONE_KEYFRAME = "keyint=-1:scd=0:lp={threads}"
_VVENC_ONE_KEYFRAME = "intraperiod=-1:decodingrefreshtype=0:picreordering=0:gopsize=8"
_AOM_ONE_KEYFRAME = {"g": "1000000", "keyint_min": "1000000", "lag-in-frames": "0"}
_X264_CRF = (16, 22, 28, 34, 40, 46)
_AV1_CRF = (13, 23, 33, 43, 53, 63)
_VVENC_QP = (17, 23, 29, 35, 41, 47)
_NO_SETTINGS_TEXT = "filter_units=remove_types=6"  # SEI, in which x264 notes them


def _x264(name: str, preset: str, tune: str, summary: str) -> Anchor:
    options = {"preset": preset, "tune": tune, "x264-params": _X264_ONE_KEYFRAME}
    return Anchor(name, summary, "libx264", "h264", _X264_CRF, options, _NO_SETTINGS_TEXT)


def _x265(name: str, preset: str, extra: str, summary: str) -> Anchor:
    options = {"preset": preset, "tune": "zerolatency", "x265-params": _X265_ONE_KEYFRAME + extra}
    return Anchor(name, summary, "libx265", "hevc", _X264_CRF, options)


def _svtav1(name: str, preset: str, extra: str, summary: str) -> Anchor:
    options = {"preset": preset, "svtav1-params": _SVT_ONE_KEYFRAME + extra}
    return Anchor(name, summary, "libsvtav1", "obu", _AV1_CRF, options)


def _vvenc(name: str, qpa: str, summary: str) -> Anchor:
    options = {"preset": "medium", "qpa": qpa, "vvenc-params": _VVENC_ONE_KEYFRAME}
    return Anchor(name, summary, "libvvenc", "vvc", _VVENC_QP, options, scale="qp", outside=True, pixels="yuv420p10le")


def _libaom(name: str, speed: str, summary: str) -> Anchor:
    options = {"cpu-used": speed, "row-mt": "1", "b:v": "0", **_AOM_ONE_KEYFRAME}
    return Anchor(name, summary, "libaom-av1", "obu", _AV1_CRF, options, outside=True)


ANCHORS: tuple[Anchor, ...] = (
    _x264("x264", "veryslow", "zerolatency", "x264 veryslow zerolatency, one keyframe"),
    _x265("x265", "veryslow", "", "x265 veryslow zerolatency, one keyframe"),
    _x264("x264-ultrafast", "ultrafast", "zerolatency", "x264 ultrafast zerolatency, one keyframe"),
    _svtav1("svtav1", "6", ":pred-struct=1", "SVT-AV1 preset 6 low delay, one keyframe"),
    _svtav1("svtav1-lookahead", "6", "", "SVT-AV1 preset 6 with look-ahead, one keyframe"),
    _libaom("libaom", "4", "libaom AV1 cpu-used 4 low delay, one keyframe; by ffmpeg"),
    _vvenc("vvenc", "1", "VVenC medium low delay, 10 bits inside, one keyframe; by ffmpeg"),
    _x264("x264-psnr", "veryslow", "psnr,zerolatency", "x264 as above, tuned for PSNR"),
    _x265("x265-psnr", "veryslow", ":psy-rd=0:psy-rdoq=0:aq-mode=0", "x265 as above, tuned for PSNR"),
    _vvenc("vvenc-psnr", "0", "VVenC as above, tuned for PSNR"),
)


def find_anchor(name: str) -> Anchor:
    """The anchor of that name. NvcError that lists them all if there is none."""
    for anchor in ANCHORS:
        if anchor.name == name:
            return anchor
    raise NvcError(f"there is no anchor {name}; choose among {', '.join(a.name for a in ANCHORS)}")


def point_command(
    anchor: Anchor, quality: int, source: str, coded: str, decoded: str, fps: Fraction, threads: int
) -> list[str]:
    """The command line of a process that encodes the raw clip `source` to `coded` and decodes that to `decoded`.

    It prints one JSON object: {"encode": {"frames", "seconds", "fps"}, "decode": {"frames", "seconds", "fps"}}.
    Reading the source and writing the result are part of the seconds, starting Python or ffmpeg is not.
    """
    settings = [anchor.name, str(quality), source, coded, decoded, str(fps), str(threads)]
    return [sys.executable, "-m", "nvc_cli.anchors", *settings]


def _run_point(
    name: str, quality: str, source: str, coded: str, decoded: str, fps: str, threads: str
) -> dict[str, dict[str, float]]:
    anchor = find_anchor(name)
    with open_reader(source, fps=Fraction(fps)) as reader:
        info = reader.info
        if anchor.outside:
            encoding = _encode_outside(anchor, int(quality), reader, info, coded, int(threads))
        else:
            encoding = _timed(_encode(anchor, int(quality), reader, info, coded, int(threads)))
    decoding = _timed(decode(coded, info, decoded, int(threads)))
    return {"encode": encoding, "decode": decoding}


def _timed(steps: Iterator[None]) -> dict[str, float]:
    start = time.perf_counter()
    frames = sum(1 for _ in steps)
    return _speed(frames, time.perf_counter() - start)


def _speed(frames: int, seconds: float) -> dict[str, float]:
    return {"frames": frames, "seconds": seconds, "fps": frames / seconds}


def _encode(
    anchor: Anchor, quality: int, frames: Iterable[Frame], info: VideoInfo, target: str, threads: int
) -> Iterator[None]:
    """Encode `frames` to the file `target`; yields once per frame."""
    import av
    from av.bitstream import BitStreamFilterContext

    with av.open(target, "w", format=anchor.format) as file:
        stream = _add_stream(file, anchor, quality, info, threads)
        packet_filter = BitStreamFilterContext(anchor.packet_filter, stream) if anchor.packet_filter else None

        def write(packets: Iterable[av.Packet]) -> None:
            for packet in packets:
                file.mux(packet_filter.filter(packet) if packet_filter else packet)

        for i, frame in enumerate(frames):
            write(stream.encode(_to_picture(frame, i, 1 / info.fps)))
            yield
        _refuse_real_time(anchor)
        write(stream.encode(None))


def _add_stream(
    file: av.container.OutputContainer, anchor: Anchor, quality: int, info: VideoInfo, threads: int
) -> av.VideoStream:
    import av

    anchor.program()
    stream = file.add_stream(anchor.encoder, rate=info.fps, options=_options(anchor, quality, threads))
    assert isinstance(stream, av.VideoStream)
    stream.width, stream.height = _even(info.width), _even(info.height)
    stream.pix_fmt = anchor.pixels
    stream.codec_context.time_base = 1 / info.fps
    stream.codec_context.thread_count = threads
    return stream


def _options(anchor: Anchor, quality: int, threads: int) -> dict[str, str]:
    return {key: value.format(threads=threads) for key, value in anchor.options.items()} | {anchor.scale: str(quality)}


def _encode_outside(
    anchor: Anchor, quality: int, frames: Iterable[Frame], info: VideoInfo, target: str, threads: int
) -> dict[str, float]:
    """Encode `frames` to the file `target` by a program ffmpeg, which gets them through a pipe and tells its time."""
    size = f"{_even(info.width)}x{_even(info.height)}"
    source = ["-f", "rawvideo", "-pix_fmt", anchor.pixels, "-s", size, "-r", str(info.fps), "-i", "-"]
    options = [word for key, value in _options(anchor, quality, threads).items() for word in (f"-{key}", value)]
    encoder = ["-c:v", anchor.encoder, *options, "-threads", str(threads), "-bitexact", "-f", anchor.format, target]
    command = [str(anchor.program()), "-hide_banner", "-nostats", "-benchmark", "-y", *source, *encoder]
    count = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended early, and says why
            for frame in frames:
                for plane in _padded(frame):
                    process.stdin.write(plane.tobytes() if anchor.pixels == "yuv420p" else (plane.astype("<u2") << 2).tobytes())
                count += 1
        words = process.communicate()[1].decode(errors="replace")
    time_taken = re.search(r"bench: .*rtime=([\d.]+)s", words)
    if process.returncode or not time_taken:
        raise NvcError(f"ffmpeg failed ({_complaint(words)}); leave {anchor.name} out of --anchors")
    return _speed(count, max(float(time_taken[1]), 0.001))


def _complaint(words: str) -> str:
    """What ffmpeg said that comes nearest to a reason."""
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "without a word")


def decode(source: str, info: VideoInfo, target: str, threads: int) -> Iterator[None]:
    """Decode the file `source` to the raw clip `target`; yields once per frame."""
    import av

    with av.open(source) as file, open_writer(target, info, overwrite=True) as writer:
        file.streams.video[0].codec_context.thread_count = threads
        file.streams.video[0].thread_type = "AUTO"
        for picture in file.decode(video=0):
            writer.write(_to_frame(picture, info))
            yield


def _to_picture(frame: Frame, index: int, time_base: Fraction) -> av.VideoFrame:
    """A PyAV frame of even size; an odd edge is repeated once, as the anchors take no odd sizes in 4:2:0."""
    import av

    height, width = map(_even, frame.y.shape)
    picture = av.VideoFrame(width, height, "yuv420p")
    for plane, samples in zip(picture.planes, _padded(frame), strict=True):
        plane.update(np.pad(samples, ((0, 0), (0, plane.line_size - samples.shape[1]))).tobytes())
    picture.pts, picture.time_base = index, time_base
    return picture


def _padded(frame: Frame) -> Iterator[np.ndarray]:
    """The planes of a frame of even size; see `_to_picture`."""
    height, width = map(_even, frame.y.shape)
    for samples, scale in zip(frame.planes, (1, 2, 2), strict=True):
        rows, columns = height // scale - samples.shape[0], width // scale - samples.shape[1]
        yield np.pad(samples, ((0, rows), (0, columns)), mode="edge")


def _to_frame(picture: av.VideoFrame, info: VideoInfo) -> Frame:
    """The picture without what was padded, of 10 bits rounded to 8."""
    deep = picture.format.name == "yuv420p10le"
    sizes = ((info.height, info.width), info.chroma_shape, info.chroma_shape)
    planes = []
    for plane, (rows, columns) in zip(picture.planes, sizes, strict=True):
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        samples = (lines.view("<u2") if deep else lines)[:rows, :columns]
        planes.append(np.minimum((samples + 2) >> 2, 255).astype(np.uint8) if deep else np.ascontiguousarray(samples))
    y, u, v = planes
    return Frame(y, u, v)


def _even(length: int) -> int:
    return length + length % 2


# SVT-AV1 makes the whole process real-time (SCHED_FIFO, priority 99) when it may, that is when run as root. On a
# machine with few cores nothing else runs then, and the speeds of the other codecs would not be comparable.


def _give_up_real_time() -> None:
    """Give up the right to real-time scheduling; to be called before an encoder is loaded."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes
    import resource

    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    if libc.capget(header, sets) == 0:
        for i in range(3):
            sets[i] &= ~(1 << 23)  # CAP_SYS_NICE
        libc.capset(header, sets)


def _refuse_real_time(anchor: Anchor) -> None:
    if not sys.platform.startswith("linux"):
        return
    policies = {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}
    if policies & {os.SCHED_FIFO, os.SCHED_RR}:
        raise NvcError(f"{anchor.name} made itself a real-time process; run nvc compare as an ordinary user")


def main() -> None:
    """The child process: one point of one anchor."""
    _give_up_real_time()
    try:
        json.dump(_run_point(*sys.argv[1:]), sys.stdout)
    except (NvcError, OSError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
