"""`nvc compare`: rate-distortion points of nvc and of other codecs, measured side by side, and BD-rates between them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvc_cli.anchors import ANCHORS, Anchor, find_anchor, point_command
from nvc_cli.errors import NvcError

if TYPE_CHECKING:
    from tqdm import tqdm

NVC = "nvc"
ONE_KEYFRAME = ("--keyint", "0", "--no-scenecut")  # what the anchors are told, too
DEFAULT_ANCHORS = "x264,x265,x264-ultrafast,svtav1"


@dataclass(frozen=True)
class Settings:
    """What is measured on every clip."""

    qps: tuple[str, ...]  # of nvc, as given
    anchors: tuple[Anchor, ...]
    frames: int  # at most, per clip
    model: str
    filter: str
    decision: str
    references: int
    threads: int

    @property
    def codecs(self) -> tuple[str, ...]:
        return (*([NVC] if self.qps else []), *(a.name for a in self.anchors))

    @property
    def points(self) -> int:
        """Points to be measured per clip."""
        return len(self.qps) + sum(len(a.qualities) for a in self.anchors)


@dataclass(frozen=True)
class Clip:
    """A clip as raw 4:2:0 on disk, which all codecs read."""

    name: str
    path: Path
    width: int
    height: int
    fps: Fraction
    frames: int


@dataclass(frozen=True)
class Point:
    """One codec at one quality setting on one clip. `bytes` is the whole file; speeds are in frames a second."""

    codec: str
    quality: float  # qp of nvc, crf of the anchors
    bytes: int
    kbps: float
    psnr: float
    psnr_y: float
    psnr_u: float
    psnr_v: float
    encode_fps: float
    decode_fps: float


@dataclass(frozen=True)
class Delta:
    """BD-rate of `codec` against `anchor` on one clip: `percent` over the `psnr_range` in dB, or `reason` for none."""

    codec: str
    anchor: str
    percent: float | None
    psnr_range: tuple[float, float] | None
    reason: str | None


@dataclass(frozen=True)
class ClipResult:
    clip: str
    width: int
    height: int
    fps: str
    frames: int
    points: list[Point]
    bd_rate: list[Delta]


@dataclass(frozen=True)
class Mean:
    """Mean BD-rate over the clips that have one; `left_out` names the others. `percent` is None if all are left out."""

    codec: str
    anchor: str
    percent: float | None
    clips: int
    left_out: list[str]


def _split(value: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def _parse_qps(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    for part in _split(value):
        try:
            float(part)
        except ValueError:
            raise click.BadParameter(f"{part!r} is not a number") from None
    return _split(value)


def _parse_anchors(ctx: click.Context, param: click.Parameter, value: str) -> tuple[Anchor, ...]:
    try:
        return tuple(find_anchor(name) for name in _split(value))
    except NvcError as error:
        raise click.BadParameter(str(error)) from None


@click.command(
    short_help="Measure nvc against other codecs on your videos.",
    epilog="Anchors: " + "; ".join(f"{a.name} ({a.summary})" for a in ANCHORS) + ".",
)
@click.argument("clips", metavar="CLIP...", nargs=-1, required=True,
                type=click.Path(exists=True, dir_okay=False, allow_dash=True))  # fmt: skip
@click.option("--frames", type=click.IntRange(1), default=32, show_default=True, help="Frames of each clip to use.")
@click.option("--qps", callback=_parse_qps, default="0,1.5,3,4.5,6", show_default=True,
              help='Qualities of nvc, separated by commas; "" measures the anchors alone.')  # fmt: skip
@click.option("--model", default="tiny", show_default=True, help="Model of nvc.")
@click.option("--filter", "filter_", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
              help="In-loop filter of nvc.")  # fmt: skip
@click.option("--decision", type=click.Choice(["heuristic", "rd", "learned"]), default="heuristic", show_default=True,
              help="How nvc decides on it under auto.")  # fmt: skip
@click.option("--references", type=click.IntRange(1, 8), default=8, show_default=True, metavar="N",
              help="Earlier pictures that nvc searches, 1 to 8.")  # fmt: skip
@click.option("--anchors", callback=_parse_anchors, default=DEFAULT_ANCHORS, show_default=True,
              help="Codecs to measure against, separated by commas.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="all cores",
              help="Threads that each codec may use.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(
    clips: tuple[str, ...],
    frames: int,
    qps: tuple[str, ...],
    model: str,
    filter_: str,
    decision: str,
    references: int,
    anchors: tuple[Anchor, ...],
    threads: int,
    as_json: bool,
) -> None:
    """Measure nvc against other codecs on your videos.

    Every codec encodes and decodes the same raw frames of each CLIP at several qualities. Rate is the whole file
    written; PSNR is (6 Y + U + V) / 8 per frame in 8-bit 4:2:0, averaged over frames. A BD-rate of -20 % means a
    fifth fewer bits than the anchor at equal PSNR, over the range of PSNR that both reach on that clip; where they
    reach none in common the clip is named and left out of the mean.
    """
    settings = Settings(qps, anchors, frames, model, filter_, decision, references, threads)
    if not settings.codecs:
        raise click.UsageError("there is nothing to measure: --qps and --anchors are both empty")
    results = []
    with _progress(len(clips) * settings.points) as progress:
        for source in clips:
            results.append(measure_clip(source, settings, progress.update))
            if not as_json:
                with progress.external_write_mode():
                    _print_clip(results[-1])
    means = mean_deltas(results)
    if as_json:
        click.echo(json.dumps(_as_json(settings, results, means)))
    else:
        _print_means(means)


def _progress(points: int) -> tqdm:
    from tqdm import tqdm

    return tqdm(total=points, unit="point", disable=None, leave=False)  # None: shown on terminals only


def measure_clip(source: str, settings: Settings, on_point: Callable[[], object] = lambda: None) -> ClipResult:
    """Measure all codecs on one clip; `on_point` is called after each point. NvcError if the clip or a codec fails."""
    with tempfile.TemporaryDirectory(prefix="nvc-compare-") as folder:
        clip = unpack_clip(source, Path(folder), settings.frames)
        points = []
        for point in measure_points(clip, Path(folder), settings):
            points.append(point)
            on_point()
    deltas = clip_deltas(points, settings.codecs)
    return ClipResult(clip.name, clip.width, clip.height, str(clip.fps), clip.frames, points, deltas)


def unpack_clip(source: str, folder: Path, frames: int) -> Clip:
    """Write up to `frames` frames of any readable `source` into `folder` as raw 4:2:0. NvcError if it holds none."""
    from nvc_cli.video import open_reader, open_writer

    count = 0
    with open_reader(source, frames=frames) as reader:
        info = reader.info
        path = folder / f"clip_{info.width}x{info.height}_{float(info.fps):g}.yuv"
        with open_writer(str(path), info) as writer:
            for frame in reader:
                writer.write(frame)
                count += 1
    if not count:
        raise NvcError(f"{source} holds no frames; leave it out")
    return Clip(Path(source).stem, path, info.width, info.height, info.fps, count)


def measure_points(clip: Clip, folder: Path, settings: Settings) -> Iterator[Point]:
    """Measure every codec of `settings` on `clip`, one point after the other, in scratch files in `folder`."""
    for qp in settings.qps:
        with _named_failure(clip, f"{NVC} at qp {qp}"):
            point = _nvc_point(clip, folder, settings, qp)
        yield point
    for anchor in settings.anchors:
        for quality in anchor.qualities:
            with _named_failure(clip, f"{anchor.name} at crf {quality}"):
                point = _anchor_point(clip, folder, settings.threads, anchor, quality)
            yield point


@contextmanager
def _named_failure(clip: Clip, codec: str) -> Iterator[None]:
    """Say in an error which codec failed on which clip."""
    try:
        yield
    except NvcError as error:
        raise NvcError(f"{codec} failed on {clip.name}: {error}") from None


def _nvc_point(clip: Clip, folder: Path, settings: Settings, qp: str) -> Point:
    coded, decoded = folder / "coded.nvc", _decoded_path(clip, folder)
    nvc = [sys.executable, "-m", "nvc_cli"]
    choices = {"--qp": qp, "--model": settings.model, "--filter": settings.filter, "--decision": settings.decision, "--references": settings.references}
    options = [str(word) for pair in {**choices, "--threads": settings.threads}.items() for word in pair]
    encoding = run_json([*nvc, "encode", str(clip.path), "-o", str(coded), *options, *ONE_KEYFRAME, "--json", "-y"], settings.threads)
    weights = ["--model", settings.model] if settings.model.endswith(".safetensors") else []
    decoding = run_json([*nvc, "decode", str(coded), "-o", str(decoded), *weights, "--json", "-y"], settings.threads)
    return _point(NVC, float(qp), clip, coded, decoded, encoding["fps"], decoding["fps"])


def _anchor_point(clip: Clip, folder: Path, threads: int, anchor: Anchor, quality: int) -> Point:
    coded, decoded = folder / f"coded.{anchor.format}", _decoded_path(clip, folder)
    command = point_command(anchor, quality, str(clip.path), str(coded), str(decoded), clip.fps, threads)
    result = run_json(command, threads)
    return _point(anchor.name, quality, clip, coded, decoded, result["encode"]["fps"], result["decode"]["fps"])


def _decoded_path(clip: Clip, folder: Path) -> Path:
    return folder / clip.path.name.replace("clip", "decoded", 1)


def _point(
    codec: str, quality: float, clip: Clip, coded: Path, decoded: Path, encode_fps: float, decode_fps: float
) -> Point:
    from nvc_cli.metrics import sequence_psnr
    from nvc_cli.video import open_reader

    with open_reader(str(clip.path)) as original, open_reader(str(decoded)) as result:
        try:
            psnr = sequence_psnr(original, result)
        except ValueError as error:
            raise NvcError(f"what it decoded is not the clip ({error}); leave this codec or clip out") from None
    size = coded.stat().st_size
    kbps = 8 * size * float(clip.fps) / clip.frames / 1000
    return Point(codec, quality, size, kbps, psnr.yuv, psnr.y, psnr.u, psnr.v, encode_fps, decode_fps)


def run_json(command: list[str], threads: int) -> dict[str, Any]:
    """Run a command that prints one JSON object and return that. NvcError with its last words if it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "SVT_LOG": "1"}  # SVT-AV1: report errors only
    result = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if result.returncode == 0:
        return json.loads(result.stdout)
    lines = result.stderr.strip().splitlines()
    raise NvcError(lines[-1].removeprefix("nvc: ") if lines else f"it ended with code {result.returncode}")


