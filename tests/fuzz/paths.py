"""Other ways of mutated streams through the program: entered in the middle, listed, joined, and written to containers. Without the networks
where what they would do is of no interest."""

from __future__ import annotations

import io
import tempfile
import zlib
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from click.testing import CliRunner

from models.weights import DecoderModel
from nvc_cli.decode import _part
from nvc_cli.decoder import Decoder
from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame, blank
from nvc_cli.main import main
from nvc_cli.player import Player
from nvc_cli.stream import Packet, StreamReader, check_pixels
from nvc_cli.video import open_writer
from tests.fuzz.mutations import MAX_PIXELS, Pictures, Quiet, refused, samples

SUFFIXES = (".mkv", ".mp4", ".webm", ".avi", ".ts", ".nut", ".y4m", ".yuv")


def entered(data: bytes, truth: Pictures, model: DecoderModel) -> str:
    """From the third frame, or tick, on: what `nvc decode --start` shows is the end of the video, and begins with that frame."""
    start, given = 2, Pictures()
    try:
        reader = StreamReader(io.BytesIO(data), "x")
        player = Player(reader, Decoder(reader.header, model, name="x", max_pixels=MAX_PIXELS), Quiet(), start)  # type: ignore[arg-type]
        given += map(samples, player)
    except NvcError as error:
        return refused(error, given, truth)
    if player.fault:
        return refused(player.fault, given, truth)
    expected = truth[start:] if reader.header.tick is None else truth[len(truth) - len(given) :]
    if given != expected:
        raise AssertionError(f"{len(given)} pictures are not the {len(expected)} last ones")
    return "right"


def listed(data: bytes, truth: Pictures, model: DecoderModel) -> str:
    """`nvc info` ends in the same way with and without --json, and tells as many frames as there are unless it says why not."""
    plain, told = (_run("info", "-", *options, data=data) for options in ((), ("--json",)))
    if plain != told:
        raise AssertionError("--json makes a difference")
    return plain


def joined(data: bytes, truth: Pictures, model: DecoderModel) -> str:
    """`nvc concat` of one stream: what it makes is whole."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "a.nvc"
        result = _run("concat", "-", "-o", str(target), data=data)
        if result == "right":
            for _ in StreamReader(io.BytesIO(target.read_bytes()), "x"):
                pass
        elif list(Path(folder).iterdir()):
            raise AssertionError("a file is left behind")
    return result


def written(data: bytes, truth: Pictures, model: DecoderModel) -> str:
    """As `nvc decode` writes it, into a container that the data choose, with its tracks; pictures are grey."""
    try:
        reader = StreamReader(io.BytesIO(data), "x")
        header = reader.header
        check_pixels(header, MAX_PIXELS, "x")
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / f"a{SUFFIXES[zlib.crc32(data) % len(SUFFIXES)]}"
            with open_writer(str(target), header.info, tracks=header.tracks) as writer:
                reader.on_sample = _part(header, Fraction(0), None, None).sampled(header, writer)
                for packet in reader:
                    writer.write(_grey(reader, packet))
    except NvcError as error:
        return refused(error)
    return "right"


def _grey(reader: StreamReader, packet: Packet) -> Frame:
    frame, flat = blank(reader.header.info)
    flat[:] = 2 * packet.rate
    return replace(frame, time=packet.time)


def _run(*arguments: str, data: bytes) -> str:
    """What becomes of a command whose standard input the data are."""
    result = CliRunner().invoke(main, arguments, input=data)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code == 0:
        return "right"
    lines = result.stderr.splitlines()
    if result.exit_code != 1 or len(lines) != 1 or not lines[0].startswith("nvc: "):
        raise AssertionError(f"exit code {result.exit_code}: {result.stderr}")
    return "refused"

