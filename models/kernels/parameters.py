"""What is known of a latent before it is decoded. Arrays are (n, C): places, then channels."""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel, lanes
from models.kernels.arithmetic import grid
from models.kernels.layers import LAYER, READER, Layer, Reader, _multiply, _strip
from models.kernels.lanes import SUMS
from models.kernels.products import COLUMNS, DEPTH, ROWS, at, begin, end, room_for_sums, scratch
from models.tables import FIRST, SCALES, STEP


@helper
def _table(scale):
    """The table of symbols by the logarithm of their scale."""
    index = np.rint((scale - np.float32(FIRST)) * np.float32(1 / STEP))
    return np.uint8(min(max(index, np.float32(0)), np.float32(SCALES - 1)))


@kernel(f"void(i8, i8, f4[:,::1], {READER}, {LAYER}, f4[::1], f4[::1], f4, f4[:,::1], u1[:,::1])")
def prior(first: int, last: int, x: Array, reader: Reader, layer: Layer, step: Array, offset: Array, limit: float, mean: Array, tables: Array) -> None:
    """From what a layer says of some places (n, 2·N): means (n, N) in quantisation steps, multiples of 2^-6 up to `limit`; and tables (n, N), by scales and their offset."""
    scale, low = reader
    weight, unit, bias, _ = layer
    given, channels = x.shape[1], len(step)
    activations, sums = _strip(4 * weight.shape[1], DEPTH), room_for_sums()
    said = scratch(SUMS * len(weight) * ROWS).view(np.float32).reshape(ROWS, COLUMNS * len(weight))
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        lanes.read(at(x) + 4 * given * start, 4 * given, given, count, at(scale), low, at(activations), activations.shape[1])
        for g in range(len(weight)):
            _multiply(activations, weight[g], sums)
            lanes.give(at(sums), at(unit) + SUMS * g, at(bias) + SUMS * g, count, at(said) + SUMS * g, 4 * said.shape[1])
        for r in range(count):
            means, scales = said[r, :channels], said[r, channels : 2 * channels]
            for c in range(channels):
                mean[start + r, c] = min(max(np.rint(grid(means[c]) * step[c] * np.float32(64)) * np.float32(1 / 64), -limit), limit)
            for c in range(channels):
                tables[start + r, c] = _table(grid(scales[c]) + offset[c])
    end()
