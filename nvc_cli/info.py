"""`nvc info`: what a stream holds, without decoding it. json.md beside this file describes what --json prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from fractions import Fraction

import click

from nvc_cli.completion import files
from nvc_cli.files import check_target
from nvc_cli.frame import UNSPECIFIED, Color
from nvc_cli.listing import FrameRow, Listing, Totals, TrackRow, qualities, read
from nvc_cli.runtime import max_pixels_option
from nvc_cli.stream import Header, Packet, open_stream

# Names for codes of ITU-T H.273, as ffmpeg spells them.
PRIMARIES = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020"}
PRIMARIES |= {10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213"}
TRANSFERS = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 11: "iec61966-2-4"}
TRANSFERS |= {13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 17: "smpte428", 18: "arib-std-b67"}
MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc"}
MATRICES |= {10: "bt2020c", 14: "ictcp"}

FORMAT = 1
"""Of the JSON object: raised when a field goes or changes its meaning."""

ROW = "{:>7}  {:4}  {:>6}  {:>9}  {:6}  {:7}  {:7}  {}"


@click.command()
@click.argument("source", metavar="IN.nvc", shell_complete=files)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the listing.")
@click.option("--plot", metavar="FILE.png|FILE.svg", default=None, shell_complete=files, help="Also draw bits, qp, flags and, if it is known, PSNR over time.")
@click.option("--reference", metavar="VIDEO", default=None, shell_complete=files, help="The video that was encoded: the stream is decoded, and PSNR is measured.")
@click.option("--model", default=None, metavar="FILE", shell_complete=files, help="For --reference: weights of models that are not in the package.")
@max_pixels_option
@click.option("-y", "--overwrite", is_flag=True, help="Overwrite the plot if it exists.")
def command(source: str, as_json: bool, plot: str | None, reference: str | None, model: str | None, max_pixels: int, overwrite: bool) -> None:
    """Show what an .nvc stream holds, without decoding it: its header, a line a frame, and totals.

    IN.nvc may be - for standard input. Of a damaged or cut stream all that comes before the fault is shown, then the
    fault is named and the exit code is 1. No picture is decoded without --reference: `nvc decode` checks the pictures themselves.
    """
    if plot:
        from nvc_cli.timeline import check_suffix

        check_suffix(plot)
        check_target(plot, overwrite)
    with ExitStack() as stack:
        reader = stack.enter_context(open_stream(source))
        quality = _quality(stack, reader.header, source, reference, model, max_pixels) if reference else None
        if not as_json:
            _print_header(source, reader.header)
        listing = read(reader, (lambda row: None) if as_json else _print_row, quality)
    if as_json:
        click.echo(json.dumps(_as_json(listing)))
    else:
        _print_totals(listing.totals, listing.tracks)
    if plot and (listing.rows or not listing.fault):  # else the fault says more than that there is nothing to draw
        from nvc_cli.timeline import draw

        draw(listing, plot, overwrite)
    if listing.fault:
        raise listing.fault


def _quality(stack: ExitStack, header: Header, source: str, reference: str, model: str | None, max_pixels: int) -> Callable[[Packet], float]:
    """What tells the PSNR of each packet's picture."""
    from nvc_cli.decoder import Decoder
    from nvc_cli.video import open_reader

    video = stack.enter_context(open_reader(reference))
    return qualities(Decoder(header, model, name=source, max_pixels=max_pixels), video, reference)


def _as_json(listing: Listing) -> dict[str, object]:
    header = listing.header
    return {
        "format": FORMAT,
        "width": header.width,
        "height": header.height,
        "frame_rate": _ratio(header.fps),
        "tick": _ratio(header.tick) if header.tick else None,
        "sample_aspect_ratio": _ratio(header.sar),
        "orientation": asdict(header.orientation),
        "source_format": header.source_format,
        "color": asdict(header.color),
        "model": header.model,
        "weights_hash": header.weights_hash.hex(),
        "tracks": [asdict(track) for track in listing.tracks],
        **asdict(listing.totals),
        "complete": listing.fault is None,
        "error": str(listing.fault) if listing.fault else None,
        "packets": [asdict(row) for row in listing.rows],
    }


def _print_header(source: str, header: Header) -> None:
    click.echo(f"{'standard input' if source == '-' else source}: nvc stream")
    aspect = "" if header.sar == 1 else f", sample aspect ratio {_ratio(header.sar)}"
    rate = f"{_rate(header.fps)} frames/s" if header.tick is None else f"variable rate, {float(header.fps):.3f} frames/s in the mean"
    click.echo(f"  picture  {header.width}x{header.height}{aspect}{_turned(header)}, {rate}")
    click.echo(f"  source   {header.source_format}, {_color(header.color)}")
    for track in header.tracks:
        click.echo(f"  {track.kind:8} {track.codec}")
    click.echo(f"  model    {header.model}, weights {header.weights_hash.hex()}")
    click.echo()
    click.echo(ROW.format("frame", "type", "qp", "bytes", "filter", "refresh", "enhance", "PSNR").rstrip())


def _print_row(row: FrameRow) -> None:
    marks = ["yes" if flag else "-" for flag in (row.filter, row.refresh, row.enhance)]
    psnr = "" if row.psnr is None else f"{row.psnr:.2f}"
    click.echo(ROW.format(row.number, row.type, f"{row.qp:.3f}", row.bytes, *marks, psnr).rstrip())


def _print_totals(totals: Totals, tracks: list[TrackRow]) -> None:
    click.echo()
    for track in tracks:
        click.echo(f"{track.kind} in {track.codec}: {_count(track.samples, 'sample')}, {track.bytes} bytes")
    click.echo(
        f"{_count(totals.frames, 'frame')} ({_count(totals.keyframes, 'keyframe')}), "
        f"{totals.seconds:.3f} s, {totals.bytes} bytes, "
        f"{totals.kbps:.2f} kbit/s, {totals.bpp:.5f} bits per pixel"
    )


def _turned(header: Header) -> str:
    """How players show the pictures, if not as they are."""
    turned, mirrored = header.orientation.quarters, header.orientation.mirrored
    words = [f"turned by {90 * turned} degrees counter-clockwise"] * bool(turned) + ["mirrored"] * mirrored
    return "".join(f", {word}" for word in words)


def _color(color: Color) -> str:
    names = [
        table.get(code, "unspecified" if code == UNSPECIFIED else str(code))
        for table, code in ((PRIMARIES, color.primaries), (TRANSFERS, color.transfer), (MATRICES, color.matrix))
    ]
    same = len(set(names)) == 1
    return f"colour {names[0] if same else '/'.join(names)}, {'full' if color.full_range else 'limited'} range"


def _rate(fps: Fraction) -> str:
    return str(fps) if fps.denominator == 1 else f"{float(fps):.3f} ({_ratio(fps)})"


def _ratio(value: Fraction) -> str:
    return f"{value.numerator}/{value.denominator}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