def clip_deltas(points: list[Point], codecs: tuple[str, ...]) -> list[Delta]:
    """BD-rates on one clip: each codec against each that comes after it in `codecs`."""
    return [_delta(points, codec, anchor) for i, codec in enumerate(codecs) for anchor in codecs[i + 1 :]]


def _delta(points: list[Point], codec: str, anchor: str) -> Delta:
    from nvc_cli.metrics import bd_rate, shared_range

    curves = [[getattr(p, axis) for p in points if p.codec == name] for name in (anchor, codec) for axis in ("kbps", "psnr")]
    try:
        return Delta(codec, anchor, bd_rate(*curves), shared_range(*curves), None)
    except ValueError as error:
        return Delta(codec, anchor, None, None, str(error))


def mean_deltas(results: list[ClipResult]) -> list[Mean]:
    """The mean BD-rate of every pair of codecs over clips, in the order of the clips' own lists."""
    means = []
    for deltas in zip(*(r.bd_rate for r in results), strict=True):
        known = [d.percent for d in deltas if d.percent is not None]
        left_out = [r.clip for r, d in zip(results, deltas, strict=True) if d.percent is None]
        mean = sum(known) / len(known) if known else None
        means.append(Mean(deltas[0].codec, deltas[0].anchor, mean, len(known), left_out))
    return means


