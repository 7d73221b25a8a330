"""`nvc compare` with a stand-in for nvc, and the real anchors on a few small frames."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nvc_cli import compare
from nvc_cli.anchors import ANCHORS, find_anchor, point_command
from nvc_cli.errors import NvcError
from nvc_cli.main import main
from nvc_cli.metrics import sequence_psnr
from nvc_cli.video import Frame, VideoInfo, open_reader, open_writer

FRAMES = 5


def moving_picture(width: int, height: int, frames: int = FRAMES) -> list[Frame]:
    """A smooth texture that drifts by one pixel a frame, with a little noise."""
    noise = np.random.default_rng(1)
    pictures = []
    for t in range(frames):
        y, x = np.mgrid[:height, :width] + t
        luma = 128 + 60 * np.sin(x / 5) * np.cos(y / 7) + noise.normal(0, 3, (height, width))
        u, v = 128 + luma[::2, ::2] / 8, 160 - luma[::2, ::2] / 8
        pictures.append(Frame(*(plane.clip(0, 255).astype(np.uint8) for plane in (luma, u, v))))
    return pictures


def write_clip(folder: Path, width: int = 96, height: int = 80, fps: str = "30", frames: int = FRAMES) -> str:
    path = str(folder / f"drift_{width}x{height}_{fps}.yuv")
    with open_writer(path, VideoInfo(width, height, Fraction(fps))) as writer:
        for frame in moving_picture(width, height, frames):
            writer.write(frame)
    return path


def read_clip(path: str) -> list[Frame]:
    with open_reader(path) as reader:
        return list(reader)


class StandIn:
    """Takes the place of `run_json`: a codec that halves the error and doubles the bytes with every step of qp."""

    def __init__(self, base_bytes: int = 500, offset: int = 0) -> None:
        self.base_bytes, self.offset = base_bytes, offset
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], threads: int) -> dict:
        self.commands.append(command)
        if "nvc_cli.anchors" in command:
            source, coded, decoded = command[5:8]
            qp = 5 - int(command[4]) / 10
            self.encode(source, coded, qp)
            self.decode(coded, decoded)
            return {"encode": {"fps": 50.0}, "decode": {"fps": 200.0}}
        source, target = command[4], command[6]
        if command[3] == "encode":
            self.encode(source, target, float(command[command.index("--qp") + 1]))
            return {"fps": 20.0}
        self.decode(source, target)
        return {"fps": 40.0}

    def encode(self, source: str, target: str, qp: float) -> None:
        note = f"{source}\n{qp}\n".encode()
        Path(target).write_bytes(note.ljust(int(self.base_bytes * 2**qp), b"."))

    def decode(self, source: str, target: str) -> None:
        original, qp = Path(source).read_bytes().split(b"\n")[:2]
        error = round(32 / 2 ** float(qp)) + self.offset
        clip = np.frombuffer(Path(original.decode()).read_bytes(), np.uint8)
        Path(target).write_bytes(np.where(clip < 128, clip + error, clip - error).astype(np.uint8).tobytes())


@pytest.fixture
def stand_in(monkeypatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(compare, "run_json", stand_in)
    return stand_in


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["compare", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


# ---- the command ----------------------------------------------------------------------------------


def test_json_holds_points_and_bd_rates(tmp_path, stand_in):
    clip = write_clip(tmp_path)
    report = json.loads(run(clip, "--qps", "1,2,3", "--anchors", "x264,x265", "--frames", "3", "--threads", "1", "--json"))
    assert report["threads"] == 1
    [result] = report["clips"]
    assert (result["clip"], result["width"], result["height"], result["fps"]) == ("drift_96x80_30", 96, 80, "30")
    assert result["frames"] == 3
    assert [p["codec"] for p in result["points"]] == ["nvc"] * 3 + ["x264"] * 6 + ["x265"] * 6
    point = result["points"][0]
    assert point["bytes"] == 1000
    assert point["kbps"] == pytest.approx(8 * 1000 * 30 / 3 / 1000)
    assert point["psnr"] == pytest.approx(20 * np.log10(255 / 16))
    assert (point["encode_fps"], point["decode_fps"]) == (20, 40)
    pairs = [(d["codec"], d["anchor"]) for d in result["bd_rate"]]
    assert pairs == [("nvc", "x264"), ("nvc", "x265"), ("x264", "x265")]
    assert result["bd_rate"][2]["percent"] == pytest.approx(0)
    assert [(m["codec"], m["anchor"]) for m in report["mean"]] == pairs
    assert report["mean"][0]["clips"] == 1


def test_nvc_is_called_with_what_was_asked(tmp_path, stand_in):
    run(write_clip(tmp_path), "--qps", "1.5,3", "--anchors", "", "--model", "base", "--filter", "off", "--decision", "rd", "--references", "3", "--threads", "2")
    encode, decode = stand_in.commands[:2]
    assert encode[:4] == [sys.executable, "-m", "nvc_cli", "encode"]
    options = dict(zip(encode[7:-5:2], encode[8:-5:2], strict=True))
    assert options == {"--qp": "1.5", "--model": "base", "--filter": "off", "--decision": "rd", "--references": "3", "--threads": "2"}
    assert encode[4].endswith("_96x80_30.yuv")
    assert encode[-5:] == ["--keyint", "0", "--no-scenecut", "--json", "-y"] and decode[-2:] == ["--json", "-y"]
    assert decode[3:5] == ["decode", encode[6]]


def test_streams_are_decoded_with_the_weights_that_wrote_them(tmp_path, stand_in):
    clip, weights = write_clip(tmp_path), str(tmp_path / "mine.safetensors")
    for model, given in ((weights, True), ("tiny", False)):
        stand_in.commands.clear()
        run(clip, "--qps", "2,3", "--anchors", "x264", "--model", model, "--json")
        decoding = [command for command in stand_in.commands if "decode" in command]
        assert decoding and all((weights in command) == given for command in decoding)


def test_tables_show_every_point_and_the_means(tmp_path, stand_in):
    text = run(write_clip(tmp_path), "--qps", "1,2,3", "--anchors", "x264", "--threads", "1")
    assert "drift_96x80_30: 96x80, 30 frames/s, 5 frames" in text
    assert len([line for line in text.splitlines() if line.startswith("  nvc    ")]) == 3
    assert "nvc against x264" in text
    assert text.splitlines()[-1].endswith("1 clip")


def test_a_clip_without_shared_quality_is_named_and_left_out(tmp_path, monkeypatch):
    def fake(command, threads):
        poor = "nvc_cli.anchors" in command and "96x80" in command[5]
        return StandIn(offset=60 if poor else 0)(command, threads)

    monkeypatch.setattr(compare, "run_json", fake)
    clips = [write_clip(tmp_path), write_clip(tmp_path, 64, 64)]
    arguments = [*clips, "--qps", "1,2,3", "--anchors", "x264"]
    text = run(*arguments)
    assert "none" in text and "do not overlap" in text
    assert text.splitlines()[-1].endswith("1 clip, left out: drift_96x80_30")
    [mean] = json.loads(run(*arguments, "--json"))["mean"]
    assert (mean["clips"], mean["left_out"]) == (1, ["drift_96x80_30"])


def test_a_point_that_costs_more_than_a_better_one_is_marked(tmp_path, monkeypatch):
    class Worse(StandIn):
        def encode(self, source, target, qp):
            super().encode(source, target, qp)
            if qp == 2:
                Path(target).write_bytes(Path(target).read_bytes().ljust(9000, b"."))

    monkeypatch.setattr(compare, "run_json", Worse())
    text = run(write_clip(tmp_path), "--qps", "1,2,3,4", "--anchors", "")
    assert [line.split()[1] for line in text.splitlines() if "not in BD-rates" in line] == ["2"]


def test_a_failing_codec_is_one_sentence(tmp_path, monkeypatch):
    def fail(command, threads):
        raise NvcError("there is no model base; choose tiny")

    monkeypatch.setattr(compare, "run_json", fail)
    result = CliRunner().invoke(main, ["compare", write_clip(tmp_path), "--anchors", ""])
    assert result.exit_code == 1
    assert result.stderr == "nvc: nvc at qp 0 failed on drift_96x80_30: there is no model base; choose tiny\n"
    assert result.stdout == ""


def test_a_codec_that_loses_frames_is_refused(tmp_path, monkeypatch):
    class Short(StandIn):
        def decode(self, source, target):
            super().decode(source, target)
            whole = Path(target).read_bytes()
            Path(target).write_bytes(whole[: len(whole) * 4 // 5])

    monkeypatch.setattr(compare, "run_json", Short())
    result = CliRunner().invoke(main, ["compare", write_clip(tmp_path), "--anchors", ""])
    assert result.exit_code == 1
    assert "different lengths" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--anchors", "x266"], "there is no anchor x266"),
        (["--qps", "1,two"], "'two' is not a number"),
        (["--qps", "", "--anchors", ""], "nothing to measure"),
        (["--threads", "0"], "--threads"),
        ([], "missing.mkv"),
    ],
)
def test_wrong_usage(tmp_path, arguments, message):
    clip = write_clip(tmp_path) if arguments else "missing.mkv"
    result = CliRunner().invoke(main, ["compare", clip, *arguments])
    assert result.exit_code == 2
    assert message in result.stderr


# ---- running other processes ----------------------------------------------------------------------


def test_run_json_returns_the_object():
    code = "import json, os; print(json.dumps({'fps': 5, 'threads': os.environ['OMP_NUM_THREADS']}))"
    assert compare.run_json([sys.executable, "-c", code], 3) == {"fps": 5, "threads": "3"}


def test_run_json_passes_on_the_last_words():
    code = "import sys; print('Loading', file=sys.stderr); sys.exit('nvc: clip.mkv is empty; give another')"
    with pytest.raises(NvcError, match="^clip.mkv is empty; give another$"):
        compare.run_json([sys.executable, "-c", code], 1)


# ---- the anchors ----------------------------------------------------------------------------------


def run_anchor(name: str, quality: int, source: str, folder: Path, fps: str = "30") -> tuple[bytes, list[Frame]]:
    coded, decoded = folder / f"coded.{find_anchor(name).format}", folder / Path(source).name.replace("drift", "decoded")
    command = point_command(find_anchor(name), quality, source, str(coded), str(decoded), Fraction(fps), 1)
    result = compare.run_json(command, 1)
    assert result["encode"]["frames"] == result["decode"]["frames"] == FRAMES
    assert result["encode"]["fps"] > 0 and result["decode"]["fps"] > 0
    return coded.read_bytes(), read_clip(str(decoded))


@pytest.mark.parametrize("name", [a.name for a in ANCHORS])
def test_anchors_trade_rate_for_quality(tmp_path, name):
    source = write_clip(tmp_path)
    qualities = find_anchor(name).qualities
    points = []
    for quality in (qualities[1], qualities[-2]):
        coded, decoded = run_anchor(name, quality, source, tmp_path)
        points.append((len(coded), sequence_psnr(read_clip(source), decoded).yuv))
    (fine_bytes, fine_psnr), (coarse_bytes, coarse_psnr) = points
    assert fine_bytes > coarse_bytes
    assert fine_psnr > coarse_psnr > 20
    assert fine_psnr > 33


def test_odd_sizes_and_broadcast_rates(tmp_path):
    source = write_clip(tmp_path, 97, 81, "29.97")
    _, decoded = run_anchor("x264", 16, source, tmp_path, "30000/1001")
    assert decoded[0].y.shape == (81, 97)
    assert sequence_psnr(read_clip(source), decoded).yuv > 38


@pytest.mark.parametrize("name", ["x264", "x265", "svtav1"])
def test_anchors_have_one_keyframe(tmp_path, name):
    import av

    source = write_clip(tmp_path)
    run_anchor(name, 34, source, tmp_path)
    with av.open(str(tmp_path / f"coded.{find_anchor(name).format}")) as file:
        assert [picture.key_frame for picture in file.decode(video=0)] == [True] + [False] * (FRAMES - 1)


def test_x264_pays_for_no_settings_text(tmp_path):
    coded, _ = run_anchor("x264", 34, write_clip(tmp_path), tmp_path)
    assert b"x264" not in coded


def test_x265_pays_for_no_settings_text(tmp_path):
    coded, _ = run_anchor("x265", 34, write_clip(tmp_path), tmp_path)
    assert b"x265" not in coded


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="scheduling classes of Linux")
def test_anchors_cannot_become_real_time():
    code = """
import os
from nvc_cli.anchors import _give_up_real_time
_give_up_real_time()
try:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
except PermissionError:
    print(os.sched_getscheduler(0) == os.SCHED_BATCH and "true")
"""
    assert compare.run_json([sys.executable, "-c", code], 1) is True


def test_a_missing_encoder_is_named(tmp_path):
    from nvc_cli.anchors import _encode

    source = write_clip(tmp_path)
    absent = replace(find_anchor("x264"), encoder="libnothing")
    with open_reader(source) as reader, pytest.raises(NvcError, match="no encoder libnothing"):
        list(_encode(absent, 30, reader, reader.info, str(tmp_path / "coded.h264"), 1))


def test_anchor_names_are_unique():
    names = [a.name for a in ANCHORS]
    assert len(names) == len(set(names))
    assert set(compare.DEFAULT_ANCHORS.split(",")) <= set(names)
