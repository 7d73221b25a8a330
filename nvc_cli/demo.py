"""`nvc demo`: code the clip that comes with nvc, look at the result beside x264 at the same rate, and see the figures."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvc_cli.completion import models
from nvc_cli.errors import NvcError

if TYPE_CHECKING:
    from nvc_cli.frame import Frame, VideoInfo

CLIP = "table_352x288_30.mkv"
PICTURE = "side_by_side.png"
CROP = (130, 130, 306, 274)  # left, top, right, bottom of what the picture shows, in pixels of the clip
ZOOM = 2
CRF_RANGE = (4.0, 51.0)
RATE_TOLERANCE = 0.01
MAX_TRIES = 8
X264 = {"preset": "medium", "tune": "zerolatency", "x264-params": "keyint=infinite:scenecut=0:sliced-threads=0"}


@dataclass(frozen=True)
class Clip:
    """A clip in memory."""

    info: VideoInfo
    frames: list[Frame]

    def kbps(self, size: int) -> float:
        """Rate in kbit/s of a coded file of `size` bytes."""
        return 8 * size * float(self.info.fps) / len(self.frames) / 1000


@dataclass(frozen=True)
class Result:
    """What one codec made of the clip. `bytes` is the whole coded file; speeds are in frames a second."""

    codec: str
    bytes: int
    frames: list[Frame]
    encode_fps: float
    decode_fps: float


@click.command(short_help="Encode, decode and check the clip that comes with nvc.")
@click.option("-o", "--output", metavar="FOLDER", default="nvc_demo", show_default=True,
              type=click.Path(file_okay=False, path_type=Path), help="Where the files go; made if missing.")  # fmt: skip
@click.option("--model", default="tiny", show_default=True, shell_complete=models, help="Model of nvc.")
@click.option("--qp", type=float, default=3, show_default=True, help="Quality of nvc, as for nvc encode.")
@click.option("--threads", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="all cores",
              help="Threads that each codec may use.")  # fmt: skip
@click.option("-y", "--overwrite", is_flag=True, help="Overwrite files of an earlier demo.")
def command(output: Path, model: str, qp: float, threads: int, overwrite: bool) -> None:
    """Encode and decode a short clip that comes with nvc, and compare with x264 at the same rate.

    Prints a table of rates, PSNR and speeds. FOLDER then holds the .nvc stream, what it decodes to with and without
    the enhancement filter, the x264 stream, and a picture that shows all of them side by side.
    """
    targets = Targets(output)
    targets.prepare(overwrite)
    with clip_file() as source:
        clip = load(source)
        nvc = code_with_nvc(source, targets, model, qp, threads)
    _say("searching the x264 setting for the same rate")
    stream, x264 = match_x264(clip, nvc[0].bytes, threads)
    write_file(targets.x264, stream, overwrite)
    write_file(targets.picture, side_by_side(clip, [*nvc, x264]), overwrite)
    click.echo(table(clip, [*nvc, x264]))
    _say(f"look at {targets.picture}")


@dataclass(frozen=True)
class Targets:
    """The files that the demo leaves behind."""

    folder: Path

    @property
    def stream(self) -> Path:
        return self.folder / "table.nvc"

    @property
    def decoded(self) -> Path:
        return self.folder / "table_nvc.mkv"

    @property
    def enhanced(self) -> Path:
        return self.folder / "table_nvc_enhanced.mkv"

    @property
    def x264(self) -> Path:
        return self.folder / "table_x264.h264"

    @property
    def picture(self) -> Path:
        return self.folder / PICTURE

    def prepare(self, overwrite: bool) -> None:
        """Make the folder. NvcError if that fails or a file is in the way, before any time is spent."""
        from nvc_cli.files import check_target

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise NvcError(f"cannot make the folder {self.folder}: {reason}; choose another with --output") from None
        for path in (self.stream, self.decoded, self.enhanced, self.x264, self.picture):
            check_target(path, overwrite)


def _say(message: str) -> None:
    click.echo(f"demo: {message}", err=True)


@contextlib.contextmanager
def clip_file() -> Iterator[Path]:
    """The sample clip as a file: from the installed package, or from examples/clip of a checkout."""
    with contextlib.ExitStack() as stack:
        for candidate in _candidates():
            if candidate.is_file():
                yield stack.enter_context(resources.as_file(candidate))
                return
    raise NvcError(f"the sample clip {CLIP} is not part of this installation; install nvc again, or run it from a checkout")


def _candidates() -> Iterator[resources.abc.Traversable]:
    with contextlib.suppress(ModuleNotFoundError):
        yield resources.files("nvc_cli.clip") / CLIP
    yield Path(__file__).resolve().parent.parent / "examples" / "clip" / CLIP


def load(source: Path) -> Clip:
    """All frames of a video."""
    from nvc_cli.video import open_reader

    with open_reader(str(source)) as reader:
        return Clip(reader.info, list(reader))


def code_with_nvc(source: Path, targets: Targets, model: str, qp: float, threads: int) -> list[Result]:
    """Encode with nvc and decode without and with enhancement, each in a process of its own as a user would."""
    from nvc_cli.measure import ONE_KEYFRAME, run_json

    def nvc(step: str, source: Path, target: Path, *options: str) -> float:
        _say(f"nvc {step} {source.name} -o {target.name} {' '.join(options)}".rstrip())
        command = [sys.executable, "-m", "nvc_cli", step, str(source), "-o", str(target), *options, "--json", "-y"]
        return run_json(command, threads)["fps"]

    encode_fps = nvc("encode", source, targets.stream, "--qp", f"{qp:g}", "--model", model, "--threads", str(threads), *ONE_KEYFRAME)
    results = []
    for name, target, options in (("nvc", targets.decoded, []), ("nvc enhanced", targets.enhanced, ["--enhance"])):
        decode_fps = nvc("decode", targets.stream, target, *options)
        size = targets.stream.stat().st_size
        results.append(Result(name, size, load(target).frames, encode_fps, decode_fps))
    return results


def match_x264(clip: Clip, size: int, threads: int) -> tuple[bytes, Result]:
    """The x264 stream whose size in bytes comes closest to `size`, found by bisection over crf, and its result."""
    low, high = CRF_RANGE
    tries: list[tuple[bytes, float]] = []
    for _ in range(MAX_TRIES):
        crf = (low + high) / 2
        stream, fps = encode_x264(clip, crf, threads)
        tries.append((stream, fps))
        if abs(len(stream) - size) <= RATE_TOLERANCE * size:
            break
        low, high = (crf, high) if len(stream) > size else (low, crf)
    stream, encode_fps = min(tries, key=lambda coded: abs(len(coded[0]) - size))
    frames, decode_fps = decode_x264(stream, clip.info, threads)
    return stream, Result("x264 medium", len(stream), frames, encode_fps, decode_fps)


def encode_x264(clip: Clip, crf: float, threads: int) -> tuple[bytes, float]:
    """The clip as Annex B H.264 with one keyframe, without the text of x264's settings; and frames a second."""
    import av
    from av.bitstream import BitStreamFilterContext

    from nvc_cli.pixels import to_av

    buffer = io.BytesIO()
    start = time.perf_counter()
    with av.open(buffer, "w", format="h264") as file:
        stream = file.add_stream("libx264", rate=clip.info.fps, options={**X264, "crf": f"{crf:.3f}"})
        stream.width, stream.height, stream.pix_fmt = clip.info.width, clip.info.height, "yuv420p"
        stream.codec_context.time_base = 1 / clip.info.fps
        stream.codec_context.thread_count = threads
        without_settings = BitStreamFilterContext("filter_units=remove_types=6", stream)
        for index, frame in enumerate([*clip.frames, None]):
            picture = None
            if frame is not None:
                picture = to_av(frame, clip.info)
                picture.pts = index
            for packet in stream.encode(picture):
                file.mux(without_settings.filter(packet))
    return buffer.getvalue(), len(clip.frames) / (time.perf_counter() - start)


