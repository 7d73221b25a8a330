"""`nvc decode`: an .nvc stream back into a video."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from nvc_cli.completion import files, models
from nvc_cli.errors import NvcError
from nvc_cli.files import STDOUT, check_target
from nvc_cli.runtime import load_decoder, max_pixels_option, profile_option, runtime_options, stream_model

if TYPE_CHECKING:
    from nvc_cli.stream import Header
    from nvc_cli.tracks import Sample
    from nvc_cli.video import VideoWriter


class Time(click.ParamType):
    """Seconds, or minutes and hours with colons."""

    name = "T"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Fraction:
        if isinstance(value, Fraction):
            return value
        match = re.fullmatch(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)", value, re.ASCII)
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups()) if match else [Fraction(0)] * 3
        if not match or (match[1] and minutes >= 60) or (match[2] and seconds >= 60):
            self.fail(f"{value!r} is not a time like 75, 75.2, 1:15 or 00:01:15.2", param, ctx)
        return 3600 * hours + 60 * minutes + seconds


def _options(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise click.BadParameter(f"{name!r} is not NAME=VALUE, as in crf=18")
    return {name: value for name, _, value in pairs}


@click.command()
@click.argument("source", metavar="IN.nvc", shell_complete=files)
@click.option("-o", "--output", "target", required=True, metavar="OUT", shell_complete=files,
              help="A .yuv, .y4m or container file; - for y4m on standard output.")  # fmt: skip
@click.option("--enhance", is_flag=True, help="Apply the out-of-loop filter: better pictures, a frame later, in more time.")
@click.option("--frames", type=click.IntRange(1), default=None, metavar="N", help="Stop after N frames.")
@click.option("--start", type=Time(), default="0", metavar="T", help="Begin at this time: seconds, or [HH:]MM:SS, both with decimals if need be.")
@click.option("--duration", type=Time(), default=None, metavar="T", help="Stop after this time.")
@click.option("--resilient", is_flag=True, help="Of a damaged stream, go on at the next keyframe; lost frames show the last good one.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Decode N segments at a time, from keyframe to keyframe, each in a process of its own.")
@click.option("--codec", default=None, metavar="NAME", help="Encoder for a container, as PyAV names it. [default: a lossless one]")
@click.option("--codec-option", "options", multiple=True, callback=_options, metavar="NAME=VALUE", help="Option for that encoder, as in crf=18; may be repeated.")
@click.option("--tracks/--no-tracks", default=True, show_default=True, help="Copy sound and subtitles into a container.")
@click.option("--model", default=None, metavar="FILE", shell_complete=models, help="Weights for streams of models that are not in the package.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("-y", "--overwrite", is_flag=True, help="Overwrite the output if it exists.")
@max_pixels_option
@profile_option
@runtime_options
def command(
    source: str,
    target: str,
    enhance: bool,
    frames: int | None,
    start: Fraction,
    duration: Fraction | None,
    resilient: bool,
    jobs: int,
    codec: str | None,
    options: dict[str, str],
    tracks: bool,
    model: str | None,
    as_json: bool,
    overwrite: bool,
    max_pixels: int,
    profiling: bool,
    device: str,
    threads: int | None,
) -> None:
    """Turn an .nvc stream back into a video; IN.nvc may be - for a stream that arrives through a pipe.

    Every packet's CRC and every picture's checksum are verified. Of a stream that is cut off, all whole frames are
    written, and the exit code is 1; with --resilient, frames are lost only up to the next keyframe, and the exit code is 0.

    With --start and --duration, a file is entered at the last keyframe before that time and read no further than needed;
    a pipe is read from its beginning, but decoded from that keyframe on only.
    """
    if as_json and target == STDOUT:
        raise click.UsageError("--json and a video on standard output would mix; write the video to a file")
    if resilient and jobs > 1:
        raise click.UsageError("--resilient goes through a stream in one process; leave --jobs away")
    check_target(target, overwrite)
    from nvc_cli.salvage import Salvager
    from nvc_cli.stream import StreamReader, check_pixels, open_stream
    from nvc_cli.video import open_writer

    with open_stream(source, Salvager if resilient else StreamReader) as reader:
        header = reader.header
        check_pixels(header, max_pixels, source)
        info = header.info
        part = _part(header, start, duration, frames)
        sink = open_writer(target, info, overwrite, codec, options or None, header.tracks if tracks else ())
        if sink.note:
            click.echo(f"nvc: {sink.note}", err=True)
        from nvc_cli.report import Meter, profiled, tell, tell_profile

        name = stream_model(header.model, model)
        from nvc_cli.decoder import Decoder
        from nvc_cli.player import Player, Showing

        decoder = Decoder(header, load_decoder(name, device, threads, enhance), enhance, None, source, max_pixels) if jobs == 1 else None
        with profiled(profiling) as profile, sink as writer:
            reader.on_sample = part.sampled(header, writer)
            meter = Meter(info, part.count, "decoding")
            player: Showing
            if decoder:
                player = Player(reader, decoder, meter, part.first, part.stop, resilient)
            else:
                from models.kernels.threads import cores
                from nvc_cli.decode_jobs import Order, Team

                order = Order(header, name, enhance, device, max(1, (threads or cores()) // jobs), source, max_pixels)
                player = Team(reader, order, jobs, meter, part.first, part.stop)
            for frame in islice(player, frames):
                writer.write(frame)
                meter.count(player.packet_size)
        summary = meter.summary(player.size, player.lost)
    tell(summary, "decoded", target, as_json)
    if profile:
        tell_profile(profile, summary)
    if player.fault:
        raise player.fault


@dataclass(frozen=True)
class Part:
    """What is asked for of a stream: places from `first` to before `stop`, None: to the end. A place is the number of a frame, or a
    time in ticks where the distance of frames varies. `count` is the number of frames, where that is known."""

    first: int
    stop: int | None
    count: int | None

    def sampled(self, header: Header, writer: VideoWriter) -> Callable[[Sample], None]:
        """What copies pieces of tracks that belong to this part."""
        tick = header.tick or 1 / header.fps
        begin, end = self.first * tick, None if self.stop is None else self.stop * tick

        def copy(sample: Sample) -> None:
            time = sample.time * header.tracks[sample.track].tick
            if (not self.first or time >= begin) and (end is None or time < end):
                writer.copy(sample, begin)

        return copy


def _part(header: Header, start: Fraction, duration: Fraction | None, frames: int | None) -> Part:
    """The part between these times in seconds, and of so many frames at most.

    Parts that follow each other in time have neither a gap nor a frame in common.

    Raises:
        NvcError: there is no frame in between.
    """
    places = header.fps if header.tick is None else 1 / header.tick
    first = round(start * places)
    ends = [round((start + duration) * places)] if duration is not None else []
    if duration is not None and ends[0] == first:
        raise NvcError(f"--duration {float(duration):g} is too short for a frame of {float(header.fps):g} a second; ask for more")
    if header.tick is not None:
        return Part(first, min(ends, default=None), None)
    if frames is not None:
        ends.append(first + frames)
    stop = min(ends, default=None)
    return Part(first, stop, stop and stop - first)
