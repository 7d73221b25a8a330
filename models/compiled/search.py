"""Motion search on a processor, the encoder's own business: any vectors decode. `models/search.py` has the same in PyTorch, and tells what vectors cost."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from models.arrays import Array
from models.compiled.matching import Matching, fill_phases
from models.compiled.pictures import Luma, compensate_luma
from models.kernels.matching import MARGIN
from models.kernels.windows import SLACK
from models.plan import OVERLAPS_BELOW, PRICE, THOROUGH, Plan
from models.presets import lagrangian
from models.steps import CodedStep, guessed_steps

HALF = 4
"""Luma samples by which the window of a block reaches beyond it where compensation overlaps."""

LARGEST = 1 << 30
"""Bytes that references take at most."""


class Slots:
    """Which pictures lie where in memory that has room for some, so that those of the call before are not made anew.

    Args:
        count: for how many there is room.
    """

    def __init__(self, count: int):
        self.held: list[Any] = [None] * count
        self.recent = list(range(count))  # the one last used at the end

    def __len__(self) -> int:
        return len(self.held)

    def update(self, pictures: Sequence[Any]) -> tuple[list[int], list[int]]:
        """Hold these, no more than there is room for, in the place of others that were not used for longest. Returns where each is, and those of them that are new."""
        new = []
        for picture in pictures:
            if not any(known is picture for known in self.held):
                free = next(k for k in self.recent if not any(self.held[k] is other for other in pictures))
                self.held[free] = picture
                new.append(free)
        order = [next(k for k, known in enumerate(self.held) if known is picture) for picture in pictures]
        self.recent = [k for k in self.recent if k not in order] + order[::-1]
        return order, new


class References:
    """Pictures at all quarter-sample positions, from which blocks are read.

    Args:
        count: how many pictures at most; fewer where they would take over a gigabyte.
    """

    def __init__(self, count: int):
        self.count, self.slots = count, Slots(0)
        self.planes = np.empty((0, 16, 0, 0), np.uint8)  # (N, 16, H + 2·MARGIN, W + 2·MARGIN)

    def update(self, pictures: Sequence[Luma]) -> Array:
        """Hold these, the newest first, or as many of them as there is room for; border samples repeat. Returns the place among `planes` of each, int32."""
        height, width = pictures[0].samples.shape
        shape = 16, height + 2 * MARGIN, width + 2 * MARGIN
        if self.planes.shape[1:] != shape:
            size = int(np.prod(shape))
            count = max(1, min(self.count, LARGEST // size))
            self.planes = np.empty(count * size + SLACK, np.uint8)[: count * size].reshape(count, *shape)
            self.slots = Slots(count)
        order, new = self.slots.update(pictures[: len(self.slots)])
        for place in new:
            fill_phases(self.slots.held[place].samples, self.planes[place])
        return np.array(order, np.int32)


class Search:
    """Finds the vectors of a frame.

    Args:
        reach: largest displacement of the coarse search, in luma samples.
        plan: what to try.
        references: how many pictures to search.
    """

    def __init__(self, reach: int = 48, plan: Plan = THOROUGH, references: int = 4):
        self.reach, self.plan = reach, plan
        self.references = References(references)

    def __call__(
        self,
        current: Array,
        pictures: Sequence[Luma],
        previous: Array,
        rate: float,
        priced: Callable[[Array], Iterable[CodedStep]] | None = None,
        older: Sequence[int] | None = None,
    ) -> Array:
        """Vectors (3, H/8, W/8) int32 that predict luma (H, W) of 8 bits from earlier pictures.

        Args:
            pictures: the newest first.
            previous: vectors of the frame before, for temporal candidates.
            rate: the rate point; low qualities get smoother vectors.
            priced: the steps of coding a field, which know what vectors cost; without it, or by a plan that is not priced, that is guessed.
            older: ages of the pictures that are searched beside the newest; by default all.
        """
        order = self.references.update(pictures)
        ages = [age for age in range(1, len(order)) if older is None or age in older]
        matching = Matching(current, pictures[0].samples, self.references.planes, order, lagrangian(rate), self.plan)
        field, errors = matching.match(previous, self.reach, ages), None
        if self.plan.overlaps and rate < OVERLAPS_BELOW:
            errors = partial(overlapped_errors, current, pictures[: len(order)])
            for _ in range(self.plan.overlaps):
                matching.settle(field, errors)
        steps = priced(field) if priced and self.plan.priced else guessed_steps(field, previous)
        matching.prune(field, steps, PRICE, errors)
        return field


def overlapped_errors(current: Array, pictures: Sequence[Luma], field: Array) -> Array:
    """The errors of overlapped compensation, with zeros around them: luma (H, W) -> (H + 2·HALF, W + 2·HALF)."""
    return np.pad(current - compensate_luma([picture.bordered for picture in pictures], field), HALF)
