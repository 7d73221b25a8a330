"""`nvc encode`: a video into an .nvc stream."""

from __future__ import annotations

import re
from contextlib import ExitStack
from fractions import Fraction
from itertools import chain

import click

from nvc_cli.decision import Decision, Heuristic, Learned, LookAhead
from nvc_cli.errors import NvcError
from nvc_cli.files import STDOUT, check_target, publish
from nvc_cli.runtime import choose_device, load_model, runtime_options

SMALLEST, LARGEST = 16, 8192


class Size(click.ParamType):
    """WxH."""

    name = "WxH"

    def convert(self, value, param, ctx) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)[xX](\d+)", value)
        if not match or not int(match[1]) or not int(match[2]):
            self.fail(f"{value!r} is not a size like 352x288", param, ctx)
        return int(match[1]), int(match[2])


class Rate(click.ParamType):
    """Frames per second, whole, decimal or a fraction."""

    name = "N"

    def convert(self, value, param, ctx) -> Fraction:
        try:
            rate = Fraction(value)
        except (ValueError, ZeroDivisionError):
            rate = Fraction(0)
        if rate <= 0:
            self.fail(f"{value!r} is not a frame rate like 30, 29.97 or 30000/1001", param, ctx)
        return rate.limit_denominator(1001)


class Quality(click.ParamType):
    """0 to 7 in steps of 1/8."""

    name = "Q"

    def convert(self, value, param, ctx) -> float:
        try:
            qp = float(value)
        except ValueError:
            qp = -1.0
        if not 0 <= qp <= 7 or qp * 8 % 1:
            self.fail(f"{value!r} is not a quality from 0 to 7 in steps of 0.125", param, ctx)
        return qp


class Thresholds(click.ParamType):
    """Four thresholds and a factor."""

    name = "M0,M1,M2,M3,P"

    def convert(self, value, param, ctx) -> Heuristic:
        try:
            *thresholds, progress = (float(part) for part in value.split(","))
            return Heuristic(tuple(thresholds), progress)
        except ValueError:
            self.fail(f"{value!r} is not four thresholds and a factor like 0.01,0,0,0,0.9", param, ctx)


@click.command()
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", "target", required=True, metavar="OUT.nvc", help="Where the stream goes; - for standard output.")
@click.option("--qp", type=Quality(), default=3.0, show_default=True, help="Quality: 0 (best picture) to 7 (smallest file), in steps of 1/8.")
@click.option("--keyint", type=click.IntRange(0), default=0, show_default=True, help="Frames from keyframe to keyframe; 0: only the first is one.")
@click.option(
    "--filter", "filtering", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True, help="The in-loop filter; auto decides frame by frame."
)
@click.option(
    "--decision", type=click.Choice(["heuristic", "rd", "learned"]), default="heuristic", show_default=True,
    help="How auto decides. heuristic: by the error that the filter takes away; rd: by what the coming frames cost, too, in twice the time; learned: as a model of what rd chose says."
)
@click.option(
    "--thresholds", type=Thresholds(), default=None, metavar="M0,M1,M2,M3,P",
    help="For the heuristic: the part of the error that the filter must take away, by the place in the quality cycle, and the factor P by which it changes from frame to frame."
)
@click.option("--references", type=click.IntRange(1, 8), default=8, show_default=True, metavar="N", help="Search the last N pictures for motion, 1 to 8; fewer: faster, larger files.")
@click.option("--model", default="tiny", show_default=True, metavar="NAME|FILE", help="A model of the package, or a .safetensors file from nvc train.")
@click.option("--frames", type=click.IntRange(1), default=None, metavar="N", help="Stop after N frames.")
@click.option("--size", type=Size(), default=None, help="Size of raw video.")
@click.option("--fps", type=Rate(), default=None, help="Frame rate of raw video, or instead of the source's.")
@click.option("--recon", default=None, metavar="FILE", help="Also write the pictures that every decoder will get.")
@click.option("--verify", is_flag=True, help="Decode every frame as it is encoded and compare; takes the time of decoding, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("-y", "--overwrite", is_flag=True, help="Overwrite files that exist.")
@runtime_options
def command(
    source: str,
    target: str,
    qp: float,
    keyint: int,
    filtering: str,
    decision: str,
    thresholds: Heuristic | None,
    references: int,
    model: str,
    frames: int | None,
    size: tuple[int, int] | None,
    fps: Fraction | None,
    recon: str | None,
    verify: bool,
    as_json: bool,
    overwrite: bool,
    device: str,
    threads: int | None,
) -> None:
    """Compress a video into an .nvc stream.

    INPUT is a .y4m file, anything that FFmpeg's libraries open, raw 8-bit 4:2:0 .yuv (size and rate from its name, as
    in foreman_352x288_30.yuv, or from --size and --fps), or - for a pipe: y4m, or raw video when --size is given.
    """
    if as_json and STDOUT in (target, recon):
        raise click.UsageError("--json and a stream on standard output would mix; write the stream to a file")
    if STDOUT == target == recon:
        raise click.UsageError("the stream and --recon cannot both go to standard output")
    rule = _decision(filtering, decision, thresholds)
    check_target(target, overwrite)
    from nvc_cli.video import open_reader, open_writer

    with ExitStack() as stack:
        reader = stack.enter_context(open_reader(source, size, fps, frames))
        info = reader.info
        if reader.note:
            click.echo(f"nvc: {reader.note}", err=True)
        if min(info.width, info.height) < SMALLEST or max(info.width, info.height) > LARGEST:
            raise NvcError(
                f"{source}: a picture of {info.width}x{info.height} cannot be coded, sides must be from {SMALLEST} to {LARGEST}; scale it first"
            )
        from nvc_cli.report import Meter, tell

        place = choose_device(device, threads)
        weights = load_model(model, place)
        from nvc_cli.decoder import Decoder
        from nvc_cli.encoder import Encoder
        from nvc_cli.stream import Header, StreamWriter

        # The stream is published last, so it appears only when the reconstruction is whole, too.
        file = stack.enter_context(publish(target, overwrite))
        writer = stack.enter_context(open_writer(recon, info, overwrite)) if recon else None
        header = Header(
            info.width, info.height, info.fps, info.color, info.sar, info.source_format, weights.name, weights.hash
        )
        encoder = Encoder(weights, qp, keyint, rule, place, references)
        verifier = Decoder(header, weights, False, place, target) if verify else None
        with StreamWriter(file, header) as stream:
            meter = Meter(info, info.frames if frames is None else min(frames, info.frames or frames), "encoding")
            for frame in chain(reader, [None]):
                with meter.frame():
                    ready = encoder.finish() if frame is None else encoder.encode(frame)
                    if verifier:
                        for encoded in ready:
                            verifier.decode(encoded.packet)
                for encoded in ready:
                    size = stream.write(encoded.packet)
                    if writer:
                        writer.write(encoded.picture)
                    meter.count(size)
        summary = meter.summary(stream.size)
    tell(summary, "encoded", target, as_json)
    if verify:
        click.echo(f"verified: all {summary.frames} frames decode to the pictures of the encoder", err=True)


def _decision(filtering: str, decision: str, thresholds: Heuristic | None) -> Decision:
    """The options about the in-loop filter as one."""
    if thresholds and (filtering, decision) != ("auto", "heuristic"):
        raise click.UsageError("--thresholds are those of --filter auto --decision heuristic")
    if filtering != "auto":
        return filtering == "on"
    return {"rd": LookAhead(), "learned": Learned(), "heuristic": thresholds or Heuristic()}[decision]
