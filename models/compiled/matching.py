"""Block matching: what `models.search` tells of, with the same candidates, over all blocks at once."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from models.arrays import Array
from models.kernels import matching
from models.kernels.threads import spread
from models.kernels.windows import SLACK
from models.plan import RING, STEPS, Plan
from models.steps import CodedStep
from models.taps import LUMA_TAPS
from models.vectors import displaced, velocity

LEAST = 4
"""Rows of blocks that are worth a thread of their own."""


def fill_phases(plane: Array, out: Array) -> None:
    """A plane of 8 bits (H, W) float32 at all quarter-sample positions, with a margin around it: (16, H + 2·MARGIN, W + 2·MARGIN) uint8."""
    rest = plane, np.array(LUMA_TAPS, np.float32), matching.MARGIN, out
    spread(out.shape[1], lambda first, last: matching.phases(first, last, *rest), 16 * LEAST)


class Matching:
    """One picture that vectors are wanted for, and those that they point to.

    Args:
        current: luma (H, W) float32 of 8 bits.
        newest: the decoded picture before it, (H, W).
        planes: pictures at all quarter-sample positions, (N, 16, H + 2·MARGIN, W + 2·MARGIN) uint8.
        order: which of these is the picture of each age, int32.
        multiplier: the Lagrangian.
        plan: what to try.
    """

    def __init__(self, current: Array, newest: Array, planes: Array, order: Array, multiplier: float, plan: Plan):
        self.current, self.newest = (np.ascontiguousarray(plane) for plane in (current, newest))
        self.planes, self.order, self.plan = planes, order, plan
        self.rings = np.array(RING, np.int32), np.array(plan.ring, np.int32)  # moves around vectors of 16×16 and of 8×8 blocks, (M, 2)
        around = matching.OVERLAP
        self.framed = np.pad(current.astype(np.uint8), ((around, around), (around, around + SLACK)), mode="edge")
        self.multiplier = np.float32(multiplier)

    def coarse(self, reach: int) -> Array:
        """Full search at a quarter of the resolution: vectors (3, H/16, W/16)."""
        height, width = self.current.shape
        radius = reach // 4
        small, past = (np.empty((height // 4 + 2 * around, width // 4 + 2 * around), np.float32) for around in (0, radius))
        matching.quarter(self.current, 0, small)
        matching.quarter(self.newest, radius, past)
        field = np.zeros((3, height // 16, width // 16), np.int32)
        rest = small, past, radius, field[:2]
        spread(field.shape[1], lambda first, last: matching.coarse(first, last, *rest), LEAST)
        return field * np.int32(16)

    def refine(self, field: Array, extra: Sequence[Array] = (), steps: Sequence[int] = (), followed: bool = False, rough: bool = False) -> Array:
        """The best of the field (3, h, w), of what neighbours tell, if `followed`, of the extra candidates, and of rings of shrinking size around that."""
        size = self.current.shape[0] // field.shape[1]
        out, ring = np.empty_like(field), self.rings[size == 8]
        offered = np.stack(extra) if extra else np.empty((0, *field.shape), np.int32)
        rest = (
            self.planes, self.order, self.framed, size, field, offered, followed, ring, np.array(steps, np.int64),
            self.multiplier, rough, _logarithms(), out,
        )  # fmt: skip
        spread(field.shape[1], lambda first, last: matching.refine(first, last, *rest), LEAST)
        return out

    def match(self, previous: Array, reach: int, ages: Iterable[int]) -> Array:
        """Vectors (3, H/8, W/8), also in older pictures of some ages; `previous` are those of the frame before."""
        plan, field = self.plan, self.coarse(reach)
        past = velocity(previous[None, :, ::2, ::2])
        for _ in range(plan.sweeps):  # the coarse search is noise where nothing is to be seen: let it follow its neighbours
            field = self.refine(field, [np.zeros_like(field), _at(past, 0)], followed=True, rough=True)
        newest = field = self.refine(field, steps=plan.large, rough=True)
        found: list[Array] = []  # in older pictures
        for age in ages:
            start = _at(velocity(field[None]), age)
            extra = [past, np.zeros_like(past), *(velocity(last[None]) for last in found[-1:])]
            found.append(self.refine(start, [_at(speed, age) for speed in extra], plan.older, rough=True))
        field = self.refine(field, found)
        if found:
            field = self.refine(field, followed=True)
        field, *others = (f.repeat(2, 1).repeat(2, 2) for f in (field, newest, *found))
        candidates = [*(np.roll(field, shift, axis) for shift in (2, -2) for axis in (1, 2)), previous]
        field = self.refine(field, candidates + (others if found else []), plan.small, rough=True)
        for _ in range(plan.passes):
            field = self.refine(field, followed=True)
        return field

    def settle(self, field: Array, errors: Callable[[Array], Array]) -> None:
        """Offer every vector of the field those around it, and small moves, by errors as overlapped compensation makes them.

        `errors` tells those of a field, (H + block, W + block), with zeros around them.
        """
        for parity in range(4):  # windows of one turn's blocks do not overlap
            known, ring, steps = (errors(field), field.copy()), np.array(RING, np.int32), np.array(STEPS)
            rest = (parity, self.planes, self.order, self.framed, *known, ring, steps, self.multiplier, _logarithms(), field)

            def some(first: int, last: int, rest: tuple[Any, ...] = rest) -> None:
                matching.settle(first, last, *rest)

            spread(field.shape[1], some, LEAST)

    def prune(self, field: Array, steps: Iterable[CodedStep], price: float, errors: Callable[[Array], Array] | None = None) -> None:
        """Go through the field as it will be coded, and take the prediction, or a vector near, where the better vector is not worth its bits.

        `errors` is as for `settle`, where overlap is looked at.
        """
        for step in steps:
            fields, where = step.offers, step.cells.where
            worth = np.empty((len(fields), fields.shape[2]), np.float32)
            if errors:
                kernel: Callable[..., None] = matching.overlapped_errors
                rest = self.planes, self.order, self.framed, errors(field), where, fields, *field.shape[1:], self.multiplier, worth
            else:
                kernel = matching.errors
                rest = self.planes, self.order, self.framed, where, fields, field.shape[2], self.multiplier, worth

            def some(first: int, last: int, kernel: Callable[..., None] = kernel, rest: tuple[Any, ...] = rest) -> None:
                kernel(first, last, *rest)

            spread(len(where), some, 64 * LEAST)
            matching.choose(where, fields, worth, step.bits(fields), np.float32(price), field.reshape(3, -1))


def _at(speed: Array, age: int) -> Array:
    """Vectors of one age that move at these velocities: (1, 2, h, w) -> (3, h, w)."""
    return displaced(speed, np.full_like(speed[:, :1], age))[0]


@lru_cache(maxsize=1)
def _logarithms() -> Array:
    return np.log2(1 + np.arange(1 << 12)).astype(np.float32)
