"""Pictures for the networks' tests."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from models.picture import Planes


def _texture(height: int, width: int, seed: int) -> torch.Tensor:
    """Integers 0..255 with detail at several scales, (1, 1, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros(1, 1, height, width)
    for cell, amplitude in ((16, 60.0), (8, 50.0), (4, 30.0)):
        noise = torch.randn(1, 1, height // cell + 2, width // cell + 2, generator=generator)
        out += amplitude * F.interpolate(noise, scale_factor=cell, mode="bicubic")[..., :height, :width]
    return (128 + out).round().clamp(0, 255)


@pytest.fixture(scope="session")
def texture() -> Callable[..., torch.Tensor]:
    """(height, width, seed) -> a plane of integers (1, 1, H, W)."""
    return lambda height, width, seed=0: _texture(height, width, seed)


@pytest.fixture(scope="session")
def moving() -> Callable[..., list[Planes]]:
    """(height, width, frames) -> a texture that moves by two samples a frame, down and to the left."""

    def make(height: int, width: int, frames: int) -> list[Planes]:
        far = 2 * frames
        y, u, v = (_texture(height + far, width + far, seed) for seed in (1, 2, 3))

        def at(t: int) -> Planes:
            top, left = far - 2 * t, 2 * t
            luma = y[..., top : top + height, left : left + width]
            return Planes(luma, *(c[..., top // 2 :, left // 2 :][..., : height // 2, : width // 2] for c in (u, v)))

        return [at(t) for t in range(frames)]

    return make
