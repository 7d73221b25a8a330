"""A codec with random weights: everything but the picture quality can be tested on it, on any machine, at once.

And a folder of two short videos, for training; and the switch that makes the conformance streams anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from random import Random

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="write tests/vectors anew, with the weights that are shipped")


@pytest.fixture(scope="session")
def codec():
    """A calibrated codec of the preset tiny in its float form, always the same: as training begins, and noise on all weights, so that every part counts."""
    import torch

    from models.calibration import calibrate
    from models.codec import Codec
    from models.picture import Planes
    from models.presets import PRESETS

    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = Codec(PRESETS["tiny"])
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        coarse = [torch.rand(2, 1, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3) for _ in range(3)]
        noisy = [(200 * c + 55 * torch.rand(2, 1, 64, 64)).round() for c in coarse]
    made = made.to(memory_format=torch.channels_last).eval().requires_grad_(False)
    calibrate(made, [[Planes(y, y[..., ::2, ::2], y[..., 1::2, 1::2]) for y in noisy]])
    return made


@pytest.fixture(scope="session")
def weights_file(codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The codec's weights."""
    from models.weights import save

    path = tmp_path_factory.mktemp("weights") / "noise.safetensors"
    save(codec, path)
    return path


@pytest.fixture(scope="session")
def exact_codec(weights_file: Path):
    """The codec in its exact form, as streams are written and read with it."""
    from models.weights import load

    return load(str(weights_file)).codec


@pytest.fixture
def write_video() -> Callable[[Path, int, int, int], None]:
    """(path, height, width, frames) -> writes a lossless video of a gradient that moves and noise that stays."""
    import av
    import numpy as np

    def write(path: Path, height: int, width: int, frames: int) -> None:
        noise = np.random.default_rng(height + frames).integers(0, 40, (height, width))
        rows, columns = np.mgrid[:height, :width]
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for t in range(frames):
                grey = (3 * rows + 2 * columns + 4 * t) % 200 + noise
                frame = av.VideoFrame.from_ndarray(np.stack([grey.astype(np.uint8)] * 3, 2), format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
            container.mux(stream.encode())

    return write


@pytest.fixture
def videos(tmp_path: Path, write_video) -> Path:
    """A folder of two clips of 64×64 and 8 frames."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mkv", "b.mkv"):
        write_video(folder / name, 64, 64, 8)
    return folder


_costs: dict = {}


@pytest.fixture
def small_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A miniature schedule of `tiny`, on one thread, little to calibrate with, and operations and the machine's speed not measured for every run."""
    shrink(monkeypatch)


def shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `small_schedule` does."""
    import torch

    from models.calibration import calibrate
    from models.schedule import SCHEDULES, Stage
    from models.training import Trainer

    torch.set_num_threads(1)
    monkeypatch.setitem(SCHEDULES, "tiny", (Stage("intra", 0.5, 1, 2, 64, 1.0, 0.5), Stage("short", 0.5, 3, 2, 64, 1.0, 0.5)))
    monkeypatch.setattr("models.training.plain_rate", lambda device: 1e11)
    count = Trainer._cost

    @wraps(count)
    def counted_once(self: Trainer, stage: Stage) -> int:
        if stage not in _costs:
            _costs[stage] = count(self, stage)
        return _costs[stage]

    monkeypatch.setattr(Trainer, "_cost", counted_once)
    monkeypatch.setattr(Trainer, "_calibrate", lambda self, codec: calibrate(codec, [self.clips.sample(Random(0), 2, 3, 64)]))


class Clock:
    """Time that passes by one second with every step, so that training takes a known number of steps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the trainer."""
    return tick(monkeypatch)


def tick(monkeypatch: pytest.MonkeyPatch, seconds: float = 1.0) -> Clock:
    """What `clock` does, with so many seconds a step."""
    from models.training import Trainer

    clock, step = Clock(), Trainer._step

    def slow_step(self: Trainer, *arguments) -> None:
        step(self, *arguments)
        clock.now += seconds

    monkeypatch.setattr(Trainer, "_step", slow_step)
    monkeypatch.setattr("models.training.monotonic", clock)
    return clock
