"""Scene cuts: a first look at each source picture, before it is coded.

Where the picture before, moved block by block, is as bad a prediction as the mean of each block, there is nothing to predict from.
Fades and noise do that for many pictures in a row, so a cut must also be a sudden change for the worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 96
"""Cuts are looked for in reduced pictures, whose smaller side is below this many samples."""

BLOCK = 8
"""Side of blocks, in samples of the reduced picture."""

RADIUS = 12
"""Largest displacement, in samples of the reduced picture."""

CUT, JUMP = 0.8, 1.5
"""A cut has an error of this many times the texture, and this many times as much, in proportion, as the picture before."""

FLOOR = 1.0
"""Texture of noise that does not matter, in grey levels."""


@dataclass(frozen=True)
class Glance:
    """What is seen of a picture before it is coded."""

    activity: float  # mean absolute difference of samples to the one beside plus to the one below, in grey levels
    cut: bool  # a scene begins here


class Lookout:
    """Looks at pictures in order of display. The first begins a scene."""

    def __init__(self) -> None:
        self.last: Tensor | None = None
        self.ratio = math.inf  # of the last one's prediction error to its texture; nothing is a jump from the first

    def __call__(self, luma: Tensor) -> Glance:
        """Of an aligned picture's luma, (1, 1, H, W)."""
        activity, last, self.last = _activity(luma), self.last, _reduced(luma)
        if last is None:
            return Glance(activity, True)
        texture = _texture(self.last) + FLOOR
        # Below this error nothing is a cut, nor decides whether the next picture is one.
        before, self.ratio = self.ratio, _prediction_error(self.last, last, CUT / JUMP * texture) / texture
        return Glance(activity, self.ratio > max(CUT, JUMP * before))


def _activity(luma: Tensor) -> float:
    return float((luma[..., 1:] - luma[..., :-1]).abs().mean() + (luma[..., 1:, :] - luma[..., :-1, :]).abs().mean())


def _reduced(luma: Tensor) -> Tensor:
    """Halved until the smaller side is below `SIDE`: (1, 1, H, W) -> (H', W')."""
    return F.avg_pool2d(luma, 2 ** max(0, (min(luma.shape[2:]) // SIDE).bit_length()))[0, 0]


def _texture(picture: Tensor) -> float:
    """Mean absolute difference of samples to the mean of their block."""
    blocks = picture.unfold(0, BLOCK, BLOCK).unfold(1, BLOCK, BLOCK)
    return float((blocks - blocks.mean((2, 3), keepdim=True)).abs().mean())


def _prediction_error(picture: Tensor, last: Tensor, enough: float) -> float:
    """Mean absolute error of blocks that are each predicted from the best place in the last picture, made as bright as this one; or any below `enough`."""
    height, width = picture.shape
    last = last - last.mean() + picture.mean()
    past = F.pad(last[None, None], (RADIUS,) * 4, mode="replicate")[0, 0]
    least, mean = torch.full((), math.inf), math.inf
    for down in sorted(range(2 * RADIUS + 1), key=lambda down: abs(down - RADIUS)):
        moved = past[down : down + height].unfold(1, width, 1).transpose(0, 1)  # (displacements across, H', W')
        least = torch.minimum(least.to(picture.device), F.avg_pool2d((moved - picture).abs()[:, None], BLOCK).amin(0))
        mean = float(least.mean())
        if mean <= enough:
            break
    return mean
