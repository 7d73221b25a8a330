"""nvc play, with programs that stand in for players."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]
Clip = Callable[..., Path]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def stream(done: Run, clip: Clip, model: str, tmp_path: Path) -> Path:
    done("encode", clip(), "-o", tmp_path / "a.nvc", "--model", model, "--references", 1)
    return tmp_path / "a.nvc"


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """(name, shell commands) -> there is such a player, and no other."""
    folder = tmp_path / "players"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def make(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\ncd {tmp_path}\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return make


@pytest.mark.parametrize("name", ["ffplay", "mpv"])
def test_a_player_gets_the_pictures(name: str, player: Callable[[str, str], None], done: Run, stream: Path, model: str, tmp_path: Path) -> None:
    done("decode", stream, "-o", tmp_path / "a.y4m", "--model", model)
    player(name, 'echo "$@" > words; cat > seen.y4m')
    result = done("play", stream, "--model", model, "--", "--fullscreen")
    assert (tmp_path / "seen.y4m").read_bytes() == (tmp_path / "a.y4m").read_bytes()
    assert (tmp_path / "words").read_text().split()[0] == "--fullscreen" and (tmp_path / "words").read_text().split()[-1] == "-"
    assert result.stdout == ""


def test_a_named_player_and_a_part(player: Callable[[str, str], None], done: Run, stream: Path, model: str, tmp_path: Path) -> None:
    player("ffplay", "exit 3")
    player("other", "cat > seen.y4m")
    done("decode", stream, "-o", tmp_path / "a.y4m", "--model", model, "--start", "0.08", "--enhance")
    done("play", stream, "--model", model, "--with", "other", "--start", "0.08", "--enhance")
    assert (tmp_path / "seen.y4m").read_bytes() == (tmp_path / "a.y4m").read_bytes()


def test_a_player_by_its_path_is_told_the_same(player: Callable[[str, str], None], done: Run, stream: Path, model: str, tmp_path: Path) -> None:
    player("ffplay", 'echo "$@" > words; cat > /dev/null')
    done("play", stream, "--model", model, "--with", tmp_path / "players" / "ffplay")
    assert "-autoexit" in (tmp_path / "words").read_text().split()


def test_a_player_that_is_closed_ends_it(player: Callable[[str, str], None], stream: Path, model: str) -> None:
    player("ffplay", "exec 0<&-; exit 0")
    command = [sys.executable, "-m", "nvc_cli", "play", str(stream), "--model", model]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=dict(os.environ), check=False)
    assert (result.returncode, result.stdout, "Traceback" in result.stderr) == (0, "", False)


def test_what_goes_wrong_is_said(player: Callable[[str, str], None], refused: Callable[..., str], nvc: Run, stream: Path, model: str) -> None:
    assert "there is no player here; install ffmpeg (for ffplay) or mpv" in refused("play", stream, "--model", model)
    assert "there is no program vlc; give another player by --with" in refused("play", stream, "--with", "vlc")
    player("ffplay", "cat > /dev/null; exit 7")
    result = nvc("play", stream, "--model", model)
    assert result.exit_code == 1 and "ffplay ended with code 7; its own messages say why" in result.stderr
    stream.write_bytes(stream.read_bytes()[:-200])
    player("ffplay", "cat > /dev/null")
    result = nvc("play", stream, "--model", model)
    assert result.exit_code == 1 and "get a fresh copy of it" in result.stderr