def decode_x264(stream: bytes, info: VideoInfo, threads: int) -> tuple[list[Frame], float]:
    """The frames of an Annex B H.264 stream, and frames a second."""
    import av

    from nvc_cli.pixels import from_av

    start = time.perf_counter()
    with av.open(io.BytesIO(stream), "r", format="h264") as file:
        file.streams.video[0].codec_context.thread_count = threads
        frames = [from_av(picture, info) for picture in file.decode(video=0)]
    return frames, len(frames) / (time.perf_counter() - start)


def table(clip: Clip, results: list[Result]) -> str:
    """Rates, PSNR and speeds as text."""
    from nvc_cli.metrics import sequence_psnr

    row = "{:14}{:>8}{:>10}{:>10}{:>12}{:>12}"
    lines = [row.format("codec", "kB", "kbit/s", "PSNR dB", "encode fps", "decode fps")]
    for r in results:
        try:
            psnr = sequence_psnr(clip.frames, r.frames).yuv
        except ValueError as error:
            raise NvcError(f"what {r.codec} decoded is not the clip ({error}); try another --model") from None
        figures = f"{r.bytes / 1000:.1f}", f"{clip.kbps(r.bytes):.1f}", f"{psnr:.2f}", f"{r.encode_fps:.1f}"
        lines.append(row.format(r.codec, *figures, f"{r.decode_fps:.1f}"))
    return "\n".join(lines)


def side_by_side(clip: Clip, results: list[Result]) -> bytes:
    """A PNG of the same part of the middle frame, of the source and of every result, enlarged and labelled."""
    from PIL import Image, ImageDraw

    middle = len(clip.frames) // 2
    panels = [("source", clip.frames[middle])]
    panels += [(f"{r.codec}, {clip.kbps(r.bytes):.0f} kbit/s", r.frames[middle]) for r in results]
    width, height, label = ZOOM * (CROP[2] - CROP[0]), ZOOM * (CROP[3] - CROP[1]), 20
    sheet = Image.new("RGB", (len(panels) * width, height + label), "black")
    draw = ImageDraw.Draw(sheet)
    for i, (text, frame) in enumerate(panels):
        part = Image.fromarray(frame.rgb(clip.info.color)).crop(CROP)
        sheet.paste(part.resize((width, height), Image.Resampling.NEAREST), (i * width, label))
        draw.text((i * width + 6, 4), text, fill="white")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def write_file(path: Path, content: bytes, overwrite: bool) -> None:
    from nvc_cli.files import publish

    with publish(path, overwrite) as file:
        file.write(content)
