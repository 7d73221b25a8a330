"""nvc encode: its summary, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from models.compiled.encoder import EncoderCodec
from models.compiled.pictures import distortion, padded
from models.presets import lagrangian
from models.weights import load_encoder
from nvc_cli.decision import Decision, LookAhead
from nvc_cli.decoder import Decoder
from nvc_cli.effort import Effort
from nvc_cli.encode import _budget
from nvc_cli.encoder import Encoded, Encoder
from nvc_cli.frame import Color, Frame, VideoInfo
from nvc_cli.rate import Target
from nvc_cli.stream import (
    Header,
    Packet,
    StreamReader,
    StreamWriter,
    pack_header,
    picture_checksum,
)
from nvc_cli.tracks import Sample, Track, pack_sample, pack_track
from nvc_cli.video import open_writer
from tests.nvc_cli.conftest import pictures

Clip = Callable[..., Path]
Run = Callable[..., Result]
Refused = Callable[..., str]
ROOT = Path(__file__).parents[2]
KEYS = {"frames", "bytes", "kbps", "bpp", "seconds", "fps", "codec_fps"}


def test_json(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    target = tmp_path / "a.nvc"
    result = done("encode", clip(), "-o", target, "--model", model, "--json")
    summary = json.loads(result.stdout)
    assert KEYS <= summary.keys()
    size = target.stat().st_size
    assert (summary["frames"], summary["bytes"]) == (3, size)
    assert summary["kbps"] == pytest.approx(8 * size * 25 / 3 / 1000)
    assert summary["bpp"] == pytest.approx(8 * size / 3 / (48 * 32))
    assert summary["seconds"] > 0 and summary["fps"] > 0 and summary["codec_fps"] > 0


def test_the_summary_for_people_is_on_stderr(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    result = done("encode", clip(), "-o", tmp_path / "a.nvc", "--model", model)
    assert result.stdout == ""
    assert "3 frames" in result.stderr and "a.nvc" in result.stderr


def test_verify_decodes_every_frame(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    result = done("encode", clip(), "-o", tmp_path / "a.nvc", "--model", model, "--verify")
    assert "verified: all 3 frames" in result.stderr


def test_references_are_searched_as_asked() -> None:
    """A texture that comes and goes: with two references it is found in the picture before the last."""
    texture = np.random.default_rng(0).integers(60, 200, (8, 12))
    lumas = [np.kron(plane, np.ones((4, 4))).astype(np.uint8) for plane in (texture, np.full_like(texture, 128))]
    grey = np.full((16, 24), 128, np.uint8)
    for references in (1, 2):
        encoder = Encoder(load_encoder("tiny"), 2, 0, False, effort=Effort(references))
        for t in range(5):
            encoder.encode(Frame(lumas[t % 2], grey, grey))
        assert encoder.state.vectors[2].max() <= references - 1
        assert (encoder.state.vectors[2].mean() > 0.4) == (references == 2)


def test_efforts_make_streams_that_decode(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    source = clip(frames=6)
    for effort in ("fast", "medium", "slow", "placebo"):
        done("encode", source, "-o", tmp_path / f"{effort}.nvc", "--model", model, "--effort", effort, "--keyint", 4, "--verify")
    assert (tmp_path / "fast.nvc").read_bytes() != (tmp_path / "medium.nvc").read_bytes()


@pytest.mark.parametrize("helps, tried", [(True, [1, 4, 5, 6, 9, 10, 11]), (False, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])])
def test_the_enhancer_is_tried_now_and_then(monkeypatch: pytest.MonkeyPatch, helps: bool, tried: list[int]) -> None:
    """Once it helped it is taken to help the next two, but not before a keyframe."""
    seen = []
    monkeypatch.setattr(Encoder, "_enhancer_helps", lambda self, *rest: seen.append(t) or helps)
    encoder, grey = Encoder(load_encoder("tiny"), 3, 5, False, effort=Effort(trust=2)), np.full((8, 8), 128, np.uint8)
    flags = []
    for t in range(12):
        flags += [encoded.packet.enhance_last for encoded in encoder.encode(Frame(np.full((16, 16), 100 + t, np.uint8), grey, grey))]
    assert seen == tried and flags == [False] + 11 * [helps]


def test_pictures_of_the_best_quality_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the newest, for the frames of a quality cycle: the keyframe, then the best ones of the cycle."""
    asked, search = [], EncoderCodec.search
    monkeypatch.setattr(EncoderCodec, "search", lambda self, *rest: asked.append(rest[-1]) or search(self, *rest))
    encoder, grey = Encoder(load_encoder("tiny"), 3, 0, False, effort=Effort(older=2)), np.full((8, 8), 128, np.uint8)
    for t in range(12):
        encoder.encode(Frame(np.full((16, 16), 100 + t, np.uint8), grey, grey))
    assert asked[:4] == [[], [1], [2, 1], [3, 2]]  # ages; the frame after the keyframe is the best of its cycle
    assert asked[10] == [1, 5]


