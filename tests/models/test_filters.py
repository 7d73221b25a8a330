"""The enhancer: kernels do what the plainest formula says, each on its own block, and nothing is changed before anything is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from models.filters import CHROMA_RING, LUMA_RING, Enhancer, smoothing
from models.picture import Planes
from models.presets import PRESETS

RATE, NEXT = torch.tensor([37]), torch.tensor([31])


def planes(height: int, width: int, seed: int = 0) -> Planes:
    random = np.random.default_rng(seed)
    sizes = ((height, width), *[(height // 2, width // 2)] * 2)
    return Planes(*(torch.from_numpy(random.integers(0, 256, (1, 1, *size))).float() for size in sizes))


def parts(picture: Planes) -> tuple[Tensor, Tensor, Tensor]:
    return picture.y, picture.u, picture.v


def plain(plane: np.ndarray, kernels: np.ndarray, limit: float, ring: tuple[tuple[int, int], ...]) -> np.ndarray:
    """What kernels (K, h, w) add to a plane (H, W), sample by sample."""
    height, width = plane.shape
    block = height // kernels.shape[1]
    out = np.zeros_like(plane)
    for row, column in np.ndindex(height, width):
        for kernel, (down, right) in zip(kernels[:, row // block, column // block], ring, strict=True):
            for sign in (1, -1):
                near = plane[min(max(row + sign * down, 0), height - 1), min(max(column + sign * right, 0), width - 1)]
                out[row, column] += kernel * min(max(near - plane[row, column], -limit), limit)
    return out


@pytest.mark.parametrize("ring, block", [(LUMA_RING, 8), (CHROMA_RING, 4)])
@pytest.mark.parametrize("rows, columns", [(1, 2), (3, 5)])
def test_smoothing_is_the_plain_formula(ring: tuple[tuple[int, int], ...], block: int, rows: int, columns: int) -> None:
    random = np.random.default_rng(rows)
    plane, kernels = random.uniform(0, 255, (rows * block, columns * block)), random.uniform(-0.2, 0.2, (len(ring), rows, columns))
    got = smoothing(torch.from_numpy(plane)[None, None], torch.from_numpy(kernels)[None], torch.tensor(40.0).view(1, 1, 1, 1), ring)
    assert np.allclose(got[0, 0].numpy(), plain(plane, kernels, 40.0, ring), atol=1e-9)


@torch.no_grad()
def test_the_identity_at_first() -> None:
    picture = planes(24, 40)
    better = Enhancer(PRESETS["tiny"])(picture, torch.randn(1, 96, 3, 5), planes(24, 40, 1), RATE, NEXT)
    for before, after in zip(parts(picture), parts(better)):
        assert torch.allclose(before, after, atol=1e-4)


@torch.no_grad()
def test_belief_takes_over_the_next_picture_up_to_a_limit() -> None:
    enhancer, picture = Enhancer(PRESETS["tiny"]), planes(16, 16)
    enhancer.trust.bias.fill_(4.0)  # all of it
    near, far = (Planes(*(plane + step for plane in parts(picture))) for step in (20.0, 50.0))
    for following, change in ((near, 20.0), (far, 32.0)):
        better = enhancer(picture, torch.zeros(1, 96, 2, 2), following, RATE, NEXT)
        assert all(torch.allclose(after - before, torch.tensor(change), atol=1e-3) for before, after in zip(parts(picture), parts(better)))


def test_all_its_layers_learn() -> None:
    torch.manual_seed(0)
    enhancer, picture, following = Enhancer(PRESETS["tiny"]), planes(16, 32), planes(16, 32, 1)
    with torch.no_grad():
        for parameter in enhancer.parameters():  # its blocks begin as the identity, too
            parameter.add_(0.01 * torch.randn_like(parameter))
    better = enhancer(picture, torch.randn(1, 96, 2, 4), following, RATE, NEXT)
    sum(plane.square().mean() for plane in parts(better)).backward()
    assert not [name for name, p in enhancer.named_parameters() if p.grad is None or not p.grad.any()]
