"""What the codec's commands are tested with: weights in a file, small clips, and a way to run nvc without starting Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.main import main
from nvc_cli.video import open_writer

Run = Callable[..., Result]


@pytest.fixture(scope="session")
def model(weights_file: Path) -> str:
    """The path of a weights file of the preset tiny."""
    return str(weights_file)


@pytest.fixture(scope="session")
def other_model(codec, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Weights that differ from those of `model` in one normative number."""
    from models.weights import save

    other = deepcopy(codec)
    other.inter.residual.bias[0] += 1
    path = tmp_path_factory.mktemp("weights") / "other.safetensors"
    save(other, path)
    return str(path)


@pytest.fixture
def nvc() -> Run:
    """Run `nvc` with these arguments in this process; `input` is its standard input."""

    def run(*arguments: object, input: bytes | None = None) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments], input=input)

    return run


@pytest.fixture
def done(nvc: Run) -> Run:
    """Run `nvc` and expect success."""

    def run(*arguments: object, input: bytes | None = None) -> Result:
        result = nvc(*arguments, input=input)
        assert result.exit_code == 0, (result.stderr, result.exception)
        return result

    return run


@pytest.fixture
def refused(nvc: Run, tmp_path: Path) -> Callable[..., str]:
    """Run `nvc` and expect exit code 1, one line on stderr, and no file more than before; returns the line."""

    def run(*arguments: object, input: bytes | None = None) -> str:
        before = sorted(tmp_path.iterdir())
        result = nvc(*arguments, input=input)
        assert result.exit_code == 1, (result.exit_code, result.stderr, result.exception)
        assert isinstance(result.exception, SystemExit), "anything else would be a traceback"
        assert sorted(tmp_path.iterdir()) == before
        (line,) = result.stderr.splitlines()
        assert line.startswith("nvc: ")
        return line

    return run


def pictures(width: int, height: int, frames: int) -> Iterator[Frame]:
    """A smooth pattern that moves."""
    for t in range(frames):
        planes = []
        for plane, scale in enumerate((1, 2, 2)):
            rows = scale * np.arange(-(-height // scale))[:, None] + 3 * t
            columns = scale * np.arange(-(-width // scale)) - 2 * t
            wave = np.sin(rows / (5 + plane)) + np.cos(columns / (4 + plane)) + np.sin((rows + 2 * columns) / 9)
            planes.append((128 + 40 * wave).clip(0, 255).astype(np.uint8))
        yield Frame(*planes)


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """(width, height, frames, suffix) -> a clip at 25 frames per second; the same file for the same arguments."""
    folder = tmp_path_factory.mktemp("clips")

    def make(width: int = 48, height: int = 32, frames: int = 3, suffix: str = ".y4m") -> Path:
        path = folder / f"{frames}frames_{width}x{height}_25{suffix}"
        if not path.exists():
            with open_writer(str(path), VideoInfo(width, height, Fraction(25))) as writer:
                for frame in pictures(width, height, frames):
                    writer.write(frame)
        return path

    return make


@pytest.fixture(scope="session")
def stream(clip: Callable[..., Path], model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four frames of 48x32 as a stream: one keyframe, then P-frames."""
    target = tmp_path_factory.mktemp("streams") / "four.nvc"
    result = CliRunner().invoke(main, ["encode", str(clip(frames=4)), "-o", str(target), "--model", model])
    assert result.exit_code == 0, result.stderr
    return target