def test_thresholds_decide(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    """The filter must take away more than all of the error, or may double it, by the place in the quality cycle."""
    target = tmp_path / "a.nvc"
    done("encode", clip(frames=6), "-o", target, "--model", model, "--thresholds", "1,-1e9,1,1,1")
    with target.open("rb") as file:
        assert [packet.filtered for packet in StreamReader(file, "a")] == [False, False, True, False, False, False]


@pytest.mark.parametrize("keyint", [0, 3])
def test_look_ahead_gives_every_frame_once_and_costs_hardly_more_than_a_fixed_flag(keyint: int) -> None:
    model, source = load_encoder("tiny"), list(pictures(96, 64, 7))

    def coded(decision: Decision) -> list[Encoded]:
        encoder = Encoder(model, 3, keyint, decision)
        return list(encoder.encode_all(source))

    def cost(encoded: list[Encoded]) -> float:
        errors = [distortion(*(padded(f.planes) for f in (e.picture, s))) for e, s in zip(encoded, source)]
        return sum(8 * len(e.packet.payload) + lagrangian(float(e.packet.rate)) * 96 * 64 * error for e, error in zip(encoded, errors))

    header = Header(96, 64, Fraction(25), Color(), Fraction(1), "yuv420p", model.name, model.hash)
    best = coded(LookAhead(100))
    for encoded in (best, coded(LookAhead(1))):
        decoder = Decoder(header, model, name="a")
        pairs = [(decoder.decode(e.packet)[0], e.picture) for e in encoded]
        assert all(np.array_equal(a.y, b.y) for a, b in pairs) and len(encoded) == 7
        assert [e.packet.keyframe for e in encoded] == [t == 0 or bool(keyint and t % keyint == 0) for t in range(7)]
    if keyint:  # where keyframes are far apart, ways are given up before all that they lead to is known
        assert cost(best) < 1.005 * min(cost(coded(False)), cost(coded(True)))


def packets(path: Path) -> list[Packet]:
    with path.open("rb") as file:
        return list(StreamReader(file, path.name))


@pytest.fixture(scope="session")
def two_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of one scene, three of another."""
    path = tmp_path_factory.mktemp("scenes") / "two.y4m"
    noise = np.random.default_rng(0).integers(-60, 60, (8, 12))
    with open_writer(str(path), VideoInfo(48, 32, Fraction(25))) as writer:
        for t, frame in enumerate(pictures(48, 32, 7)):
            luma = np.kron(128 + noise, np.ones((4, 4))).astype(np.uint8) if t < 4 else frame.y
            writer.write(Frame(luma, frame.u, frame.v))
    return path


@pytest.mark.parametrize("options, keyframes", [
    (["--keyint", "0"], [0, 4]),
    (["--keyint", "2"], [0, 2, 4, 6]),
    (["--keyint", "0", "--no-scenecut"], [0]),
    (["--keyint", "3", "--decision", "rd", "--bitrate", "300k"], [0, 3, 4]),
    (["--keyint", "3", "--no-scenecut", "--bitrate", "300k"], [0, 3, 6]),
    (["--bitrate", "300k", "--two-pass"], [0, 4]),
], ids=lambda value: " ".join(map(str, value)))
def test_keyframes_are_at_scene_cuts_and_no_further_apart_than_allowed(
    done: Run, two_scenes: Path, model: str, tmp_path: Path, options: list[str], keyframes: list[int]
) -> None:
    result = done("encode", two_scenes, "-o", tmp_path / "a.nvc", "--model", model, "--references", "1", "--verify", *options)
    assert [t for t, packet in enumerate(packets(tmp_path / "a.nvc")) if packet.keyframe] == keyframes
    assert "all 7 frames" in result.stderr


@pytest.mark.parametrize("options, suffix, tolerance", [
    (["--bitrate", "40k"], ".y4m", 0.05),
    (["--target-size", "4800"], ".yuv", 0.05),
    (["--target-size", "0.0048M", "--two-pass"], ".mkv", 0.02),
], ids=["bitrate", "size of raw video", "two passes over a container"])
def test_the_size_is_as_asked(done: Run, clip: Clip, tmp_path: Path, options: list[str], suffix: str, tolerance: float) -> None:
    """24 frames, 25 a second."""
    result = done("encode", clip(frames=24, suffix=suffix), "-o", tmp_path / "a.nvc", "--filter", "off", "--references", "1", *options)
    assert (tmp_path / "a.nvc").stat().st_size == pytest.approx(4800, rel=tolerance)
    assert len(result.stderr.splitlines()) == 1


def test_a_pipe_takes_a_bitrate(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    source = clip().read_bytes()
    done("encode", "-", "-o", tmp_path / "a.nvc", "--model", model, "--bitrate", "1M", input=source)
    done("encode", "-", "-o", tmp_path / "b.nvc", "--model", model, "--target-size", "20k", "--frames", "3", input=source)
    assert len(packets(tmp_path / "a.nvc")) == len(packets(tmp_path / "b.nvc")) == 3


def test_a_size_needs_the_number_of_frames(done: Run, refused: Refused, clip: Clip, model: str, tmp_path: Path) -> None:
    arguments = ["-o", tmp_path / "a.nvc", "--model", model, "--target-size", "20k"]
    done("encode", clip(suffix=".mkv"), "-o", tmp_path / "b.nvc", *arguments[2:])  # its packets are counted
    line = refused("encode", "-", *arguments, input=clip().read_bytes())
    assert "standard input" in line and "number of frames" in line and "--frames" in line and "--two-pass" not in line


def test_a_rate_out_of_reach_is_told(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    few = done("encode", clip(), "-o", tmp_path / "a.nvc", "--model", model, "--bitrate", "1")
    many = done("encode", clip(), "-o", tmp_path / "b.nvc", "--model", model, "--target-size", "1G", "--two-pass")
    assert "larger than was asked for" in few.stderr and "smaller than was asked for" in many.stderr
    assert packets(tmp_path / "a.nvc")[-1].rate == 63 and packets(tmp_path / "b.nvc")[0].rate == 0


def test_two_passes_need_a_file(nvc: Run, clip: Clip, tmp_path: Path) -> None:
    result = nvc("encode", "-", "-o", tmp_path / "a.nvc", "--bitrate", "1M", "--two-pass", input=clip().read_bytes())
    assert result.exit_code == 2 and "a pipe" in result.stderr
    os.mkfifo(tmp_path / "pipe")
    result = nvc("encode", tmp_path / "pipe", "-o", tmp_path / "a.nvc", "--bitrate", "1M", "--two-pass")
    assert result.exit_code == 2 and "reads its input twice" in result.stderr


def test_verify_stops_at_a_frame_that_decodes_to_something_else(
    refused: Refused, clip: Clip, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("nvc_cli.decoder.picture_checksum", lambda frame: seen.append(frame) or (0 if len(seen) == 2 else picture_checksum(frame)))
    line = refused("encode", clip(), "-o", tmp_path / "a.nvc", "--model", model, "--verify")
    assert "a.nvc: the picture of frame 1 is not the one that was encoded" in line


def test_the_header_describes_source_and_model(done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    done("encode", clip(), "-o", tmp_path / "a.nvc", "--model", model, "--fps", "29.97")
    with (tmp_path / "a.nvc").open("rb") as file:
        header = StreamReader(file, "a").header
    assert (header.width, header.height, header.model, header.source_format) == (48, 32, "noise", "yuv420p")
    assert float(header.fps) == pytest.approx(29.97)


def test_nothing_is_overwritten_unasked(refused: Refused, done: Run, clip: Clip, model: str, tmp_path: Path) -> None:
    target, recon = tmp_path / "a.nvc", tmp_path / "r.yuv"
    target.write_bytes(b"mine")
    assert "a.nvc exists already" in refused("encode", clip(), "-o", target, "--model", model)
    assert target.read_bytes() == b"mine"
    recon.write_bytes(b"mine too")
    assert "r.yuv exists already" in refused("encode", clip(), "-o", tmp_path / "b.nvc", "--recon", recon, "--model", model)
    assert recon.read_bytes() == b"mine too"
    done("encode", clip(), "-o", target, "--recon", recon, "--model", model, "-y")
    assert target.read_bytes().startswith(b"NVC") and len(recon.read_bytes()) == 3 * 48 * 32 * 3 // 2


@pytest.mark.parametrize("name, content, words", [
    ("gone.y4m", None, "there is no file"),
    ("gone.mkv", None, "there is no file"),
    ("empty.y4m", b"", "is empty"),
    ("empty_16x16.yuv", b"", "is empty"),
    ("text.y4m", b"Dear diary,\n" * 50, "not a y4m"),
    ("text.mkv", b"Dear diary,\n" * 50, "text.mkv"),
    ("text.txt", b"Dear diary,\n" * 50, "text.txt"),
    ("short_32x32.yuv", bytes(32 * 32 * 3 // 2 + 1), "no whole number"),
    ("nameless.yuv", bytes(100), "--size"),
    ("small_8x8_25.yuv", bytes(96), "8x8"),
    ("cut.y4m", b"YUV4MPEG2 W16 H16 F25:1 C420jpeg\nFRAME\n" + bytes(384) + b"FRAME\n" + bytes(10), "middle of frame 1"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_bad_input(refused: Refused, model: str, tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    line = refused("encode", tmp_path / name, "-o", tmp_path / "a.nvc", "--model", model)
    assert words in line and name in line


def test_bad_standard_input(refused: Refused, model: str, tmp_path: Path) -> None:
    assert "standard input" in refused("encode", "-", "-o", tmp_path / "a.nvc", "--model", model, input=b"")
    assert "standard input" in refused("encode", "-", "-o", tmp_path / "a.nvc", "--model", model, input=b"text\n")


def test_a_folder_as_input(refused: Refused, model: str, tmp_path: Path) -> None:
    assert "is a folder" in refused("encode", tmp_path, "-o", tmp_path / "a.nvc", "--model", model)


def test_wrong_size_of_raw_video(refused: Refused, clip: Clip, model: str, tmp_path: Path) -> None:
    assert "no whole number" in refused("encode", clip(suffix=".yuv"), "--size", "50x32", "-o", tmp_path / "a.nvc", "--model", model)
    assert "48x32" in refused("encode", clip(), "--size", "50x32", "-o", tmp_path / "a.nvc", "--model", model)


def test_unknown_models(refused: Refused, clip: Clip, tmp_path: Path) -> None:
    assert "the model gigantic" in refused("encode", clip(), "-o", tmp_path / "a.nvc", "--model", "gigantic")
    assert "gone.safetensors" in refused("encode", clip(), "-o", tmp_path / "a.nvc", "--model", "gone.safetensors")
    (tmp_path / "text.safetensors").write_text("hello")
    assert "weights cannot be read" in refused("encode", clip(), "-o", tmp_path / "a.nvc", "--model", tmp_path / "text.safetensors")


def test_an_unknown_backend(refused: Refused, clip: Clip, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NVC_BACKEND", "abacus")
    assert "NVC_BACKEND is 'abacus'" in refused("encode", clip(), "-o", tmp_path / "a.nvc", "--model", model)


@pytest.mark.parametrize("backend", ["int8", "float32"])
def test_backends_decode_each_others_streams(done: Run, stream: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    done("decode", stream, "-o", tmp_path / "a.yuv", "--model", model)
    monkeypatch.setenv("NVC_BACKEND", backend)
    done("decode", stream, "-o", tmp_path / "b.yuv", "--model", model)
    assert (tmp_path / "a.yuv").read_bytes() == (tmp_path / "b.yuv").read_bytes()


@pytest.mark.parametrize("options", [[], ["--effort", "slow", "--decision", "rd", "--verify"], ["--bitrate", "300k", "--two-pass", "--keyint", "4"]], ids=" ".join)
def test_processors_encode_without_pytorch(done: Run, clip: Clip, model: str, tmp_path: Path, options: list[str]) -> None:
    """And it changes nothing where it is loaded."""
    arguments = ["encode", str(clip(frames=6)), "-o", str(tmp_path / "a.nvc"), "--model", model, "--device", "cpu", *options]
    code = f"import sys; sys.modules['torch'] = None; from nvc_cli.main import main; main({arguments})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    done(*arguments[:3], tmp_path / "b.nvc", *arguments[4:])
    assert (tmp_path / "a.nvc").read_bytes() == (tmp_path / "b.nvc").read_bytes()


def test_pytorch_encodes_as_loops_do(done: Run, clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly: what only an encoder computes is rounded otherwise."""
    arguments = clip(frames=6), "--device", "cpu", "--decision", "rd", "--scenecut"
    done("encode", *arguments, "-o", tmp_path / "a.nvc")
    monkeypatch.setenv("NVC_BACKEND", "float32")
    done("encode", *arguments, "-o", tmp_path / "b.nvc", "--verify")
    monkeypatch.delenv("NVC_BACKEND")
    done("decode", tmp_path / "b.nvc", "-o", tmp_path / "b.y4m")
    sizes = [(tmp_path / f"{name}.nvc").stat().st_size for name in "ab"]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.05)


