"""Vector fields: (B, 3, H/8, W/8) int32; vertical and horizontal displacement in quarter luma samples, and an age.

There is one for each 8×8 block, which points to where its content was in a picture decoded before: the previous one at age
0, the one before that at age 1, and so on. Displacements of different ages are compared as velocities, in integers.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic

from models.arrays import Values, joined

if TYPE_CHECKING:
    from torch import Tensor

REFERENCES = 8
"""Pictures that vectors can point to."""

UNIT = math.lcm(*range(1, REFERENCES + 1))
"""Velocities are in this part of a quarter sample a frame, so that they are integers for every age."""

LIMIT = 1 << 15
"""Displacements have 16 bits, whatever a damaged stream may hold."""


def velocity(field: Values) -> Values:
    """Displacement by frame: (..., 3, h, w) -> (..., 2, h, w), in 1/UNIT quarter samples."""
    return field[..., :2, :, :] * (UNIT // (field[..., 2:, :, :] + 1))


def displacement(speed: Values, age: Values) -> Values:
    """How far what moves at these velocities (B, 2, h, w) has come since pictures of these ages (B, 1, h, w), rounded half up: (B, 2, h, w)."""
    return ((speed * (age + 1) + UNIT // 2) // UNIT).clip(-LIMIT, LIMIT - 1)


def displaced(speed: Values, age: Values) -> Values:
    """Vectors of these ages (B, 1, h, w) that move at these velocities (B, 2, h, w): (B, 3, h, w)."""
    return joined([displacement(speed, age), age], 1)


@dataclass(frozen=True)
class Prediction(Generic[Values]):
    """What vectors are predicted to be."""

    speed: Values  # (B, 2, h, w) velocities
    age: Values  # (B, 1, h, w)

    @property
    def vectors(self) -> Values:
        """(B, 3, h, w)."""
        return displaced(self.speed, self.age)

    def difference(self, vectors: Values) -> Values:
        """What vectors (..., B, 3, h, w) differ from the prediction, their displacements from the predicted ones at their age."""
        age = vectors[..., 2:, :, :]
        return joined([vectors[..., :2, :, :] - displacement(self.speed, age), age - self.age], -3)


def still(like: "Tensor") -> "Tensor":
    """A field without motion for features (B, C, H/8, W/8) of a picture."""
    return like.new_zeros(like.shape[0], 3, *like.shape[2:]).int()
