"""Scene cuts: a first look at each source picture, before it is coded.

Where the picture before, moved block by block, is as bad a prediction as the mean of each block, there is nothing to predict from.
Fades and noise do that for many pictures in a row, so a cut must also be a sudden change for the worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from models.arrays import Array
from models.compiled.pictures import grown
from models.kernels import cuts
from models.kernels.threads import spread
from models.presets import aligned
from models.stages import staged

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

LEAST = 1 << 18
"""Samples that are worth a thread of their own."""


@dataclass(frozen=True)
class Glance:
    """What is seen of a picture before it is coded."""

    activity: float  # mean absolute difference of samples to the one beside plus to the one below, in grey levels
    cut: bool  # a scene begins here


class Lookout:
    """Looks at pictures in order of display. The first begins a scene."""

    def __init__(self) -> None:
        self.last: Array | None = None
        self.ratio = math.inf  # of the last one's prediction error to its texture; nothing is a jump from the first

    @staged("scene cuts")
    def __call__(self, luma: Array) -> Glance:
        """Of a picture's luma, uint8 (H, W)."""
        luma = grown(luma, aligned(luma.shape[0]), aligned(luma.shape[1]), np.uint8)
        activity, last, self.last = _activity(luma), self.last, _reduced(luma)
        if last is None:
            return Glance(activity, True)
        texture = _texture(self.last) + FLOOR
        # Below this error nothing is a cut, nor decides whether the next picture is one.
        before, self.ratio = self.ratio, _prediction_error(self.last, last, CUT / JUMP * texture) / texture
        return Glance(activity, self.ratio > max(CUT, JUMP * before))


def _activity(luma: Array) -> float:
    height, width = luma.shape
    parts: list[Array] = []

    def some(first: int, last: int) -> None:
        sums = np.zeros(2, np.int64)
        cuts.steps(first, last, luma, sums)
        parts.append(sums)

    spread(height, some, LEAST // width + 1)
    across, down = np.sum(parts, 0)
    return float(across / (height * (width - 1)) + down / ((height - 1) * width))


def _reduced(luma: Array) -> Array:
    """Halved until the smaller side is below `SIDE`: (H, W) -> (H', W')."""
    height, width = luma.shape
    side = 2 ** max(0, (min(height, width) // SIDE).bit_length())
    out = np.empty((height // side, width // side), np.float32)
    spread(len(out), lambda first, last: cuts.reduced(first, last, luma, side, out), LEAST // (side * width) + 1)
    return out


def _blocks(picture: Array) -> Array:
    """Whole blocks of a picture: (H', W') -> (h, BLOCK, w, BLOCK)."""
    rows, columns = (size // BLOCK for size in picture.shape)
    return picture[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK)


def _texture(picture: Array) -> float:
    """Mean absolute difference of samples to the mean of their block."""
    blocks = _blocks(picture)
    return float(np.abs(blocks - blocks.mean((1, 3), keepdims=True)).mean())


def _prediction_error(picture: Array, last: Array, enough: float) -> float:
    """Mean absolute error of blocks that are each predicted from the best place in the last picture, made as bright as this one; or any below `enough`."""
    past = np.pad(last - last.mean() + picture.mean(), RADIUS, mode="edge")
    least, mean = np.full([size // BLOCK for size in picture.shape], np.inf, np.float32), math.inf
    for down in sorted(range(2 * RADIUS + 1), key=lambda down: abs(down - RADIUS)):
        cuts.match(picture, past, down, BLOCK, least)
        mean = float(least.mean())
        if mean <= enough:
            break
    return mean
