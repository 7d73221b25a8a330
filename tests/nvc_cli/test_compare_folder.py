"""`nvc compare --output`: what lies in the folder, going on after an interruption, and what is never mixed."""

from __future__ import annotations

import copy
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nvc_cli import anchors, compare, measure, plots
from nvc_cli.compare import clip_names
from nvc_cli.conditions import differences
from nvc_cli.crops import worst_box, worst_frames
from nvc_cli.main import main
from nvc_cli.measure import run_json
from nvc_cli.results import NVC, NVC_ENHANCED, Point, comparable
from tests.nvc_cli.standin import FRAMES, StandIn, in_process, install, refusal, run, write_clip

OPTIONS = ("--qps", "1,2,3", "--anchors", "x264", "--threads", "1")
STREAMS = 3 + 6  # of nvc and of x264, per clip


class Interrupted(StandIn):
    """Stops after some commands as Ctrl-C does."""

    def __init__(self, commands: int) -> None:
        super().__init__()
        self.left = commands

    def __call__(self, command: list[str], threads: int) -> dict:
        if not self.left:
            raise KeyboardInterrupt
        self.left -= 1
        return super().__call__(command, threads)


def install_here(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn) -> StandIn:
    """As `install`; the streams of anchors, too, are decoded by the stand-in when pictures of them are shown."""

    def decode(coded: str, info: object, target: str, threads: int) -> Iterator[None]:
        stand_in.decode(coded, target)
        yield

    monkeypatch.setattr(measure, "decode", decode)
    return install(monkeypatch, stand_in)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A stand-in for the codecs, and no plots: the page holds a word only."""
    monkeypatch.setattr(plots, "require_matplotlib", lambda option: None)
    monkeypatch.setattr(compare, "_write_page", lambda folder, *_: (folder / compare.PAGE).write_text("page"))
    return install_here(monkeypatch, StandIn())


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """A stand-in for the codecs, and real plots."""
    pytest.importorskip("matplotlib")
    return install_here(monkeypatch, StandIn())


def encodings(stand_in: StandIn) -> int:
    """How many streams it was asked to write."""
    return sum("encode" in command or "nvc_cli.anchors" in command for command in stand_in.commands)


def load(folder: Path) -> dict:
    return json.loads((folder / "points.json").read_text())


# ---- what lies there ------------------------------------------------------------------------------


def test_the_folder_holds_page_plot_points_and_streams(tmp_path, drawn):
    folder = tmp_path / "new" / "folder"
    clips = [write_clip(tmp_path), write_clip(tmp_path, 64, 64)]
    printed = json.loads(run(*clips, *OPTIONS, "-o", folder, "--json"))
    assert load(folder) == printed
    assert printed["complete"] and len(printed["sittings"]) == 1
    assert {p.name for p in folder.iterdir()} == {"index.html", "rates.png", "points.json", "streams"}
    for clip in printed["clips"]:
        for p in clip["points"]:
            assert (folder / p["stream"]).stat().st_size == p["bytes"]
            assert len(p["frame_psnr"]) == FRAMES
            assert np.mean(p["frame_psnr"]) == pytest.approx(p["psnr"])
    assert len(list(folder.glob("streams/*/*"))) == 2 * STREAMS
    assert (folder / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_says_all_and_needs_nothing_else(tmp_path, drawn):
    clip = write_clip(tmp_path)
    run(clip, *OPTIONS, "-o", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert not re.search(r"<(link|script|iframe)|url\((?!#)|@import", page)
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', page))
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', page))
    assert page.count("<svg") == 2  # the curves, and frame by frame
    report = load(tmp_path / "out")
    percent = f"{report['mean'][0]['percent']:+.1f} %".replace("-", "−")
    for text in ("nvc, x264 on 1 clip", "against x264", percent, report["sittings"][0]["date"], report["machine"]["processor"],
                 report["weights"], "libx264 preset=veryslow", f"{clip} --qps 1,2,3 --anchors x264", "the lowest PSNR of nvc"):  # fmt: skip
        assert text in page, text


def test_anchors_alone_have_a_page_too(tmp_path, drawn):
    run(write_clip(tmp_path), "--qps", "", "--anchors", "x265", "-o", tmp_path / "out")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "one codec only" in page and "the lowest PSNR of x265" in page
    assert load(tmp_path / "out")["weights"] is None


def test_real_streams_of_nvc_decoded_twice(tmp_path, monkeypatch, model, clip):
    """The whole way, with noise for weights: packets of the stream, both ways to decode it, and the pictures on the page."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(measure, "run_json", lambda command, threads: (in_process if "nvc_cli" in command else run_json)(command, threads))
    source = clip(frames=4)
    options = "--qps", "3", "--enhance", "--effort", "fast", "--anchors", "", "--model", model, "--threads", "1", "--json"
    report = json.loads(run(source, *options, "-o", tmp_path / "out"))
    enhanced, plain = report["clips"][0]["points"]
    assert (enhanced["codec"], plain["codec"]) == (NVC_ENHANCED, NVC)
    same = ("bytes", "kbps", "frame_bytes", "stream", "encode_fps", "quality")
    assert [enhanced[key] for key in same] == [plain[key] for key in same]
    assert enhanced["frame_psnr"] != plain["frame_psnr"]
    assert len(plain["frame_bytes"]) == 4
    stream = tmp_path / "out" / plain["stream"]
    packets = json.loads(CliRunner().invoke(main, ["info", str(stream), "--json"]).stdout)["packets"]
    assert [packet["bytes"] for packet in packets] == plain["frame_bytes"]
    assert 0 < plain["bytes"] - sum(plain["frame_bytes"]) < 200  # header, index and end
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count("<img") in (3, 6)  # source and both, of one frame or two


