"""A codec with random weights: everything but the picture quality can be tested on it, on any machine, at once.

And a folder of two short videos, for training.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def codec():
    """A codec of the preset tiny, always the same: as training begins, and noise on all weights, so that every part counts."""
    import torch

    from models.codec import Codec
    from models.presets import PRESETS

    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        made = Codec(PRESETS["tiny"])
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
    return made.to(memory_format=torch.channels_last).eval().requires_grad_(False)


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


@pytest.fixture
def small_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A miniature schedule of `tiny`, on one thread, and no measurement of the machine's speed."""
    import torch

    from models.schedule import SCHEDULES, Stage

    torch.set_num_threads(1)
    monkeypatch.setitem(SCHEDULES, "tiny", (Stage("intra", 0.5, 1, 2, 64, 1.0, 0.5), Stage("short", 0.5, 3, 2, 64, 1.0, 0.5)))
    monkeypatch.setattr("models.training.plain_rate", lambda device: 1e11)


class Clock:
    """Time that passes by one second with every step, so that training takes a known number of steps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the trainer."""
    from models.training import Trainer

    clock, step = Clock(), Trainer._step

    def slow_step(self: Trainer, *arguments) -> None:
        step(self, *arguments)
        clock.now += 1.0

    monkeypatch.setattr(Trainer, "_step", slow_step)
    monkeypatch.setattr("models.training.monotonic", clock)
    return clock
