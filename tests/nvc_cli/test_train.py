"""nvc train: its files, going on, stopping, and what it says when it cannot."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from models.training import Settings
from nvc_cli.main import main

pytestmark = pytest.mark.usefixtures("small_schedule", "clock")

MINUTES = ("--minutes", f"{2 / 60}", "--no-compile", "--device", "cpu")


def nvc_train(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def test_trains_goes_on_and_knows_its_end(videos: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "mine.safetensors", tmp_path / "train.log"
    command = (videos, "-o", out, *MINUTES, "--log", log)

    first = nvc_train(*command, "--pause", f"{1 / 60}")
    assert first.exit_code == 0, first.stderr
    assert first.stdout == ""
    assert "2 clips, 16 frames" in first.stderr and "the same command goes on" in first.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"mine.safetensors", "mine.md", "mine.ckpt", "train.log", "videos"}
    assert "videos, 2 clips, 16 frames" in out.with_suffix(".md").read_text(encoding="utf-8")

    second = nvc_train(*command)
    assert second.exit_code == 0, second.stderr
    assert "going on from" in second.stderr and "the schedule has ended" in second.stderr

    third = nvc_train(*command)
    assert third.exit_code == 0, third.stderr
    assert "nothing left to do" in third.stderr and "a larger --minutes goes on" in third.stderr
    assert log.read_text(encoding="utf-8").splitlines() == (first.stderr + second.stderr + third.stderr).splitlines()

    more = nvc_train(videos, "-o", out, "--minutes", f"{3 / 60}", *MINUTES[2:])
    assert more.exit_code == 0 and "stage short" in more.stderr

    begun = nvc_train(videos, "-o", tmp_path / "other.safetensors", *MINUTES, "--pause", f"{1 / 60}", "--from", out)
    assert begun.exit_code == 0, begun.stderr
    assert f"began with: {out}" in (tmp_path / "other.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_saves_when_interrupted(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: int) -> None:
    from models.training import Trainer

    step = Trainer._step

    def interrupted_step(self: Trainer, *arguments) -> None:
        step(self, *arguments)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "_step", interrupted_step)
    before = signal.getsignal(number)
    result = nvc_train(videos, "-o", tmp_path / "mine.safetensors", *MINUTES)
    assert result.exit_code == code, result.stderr
    assert "stopping after this step" in result.stderr and "the same command goes on" in result.stderr
    assert (tmp_path / "mine.safetensors").exists() and (tmp_path / "mine.ckpt").exists()
    assert signal.getsignal(number) is before


def test_options_reach_the_trainer(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Settings] = []

    def prepare(settings: Settings, *arguments: object) -> None:
        seen.append(settings)
        raise ValueError("that is enough")

    monkeypatch.setattr("nvc_cli.train._prepare", prepare)
    out = tmp_path / "mine.safetensors"
    assert nvc_train(videos, "-o", out, *MINUTES, "--rate", "0.5", "--stages", "long, exact", "--seed", "7", "--batch", "2", "--chain", "5").exit_code == 1
    assert nvc_train(videos, "-o", out, *MINUTES).exit_code == 1
    assert nvc_train(videos, "-o", out, *MINUTES, "--rate", "0").exit_code == nvc_train(videos, "-o", out, *MINUTES, "--chain", "2").exit_code == 2
    assert [(settings.rate, settings.stages, settings.seed) for settings in seen] == [(0.5, ("long", "exact"), 7), (1.0, (), 1)]
    assert [(settings.batch, settings.chain) for settings in seen] == [(2, 5), (None, None)]


def test_errors_are_one_line(videos: Path, tmp_path: Path) -> None:
    def error(*arguments: str | Path) -> str:
        result = nvc_train(*arguments, *MINUTES)
        assert result.exit_code == 1, result.output
        assert "Traceback" not in result.stderr
        return result.stderr

    out = tmp_path / "mine.safetensors"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "there is no such folder" in error(tmp_path / "missing", "-o", out)
    assert "no video with two frames or more was found" in error(empty, "-o", out)
    assert "no stage 'wrong'" in error(videos, "-o", out, "--stages", "intra,wrong")
    assert "is not in this package" in error(videos, "-o", out, "--from", "wrong")
    assert "--log" in error(videos, "-o", out, "--log", tmp_path / "no" / "folder.log")
    (tmp_path / "mine.ckpt").write_bytes(b"something else")
    assert "not a checkpoint of nvc train" in error(videos, "-o", out)
    assert not out.exists()
    other = tmp_path / "other.safetensors"
    other.write_bytes(b"precious")
    assert "exists already" in error(videos, "-o", other)
    assert other.read_bytes() == b"precious"
    assert nvc_train(videos, "-o", tmp_path / "mine.pt").exit_code == 2


def test_torchrun_takes_the_command_of_the_help(tmp_path: Path) -> None:
    """Also with --log, which would else stand for several options of its own."""
    told = " ".join(CliRunner().invoke(main, ["train", "--help"]).stdout.split())
    begin, end = told.split("`torchrun ")[1].split(" ...`")[0].replace("N", "1").split(" -- ")
    words = [sys.executable, "-m", "torch.distributed.run", *shlex.split(begin), "--", *shlex.split(end)]
    result = subprocess.run([*words, str(tmp_path / "none"), "-o", "a.safetensors", "--log", "a.log"], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert result.returncode == 1
    assert f"nvc: {tmp_path / 'none'}: there is no such folder; give a folder of videos" in result.stderr