def _as_json(settings: Settings, results: list[ClipResult], means: list[Mean]) -> dict[str, Any]:
    return {
        "model": settings.model,
        "filter": settings.filter,
        "decision": settings.decision,
        "references": settings.references,
        "threads": settings.threads,
        "anchors": {a.name: a.summary for a in settings.anchors},
        "clips": [asdict(r) for r in results],
        "mean": [asdict(m) for m in means],
    }


def _print_clip(result: ClipResult) -> None:
    rate = float(Fraction(result.fps))
    click.echo(f"{result.clip}: {result.width}x{result.height}, {rate:g} frames/s, {result.frames} frames\n")
    row = "  {:18}{:>8}{:>12}{:>10}{:>14}{:>14}"
    click.echo(row.format("codec", "qp/crf", "kbit/s", "PSNR dB", "encode fps", "decode fps"))
    used = _used_points(result.points)
    for p in result.points:
        speeds = f"{p.encode_fps:.1f}", f"{p.decode_fps:.1f}"
        line = row.format(p.codec, f"{p.quality:g}", f"{p.kbps:.2f}", f"{p.psnr:.2f}", *speeds)
        click.echo(line if p in used else f"{line}  costs more than a better point: not in BD-rates")
    if result.bd_rate:
        click.echo("\n  BD-rate")
    for delta in result.bd_rate:
        click.echo(f"  {_pair(delta)}{_percent(delta.percent)}  {_basis(delta)}")
    click.echo()


def _print_means(means: list[Mean]) -> None:
    if means:
        click.echo("Mean BD-rate")
    for mean in means:
        basis = f"{mean.clips} clip{'' if mean.clips == 1 else 's'}"
        if mean.left_out:
            basis += f", left out: {', '.join(mean.left_out)}"
        click.echo(f"  {_pair(mean)}{_percent(mean.percent)}  {basis}")


def _used_points(points: list[Point]) -> list[Point]:
    """The points that BD-rates are computed from: of each codec, those that no other point of it beats."""
    from nvc_cli.metrics import efficient_points

    used = []
    for codec in dict.fromkeys(p.codec for p in points):
        own = [p for p in points if p.codec == codec]
        used += [own[i] for i in efficient_points([p.kbps for p in own], [p.psnr for p in own])]
    return used


def _pair(item: Delta | Mean) -> str:
    return f"{item.codec} against {item.anchor}".ljust(42)


def _percent(value: float | None) -> str:
    return f"{value:+9.2f} %" if value is not None else "      none "


def _basis(delta: Delta) -> str:
    if delta.psnr_range is None:
        return str(delta.reason)
    low, high = delta.psnr_range
    return f"from {low:.2f} to {high:.2f} dB"
