"""`nvc demo` with a stand-in for the nvc codec and the real x264."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nvc_cli import demo, measure
from nvc_cli.errors import NvcError
from nvc_cli.main import main
from nvc_cli.metrics import sequence_psnr
from nvc_cli.video import Frame, open_reader, open_writer

FILES = {"table.nvc", "table_nvc.mkv", "table_nvc_enhanced.mkv", "table_x264.h264", "side_by_side.png"}
CODED_BYTES = 20_000


class StandIn:
    """Takes the place of `run_json`: a codec that is wrong by 4 everywhere, and by 2 when it enhances."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], threads: int) -> dict[str, float]:
        self.commands.append(command)
        source, target = command[4], command[6]
        if command[3] == "encode":
            self.source = Path(source)
            Path(target).write_bytes(bytes(CODED_BYTES))
            return {"fps": 12.0}
        clip = demo.load(self.source)
        with open_writer(target, clip.info, overwrite=True) as writer:
            for frame in clip.frames:
                writer.write(shifted(frame, 2 if "--enhance" in command else 4))
        return {"fps": 34.0}


def shifted(frame: Frame, by: int) -> Frame:
    return Frame(*(np.where(p < 128, p + by, p - by).astype(np.uint8) for p in (frame.y, frame.u, frame.v)))


@pytest.fixture
def stand_in(monkeypatch) -> StandIn:
    stand_in = StandIn()
    monkeypatch.setattr(measure, "run_json", stand_in)
    return stand_in


@pytest.fixture(scope="module")
def clip() -> demo.Clip:
    with demo.clip_file() as path:
        return demo.load(path)


def run(*arguments: str):
    return CliRunner().invoke(main, ["demo", *arguments])


def test_demo_prints_a_table_and_leaves_its_files(tmp_path, stand_in):
    result = run("--output", str(tmp_path / "new" / "folder"), "--threads", "2")
    assert result.exit_code == 0, result.output
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == FILES
    header, *rows = (line.split("  ") for line in result.stdout.splitlines())
    assert [row[0] for row in rows] == ["nvc", "nvc enhanced", "x264 medium"]
    nvc, enhanced, x264 = ([cell.strip() for cell in row if cell.strip()] for row in rows)
    assert nvc[1:] == ["20.0", "145.5", "36.09", "12.0", "34.0"]
    assert enhanced[1:4] == ["20.0", "145.5", "42.11"]
    assert float(x264[1]) == pytest.approx(20, rel=0.03)


def test_progress_goes_to_stderr(tmp_path, stand_in):
    result = run("--output", str(tmp_path))
    assert "nvc encode" in result.stderr
    assert "demo:" not in result.stdout


def test_nvc_is_called_with_what_was_asked(tmp_path, stand_in):
    run("--output", str(tmp_path), "--model", "base", "--qp", "2.5", "--threads", "3")
    encode, plain, enhanced = stand_in.commands
    assert encode[3:5] == ["encode", str(stand_in.source)]
    assert encode[7:] == ["--qp", "2.5", "--model", "base", "--threads", "3", "--keyint", "0", "--no-scenecut", "--json", "-y"]
    assert plain[7:] == ["--json", "-y"]
    assert enhanced[7:] == ["--enhance", "--json", "-y"]


def test_earlier_files_are_kept_unless_told_otherwise(tmp_path, stand_in):
    earlier = tmp_path / "table_nvc.mkv"
    earlier.write_bytes(b"earlier")
    refused = run("--output", str(tmp_path))
    assert refused.exit_code == 1
    assert str(earlier) in refused.stderr
    assert earlier.read_bytes() == b"earlier"
    assert not stand_in.commands
    assert run("--output", str(tmp_path), "-y").exit_code == 0
    assert earlier.read_bytes() != b"earlier"


def test_a_folder_that_cannot_be_made_is_named(tmp_path, stand_in):
    (tmp_path / "file").write_bytes(b"")
    result = run("--output", str(tmp_path / "file" / "folder"))
    assert result.exit_code == 1
    assert str(tmp_path / "file" / "folder") in result.stderr


def test_a_codec_that_loses_frames_is_an_error(clip):
    short = demo.Result("nvc", 1, clip.frames[:-1], 1.0, 1.0)
    with pytest.raises(NvcError, match="what nvc decoded is not the clip"):
        demo.table(clip, [short])


def test_the_picture_shows_every_result(clip):
    from PIL import Image

    results = [demo.Result(name, 1000, clip.frames, 1.0, 1.0) for name in ("a", "b", "c")]
    with Image.open(io.BytesIO(demo.side_by_side(clip, results))) as sheet:
        assert sheet.width == 4 * 2 * (demo.CROP[2] - demo.CROP[0])
        pixels = np.asarray(sheet)[20:]
    panels = np.split(pixels, 4, axis=1)
    assert all((panel == panels[0]).all() for panel in panels)
    assert panels[0].std() > 20


@pytest.mark.parametrize("size", [8_000, 60_000])
def test_x264_is_brought_to_the_rate(clip, size):
    stream, result = demo.match_x264(clip, size, threads=2)
    assert len(stream) == result.bytes == pytest.approx(size, rel=0.03)
    assert sequence_psnr(clip.frames, result.frames).yuv > 25


def test_the_clip_is_what_its_name_says():
    with demo.clip_file() as path, open_reader(str(path)) as reader:
        assert (reader.info.width, reader.info.height, reader.info.fps) == (352, 288, 30)
        assert (reader.info.color.matrix, reader.info.color.full_range) == (6, False)
        assert len(list(reader)) == 33
    assert path.stat().st_size < 700_000


def test_a_missing_clip_is_an_error(monkeypatch):
    monkeypatch.setattr(demo, "CLIP", "none_352x288_30.mkv")
    with pytest.raises(NvcError, match="none_352x288_30.mkv"), demo.clip_file():
        pass
