"""`nvc compare` with a stand-in for the codecs: the command, its tables and its JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nvc_cli import measure
from nvc_cli.errors import NvcError
from nvc_cli.main import main
from nvc_cli.results import NVC, NVC_ENHANCED
from nvc_cli.vmaf import Vmaf
from tests.nvc_cli.standin import StandIn, install, refusal, run, write_clip


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    return install(monkeypatch, StandIn())


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
    run(write_clip(tmp_path), "--qps", "1.5,3", "--anchors", "", "--model", "tiny", "--filter", "off", "--decision", "rd", "--effort", "fast", "--references", "3", "--threads", "2")
    encode, decode = stand_in.commands[:2]
    assert encode[:4] == [sys.executable, "-m", "nvc_cli", "encode"]
    options = dict(zip(encode[7:-5:2], encode[8:-5:2], strict=True))
    assert options == {"--qp": "1.5", "--model": "tiny", "--filter": "off", "--decision": "rd", "--effort": "fast", "--references": "3", "--threads": "2"}
    assert encode[4].endswith("_96x80_30.yuv")
    assert encode[-5:] == ["--keyint", "0", "--no-scenecut", "--json", "-y"] and decode[-2:] == ["--json", "-y"]
    assert decode[3:5] == ["decode", encode[6]]


def test_streams_are_decoded_with_the_weights_that_wrote_them(tmp_path, stand_in):
    clip, weights = write_clip(tmp_path), str(tmp_path / "mine.safetensors")
    Path(weights).write_bytes(b"")
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

    install(monkeypatch, fake)
    clips = [write_clip(tmp_path), write_clip(tmp_path, 64, 64)]
    arguments = [*clips, "--qps", "1,2,3", "--anchors", "x264"]
    text = run(*arguments)
    assert "none" in text and "do not overlap" in text
    assert text.splitlines()[-1].endswith("1 clip, left out: drift_96x80_30")
    [mean] = json.loads(run(*arguments, "--json"))["mean"]
    assert (mean["clips"], mean["left_out"]) == (1, ["drift_96x80_30"])


def test_enhanced_pictures_are_a_codec_of_their_own(tmp_path, monkeypatch):
    class Enhancing(StandIn):
        def __call__(self, command, threads):
            self.offset = -1 if "--enhance" in command else 0  # one step nearer to the source
            return super().__call__(command, threads)

    stand_in = install(monkeypatch, Enhancing())
    report = json.loads(run(write_clip(tmp_path), "--qps", "1,2,3", "--enhance", "--anchors", "x264", "--threads", "1", "--json"))
    assert sum("encode" in command for command in stand_in.commands) == 3
    points = {name: [p for p in report["clips"][0]["points"] if p["codec"] == name] for name in (NVC_ENHANCED, NVC)}
    assert list(points) == list(dict.fromkeys(p["codec"] for p in report["clips"][0]["points"]))[:2]
    for better, plain in zip(points[NVC_ENHANCED], points[NVC], strict=True):
        assert better["bytes"] == plain["bytes"] and better["psnr"] > plain["psnr"]
    assert [(d["codec"], d["anchor"]) for d in report["mean"]] == [(NVC_ENHANCED, NVC), (NVC_ENHANCED, "x264"), (NVC, "x264")]
    assert report["mean"][0]["percent"] < 0


def test_vmaf_is_measured_where_asked_for(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr("nvc_cli.conditions.find_program", lambda *_: "ffmpeg")
    monkeypatch.setattr("nvc_cli.vmaf.sequence_vmaf", lambda reference, decoded, width, height, threads: Vmaf(90.0, float(width)))
    arguments = [write_clip(tmp_path), "--qps", "1,2", "--anchors", "", "--json"]
    for options, expected in (([], (None, None)), (["--vmaf"], (90.0, 96.0))):
        points = json.loads(run(*arguments, *options))["clips"][0]["points"]
        assert {(p["vmaf"], p["vmaf_neg"]) for p in points} == {expected}


def test_a_missing_model_is_refused_before_anything_is_measured(tmp_path, stand_in):
    assert "nothing.safetensors" in refusal(write_clip(tmp_path), "--model", "nothing.safetensors")
    assert "the model other is not in this package" in refusal(write_clip(tmp_path), "--model", "other")
    assert not stand_in.commands


def test_a_point_that_costs_more_than_a_better_one_is_marked(tmp_path, monkeypatch):
    class Worse(StandIn):
        def encode(self, source, target, qp):
            super().encode(source, target, qp)
            if qp == 2:
                Path(target).write_bytes(Path(target).read_bytes().ljust(9000, b"."))

    install(monkeypatch, Worse())
    text = run(write_clip(tmp_path), "--qps", "1,2,3,4", "--anchors", "")
    assert [line.split()[1] for line in text.splitlines() if "not in BD-rates" in line] == ["2"]


def test_a_failing_codec_is_one_sentence(tmp_path, monkeypatch):
    def fail(command, threads):
        raise NvcError("there is no model base; choose tiny")

    monkeypatch.setattr(measure, "run_json", fail)
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

    install(monkeypatch, Short())
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
    assert measure.run_json([sys.executable, "-c", code], 3) == {"fps": 5, "threads": "3"}


def test_run_json_passes_on_the_last_words():
    code = "import sys; print('Loading', file=sys.stderr); sys.exit('nvc: clip.mkv is empty; give another')"
    with pytest.raises(NvcError, match="^clip.mkv is empty; give another$"):
        measure.run_json([sys.executable, "-c", code], 1)


