"""The pool keeps what a decoder would show, for the enhancer to learn from."""

from __future__ import annotations

from random import Random

import pytest
import torch

from models.codec import Codec
from models.picture import Planes
from models.pool import CAPACITY, Pool


def moving(batch: int, frames: int) -> list[Planes]:
    """Pictures of 32×32 of a texture that moves."""
    texture = torch.rand(batch, 1, 48, 48, generator=torch.Generator().manual_seed(1)).mul(255).round()
    shown = [texture[..., t : t + 32, 2 * t : 2 * t + 32] for t in range(frames)]
    return [Planes(y, y[..., ::2, ::2], y[..., 1::2, 1::2]) for y in shown]


@pytest.fixture(params=["int8", "float32"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A processor's loops, and PyTorch, as on a GPU."""
    monkeypatch.setenv("NVC_BACKEND", request.param)
    return request.param


def test_keeps_all_pictures_but_the_last(codec: Codec, backend: str) -> None:
    pool, pictures = Pool(codec), moving(2, 3)
    rates = torch.tensor([[10, 40], [12, 42], [14, 44]])
    pool.grow(pictures, rates, torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert len(pool.items) == 4 and not codec.exact
    coded = pool.sample(Random(0), 64)
    seen = set(zip(coded.rate.tolist(), coded.following_rate.tolist()))
    assert seen == {(10, 12), (40, 42), (12, 14), (42, 44)}
    for k, rate in enumerate(coded.rate.tolist()):
        place, sample = (rate % 10) // 2, int(rate >= 40)
        assert torch.equal(coded.source.y[k], pictures[place].y[sample])
    assert coded.context.shape == (64, 96, 4, 4) and coded.following.u.shape == (64, 1, 16, 16)
    assert not torch.equal(coded.picture.y, coded.source.y)


def test_the_filter_is_on_by_sample(codec: Codec, backend: str) -> None:
    pictures, rates = moving(2, 3), torch.full((3, 2), 30)
    kept = []
    for flags in ((0.0, 0.0), (1.0, 0.0)):
        pool = Pool(codec)
        pool.grow(pictures, rates, torch.tensor([(0.0, 0.0), flags, flags]))
        kept.append([item[9] for item in pool.items])  # contexts: of two keyframes, then of two P-frames
    same = [torch.equal(a, b) for a, b in zip(*kept)]
    assert same == [True, True, False, True]


def test_the_oldest_make_room(codec: Codec) -> None:
    pool = Pool(codec)
    assert pool.items.maxlen == CAPACITY
    pool.items.extend([[torch.tensor(k)] for k in range(CAPACITY + 1)])
    assert int(pool.items[0][0]) == 1
