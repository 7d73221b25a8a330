"""What happens between convolutions, in one pass each. Arrays are (n, C): places, then channels.

A stream tensor is in float32, a multiple of 2^-12; an activation is a byte, its distance from the smallest one.
"""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.kernels.arithmetic import UNIT, grid


@helper
def _clamped(value, low, high):
    return min(max(value, low), high)


@kernel("void(f4[:,::1], f4[::1], f4[::1], f4, f4[:,::1], f4[:,::1])")
def prior(parameters: Array, step: Array, offset: Array, limit: float, mean: Array, scale: Array) -> None:
    """From parameters (n, 2·N): means in quantisation steps, multiples of 2^-6 up to `limit`; and scales, with their offset."""
    channels = len(step)
    for n in range(len(mean)):
        first, second = parameters[n, :channels], parameters[n, channels:]
        for c in range(channels):
            mean[n, c] = _clamped(np.rint(grid(first[c]) * step[c] * np.float32(64)) * np.float32(1 / 64), -limit, limit)
            scale[n, c] = grid(second[c]) + offset[c]


@kernel("void(i2[:,::1], f4[:,::1])")
def numbers(steps: Array, out: Array) -> None:
    """Steps of a stream, whose channels may be padded, as floats."""
    for n in range(len(out)):
        for c in range(out.shape[1]):
            out[n, c] = np.float32(steps[n, c]) * UNIT
