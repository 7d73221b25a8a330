"""Codecs for the tests of `nvc compare` that take no time: a stand-in for all of them, and nvc in this process; and clips."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nvc_cli import measure
from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.main import main
from nvc_cli.video import open_reader, open_writer

FRAMES = 5


def moving_picture(width: int, height: int, frames: int = FRAMES, seed: int = 1) -> list[Frame]:
    """A smooth texture that drifts by one pixel a frame, with a little noise."""
    noise = np.random.default_rng(seed)
    pictures = []
    for t in range(frames):
        y, x = np.mgrid[:height, :width] + t
        luma = 128 + 60 * np.sin(x / 5) * np.cos(y / 7) + noise.normal(0, 3, (height, width))
        u, v = 128 + luma[::2, ::2] / 8, 160 - luma[::2, ::2] / 8
        pictures.append(Frame(*(plane.clip(0, 255).astype(np.uint8) for plane in (luma, u, v))))
    return pictures


def write_clip(folder: Path, width: int = 96, height: int = 80, fps: str = "30", frames: int = FRAMES, seed: int = 1) -> str:
    """A raw clip of the moving picture, at the same path for the same size and rate."""
    path = str(folder / f"drift_{width}x{height}_{fps}.yuv")
    with open_writer(path, VideoInfo(width, height, Fraction(fps)), overwrite=True) as writer:
        for frame in moving_picture(width, height, frames, seed):
            writer.write(frame)
    return path


def read_clip(path: str) -> list[Frame]:
    with open_reader(path) as reader:
        return list(reader)


class StandIn:
    """Takes the place of `run_json`: a codec that halves the error and doubles the bytes with every step of qp.

    Its streams hold the qp only; it decodes them from the clip that lies beside the target.
    """

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
        Path(target).write_bytes(f"{qp}\n".encode().ljust(int(self.base_bytes * 2**qp), b"."))

    def decode(self, source: str, target: str) -> None:
        qp = float(Path(source).read_bytes().split(b"\n")[0])
        error = round(32 / 2**qp) + self.offset
        original = Path(target).with_name(Path(target).name.replace("decoded", "clip"))
        clip = np.frombuffer(original.read_bytes(), np.uint8)
        Path(target).write_bytes(np.where(clip < 128, clip + error, clip - error).astype(np.uint8).tobytes())


def in_process(command: list[str], threads: int) -> dict:
    """Takes the place of `run_json`: nvc itself, without the time that Python and PyTorch take to start."""
    result = CliRunner().invoke(main, command[command.index("nvc_cli") + 1 :])
    if result.exit_code:
        raise NvcError(result.stderr.splitlines()[-1])
    return json.loads(result.stdout)


def install(monkeypatch: pytest.MonkeyPatch, stand_in: StandIn) -> StandIn:
    """Have all codecs be this one."""
    monkeypatch.setattr(measure, "run_json", stand_in)
    monkeypatch.setattr(measure, "packet_sizes", lambda coded: [coded.stat().st_size // FRAMES] * FRAMES)
    return stand_in


def run(*arguments: object) -> str:
    """What `nvc compare` prints, which must succeed."""
    result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def refusal(*arguments: object) -> str:
    """The one line by which `nvc compare` refuses."""
    result = CliRunner().invoke(main, ["compare", *map(str, arguments)])
    assert result.exit_code == 1, (result.output, result.exception)
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    return line.removeprefix("nvc: ")
