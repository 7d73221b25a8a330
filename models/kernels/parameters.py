"""What the entropy parameters of a latent are made of. Arrays are (n, C): places, then channels."""

import numpy as np

from models.arrays import Array
from models.kernels import kernel
from models.kernels.arithmetic import grid


@kernel("void(i8, i8, f4[:,::1], f4[::1], f4[::1], f4, f4[:,::1], f4[:,::1])")
def prior(first: int, last: int, parameters: Array, step: Array, offset: Array, limit: float, mean: Array, scale: Array) -> None:
    """From some parameters (n, 2·N): means in quantisation steps, multiples of 2^-6 up to `limit`; and scales, with their offset."""
    channels = len(step)
    for n in range(first, last):
        means, scales = parameters[n, :channels], parameters[n, channels:]
        for c in range(channels):
            mean[n, c] = min(max(np.rint(grid(means[c]) * step[c] * np.float32(64)) * np.float32(1 / 64), -limit), limit)
            scale[n, c] = grid(scales[c]) + offset[c]
