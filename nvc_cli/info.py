"""`nvc info`: what a stream holds, without decoding it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from fractions import Fraction

import click

from nvc_cli.completion import files
from nvc_cli.errors import NvcError
from nvc_cli.frame import UNSPECIFIED, Color
from nvc_cli.stream import Header, Packet, StreamError, StreamReader, open_stream

# Names for codes of ITU-T H.273, as ffmpeg spells them.
PRIMARIES = {1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020"}
PRIMARIES |= {10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213"}
TRANSFERS = {1: "bt709", 4: "gamma22", 5: "gamma28", 6: "smpte170m", 7: "smpte240m", 8: "linear", 11: "iec61966-2-4"}
TRANSFERS |= {13: "iec61966-2-1", 14: "bt2020-10", 15: "bt2020-12", 16: "smpte2084", 17: "smpte428", 18: "arib-std-b67"}
MATRICES = {0: "gbr", 1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "ycgco", 9: "bt2020nc"}
MATRICES |= {10: "bt2020c", 14: "ictcp"}

ROW = "{:>7}  {:4}  {:>6}  {:>9}  {:6}  {:7}  {}"


@dataclass(frozen=True)
class FrameRow:
    """One frame of the listing. `qp` is an eighth of the rate point; `bytes` counts the whole packet."""

    number: int
    type: str
    qp: float
    bytes: int
    filter: bool
    refresh: bool
    enhance: bool


@dataclass(frozen=True)
class Totals:
    """Of the frames read. `bytes` counts the header and, in a complete stream, index and end marker too."""

    frames: int
    keyframes: int
    bytes: int
    seconds: float
    kbps: float
    bpp: float


@click.command()
@click.argument("source", metavar="IN.nvc", shell_complete=files)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the listing.")
def command(source: str, as_json: bool) -> None:
    """Show what an .nvc stream holds, without decoding it: its header, a line a frame, and totals.

    IN.nvc may be - for standard input. Of a damaged or cut stream all that comes before the fault is shown, then the
    fault is named and the exit code is 1. No picture is decoded: `nvc decode` checks the pictures themselves.
    """
    with open_stream(source) as reader:
        if not as_json:
            _print_header(source, reader.header)
        rows, error = _read_rows(reader, show=not as_json)
        totals = _totals(reader.header, rows, reader.size)
    if as_json:
        click.echo(json.dumps(_as_json(reader.header, rows, totals, error)))
    else:
        _print_totals(totals)
    if error:
        raise error


def _read_rows(reader: StreamReader, show: bool) -> tuple[list[FrameRow], NvcError | None]:
    """The frames up to the end or to the first fault, and the fault; shown as they arrive if `show` is set."""
    rows: list[FrameRow] = []

    def add(packet: Packet | None, size: int, enhance: bool) -> None:
        if packet:
            rows.append(_row(len(rows), packet, size, enhance))
            if show:
                _print_row(rows[-1])

    last, size, fault = None, 0, None
    try:
        for packet in reader:
            add(last, size, packet.enhance_last)
            last, size = packet, reader.packet_size
    except StreamError as error:
        fault = error
    add(last, size, False)
    return rows, fault


def _row(number: int, packet: Packet, size: int, enhance: bool) -> FrameRow:
    kind = "I" if packet.keyframe else "P"
    return FrameRow(number, kind, packet.rate / 8, size, packet.filtered, packet.refresh, enhance)


def _totals(header: Header, rows: list[FrameRow], size: int) -> Totals:
    seconds = float(len(rows) / header.fps)
    bits = 8 * size
    return Totals(
        frames=len(rows),
        keyframes=sum(row.type == "I" for row in rows),
        bytes=size,
        seconds=seconds,
        kbps=bits / seconds / 1000 if rows else 0.0,
        bpp=bits / (len(rows) * header.width * header.height) if rows else 0.0,
    )


def _as_json(header: Header, rows: list[FrameRow], totals: Totals, error: NvcError | None) -> dict[str, object]:
    return {
        "width": header.width,
        "height": header.height,
        "frame_rate": _ratio(header.fps),
        "sample_aspect_ratio": _ratio(header.sar),
        "source_format": header.source_format,
        "color": asdict(header.color),
        "model": header.model,
        "weights_hash": header.weights_hash.hex(),
        **asdict(totals),
        "complete": error is None,
        "error": str(error) if error else None,
        "packets": [asdict(row) for row in rows],
    }


def _print_header(source: str, header: Header) -> None:
    click.echo(f"{'standard input' if source == '-' else source}: nvc stream")
    aspect = "" if header.sar == 1 else f", sample aspect ratio {_ratio(header.sar)}"
    click.echo(f"  picture  {header.width}x{header.height}{aspect}, {_rate(header.fps)} frames/s")
    click.echo(f"  source   {header.source_format}, {_color(header.color)}")
    click.echo(f"  model    {header.model}, weights {header.weights_hash.hex()}")
    click.echo()
    click.echo(ROW.format("frame", "type", "qp", "bytes", "filter", "refresh", "enhance"))


def _print_row(row: FrameRow) -> None:
    marks = ["yes" if flag else "-" for flag in (row.filter, row.refresh, row.enhance)]
    click.echo(ROW.format(row.number, row.type, f"{row.qp:.3f}", row.bytes, *marks))


def _print_totals(totals: Totals) -> None:
    click.echo()
    click.echo(
        f"{_count(totals.frames, 'frame')} ({_count(totals.keyframes, 'keyframe')}), "
        f"{totals.seconds:.3f} s, {totals.bytes} bytes, "
        f"{totals.kbps:.2f} kbit/s, {totals.bpp:.5f} bits per pixel"
    )


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
