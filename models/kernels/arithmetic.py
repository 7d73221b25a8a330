"""What loops of several files compute alike."""

import numpy as np

from models.kernels import helper
from models.vectors import LIMIT as REACH
from models.vectors import UNIT as VELOCITY

UNIT, STEPS = np.float32(2.0**-12), np.float32(2.0**12)
LIMIT = np.float32(32639)
"""`models.exact.STREAM_LIMIT`, in steps."""


@helper
def steps(value):
    """The nearest number of a stream, in its steps."""
    return min(max(np.rint(value * STEPS), -LIMIT), LIMIT)


@helper
def grid(value):
    """The nearest number of a stream."""
    return steps(value) * UNIT


@helper
def displacement(speed, age):
    """`models.vectors.displacement`, of one component."""
    moved = (speed * (age + 1) + VELOCITY // 2) // VELOCITY
    return max(-REACH, min(REACH - 1, moved))
