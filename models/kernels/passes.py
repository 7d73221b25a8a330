"""What happens between convolutions, in one pass each. Arrays are (n, C): places, then channels.

A stream tensor is in float32, a multiple of 2^-12; an activation is a byte, its distance from the smallest one.
"""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.kernels.arithmetic import LIMIT, STEPS, UNIT, grid, steps

@helper
def _clamped(value, low, high):
    return min(max(value, low), high)


@helper
def _sum(x, y):
    """x of a stream and y rounded to it."""
    return _clamped(np.rint(y * STEPS) + x * STEPS, -LIMIT, LIMIT) * UNIT


@helper
def _byte(value, low):
    return np.uint8(np.int32(_clamped(np.rint(value), low, low + np.float32(255)) - low))


@kernel("void(f4[:,::1], f4[::1], f4, u1[:,::1])")
def read(x: Array, scale: Array, low: float, out: Array) -> None:
    """Activations, of which `low` is the smallest."""
    for n in range(len(x)):
        for c in range(x.shape[1]):
            out[n, c] = _byte(x[n, c] * scale[c], low)


@kernel("void(f4[:,::1], f4[:,::1], f4[:,::1])")
def add(x: Array, y: Array, out: Array) -> None:
    """A stream tensor and what is added to it."""
    for n in range(len(x)):
        for c in range(x.shape[1]):
            out[n, c] = _sum(x[n, c], y[n, c])


@kernel("void(i2[:,::1], f4[:,::1], f4[::1], f4, u1[:,::1])")
def add_and_read(x: Array, y: Array, scale: Array, low: float, out: Array) -> None:
    """Add y to x, which is in steps of a stream, and read the sums."""
    for n in range(len(x)):
        for c in range(x.shape[1]):
            value = _clamped(np.rint(y[n, c] * STEPS) + np.float32(x[n, c]), -LIMIT, LIMIT)
            x[n, c] = np.int16(np.int32(value))
            out[n, c] = _byte(value * UNIT * scale[c], low)


@kernel("void(f4[:,::1], f4[::1], f4[:,::1])")
def scaled(x: Array, gain: Array, out: Array) -> None:
    """Channels by their gains, rounded."""
    for n in range(len(x)):
        for c in range(x.shape[1]):
            out[n, c] = grid(x[n, c] * gain[c])


@kernel("void(f4[:,::1], f4[::1], f4[::1], f4, i2[:,::1], u1[:,::1])")
def scale_and_read(x: Array, gain: Array, scale: Array, low: float, out: Array, activations: Array) -> None:
    """Channels by their gains, in steps of a stream; and read."""
    for n in range(len(x)):
        for c in range(x.shape[1]):
            value = steps(x[n, c] * gain[c])
            out[n, c] = np.int16(np.int32(value))
            activations[n, c] = _byte(value * UNIT * scale[c], low)


@kernel("void(f4[:,::1], i2[:,::1], f4[:,::1], f4[::1], f4[::1], f4, f4[:,::1])")
def add_change(x: Array, body: Array, last: Array, gain: Array, strength: Array, limit: float, out: Array) -> None:
    """What a stack gives: x, and what its blocks have changed of x · gain, by their strength. `last` is to be added to `body`; the largest result is `limit`."""
    for n in range(len(x)):
        for c in range(x.shape[1]):
            changed = _clamped(np.rint(last[n, c] * STEPS) + np.float32(body[n, c]), -LIMIT, LIMIT) - steps(x[n, c] * gain[c])
            out[n, c] = _clamped(x[n, c] + grid(changed * UNIT * strength[c]), -limit, limit)


@kernel("void(f4[:,::1], i8, u2[:,::1])")
def split(x: Array, first: int, out: Array) -> None:
    """A stream tensor's integers plus 2^15 + 2^7, from the channel `first` of `out` on: lower bytes plus 128, and upper ones plus 128."""
    for n in range(len(x)):
        line = out[n, first : first + x.shape[1]]
        for c in range(x.shape[1]):
            line[c] = np.uint16(np.int32(x[n, c] * STEPS) + np.int32((1 << 15) + (1 << 7)))


@kernel("void(f4[:,::1], f4[::1], f4[:,::1])")
def join(sums: Array, bias: Array, out: Array) -> None:
    """The two halves of the sums of a `Wide` convolution (n, 2·C), and its bias."""
    channels = out.shape[1]
    for n in range(len(out)):
        for c in range(channels):
            out[n, c] = _sum(bias[c], sums[n, c] + sums[n, channels + c])


@kernel("void(f4[:,:,::1], f4[::1], f4[:,:,::1])")
def join_shuffled(sums: Array, bias: Array, out: Array) -> None:
    """`join`, of (H, W, 2·4·C), and every four channels, of which those of one corner lie together, as a square of 2×2: (2·H, 2·W, C)."""
    height, width, channels = sums.shape[0], sums.shape[1], out.shape[2]
    for y in range(height):
        for x in range(width):
            for part in range(4):
                line, first = out[2 * y + (part >> 1), 2 * x + (part & 1)], part * channels
                upper = sums[y, x, first : first + channels]
                lower = sums[y, x, 4 * channels + first : 4 * channels + first + channels]
                corner = bias[first : first + channels]
                for c in range(channels):
                    line[c] = _sum(corner[c], upper[c] + lower[c])


@kernel("void(f4[:,::1], f4[::1], f4[::1], f4, i2[:,::1], u1[:,::1])")
def rectify_and_read(x: Array, gain: Array, scale: Array, low: float, out: Array, activations: Array) -> None:
    """`scale_and_read` of what is positive, rounded before as well."""
    for n in range(len(x)):
        for c in range(x.shape[1]):
            value = steps(max(grid(x[n, c]), np.float32(0)) * gain[c])
            out[n, c] = np.int16(np.int32(value))
            activations[n, c] = _byte(value * UNIT * scale[c], low)


@kernel("void(f4[:,::1], f4[::1], f4[::1], f4, f4[:,::1], f4[:,::1])")
def prior(parameters: Array, step: Array, offset: Array, limit: float, mean: Array, scale: Array) -> None:
    """From parameters (n, 2·N): means in quantisation steps, multiples of 2^-6 up to `limit`; and scales, with their offset."""
    channels = len(step)
    for n in range(len(mean)):
        first, second = parameters[n, :channels], parameters[n, channels:]
        for c in range(channels):
            mean[n, c] = _clamped(np.rint(grid(first[c]) * step[c] * np.float32(64)) * np.float32(1 / 64), -limit, limit)
            scale[n, c] = grid(second[c]) + offset[c]


@kernel("void(f4[:,::1], f4[::1], f4, i8, u1[:,::1])")
def read_part(x: Array, scale: Array, low: float, first: int, out: Array) -> None:
    """`read` into the channels of `out` from `first` on."""
    for n in range(len(x)):
        line = out[n, first : first + x.shape[1]]
        for c in range(x.shape[1]):
            line[c] = _byte(x[n, c] * scale[c], low)
