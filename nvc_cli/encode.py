"""`nvc encode`: a video into an .nvc stream."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

import click

from nvc_cli.completion import files, models
from nvc_cli.decision import Decision, Heuristic, Learned, LookAhead
from nvc_cli.errors import NvcError
from nvc_cli.files import STDOUT, check_target, publish
from nvc_cli.rate import OnePass, Target
from nvc_cli.runtime import effort_option, load_encoder, profile_option, runtime_options

if TYPE_CHECKING:
    from nvc_cli.decoder import Decoder
    from nvc_cli.encoder import Encoder
    from nvc_cli.frame import Frame
    from nvc_cli.report import Meter
    from nvc_cli.stream import Header, Packet

SMALLEST, LARGEST = 16, 8192
STDIN = "-"
DEFAULT_QP = 3.0

TOLERANCE = 0.05
"""A rate that is further from the one asked for is worth a line."""


class Size(click.ParamType):
    """WxH."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"(\d+)[xX](\d+)", value)
        if not match or not int(match[1]) or not int(match[2]):
            self.fail(f"{value!r} is not a size like 352x288", param, ctx)
        return int(match[1]), int(match[2])


class Rate(click.ParamType):
    """Frames per second, whole, decimal or a fraction."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
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

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            qp = float(value)
        except ValueError:
            qp = -1.0
        if not 0 <= qp <= 7 or qp * 8 % 1:
            self.fail(f"{value!r} is not a quality from 0 to 7 in steps of 0.125", param, ctx)
        return qp


class Amount(click.ParamType):
    """A number with k, M or G behind it for thousands, millions or billions."""

    name = "N[k|M|G]"
    UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKMG]?)", value)
        amount = Fraction(match[1]) * self.UNITS[match[2]] if match else Fraction(0)
        if not amount or amount.denominator > 1:
            self.fail(f"{value!r} is not an amount like 800000, 800k or 1.5M", param, ctx)
        return int(amount)


class Thresholds(click.ParamType):
    """Four thresholds and a factor."""

    name = "M0,M1,M2,M3,P"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Heuristic:
        try:
            *thresholds, progress = (float(part) for part in value.split(","))
            return Heuristic(tuple(thresholds), progress)
        except ValueError:
            self.fail(f"{value!r} is not four thresholds and a factor like 0.01,0,0,0,0.9", param, ctx)


@click.command()
@click.argument("source", metavar="INPUT", shell_complete=files)
@click.option("-o", "--output", "target", required=True, metavar="OUT.nvc", shell_complete=files, help="Where the stream goes; - for standard output.")
@click.option("--qp", type=Quality(), default=None, help=f"Quality: 0 (best picture) to 7 (smallest file), in steps of 1/8.  [default: {DEFAULT_QP:g}]")
@click.option("--bitrate", type=Amount(), default=None, metavar="N[k|M|G]", help="Instead of a quality: bits per second; 500k are 500 000.")
@click.option("--target-size", type=Amount(), default=None, metavar="N[k|M|G]", help="Instead of a quality: bytes of the whole file; 10M are 10 000 000.")
@click.option("--two-pass", is_flag=True, help="Look at the whole file before, for an even quality at that rate; takes a third more time.")
@click.option("--keyint", type=click.IntRange(0), default=256, show_default=True, help="Most frames from keyframe to keyframe; 0: no limit.")
@click.option("--scenecut/--no-scenecut", default=True, show_default=True, help="Begin scenes with a keyframe.")
@click.option(
    "--filter", "filtering", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True, help="The in-loop filter; auto decides frame by frame."
)
@click.option(
    "--decision", type=click.Choice(["heuristic", "rd", "learned"]), default=None,
    help="How auto decides; by default heuristic, or always on with --effort fast. heuristic: by the error that the filter takes away; rd: by what the coming frames cost, too, in twice the time; learned: as a model of what rd chose says."
)
@click.option(
    "--thresholds", type=Thresholds(), default=None, metavar="M0,M1,M2,M3,P",
    help="For the heuristic: the part of the error that the filter must take away, by the place in the quality cycle, and the factor P by which it changes from frame to frame."
)
@effort_option
@click.option("--references", type=click.IntRange(1, 8), default=8, show_default=True, metavar="N", help="Let motion point to the last N pictures, 1 to 8; fewer: less memory, larger files.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Encode N segments at a time, from keyframe to keyframe, each in a process of its own.")
@click.option("--model", default="tiny", show_default=True, metavar="NAME|FILE", shell_complete=models,
              help="A model of the package, or a .safetensors file from nvc train.")  # fmt: skip
@click.option("--frames", type=click.IntRange(1), default=None, metavar="N", help="Stop after N frames.")
@click.option("--size", type=Size(), default=None, help="Size of raw video.")
@click.option("--fps", type=Rate(), default=None, help="Frame rate of raw video, or instead of the source's.")
@click.option("--tracks/--no-tracks", default=True, show_default=True, help="Copy the sound and subtitles of a container as they are.")
@click.option("--recon", default=None, metavar="FILE", shell_complete=files, help="Also write the pictures that every decoder will get.")
@click.option("--verify", is_flag=True, help="Decode every frame as it is encoded and compare; takes the time of decoding, too.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("-y", "--overwrite", is_flag=True, help="Overwrite files that exist.")
@profile_option
@runtime_options
def command(
    source: str,
    target: str,
    qp: float | None,
    bitrate: int | None,
    target_size: int | None,
    two_pass: bool,
    keyint: int,
    scenecut: bool,
    filtering: str,
    decision: str | None,
    thresholds: Heuristic | None,
    effort: str,
    references: int,
    jobs: int,
    model: str,
    frames: int | None,
    size: tuple[int, int] | None,
    fps: Fraction | None,
    tracks: bool,
    recon: str | None,
    verify: bool,
    as_json: bool,
    overwrite: bool,
    profiling: bool,
    device: str,
    threads: int | None,
) -> None:
    """Compress a video into an .nvc stream.

    INPUT is a .y4m file, anything that FFmpeg's libraries open, raw 8-bit 4:2:0 .yuv (size and rate from its name, as
    in foreman_352x288_30.yuv, or from --size and --fps), or - for a pipe: y4m, or raw video when --size is given.

    Colour tags, the shape of pixels, how pictures are to be turned and when each one is shown are kept. Pictures are coded as 8-bit
    4:2:0; what is converted is said in one line.
    """
    if as_json and STDOUT in (target, recon):
        raise click.UsageError("--json and a stream on standard output would mix; write the stream to a file")
    if STDOUT == target == recon:
        raise click.UsageError("the stream and --recon cannot both go to standard output")
    rule = _decision(filtering, decision, thresholds)
    aim = _aim(qp, bitrate, target_size)
    if two_pass and not isinstance(aim, Target):
        raise click.UsageError("--two-pass is for --bitrate or --target-size; a quality needs only one")
    if two_pass and _is_pipe(source):
        raise click.UsageError(f"--two-pass reads its input twice, which {'a pipe' if source == STDIN else source} cannot be; write it to a file first")
    if two_pass and jobs > 1:
        raise click.UsageError("--two-pass plans the whole file in one process; leave --jobs away, or take one pass")
    check_target(target, overwrite)
    if jobs > 1 and not (keyint or scenecut):
        click.echo("nvc: with --keyint 0 --no-scenecut there is only one segment, so --jobs changes nothing", err=True)
        jobs = 1
    from nvc_cli.video import open_reader, open_writer

    with ExitStack() as stack:
        reader = stack.enter_context(open_reader(source, size, fps, frames, tracks))
        info = reader.info
        if reader.note:
            click.echo(f"nvc: {reader.note}", err=True)
        if min(info.width, info.height) < SMALLEST or max(info.width, info.height) > LARGEST:
            raise NvcError(
                f"{source}: a picture of {info.width}x{info.height} cannot be coded, sides must be from {SMALLEST} to {LARGEST}; scale it first"
            )
        from models.kernels.threads import threads as threads_in_use
        from nvc_cli.report import Meter, profiled, tell, tell_profile

        weights = load_encoder(model, device, threads)
        from nvc_cli.decoder import Decoder
        from nvc_cli.effort import DRAFT, EFFORTS
        from nvc_cli.encoder import Encoder
        from nvc_cli.jobs import Recipe
        from nvc_cli.jobs import encode as encode_in_parallel
        from nvc_cli.segments import Borders
        from nvc_cli.stream import Header, StreamWriter, packed_header
        from nvc_cli.twopass import TwoPass, draft

        header = Header.of(info, weights, reader.tracks)
        packed_header(header)  # what cannot be one is refused before anybody reckons with it
        # The stream is published last, so it appears only when the reconstruction is whole, too.
        file = stack.enter_context(publish(target, overwrite))
        writer = stack.enter_context(open_writer(recon, info, overwrite)) if recon else None
        begin, count = time.monotonic(), info.frames or frames
        control: float | OnePass | TwoPass
        if not isinstance(aim, Target):
            control = aim
        else:
            if aim.size and not count:
                count = _count(source, size, fps, two_pass)
            control = _one_pass(aim, header, count, keyint, reader.side)
            if two_pass:
                encoder = Encoder(weights, control, keyint, False, None, DRAFT, scenecut)
                with open_reader(source, size, fps, frames) as again:
                    drafted = draft(again, encoder, header, Meter(info, count, "first pass"))
                control = TwoPass(drafted, _budget(aim, header, len(drafted), reader.side))
        thinking = replace(EFFORTS[effort], references=references)
        with profiled(profiling) as profile, StreamWriter(file, header) as stream:
            meter = Meter(info, count, "encoding", begin)

            def write(packet: Packet, picture: Frame | None) -> int:
                for sample in reader.beside(stream.frames, packet.time):
                    stream.write_sample(sample)
                length = stream.write(packet)
                if writer and picture:
                    writer.write(picture)
                meter.count(length)
                return length

            if jobs > 1 and not isinstance(control, TwoPass):
                recipe = Recipe(target, header, model, device, max(1, threads_in_use() // jobs), rule, thinking, control, verify)
                encode_in_parallel(reader, Borders(keyint, scenecut), recipe, jobs, meter, write, bool(writer))
            else:
                encoder = Encoder(weights, control, keyint, rule, None, thinking, scenecut)
                _encode(reader, encoder, Decoder(header, weights, name=target) if verify else None, meter, write)
            for sample in reader.rest():
                stream.write_sample(sample)
        summary = meter.summary(stream.size)
    tell(summary, "encoded", target, as_json)
    if profile:
        tell_profile(profile, summary)
    if isinstance(aim, Target):
        _tell_miss(summary.bytes - (stream.side if aim.bitrate else 0), aim.bits(summary.frames, info.fps) / 8)
    if verify:
        click.echo(f"verified: all {summary.frames} frames decode to the pictures of the encoder", err=True)


def _encode(frames: Iterable[Frame], encoder: Encoder, verifier: Decoder | None, meter: Meter, write: Callable[[Packet, Frame], int]) -> None:
    """Encode a video with one encoder; `write` returns the size of a packet in the stream."""
    for frame in chain(frames, [None]):
        with meter.frame():
            ready = encoder.finish() if frame is None else encoder.encode(frame)
            if verifier:
                for encoded in ready:
                    verifier.decode(encoded.packet)
        for encoded in ready:
            encoder.took(write(encoded.packet, encoded.picture))


def _decision(filtering: str, decision: str | None, thresholds: Heuristic | None) -> Decision | None:
    """The options about the in-loop filter as one; None leaves the decision to the effort."""
    if thresholds and (filtering != "auto" or decision not in (None, "heuristic")):
        raise click.UsageError("--thresholds are those of --filter auto --decision heuristic")
    if filtering != "auto":
        return filtering == "on"
    rules: dict[str | None, Decision | None] = {"rd": LookAhead(), "learned": Learned(), "heuristic": thresholds or Heuristic(), None: thresholds}
    return rules[decision]


def _aim(qp: float | None, bitrate: int | None, size: int | None) -> float | Target:
    """The options about quality and rate as one."""
    if sum(option is not None for option in (qp, bitrate, size)) > 1:
        raise click.UsageError("--qp, --bitrate and --target-size exclude each other; give one of them")
    if bitrate or size:
        return Target(bitrate, size)
    return DEFAULT_QP if qp is None else qp


def _is_pipe(source: str) -> bool:
    return source == STDIN or (os.path.exists(source) and not os.path.isfile(source) and not os.path.isdir(source))


def _count(source: str, size: tuple[int, int] | None, fps: Fraction | None, twice: bool) -> int:
    """The number of frames of a source that does not tell it. NvcError where that cannot be read `twice`."""
    from nvc_cli.video import open_reader

    if not twice:
        name, other = ("standard input", "") if source == STDIN else (source, " or --two-pass")
        raise NvcError(f"{name} does not tell its number of frames, which --target-size needs; give --frames, or use --bitrate{other}")
    with open_reader(source, size, fps) as reader:
        return sum(1 for _ in reader)


def _budget(target: Target, header: Header, frames: int, side: int) -> float:
    """Bits for all packets of pictures together; those of tracks, of `side` bytes, count for a size only."""
    from nvc_cli.index import END_MARKER, Index
    from nvc_cli.stream import pack_header
    from nvc_cli.tracks import pack_track

    rest = len(pack_header(header)) + len(Index().pack()) + len(END_MARKER) + side
    if target.bitrate:
        rest -= sum(len(pack_track(track)) for track in header.tracks) + side
    return max(target.bits(frames, header.fps) - 8 * rest, 8.0)


def _one_pass(target: Target, header: Header, frames: int | None, keyint: int, side: int) -> OnePass:
    share = _budget(target, header, frames, side) / frames if frames else target.bits(1, header.fps)
    return OnePass(header.width * header.height, share, frames, keyint)


def _tell_miss(size: int, asked: float) -> None:
    """Say so where a stream's bytes are far from those that were asked for."""
    off = size / asked - 1
    if abs(off) > TOLERANCE:
        more, few = ("larger", "few") if off > 0 else ("smaller", "many")
        reason = f"the clip is too short to make up for its keyframes, or no quality from 0 to 7 takes so {few} bits"
        click.echo(f"nvc: the file is {100 * abs(off):.0f} % {more} than was asked for; {reason}", err=True)
