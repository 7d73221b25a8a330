"""`nvc compare`: rate-distortion points of nvc and of other codecs, measured side by side, and BD-rates between them."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvc_cli.anchors import ANCHORS, Anchor, find_anchor
from nvc_cli.completion import listed, models
from nvc_cli.conditions import conditions
from nvc_cli.errors import NvcError
from nvc_cli.ledger import Ledger
from nvc_cli.measure import Clip, Settings, decode_stream, measure, unpack_clip
from nvc_cli.results import ClipResult, Delta, Mean, Point, clip_deltas, comparable, mean_deltas, used_points
from nvc_cli.runtime import effort_option

if TYPE_CHECKING:
    from tqdm import tqdm

    from nvc_cli.crops import Crop

DEFAULT_ANCHORS = "x264,x265,x264-ultrafast,svtav1"
PAGE, PLOT = "index.html", "rates.png"


class Recorded(click.Command):
    """A command that knows the words it was called with."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = shlex.join([*ctx.command_path.split(), *args])
        return super().parse_args(ctx, args)


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
    cls=Recorded,
    short_help="Measure nvc against other codecs on your videos.",
    epilog="Anchors: " + "; ".join(f"{a.name} ({a.summary})" for a in ANCHORS) + ".",
)
@click.argument("clips", metavar="CLIP...", nargs=-1, required=True,
                type=click.Path(exists=True, dir_okay=False, allow_dash=True))  # fmt: skip
@click.option("-o", "--output", metavar="FOLDER", type=click.Path(file_okay=False, path_type=Path),
              help="Keep everything in FOLDER and write a page with plots there; needs pip install '.[compare]'.")  # fmt: skip
@click.option("--frames", type=click.IntRange(1), default=32, show_default=True, help="Frames of each clip to use.")
@click.option("--qps", callback=_parse_qps, default="0,1.5,3,4.5,6", show_default=True,
              help='Qualities of nvc, separated by commas; "" measures the anchors alone.')  # fmt: skip
@click.option("--model", default="tiny", show_default=True, shell_complete=models, help="Model of nvc.")
@click.option("--filter", "filter_", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True,
              help="In-loop filter of nvc.")  # fmt: skip
@click.option("--decision", type=click.Choice(["heuristic", "rd", "learned"]), default=None,
              help="How nvc decides on it under auto; by default as its effort says.")  # fmt: skip
@effort_option
@click.option("--references", type=click.IntRange(1, 8), default=8, show_default=True, metavar="N",
              help="Earlier pictures that nvc searches, 1 to 8.")  # fmt: skip
@click.option("--enhance", is_flag=True, help="Decode nvc's streams a second time, with the filter outside the loop, as a codec of its own: nvc enhanced.")
@click.option("--anchors", callback=_parse_anchors, default=DEFAULT_ANCHORS, show_default=True,
              shell_complete=listed(anchor.name for anchor in ANCHORS),
              help="Codecs to measure against, separated by commas.")  # fmt: skip
@click.option("--vmaf", is_flag=True, help="Measure VMAF v0.6.1 too, and its variant NEG; needs an ffmpeg with libvmaf.")
@click.option("--threads", type=click.IntRange(1), default=os.cpu_count() or 1, show_default="all cores",
              help="Threads that each codec may use.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
@click.option("-y", "--overwrite", is_flag=True, help="Begin anew, if FOLDER holds another run.")
@click.pass_obj
def command(
    command_line: str,
    clips: tuple[str, ...],
    output: Path | None,
    frames: int,
    qps: tuple[str, ...],
    model: str,
    filter_: str,
    decision: str | None,
    effort: str,
    references: int,
    enhance: bool,
    anchors: tuple[Anchor, ...],
    vmaf: bool,
    threads: int,
    as_json: bool,
    overwrite: bool,
) -> None:
    """Measure nvc against other codecs on your videos.

    Every codec encodes and decodes the same raw frames of each CLIP at several qualities. Rate is the whole file
    written; PSNR is (6 Y + U + V) / 8 per frame in 8-bit 4:2:0, averaged over frames. A BD-rate of -20 % means a
    fifth fewer bits than the anchor at equal PSNR, over the range of PSNR that both reach on that clip; where they
    reach none in common the clip is named and left out of the mean.

    With --output, FOLDER gets index.html, a page that needs no other file (curves, BD-rates, bits and PSNR frame by
    frame, nvc's worst pictures beside those of the others), rates.png, the plot of all clips, points.json, which is what
    --json prints, and streams/, the coded files. Points are kept there as soon as they are measured: after an
    interruption the same command goes on with the rest. A folder whose points depend on anything that is
    different now (clips, options, weights, versions, machine) is refused. Points from several starts are marked,
    as speeds depend on what else the machine does.

    vvenc and libaom, which PyAV does not have, and VMAF come from a program ffmpeg: that of the package
    imageio-ffmpeg, which pip install '.[compare]' brings, or the system's.
    """
    settings = Settings(qps, anchors, frames, model, filter_, decision, effort, references, threads, enhance, vmaf)
    if not settings.codecs:
        raise click.UsageError("there is nothing to measure: --qps and --anchors are both empty")
    if output:
        from nvc_cli.plots import require_matplotlib

        require_matplotlib("--output")
    names = clip_names(clips)
    ledger = Ledger(output, conditions(settings, names), (PAGE, PLOT), overwrite)
    try:
        results, crops = _measure_all(dict(zip(names, clips)), settings, ledger, not as_json)
    except KeyboardInterrupt:
        if output and ledger.points:
            click.echo(f"nvc: {ledger.points} points are kept in {output}; the same command goes on from there", err=True)
        raise
    means = mean_deltas(results)
    ledger.finish(means)
    if output:
        _write_page(output, command_line, settings, ledger, results, means, crops)
        click.echo(f"nvc: wrote {output / PAGE}", err=True)
    if as_json:
        click.echo(json.dumps(ledger.report(means)))
    else:
        _print_means(means)


def _measure_all(sources: dict[str, str], settings: Settings, ledger: Ledger, show: bool) -> tuple[list[ClipResult], dict[str, list[Crop]]]:
    """The results and, if they are kept in a folder, the crops of all clips."""
    results: list[ClipResult] = []
    crops: dict[str, list[Crop]] = {}
    with _progress(len(sources) * len(settings.jobs)) as progress, tempfile.TemporaryDirectory(prefix="nvc-compare-") as scratch:
        for name, source in sources.items():
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                clip = unpack_clip(source, name, Path(folder), settings.frames)
                results.append(measure_clip(clip, Path(folder), settings, ledger, progress.update))
                if ledger.folder:
                    crops[name] = clip_crops(clip, Path(folder), settings, ledger, results[-1].points)
            if show:
                with progress.external_write_mode():
                    _print_clip(results[-1])
    return results, crops


def _progress(jobs: int) -> tqdm:
    from tqdm import tqdm

    return tqdm(total=jobs, unit="stream", disable=None, leave=False)  # None: shown on terminals only


def clip_names(sources: Sequence[str]) -> list[str]:
    """A name for each clip: that of the file without its suffix, and a number where there were such before."""
    names: list[str] = []
    for source in sources:
        stem = "stdin" if source == "-" else Path(source).stem
        numbered = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(sources) + 1))
        names.append(next(name for name in numbered if name not in names))
    return names


