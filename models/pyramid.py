"""The order in which the vectors of a field are coded: every eighth block, then those in between, level by level."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Generic

import numpy as np

from models.arrays import Array, Values

LEVELS = (8, 4, 2, 1)

NEAR = 5
"""Vectors that one is predicted from."""


@dataclass(frozen=True)
class Cells(Generic[Values]):
    """Blocks whose vectors are predicted together, by their numbers in raster order."""

    kind: int  # which estimator is theirs: level and pattern
    where: Values  # (n,)
    around: Values  # (4·n,) their decoded neighbours, one direction after the other; none on the highest level
    ends: tuple[int, ...]  # of parts of `where`; symbols of one part follow those of another


@lru_cache(maxsize=8)
def order(height: int, width: int) -> tuple[Cells[Array], ...]:
    """The steps in which a field of this size is coded."""
    number = np.arange(height * width).reshape(height, width)

    def cells(kind: int, grid: Array, *parts: tuple[int, int, tuple[tuple[int, int], ...]]) -> Cells[Array]:
        """Every second block of a grid from the given row and column on, with neighbours at the given offsets; these are reflected at the border."""
        where, around = [], []
        for row, column, offsets in parts:
            rows, columns = (np.arange(first, size, 2) for first, size in zip((row, column), grid.shape))
            where.append(grid[np.ix_(rows, columns)].reshape(-1))
            beside = [np.ix_(_reflected(rows + down, len(grid)), _reflected(columns + right, grid.shape[1])) for down, right in offsets]
            around.append(np.stack([grid[places].reshape(-1) for places in beside]))
        inside, near = (np.ascontiguousarray(np.concatenate(arrays, -1)).reshape(-1) for arrays in (where, around))
        return Cells(kind, inside, near, tuple(np.cumsum([len(part) for part in where]).tolist()))

    top = np.ascontiguousarray(number[:: LEVELS[0], :: LEVELS[0]]).reshape(-1)
    steps = [Cells(0, top, top[:0], (len(top),))]
    for level, s in enumerate(LEVELS[1:]):
        grid = number[::s, ::s]
        tall, wide = (size > 1 for size in grid.shape)  # are there odd rows, odd columns?
        if tall and wide:
            steps.append(cells(1 + 2 * level, grid, (1, 1, ((-1, -1), (-1, 1), (1, -1), (1, 1)))))
        upright, flat = ((-1, 0), (1, 0)), ((0, -1), (0, 1))
        plus = (*(upright if tall else flat), *(flat if wide else upright))
        crosses = [(row, column, plus) for row, column, exists in ((1, 0, tall), (0, 1, wide)) if exists]
        if crosses:
            steps.append(cells(2 + 2 * level, grid, *crosses))
    return tuple(steps)


def _reflected(places: Array, size: int) -> Array:
    return np.where(places < 0, 1, np.where(places >= size, size - 2, places))
