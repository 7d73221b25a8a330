"""Training in two processes, as torchrun starts them."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from random import Random

import pytest
import torch
from click.testing import CliRunner
from torch.multiprocessing import spawn

from models.clips import Clips
from models.parallel import ALONE, Group, joined
from models.pool import CAPACITY
from models.schedule import SCHEDULES, Stage
from models.training import Settings, Trainer
from nvc_cli.main import main
from tests.conftest import shrink, tick

CPU = torch.device("cpu")
ENHANCER = Stage("enhancer", 1.0, 3, 2, 64, 1.0, exact=True, only="enhancer")


def trained(trainer: Trainer) -> dict:
    """What came out."""
    return {
        "weights": {name: value.clone() for name, value in trainer.codec.state_dict().items()},
        "average": {name: value.clone() for name, value in trainer.average.state_dict().items()},
        "progress": (trainer.progress.steps, trainer.progress.frames, trainer.progress.seconds, trainer.progress.stages),
    }


def train(folder: Path, name: str, group: Group, steps: int = 4, stop_at: int | None = None, pictures: Random | None = None) -> Trainer:
    """Train for so many steps, or up to the one before which this process is asked to stop; with random numbers other than its own, if given."""
    settings = Settings("tiny", minutes=steps / 60, pause=None, checkpoint=folder / f"{name}{group.rank}.ckpt", device=CPU)
    trainer = Trainer(settings, Clips(folder / "videos", CPU), lambda line: None, group=group)
    if pictures:
        trainer.random = pictures
        torch.manual_seed(7)
    trainer.run(stop=lambda: trainer.progress.steps == stop_at)
    return trainer


def process(rank: int, ports: tuple[int, int], folder: Path) -> None:
    """One of the two: its clock, and when it is asked to stop, are not those of the other. Each of two groups meets at a port of its own:
    at the first one's, a process that is early would still find the group that ends."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ports[0])}
    results: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        shrink(patch)
        clock = tick(patch, 1.0 + 2.0 * rank)
        clock.now = 1000.0 * rank
        with joined(CPU) as group:
            results["other crops"] = trained(train(folder, "other", group))
            results["same crops"] = trained(train(folder, "same", group, pictures=Random(5)))
            results["stopped"] = trained(train(folder, "stopped", group, stop_at=1 if rank else None))
            patch.setitem(SCHEDULES, "tiny", (ENHANCER,))
            trainer = train(folder, "enhancer", group, steps=1)
            results["enhancer"] = trained(trainer) | {"room": trainer.pool.items.maxlen if trainer.pool else 0}
            results["averaged"] = averaged(group)
            with pytest.raises(ValueError, match="not all processes see the same checkpoint"):
                settings = Settings("tiny", 4 / 60, None, folder / ("other0.ckpt" if rank else "new.ckpt"), CPU)
                Trainer(settings, Clips(folder / "videos", CPU), lambda line: None, group=group)
            patch.undo()
            shrink(patch)
            tick(patch)
        os.environ["MASTER_PORT"] = str(ports[1])
        results["command"] = command(folder)
    torch.save(results, folder / f"{rank}.pt")


def command(folder: Path) -> tuple[int, str]:
    """nvc train as one of the two: its exit code and all that it said."""
    arguments = ["train", folder / "videos", "-o", folder / "out.safetensors", "--minutes", 1 / 60, "--no-compile", "--device", "cpu", "--log", folder / "log"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def averaged(group: Group) -> list[torch.Tensor | None]:
    """Gradients of 2 and 4, of 2 in the second process alone, and none at all."""
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    parameters[0].grad = torch.full((2,), 2.0 + 2.0 * group.rank)
    parameters[1].grad = torch.full((2,), 2.0) if group.rank else None
    group.average(parameters)
    return [p.grad for p in parameters]


@pytest.fixture
def ports() -> tuple[int, int]:
    """Two that are free."""
    with socket.socket() as one, socket.socket() as other:
        for server in (one, other):
            server.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def test_two_processes_train_one_model(videos: Path, tmp_path: Path, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    spawn(process, (ports, tmp_path), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    for run in ("other crops", "same crops", "stopped", "enhancer"):
        for part in ("weights", "average"):
            assert all(torch.equal(value, second[run][part][name]) for name, value in first[run][part].items()), (run, part)
        assert first[run]["progress"] == second[run]["progress"]
    assert first["other crops"]["progress"] == (4, 2 * (4 + 12), 4.0, {"intra": 8, "short": 24})
    assert first["stopped"]["progress"][0] == 1
    assert first["enhancer"]["room"] == second["enhancer"]["room"] == CAPACITY // 2
    assert sorted(path.name for path in tmp_path.glob("*[01].ckpt")) == ["enhancer0.ckpt", "other0.ckpt", "same0.ckpt", "stopped0.ckpt"]
    for results in (first, second):
        assert [None if gradient is None else gradient.tolist() for gradient in results["averaged"]] == [[3.0, 3.0], [1.0, 1.0], None]

    assert second["command"] == (0, "")
    code, told = first["command"]
    assert code == 0 and "2 processes train together" in told and "the schedule has ended" in told
    assert (tmp_path / "log").read_text() == told and (tmp_path / "out.safetensors").exists()

    shrink(monkeypatch)
    tick(monkeypatch)
    alone = trained(train(tmp_path, "alone", ALONE, pictures=Random(5)))
    same = [torch.equal(value, first["same crops"]["weights"][name]) for name, value in alone["weights"].items()]
    other = [torch.equal(value, first["other crops"]["weights"][name]) for name, value in alone["weights"].items()]
    assert all(same) and not all(other)