def measure_clip(clip: Clip, folder: Path, settings: Settings, ledger: Ledger, on_job: Callable[[], object] = lambda: None) -> ClipResult:
    """Measure all codecs on one clip, but for the points that the ledger has; `on_job` is called after each stream.

    NvcError if a codec fails, or the ledger holds points of another clip of that name.
    """
    ledger.begin(clip)
    points: list[Point] = []
    for job in settings.jobs:
        points += ledger.find(clip, job) or ledger.keep(clip, job, *measure(clip, folder, settings, job))
        on_job()
    points.sort(key=lambda p: settings.codecs.index(p.codec))
    return ledger.conclude(clip, points, clip_deltas(points, settings.codecs))


def clip_crops(clip: Clip, folder: Path, settings: Settings, ledger: Ledger, points: list[Point]) -> list[Crop]:
    """Where nvc is worst on a clip, beside the other codecs at about the same rate; their streams are decoded once more."""
    from nvc_cli.crops import make_crop, read_frames, worst_frames

    shown = sorted(comparable(points), key=lambda p: settings.codecs.index(p.codec))
    reasons = worst_frames(shown)
    source = read_frames(clip.path, list(reasons))
    decoded = {p.codec: read_frames(decode_stream(clip, ledger.stream(p), folder, settings, p.codec), list(reasons)) for p in shown}
    return [make_crop(i, reason, source[i], {codec: frames[i] for codec, frames in decoded.items()}, shown, clip.info) for i, reason in reasons.items()]


def _write_page(
    folder: Path, command_line: str, settings: Settings, ledger: Ledger, results: list[ClipResult], means: list[Mean], crops: dict[str, list[Crop]]
) -> None:
    from nvc_cli.files import publish
    from nvc_cli.page import Page, render
    from nvc_cli.plots import png, rate_plot

    rates = rate_plot(results, settings.codecs)
    page = Page(ledger.conditions, command_line, settings.codecs, ledger.sittings, results, means, crops)
    for name, content in {PLOT: png(rates), PAGE: render(page, rates).encode()}.items():
        with publish(folder / name, overwrite=True) as file:
            file.write(content)


def _print_clip(result: ClipResult) -> None:
    rate = float(Fraction(result.fps))
    click.echo(f"{result.clip}: {result.width}x{result.height}, {rate:g} frames/s, {result.frames} frames\n")
    row = "  {:18}{:>8}{:>12}{:>10}{:>14}{:>14}"
    click.echo(row.format("codec", "qp/crf", "kbit/s", "PSNR dB", "encode fps", "decode fps"))
    used, several = used_points(result.points), len(result.sittings) > 1
    for p in result.points:
        speeds = f"{p.encode_fps:.1f}", f"{p.decode_fps:.1f}"
        line = row.format(p.codec, f"{p.quality:g}", f"{p.kbps:.2f}", f"{p.psnr:.2f}", *speeds)
        remarks = [f"sitting {p.sitting + 1}"] if several else []
        if p not in used:
            remarks.append("costs more than a better point: not in BD-rates")
        click.echo("  ".join([line, *remarks]))
    if several:
        click.echo("  speeds of different sittings are not comparable")
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


def _pair(item: Delta | Mean) -> str:
    return f"{item.codec} against {item.anchor}".ljust(42)


def _percent(value: float | None) -> str:
    return f"{value:+9.2f} %" if value is not None else "      none "


def _basis(delta: Delta) -> str:
    if delta.psnr_range is None:
        return str(delta.reason)
    low, high = delta.psnr_range
    return f"from {low:.2f} to {high:.2f} dB"