def test_targets_that_cannot_be_written(refused: Refused, clip: Clip, model: str, tmp_path: Path) -> None:
    assert "no folder" in refused("encode", clip(), "-o", tmp_path / "no" / "a.nvc", "--model", model)
    assert "is a folder" in refused("encode", clip(), "-o", tmp_path, "--model", model)
    assert "suffix" in refused("encode", clip(), "-o", tmp_path / "a.nvc", "--recon", tmp_path / "a.what", "--model", model)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(refused: Refused, clip: Clip, model: str, tmp_path: Path) -> None:
    assert "no space left" in refused("encode", clip(), "-o", "/dev/full", "--model", model)
    assert "no space left" in refused("encode", clip(), "-o", tmp_path / "a.nvc", "--recon", "/dev/full", "--model", model)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_standard_output(clip: Clip, model: str) -> None:
    command = [sys.executable, "-m", "nvc_cli", "encode", str(clip()), "-o", "-", "--model", model, "--threads", "1"]
    with open("/dev/full", "wb") as full:
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=120)
    assert (result.returncode, len(result.stderr.splitlines())) == (1, 1), result.stderr
    assert "no space left" in result.stderr


@pytest.mark.parametrize("arguments", [
    ["--qp", "7.1"],
    ["--qp", "0.05"],
    ["--qp", "-1"],
    ["--qp", "nan"],
    ["--qp", "good"],
    ["--keyint", "-1"],
    ["--bitrate", "0"],
    ["--bitrate", "-5k"],
    ["--bitrate", "fast"],
    ["--bitrate", "5T"],
    ["--target-size", "1.5"],
    ["--target-size", "k"],
    ["--qp", "3", "--bitrate", "500k"],
    ["--bitrate", "500k", "--target-size", "1M"],
    ["--two-pass"],
    ["--two-pass", "--qp", "3"],
    ["--frames", "0"],
    ["--filter", "maybe"],
    ["--decision", "maybe"],
    ["--thresholds", "0,0,0,0"],
    ["--thresholds", "a,0,0,0,1"],
    ["--thresholds", "0,0,0,0,1", "--filter", "on"],
    ["--thresholds", "0,0,0,0,1", "--decision", "rd"],
    ["--size", "0x16"],
    ["--size", "16"],
    ["--fps", "0"],
    ["--fps", "1/0"],
    ["--fps", "fast"],
    ["--threads", "0"],
    ["--recon", "-", "-o", "-"],
    ["--json", "-o", "-"],
    ["--json", "--recon", "-"],
])
def test_wrong_usage(nvc: Run, clip: Clip, tmp_path: Path, arguments: list[str]) -> None:
    result = nvc("encode", clip(), "-o", tmp_path / "a.nvc", *arguments)
    assert result.exit_code == 2 and "Usage" in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_output_is_required(nvc: Run, clip: Clip) -> None:
    assert nvc("encode", clip()).exit_code == 2


def test_a_size_is_that_of_all_and_a_rate_that_of_pictures() -> None:
    track = Track("audio", "pcm_u8", Fraction(1, 8000), bytes(100))
    header = Header(48, 32, Fraction(25), Color(), Fraction(1), "yuv420p", "tiny", bytes(8), tracks=(track,))
    samples = [Sample(0, t, 1, True, bytes(50)) for t in range(9)]
    file = io.BytesIO()
    with StreamWriter(file, header) as stream:
        for sample in samples:
            stream.write_sample(sample)
        stream.write(Packet(True, 0, False, False, False, bytes(3) + b"\x80" + bytes(996), 0))
        packet = stream.size - stream.side - len(pack_header(replace(header, tracks=())))
    side, size = sum(map(len, map(pack_sample, samples))), len(file.getvalue())
    assert stream.side == side + len(pack_track(track))
    index = 8 * 8  # bits that an index of one keyframe has more than one of none
    for target in (Target(None, size), Target(8 * 25 * (size - stream.side), None)):
        assert 0 <= _budget(target, header, 1, side) - 8 * packet <= index
