"""Refined symbols cost less, and are still symbols."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from models.arrays import Array
from models.bits import laplace_bits, scale_index
from models.bridge import arrays, tensor
from models.latent import Prior
from models.picture import Planes, to_planes
from models.presets import lagrangian
from models.quality import distortion
from models.refinement import Refinement

RATE = torch.tensor([24])


def drawn() -> tuple[Planes, Prior, torch.Generator]:
    """A picture of noise, and a prior that takes most symbols for zeros; the last rows are not coded."""
    generator = torch.Generator().manual_seed(5)
    y, u, v = (128 + 20 * torch.randn(1, 1, *size, generator=generator) for size in ((32, 48), (16, 24), (16, 24)))
    scale = torch.zeros(1, 96, 4, 6)
    scale[:, :, 3] = -9.0
    return Planes(y, u, v), Prior(0.3 * torch.randn(1, 96, 4, 6, generator=generator), scale), generator


def synthesise(values: Tensor) -> Planes:
    return to_planes(values / 12)


def refined(refinement: Refinement, symbols: Tensor, prior: Prior, picture: Planes) -> Tensor:
    """By gradients that PyTorch finds."""

    def judge(values: Array, multiplier: float) -> tuple[float, Callable[[], Array]]:
        with torch.inference_mode(False), torch.enable_grad():
            x = tensor([values]).requires_grad_()
            error = multiplier * distortion(synthesise(x), picture).sum()
        return float(error.detach()), lambda: arrays(torch.autograd.grad(error, x)[0])[0]

    tables = arrays(scale_index(prior.scale))[0].astype(np.int32)
    better = refinement(arrays(symbols)[0], arrays(prior.mean)[0], tables, int(RATE), picture.y.numel(), judge)
    return tensor([better.astype(np.float32)])


def cost(symbols: Tensor, prior: Prior, picture: Planes) -> float:
    error = distortion(synthesise(symbols + prior.mean), picture).sum() * lagrangian(float(RATE)) * picture.y.numel()
    return float(error + laplace_bits(symbols, prior.scale)[:, :, :3].sum())


def test_they_cost_less() -> None:
    picture, prior, generator = drawn()
    symbols = torch.randint(-1, 2, prior.mean.shape, generator=generator).float()
    symbols[:, :, 3] = 0
    costs = [cost(refined(Refinement(tries), symbols, prior, picture), prior, picture) for tries in (1, 4, 16)]
    blind = cost(refined(Refinement(1, blind=True), symbols, prior, picture), prior, picture)
    assert costs[2] < costs[1] < costs[0] == pytest.approx(cost(symbols, prior, picture)) and blind < costs[0]


def test_they_are_integers_and_none_appears_where_none_is_coded() -> None:
    picture, prior, _ = drawn()
    better = refined(Refinement(8), torch.zeros_like(prior.mean), prior, picture)
    assert torch.equal(better, better.round()) and better.any() and not better[:, :, 3].any()


def test_where_the_error_counts_more_it_gets_smaller() -> None:
    picture, prior, _ = drawn()
    errors = [
        float(distortion(synthesise(refined(Refinement(16, weight), torch.zeros_like(prior.mean), prior, picture) + prior.mean), picture))
        for weight in (0.2, 1.0, 5.0)
    ]
    assert errors[2] < errors[1] < errors[0]
