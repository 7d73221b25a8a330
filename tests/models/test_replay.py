from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models import replay
from models.replay import MOST, recorded
from tests.pretended import PretendedGpu, pretended_gpu


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    with pretended_gpu(monkeypatch) as gpu, torch.inference_mode():
        yield gpu
    replay.forget()


class Line:
    """y = factor · x + shift, and how often it was asked for in Python."""

    def __init__(self, factor: float) -> None:
        self.factor, self.calls = factor, 0

    @recorded
    def __call__(self, x: Tensor, shift: float) -> tuple[Tensor, Tensor]:
        self.calls += 1
        return (x * self.factor).add_(shift), x.flip(0)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, device="cuda", dtype=torch.float32)


def test_work_is_recorded_once_for_each_shape_and_gives_what_it_would_give(gpu: PretendedGpu) -> None:
    line = Line(3)
    results = [line(numbers(k, k + 1), 0.5) for k in range(6)]
    assert line.calls == 3 and [graph.replays for graph in gpu.graphs] == [4]
    for k, (y, turned) in enumerate(results):  # none of them is memory that a later call writes to
        assert y.tolist() == [3 * k + 0.5, 3 * k + 3.5] and turned.tolist() == [k + 1, k]
    for _ in range(4):
        assert line(numbers(1, 2, 3), 0.5)[0].tolist() == [3.5, 6.5, 9.5]
        assert line(numbers(1, 2), 1.5)[0].tolist() == [4.5, 7.5]
        assert Line(2)(numbers(1, 2), 0.0)[0].tolist() == [2, 4]
    assert len(gpu.graphs) == 3


def test_elsewhere_it_is_called_as_it_is(gpu: PretendedGpu) -> None:
    line = Line(3)
    for _ in range(4):
        assert line(torch.tensor([1.0]), 0.5)[0].tolist() == [3.5]
        with torch.inference_mode(False):
            assert line(torch.tensor([1.0], device="cuda"), 0.5)[0].tolist() == [3.5]
    assert line.calls == 8 and not gpu.graphs


def test_one_recording_holds_another(gpu: PretendedGpu) -> None:
    line = Line(2)

    @recorded
    def twice(x: Tensor) -> Tensor:
        y: Tensor = line(line(x, 1.0)[0], 1.0)[0]
        return y

    assert [twice(numbers(k))[0].item() for k in range(5)] == [4 * k + 3 for k in range(5)]
    assert len(gpu.graphs) == 1


def test_weights_that_change_are_recorded_anew(gpu: PretendedGpu) -> None:
    line = Line(3)
    for _ in range(4):
        line(numbers(1), 0.0)
    line.factor = 5
    assert line(numbers(1), 0.0)[0].tolist() == [3]
    replay.forget()
    assert line(numbers(1), 0.0)[0].tolist() == [5]


def test_the_oldest_of_many_recordings_goes(gpu: PretendedGpu) -> None:
    line = Line(1)
    for size in (1, *range(2, MOST + 2), 1):
        for _ in range(3):
            line(torch.ones(size, device="cuda"), 0.0)
    assert len(gpu.graphs) == MOST + 2


def test_work_that_asks_for_numbers_is_done_without_a_recording(gpu: PretendedGpu) -> None:
    @recorded
    def curious(x: Tensor) -> Tensor:
        return x * float(x.sum())

    with pytest.warns(UserWarning, match="not recorded, and takes longer .item waits for the device"):
        results = [curious(numbers(k, 1)).tolist() for k in range(5)]
    assert results == [[k * (k + 1), k + 1] for k in range(5)] and not any(graph.replays for graph in gpu.graphs)


def test_tensors_of_a_gpu_and_of_the_processor_do_not_mix(gpu: PretendedGpu) -> None:
    with pytest.raises(RuntimeError, match="two devices"):
        numbers(1) + torch.tensor([1.0])
    with pytest.raises(RuntimeError, match="numpy"):
        numbers(1).numpy()
    with pytest.raises(RuntimeError, match="numpy|device"):
        torch.ones(3).to("cuda").permute(0).numpy()
