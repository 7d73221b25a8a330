"""`nvc decode`: an .nvc stream back into a video."""

from __future__ import annotations

import click

from nvc_cli.errors import NvcError
from nvc_cli.files import STDOUT, check_target
from nvc_cli.runtime import choose_device, load_model, runtime_options


def _options(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise click.BadParameter(f"{name!r} is not NAME=VALUE, as in crf=18")
    return {name: value for name, _, value in pairs}


@click.command()
@click.argument("source", metavar="IN.nvc")
@click.option("-o", "--output", "target", required=True, metavar="OUT", help="A .yuv, .y4m or container file; - for y4m on standard output.")
@click.option("--enhance", is_flag=True, help="Apply the out-of-loop filter: better pictures, a frame later, in more time.")
@click.option("--frames", type=click.IntRange(1), default=None, metavar="N", help="Stop after N frames.")
@click.option("--codec", default=None, metavar="NAME", help="Encoder for a container, as PyAV names it. [default: a lossless one]")
@click.option("--codec-option", "options", multiple=True, callback=_options, metavar="NAME=VALUE", help="Option for that encoder, as in crf=18; may be repeated.")
@click.option("--model", default=None, metavar="FILE", help="Weights for streams of models that are not in the package.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output.")
@click.option("-y", "--overwrite", is_flag=True, help="Overwrite the output if it exists.")
@runtime_options
def command(
    source: str,
    target: str,
    enhance: bool,
    frames: int | None,
    codec: str | None,
    options: dict[str, str],
    model: str | None,
    as_json: bool,
    overwrite: bool,
    device: str,
    threads: int | None,
) -> None:
    """Turn an .nvc stream back into a video; IN.nvc may be - for a stream that arrives through a pipe.

    Every packet's CRC and every picture's checksum are verified. Of a stream that is cut off, all whole frames are
    written, and the exit code is 1.
    """
    if as_json and target == STDOUT:
        raise click.UsageError("--json and a video on standard output would mix; write the video to a file")
    check_target(target, overwrite)
    from nvc_cli.stream import Truncated, open_stream
    from nvc_cli.video import VideoInfo, open_writer

    with open_stream(source) as reader:
        header = reader.header
        info = VideoInfo(header.width, header.height, header.fps, None, header.color, header.sar)
        sink = open_writer(target, info, overwrite, codec, options or None)
        if sink.note:
            click.echo(f"nvc: {sink.note}", err=True)
        from nvc_cli.report import Meter, tell

        place = choose_device(device, threads)
        weights = load_model(model or header.model, place)
        from nvc_cli.decoder import Decoder

        decoder = Decoder(header, weights, enhance, place, source)
        fault: NvcError | None = None
        with sink as writer:
            meter = Meter(info, frames, "decoding")
            packets = iter(reader)
            while meter.frames != frames:
                try:
                    packet = next(packets, None)
                except Truncated as error:
                    if not decoder.frames:
                        raise
                    fault, packet = error, None
                if packet is None:
                    ready = decoder.finish()
                else:
                    with meter.frame():
                        ready = decoder.decode(packet)
                for frame in ready:
                    writer.write(frame)
                    meter.count(reader.packet_size)
                if packet is None:
                    break
        summary = meter.summary(reader.size)
    tell(summary, "decoded", target, as_json)
    if fault:
        raise fault
