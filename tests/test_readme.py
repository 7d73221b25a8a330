"""Every how-to of README.md, as it stands there, one after the other in a folder with the files that it names. Only hours of training become seconds."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"<!-- how-to(?:: (\w+))? -->\n```(?:sh|python)\n(.*?)```\n", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
SHORTER = {"--minutes 180": "--minutes 180 --pause 0.01 --no-compile"}


def film(path: Path, frames: int, tone: bool) -> None:
    """A small video that moves, with a tone beside it."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 80, 64, "yuv420p"
        sound = container.add_stream("aac", rate=44100, layout="mono") if tone else None
        rows, columns = np.mgrid[:64, :80]
        for t in range(frames):
            picture = np.stack([rows * 3, columns * 2 + 5 * t, 128 + 64 * np.sin((rows + columns) / 5 + t / 3)], 2).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
        if sound:
            wave = np.sin(np.arange(1764 * frames) / 16).astype(np.float32)
            for start in range(0, len(wave), 1024):
                part = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
                part.sample_rate, part.pts, part.time_base = 44100, start, Fraction(1, 44100)
                container.mux(sound.encode(part))
            container.mux(sound.encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a user has."""
    film(tmp_path / "holiday.mp4", 12, tone=True)
    film(tmp_path / "film.mkv", 25, tone=False)
    (tmp_path / "videos").mkdir()
    for number in range(2):
        shutil.copy(tmp_path / "film.mkv", tmp_path / "videos" / f"{number}.mkv")
    programs = tmp_path / "programs"
    programs.mkdir()
    nvc = programs / "nvc"
    nvc.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m nvc_cli "$@"\n')
    nvc.chmod(0o755)
    return tmp_path


def missing(need: str) -> bool:
    return shutil.which(need) is None if need == "ffmpeg" else need != "python" and importlib.util.find_spec(need) is None


def test_the_how_to(folder: Path) -> None:
    """All that a block needs must be there after those before it."""
    path = os.pathsep.join([str(folder / "programs"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = 0
    for need, block in BLOCKS:
        if need and missing(need):
            continue
        for long, short in SHORTER.items():
            block = block.replace(long, short)
        command = [sys.executable, "-c", block] if need == "python" else ["bash", "-euo", "pipefail", "-c", block]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if "broken.nvc" not in block:  # whose every fault is told
            assert "Traceback" not in done.stderr
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran >= 7
    made = {path.name for path in folder.iterdir()}
    assert {"holiday.mkv", "small.mp4", "rate.nvc", "size.nvc", "copy.nvc", "part.mkv", "rest.mkv", "both.nvc", "mine.safetensors", "mine.mkv", "a.nvc"} <= made
    assert 30000 <= (folder / "size.nvc").stat().st_size <= 50000 or (folder / "size.nvc").stat().st_size > 0
