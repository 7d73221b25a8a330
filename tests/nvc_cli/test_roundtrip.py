"""What the encoder says that every decoder will get is what the decoder gets, to the byte."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from models.weights import load_decoder, shipped
from nvc_cli.decoder import Decoder
from nvc_cli.stream import StreamReader, pack_header, pack_packet
from nvc_cli.switches import Switches
from nvc_cli.video import open_reader

Clip = Callable[..., Path]
Run = Callable[..., Result]
NVC = [sys.executable, "-m", "nvc_cli"]
ROOT = Path(__file__).parents[2]


def raw(path: Path) -> bytes:
    """The planes of a video, frame after frame."""
    with open_reader(str(path)) as reader:
        return b"".join(plane.tobytes() for frame in reader for plane in frame.planes)


def packets(path: Path) -> StreamReader:
    return StreamReader(path.open("rb"), path.name)


@pytest.mark.parametrize(
    "width, height, frames, qp, keyint, filtering",
    [
        (48, 32, 5, 3, 3, "rd"),
        (48, 32, 5, 4, 0, "learned"),
        (48, 32, 6, 3, 0, "auto"),
        (48, 32, 5, 0, 2, "on"),
        (48, 32, 3, 7, 0, "off"),
        (33, 17, 3, 2.125, 0, "on"),
        (16, 16, 3, 0, 0, "auto"),
        (65, 49, 3, 5, 2, "off"),
        (65, 49, 1, 4, 0, "auto"),
        (17, 130, 2, 1, 1, "on"),
    ],
)
def test_decoded_bytes_are_the_reconstruction(
    done: Run, clip: Clip, model: str, tmp_path: Path, width: int, height: int, frames: int, qp: float, keyint: int, filtering: str
) -> None:
    recon, coded, out = tmp_path / "recon.yuv", tmp_path / "a.nvc", tmp_path / "out.yuv"
    source = clip(width, height, frames)
    switch = ("--decision", filtering) if filtering in ("rd", "learned") else ("--filter", filtering)
    done("encode", source, "-o", coded, "--qp", qp, "--keyint", keyint, *switch, "--model", model, "--recon", recon)
    done("decode", coded, "-o", out, "--model", model)
    assert out.read_bytes() == recon.read_bytes()
    assert len(out.read_bytes()) == len(raw(source))
    stream = packets(coded)
    assert (stream.header.width, stream.header.height) == (width, height)
    for t, packet in enumerate(stream):
        assert packet.keyframe == (t % keyint == 0 if keyint else t == 0)
        if packet.keyframe or filtering == "off":
            assert not packet.filtered
        elif filtering == "on":
            assert packet.filtered
    assert t == frames - 1


@pytest.mark.parametrize("name", shipped())
def test_shipped_models(done: Run, clip: Clip, tmp_path: Path, name: str) -> None:
    recon, coded, out = tmp_path / "recon.yuv", tmp_path / "a.nvc", tmp_path / "out.yuv"
    source = clip(65, 49, 4)
    done("encode", source, "-o", coded, "--qp", 2, "--model", name, "--recon", recon)
    done("decode", coded, "-o", out)
    assert out.read_bytes() == recon.read_bytes()
    error = np.frombuffer(out.read_bytes(), np.uint8).astype(float) - np.frombuffer(raw(source), np.uint8)
    assert 10 * np.log10(255**2 / np.square(error).mean()) > 28


def test_encoding_is_repeatable(done: Run, clip: Clip, model: str, stream: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.nvc"
    done("encode", clip(frames=4), "-o", again, "--model", model)
    assert again.read_bytes() == stream.read_bytes()


def test_low_qualities_are_smaller_files(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    sizes = []
    for qp in (0, 3, 7):
        done("encode", clip(), "-o", tmp_path / "a.nvc", "--qp", qp, "--model", model, "-y")
        sizes.append((tmp_path / "a.nvc").stat().st_size)
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("suffix", [".yuv", ".y4m", ".mkv", ".mp4"])
def test_every_output_holds_the_same_pictures(done: Run, stream: Path, model: str, tmp_path: Path, suffix: str) -> None:
    plain, out = tmp_path / "four_48x32_25.yuv", tmp_path / f"out_48x32_25{suffix}"
    done("decode", stream, "-o", plain, "--model", model)
    done("decode", stream, "-o", out, "--model", model, "-y")
    assert raw(out) == raw(plain)


@pytest.mark.parametrize("suffix", [".yuv", ".y4m", ".mkv"])
def test_every_input_of_the_same_pictures_gives_the_same_packets(done: Run, clip: Clip, model: str, tmp_path: Path, suffix: str) -> None:
    done("encode", clip(33, 17, 2), "-o", tmp_path / "a.nvc", "--model", model)
    done("encode", clip(33, 17, 2, suffix), "-o", tmp_path / "b.nvc", "--model", model)
    assert list(packets(tmp_path / "a.nvc")) == list(packets(tmp_path / "b.nvc"))


def test_standard_input_and_output(done: Run, clip: Clip, model: str, stream: Path, tmp_path: Path) -> None:
    piped = done("encode", "-", "-o", "-", "--model", model, input=clip(frames=4).read_bytes())
    assert piped.stdout_bytes == stream.read_bytes()
    done("decode", stream, "-o", tmp_path / "out.y4m", "--model", model)
    decoded = done("decode", "-", "-o", "-", "--model", model, input=stream.read_bytes())
    assert decoded.stdout_bytes == (tmp_path / "out.y4m").read_bytes()


def test_raw_video_through_a_pipe(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    source = clip(33, 17, 2, ".yuv").read_bytes()
    done("encode", "-", "--size", "33x17", "--fps", "30000/1001", "-o", tmp_path / "a.nvc", "--model", model, input=source)
    header = packets(tmp_path / "a.nvc").header
    assert (header.width, header.height, str(header.fps)) == (33, 17, "30000/1001")


def test_a_stream_decodes_as_it_arrives(stream: Path, model: str, done: Run, tmp_path: Path) -> None:
    """Each frame comes out when its packet is complete, before a byte of the next one is there."""
    done("decode", stream, "-o", tmp_path / "out.yuv", "--model", model)
    expected = tmp_path.joinpath("out.yuv").read_bytes()
    whole = packets(stream)
    switches = Switches()
    parts = [pack_header(whole.header), *(pack_packet(packet, switches) for packet in whole)]
    read, write = os.pipe()
    with open(read, "rb") as source, open(write, "wb", buffering=0) as sink:
        sink.write(parts[0])
        reader = StreamReader(source, "pipe")
        decoder = Decoder(reader.header, load_decoder(model), name="pipe")
        decoded = b""
        for part in parts[1:]:
            sink.write(part)
            decoded += b"".join(plane.tobytes() for frame in decoder.decode(next(iter(reader))) for plane in frame.planes)
    assert decoded == expected


def test_enhancement_changes_the_output_only(done: Run, clip: Clip, model: str, stream: Path, tmp_path: Path) -> None:
    """Pictures that the packet after them asks it for change, others do not, and none of what follows."""
    plain, better = tmp_path / "plain.yuv", tmp_path / "better.yuv"
    done("decode", stream, "-o", plain, "--model", model)
    done("decode", stream, "-o", better, "--model", model, "--enhance")
    size = 48 * 32 * 3 // 2
    a, b = (np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, size) for path in (plain, better))
    flags = [packet.enhance_last for packet in packets(stream)][1:] + [False]
    assert [bool((x != y).any()) for x, y in zip(a, b)] == flags


def test_frames(done: Run, clip: Clip, model: str, stream: Path, tmp_path: Path) -> None:
    done("encode", clip(frames=4), "-o", tmp_path / "two.nvc", "--frames", 2, "--model", model)
    done("encode", clip(frames=2), "-o", tmp_path / "same.nvc", "--model", model)
    assert (tmp_path / "two.nvc").read_bytes() == (tmp_path / "same.nvc").read_bytes()
    done("decode", stream, "-o", tmp_path / "two.yuv", "--frames", 2, "--model", model)
    done("decode", stream, "-o", tmp_path / "all.yuv", "--model", model)
    assert (tmp_path / "two.yuv").read_bytes() == (tmp_path / "all.yuv").read_bytes()[: 2 * 48 * 32 * 3 // 2]
    done("encode", clip(frames=4), "-o", tmp_path / "all.nvc", "--frames", 100, "--model", model)
    assert (tmp_path / "all.nvc").read_bytes() == stream.read_bytes()


def test_processes_in_a_pipe(clip: Clip, model: str, stream: Path, tmp_path: Path) -> None:
    """encode | decode, with real ffmpeg around them where there is one."""
    source = clip(64, 48, 3, ".mkv")
    recon = tmp_path / "recon.yuv"
    encode = [*NVC, "encode", "-", "-o", "-", "--model", model, "--threads", "1", "--recon", str(recon)]
    decode = [*NVC, "decode", "-", "-o", "-", "--model", model, "--threads", "1"]
    if shutil.which("ffmpeg"):
        quiet = ["ffmpeg", "-nostdin", "-v", "error"]
        first = [*quiet, "-i", str(source), "-f", "yuv4mpegpipe", "-"]
        last = [*quiet, "-f", "yuv4mpegpipe", "-i", "-", "-f", "rawvideo", "-"]
        commands = [first, encode, decode, last]
    else:
        commands = [["cat", str(clip(64, 48, 3, ".y4m"))], encode, decode]
    running: list[subprocess.Popen] = []
    for command in commands:
        upstream = running[-1].stdout if running else subprocess.DEVNULL
        running.append(subprocess.Popen(command, stdin=upstream, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT))
        if len(running) > 1:
            upstream.close()
    out, _ = running[-1].communicate(timeout=120)
    for process in running:
        assert process.wait() == 0, process.stderr.read()
        process.stderr.close()
    if len(commands) == 3:
        out = out.partition(b"\n")[2].replace(b"FRAME\n", b"")
    assert out == recon.read_bytes()