def test_without_matplotlib_nothing_begins(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    install_here(monkeypatch, Interrupted(0))
    assert "pip install '.[compare]'" in refusal(write_clip(tmp_path), *OPTIONS, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- going on -------------------------------------------------------------------------------------


@pytest.mark.parametrize("commands", [1, 5, 8, 12])
def test_an_interrupted_run_goes_on(tmp_path, monkeypatch, stand_in, commands):
    """Commands are: encode and decode for each stream of nvc, one for each of x264, then one to show the pictures of nvc."""
    clip, folder = write_clip(tmp_path), tmp_path / "out"
    whole = json.loads(run(clip, *OPTIONS, "-o", tmp_path / "whole", "--json"))

    first = install_here(monkeypatch, Interrupted(commands))
    result = CliRunner().invoke(main, ["compare", clip, *OPTIONS, "-o", str(folder)])
    assert result.exit_code == 130
    kept = min(commands // 2, 3) + max(commands - 6, 0)
    points = load(folder)["clips"][0]["points"] if kept else []
    assert len(points) == min(kept, STREAMS)
    assert ("the same command goes on" in result.stderr) == bool(kept)
    assert not (folder / "index.html").exists()
    assert not list(folder.rglob("*.part"))

    second = install_here(monkeypatch, StandIn())
    report = json.loads(run(clip, *OPTIONS, "-o", folder, "--json"))
    assert encodings(second) == STREAMS - len(points)
    assert encodings(first) >= len(points)
    assert report["complete"]
    assert len(report["sittings"]) == 1 + bool(points and len(points) < STREAMS)
    for r in (report, whole):
        for p in r["clips"][0]["points"]:
            p.pop("sitting")
        r.pop("sittings")
    assert report == whole


def test_points_of_several_sittings_are_marked(tmp_path, drawn):
    clip, folder = write_clip(tmp_path), tmp_path / "out"
    run(clip, *OPTIONS, "-o", folder)
    assert "Million luma samples a second" in (folder / "index.html").read_text()
    (folder / load(folder)["clips"][0]["points"][0]["stream"]).unlink()
    text = run(clip, *OPTIONS, "-o", folder)
    assert text.count("sitting 2") == 1 and text.count("sitting 1") == STREAMS - 1
    assert "speeds of different sittings are not comparable" in text
    page = (folder / "index.html").read_text()
    assert "measured in 2 sittings, so there is no table of speeds" in page
    assert "Million luma samples a second" not in page


def test_what_is_finished_is_not_measured_again(tmp_path, monkeypatch, stand_in):
    clip, folder = write_clip(tmp_path), tmp_path / "out"
    before = run(clip, *OPTIONS, "-o", folder, "--json")
    (folder / "index.html").unlink()
    again = install_here(monkeypatch, StandIn())
    assert run(clip, *OPTIONS, "-o", folder, "--json") == before
    assert encodings(again) == 0
    assert (folder / "index.html").exists()


def test_a_stream_that_cannot_be_read_is_named(tmp_path, monkeypatch, stand_in):
    clip, folder = write_clip(tmp_path), tmp_path / "out"
    run(clip, *OPTIONS, "-o", folder)
    monkeypatch.setattr(measure, "decode", anchors.decode)  # the real one, of what are no streams at all
    assert re.search(r"out/streams/drift_96x80_30/x264_crf\d+.h264 cannot be read .* remove it, and it is written again$", refusal(clip, *OPTIONS, "-o", folder))


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_point_whose_stream_is_gone_is_measured_again(tmp_path, monkeypatch, stand_in, harm):
    clip, folder = write_clip(tmp_path), tmp_path / "out"
    run(clip, *OPTIONS, "-o", folder)
    point = load(folder)["clips"][0]["points"][4]
    harm(folder / point["stream"])
    again = install_here(monkeypatch, StandIn())
    run(clip, *OPTIONS, "-o", folder)
    assert encodings(again) == 1
    assert (folder / point["stream"]).stat().st_size == point["bytes"]


# ---- never mixed ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (("--qps", "1,2"), "qps 1,2,3, now 1,2"),
        (("--anchors", "x265"), "anchors x264 x264 veryslow zerolatency, one keyframe, now none"),
        (("--threads", "2"), "threads 1, now 2"),
        (("--frames", "4"), "frames 32, now 4"),
        (("--filter", "off"), "filter auto, now off"),
        (("--decision", "rd"), "decision none, now rd"),
        (("--references", "2"), "references 8, now 2"),
        (("--enhance",), "enhance False, now True"),
    ],
)
def test_other_options_are_refused(tmp_path, stand_in, changed, named):
    clip, folder = write_clip(tmp_path), tmp_path / "out"
    run(clip, *OPTIONS, "-o", folder)
    before = (folder / "points.json").read_bytes()
    stand_in.commands.clear()
    line = refusal(clip, *OPTIONS, *changed, "-o", folder)
    assert named in line and line.endswith("give another folder, or -y to begin anew")
    assert (folder / "points.json").read_bytes() == before and not stand_in.commands


def leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys that lead to each value that holds no others."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path


def test_every_condition_counts(tmp_path, stand_in):
    clip, folder = write_clip(tmp_path), tmp_path / "out"
    run(clip, *OPTIONS, "-o", folder)
    report = load(folder)
    conditions = {key: value for key, value in report.items() if key not in ("complete", "sittings", "clips", "mean")}
    paths = list(leaves(conditions))
    assert {("weights",), ("versions", "program"), ("versions", "torch"), ("machine", "processor"), ("anchor_settings", "x264")} <= set(paths)
    for path in paths:
        other = copy.deepcopy(report)
        inner = other
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = "something else"
        (folder / "points.json").write_text(json.dumps(other))
        assert f"({' '.join(path)} something else, now " in refusal(clip, *OPTIONS, "-o", folder)


def test_other_weights_of_the_same_name_are_refused(tmp_path, stand_in):
    clip, folder, weights = write_clip(tmp_path), tmp_path / "out", tmp_path / "mine.safetensors"
    weights.write_bytes(b"one")
    run(clip, *OPTIONS, "--model", weights, "-o", folder)
    weights.write_bytes(b"two")
    assert "(weights " in refusal(clip, *OPTIONS, "--model", weights, "-o", folder)


def test_another_clip_of_the_same_name_is_refused(tmp_path, stand_in):
    clip, folder = write_clip(tmp_path), tmp_path / "out"
    run(clip, *OPTIONS, "-o", folder)
    write_clip(tmp_path, seed=2)
    assert "holds points of another clip drift_96x80_30, whose frames differ" in refusal(clip, *OPTIONS, "-o", folder)


def test_beginning_anew(tmp_path, stand_in):
    clip, folder = write_clip(tmp_path), tmp_path / "out"
    run(clip, *OPTIONS, "-o", folder)
    (folder / "streams" / "notes.txt").write_text("mine")
    run(clip, "--qps", "2,3", "--anchors", "", "--threads", "1", "-o", folder, "-y")
    assert [p["quality"] for p in load(folder)["clips"][0]["points"]] == [2, 3]
    assert {p.name for p in (folder / "streams").rglob("*") if p.is_file()} == {"nvc_qp2.nvc", "nvc_qp3.nvc", "notes.txt"}


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"clips": [{"clip": 1}], "sittings": []}'])
def test_a_points_file_that_is_not_one(tmp_path, stand_in, content):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "points.json").write_text(content)
    line = refusal(write_clip(tmp_path), *OPTIONS, "-o", folder)
    assert f"{folder / 'points.json'} is not what nvc compare of this version writes" in line
    run(write_clip(tmp_path), *OPTIONS, "-o", folder, "-y")
    assert load(folder)["complete"]


