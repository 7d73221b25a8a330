"""The codecs that nvc is measured against, and VMAF, on a few small frames."""

from __future__ import annotations

import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from nvc_cli import ffmpeg, measure
from nvc_cli.anchors import ANCHORS, Anchor, find_anchor, point_command
from nvc_cli.compare import DEFAULT_ANCHORS
from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame
from nvc_cli.metrics import sequence_psnr
from nvc_cli.video import open_reader
from tests.nvc_cli.standin import FRAMES, read_clip, refusal, write_clip


def available(name: str) -> Anchor:
    """The anchor, if this machine can run it; else the test is skipped."""
    anchor = find_anchor(name)
    if anchor.outside and not any(anchor.encoder in ffmpeg.listed(program, "encoder") for program in ffmpeg.programs()):
        pytest.skip(f"no ffmpeg with {anchor.encoder}; pip install '.[compare]'")
    return anchor


def run_anchor(name: str, quality: int, source: str, folder: Path, fps: str = "30") -> tuple[bytes, list[Frame]]:
    coded, decoded = folder / f"coded.{available(name).format}", folder / Path(source).name.replace("drift", "decoded")
    command = point_command(find_anchor(name), quality, source, str(coded), str(decoded), Fraction(fps), 1)
    result = measure.run_json(command, 1)
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


@pytest.mark.parametrize("name", ["x264", "libaom", "vvenc"])
def test_odd_sizes_and_broadcast_rates(tmp_path, name):
    source = write_clip(tmp_path, 97, 81, "29.97")
    _, decoded = run_anchor(name, find_anchor(name).qualities[0], source, tmp_path, "30000/1001")
    assert decoded[0].y.shape == (81, 97)
    assert sequence_psnr(read_clip(source), decoded).yuv > 38


@pytest.mark.parametrize("name", ["x264", "x265", "svtav1", "libaom", "vvenc", "vvenc-psnr"])
def test_anchors_have_one_keyframe(tmp_path, name):
    import av

    source = write_clip(tmp_path)
    run_anchor(name, 34, source, tmp_path)
    with av.open(str(tmp_path / f"coded.{find_anchor(name).format}")) as file:
        assert [picture.key_frame for picture in file.decode(video=0)] == [True] + [False] * (FRAMES - 1)


@pytest.mark.parametrize("name", ["x264", "x265", "svtav1", "libaom", "vvenc"])
def test_packets_make_up_the_file(tmp_path, name):
    coded, _ = run_anchor(name, 34, write_clip(tmp_path), tmp_path)
    sizes = measure.packet_sizes(tmp_path / f"coded.{find_anchor(name).format}")
    assert len(sizes) == FRAMES
    assert sum(sizes) == len(coded)
    assert sizes[0] == max(sizes)


@pytest.mark.parametrize("name", ["libaom", "vvenc"])
def test_threads_cost_anchors_nothing(tmp_path, name):
    source = write_clip(tmp_path)
    anchor = available(name)
    streams = []
    for threads in (1, 2):
        command = point_command(anchor, 35, source, str(tmp_path / "coded.bin"), str(tmp_path / "decoded_96x80_30.yuv"), Fraction(30), threads)
        measure.run_json(command, threads)
        streams.append((tmp_path / "coded.bin").read_bytes())
    assert streams[0] == streams[1]


def test_ten_bits_are_rounded_not_cut(tmp_path):
    """VVenC at its finest is so near to the source that cutting bits off would show as a difference of the mean."""
    source = write_clip(tmp_path)
    anchor = replace(available("vvenc"), qualities=(1,))
    command = point_command(anchor, 1, source, str(tmp_path / "coded.vvc"), str(tmp_path / "decoded_96x80_30.yuv"), Fraction(30), 1)
    measure.run_json(command, 1)
    differences = [a.y.astype(int) - b.y for a, b in zip(read_clip(source), read_clip(str(tmp_path / "decoded_96x80_30.yuv")), strict=True)]
    assert abs(np.mean(differences)) < 0.02


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
    assert measure.run_json([sys.executable, "-c", code], 1) is True


def test_a_missing_encoder_is_named(tmp_path):
    from nvc_cli.anchors import _encode

    source = write_clip(tmp_path)
    absent = replace(find_anchor("x264"), encoder="libnothing")
    with open_reader(source) as reader, pytest.raises(NvcError, match="no encoder libnothing"):
        list(_encode(absent, 30, reader, reader.info, str(tmp_path / "coded.h264"), 1))


# ---- the program ffmpeg ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "missing", "way_out"),
    [
        (["--anchors", "vvenc"], "encoder libvvenc", "leave vvenc out of --anchors"),
        (["--anchors", "x264,libaom"], "encoder libaom-av1", "leave libaom out of --anchors"),
        (["--anchors", "x264", "--vmaf"], "filter libvmaf", "leave --vmaf away"),
    ],
)
def test_what_no_ffmpeg_has_is_refused_before_anything_is_measured(tmp_path, monkeypatch, options, missing, way_out):
    def never(command: list[str], threads: int) -> dict:
        raise AssertionError("nothing should be measured")

    monkeypatch.setattr(measure, "run_json", never)
    clip = write_clip(tmp_path)
    for programs, seen in (([], "there is no ffmpeg at all"), (["/nowhere/ffmpeg"], "not in /nowhere/ffmpeg")):
        monkeypatch.setattr(ffmpeg, "programs", lambda programs=programs: programs)
        line = refusal(clip, "--qps", "", *options)
        assert missing in line and seen in line and line.endswith(f"pip install '.[compare]' brings one, or {way_out}")


def test_a_failing_ffmpeg_is_one_sentence(tmp_path):
    from nvc_cli.anchors import _encode_outside

    source, anchor = write_clip(tmp_path), available("libaom")
    wrong = replace(anchor, options={"cpu-used": "99"})
    with open_reader(source) as reader, pytest.raises(NvcError, match="^ffmpeg failed .*leave libaom out of --anchors$"):
        _encode_outside(wrong, 30, reader, reader.info, str(tmp_path / "coded.obu"), 1)


def test_listings_are_understood():
    program = next(iter(ffmpeg.programs()), None)
    if program is None:
        pytest.skip("no ffmpeg")
    assert {"rawvideo", "ffv1"} <= ffmpeg.listed(program, "encoder")
    assert {"scale", "null"} <= ffmpeg.listed(program, "filter")
    assert ffmpeg.version(program) != "unknown"


def test_vmaf_tells_worse_from_better(tmp_path):
    from nvc_cli.vmaf import sequence_vmaf

    if not any("libvmaf" in ffmpeg.listed(program, "filter") for program in ffmpeg.programs()):
        pytest.skip("no ffmpeg with libvmaf; pip install '.[compare]'")
    source = write_clip(tmp_path, 97, 81)
    scores = []
    for quality in (16, 40):
        run_anchor("x264", quality, source, tmp_path)
        scores.append(sequence_vmaf(Path(source), tmp_path / "decoded_97x81_30.yuv", 97, 81, 1))
    fine, coarse = scores
    assert 100 >= fine.vmaf > coarse.vmaf + 5
    assert 100 >= fine.neg > coarse.neg + 5
    assert coarse.neg <= coarse.vmaf


def test_anchor_names_are_unique():
    names = [a.name for a in ANCHORS]
    assert len(names) == len(set(names))
    assert set(DEFAULT_ANCHORS.split(",")) <= set(names)