def test_the_page_of_somebody_else_is_not_overwritten(tmp_path, stand_in):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "index.html").write_text("mine")
    assert "index.html exists already" in refusal(write_clip(tmp_path), *OPTIONS, "-o", folder)
    assert (folder / "index.html").read_text() == "mine"


def test_a_folder_that_cannot_be(tmp_path, stand_in):
    (tmp_path / "file").write_text("")
    assert "cannot make the folder" in refusal(write_clip(tmp_path), *OPTIONS, "-o", tmp_path / "file" / "out")


# ---- the parts ------------------------------------------------------------------------------------


def point(codec: str, kbps: float, psnrs: tuple[float, ...] = (30.0,)) -> Point:
    mean = sum(psnrs) / len(psnrs)
    return Point(codec, 1, 1, kbps, mean, mean, mean, mean, 1, 1, [1], list(psnrs))


def test_comparable_points_are_those_of_the_nearest_rates():
    points = [point("nvc", r) for r in (100, 200, 400)] + [point("x264", r) for r in (130, 210, 700)] + [point("x265", r) for r in (95, 190, 290)]
    assert [(p.codec, p.kbps) for p in comparable(points)] == [("nvc", 200), ("x264", 210), ("x265", 190)]


def test_worst_frames_are_nvcs_lowest_and_where_it_compares_worst():
    own, better, worse = point("nvc", 1, (40, 33, 35, 36)), point("x264", 1, (41, 33, 38, 36)), point("x265", 1, (30, 30, 30, 36))
    assert list(worst_frames([own, better, worse])) == [1, 2]
    assert list(worst_frames([own])) == [1]
    [(number, reason)] = worst_frames([point("nvc", 1, (40, 30)), point("x264", 1, (40, 35))]).items()
    assert number == 1 and "lowest PSNR" in reason and "compares worst" in reason


def test_the_worst_part_is_found():
    source = np.full((240, 416), 100, np.uint8)
    decoded = source.copy()
    decoded[200:210, 300:310] = 160
    left, top, right, bottom = worst_box(source, decoded)
    assert (right - left, bottom - top) == (138, 103)
    assert left <= 300 and right >= 310 and top <= 200 and bottom >= 210


def test_a_small_picture_is_shown_whole():
    plane = np.zeros((40, 50), np.uint8)
    assert worst_box(plane, plane) == (0, 0, 50, 37)


def test_clips_of_the_same_name_are_told_apart():
    assert clip_names(["a/x.mkv", "b/x.mp4", "x-2.y4m", "-"]) == ["x", "x-2", "x-2-2", "stdin"]


def test_differences_are_named():
    assert list(differences({"a": 1, "b": {"c": [1, 2]}}, {"a": 1, "b": {"c": [1], "d": "x"}})) == ["b c 1,2, now 1", "b d none, now x"]
