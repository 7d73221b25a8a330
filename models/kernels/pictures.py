"""Pictures as features and back, and what a frame takes over from the last one. Planes are (H, W), features (H/8, W/8, C)."""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.kernels.arithmetic import displacement, grid
from models.vectors import UNIT


@helper
def _unshuffle(plane, side, first, begin, end, out):
    columns = out.shape[1]
    for r in range(begin, end):
        for i in range(side):
            samples = plane[r * side + i]
            for c in range(columns):
                line, block = out[r, c, first + i * side : first + (i + 1) * side], samples[c * side : (c + 1) * side]
                for j in range(side):
                    line[j] = grid((block[j] - np.float32(128)) * np.float32(1 / 256))


@kernel("void(i8, i8, f4[:,::1], f4[:,::1], f4[:,::1], f4[:,:,::1])")
def features(first: int, last: int, y: Array, u: Array, v: Array, out: Array) -> None:
    """Some rows of `models.picture.to_features`, rounded to a stream tensor; a plane's samples of a block lie side by side."""
    _unshuffle(y, 8, 0, first, last, out)
    _unshuffle(u, 4, 64, first, last, out)
    _unshuffle(v, 4, 80, first, last, out)


@helper
def _shuffle(samples, side, first, rounded, plane, row):
    for i in range(side):
        line = plane[row * side + i]
        for c in range(len(samples)):
            given, block = samples[c, first + i * side : first + (i + 1) * side], line[c * side : (c + 1) * side]
            for j in range(side):
                value = given[j] * np.float32(256) + np.float32(128)
                block[j] = min(max(np.rint(value), np.float32(0)), np.float32(255)) if rounded else value


@helper
def _set_row(samples, rounded, row, y, u, v):
    """The planes' samples of a row of blocks, from features (W/8, C); rounded to 8 bits, or as they are."""
    _shuffle(samples, 8, 0, rounded, y, row)
    _shuffle(samples, 4, 64, rounded, u, row)
    _shuffle(samples, 4, 80, rounded, v, row)


@kernel("void(f4[:,:,::1], f4[:,::1], f4[:,::1], f4[:,::1])")
def planes(samples: Array, y: Array, u: Array, v: Array) -> None:
    """The inverse, rounded to 8 bits."""
    for r in range(len(samples)):
        _set_row(samples[r], True, r, y, u, v)


@kernel("void(i8, i8, f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], f4[:,::1], f4[:,::1], f4[:,::1])")
def released(first: int, last: int, residual: Array, detail: Array, reference: Array, release: Array, y: Array, u: Array, v: Array) -> None:
    """Some rows of a picture of 8 bits: the residual and the detail on the reference, of which parts are let go."""
    _, columns, channels = residual.shape
    samples = np.empty((columns, channels), np.float32)
    for r in range(first, last):
        for c in range(columns):
            a, b, old, part, sample = residual[r, c], detail[r, c], reference[r, c], release[r, c], samples[c]
            for k in range(channels):
                gone = np.rint(min(max(part[k], np.float32(0)), np.float32(1)) * np.float32(256)) * np.float32(1 / 256)
                sample[k] = grid(a[k] + b[k] + old[k] - grid(gone * old[k]))
        _set_row(samples, True, r, y, u, v)


@kernel("void(f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], f4[:,:,::1], f4, f4, f4[:,::1], f4[:,::1], f4[:,::1])")
def corrected(features: Array, leave: Array, trust: Array, change: Array, size: float, limit: float, y: Array, u: Array, v: Array) -> None:
    """A picture as `models.filters.Enhancer` corrects it, not rounded: by `leave` in units of `size`, and what is trusted of the change to the next, of which no more than `limit` is believed."""
    rows, columns, channels = features.shape
    samples = np.empty((columns, channels), np.float32)
    for r in range(rows):
        for c in range(columns):
            given, moved, part, other, sample = features[r, c], leave[r, c], trust[r, c], change[r, c], samples[c]
            for k in range(channels):
                believed = part[k] * np.float32(1 / 4) * min(max(other[k], -limit), limit)
                sample[k] = given[k] + moved[k] * size + believed
        _set_row(samples, False, r, y, u, v)


@kernel("void(f4[:,::1], f4[:,:,::1], i8, i8[:,::1], f4, f4[:,::1])")
def smooth(plane: Array, kernels: Array, first: int, ring: Array, limit: float, out: Array) -> None:
    """`models.filters.smoothing` of a plane (H, W), added to `out`, by kernels (h, w, K) in units of 1/8, from one of them on."""
    height, width = plane.shape
    side, reach = height // len(kernels), 2
    wide = np.empty((height + 2 * reach, width + 2 * reach), np.float32)
    for y in range(len(wide)):
        given, line = plane[max(0, min(height - 1, y - reach))], wide[y]
        line[reach : reach + width] = given
        line[:reach] = given[0]
        line[reach + width :] = given[width - 1]
    weights = np.empty((len(ring), width), np.float32)
    for y in range(height):
        if y % side == 0:
            for k in range(len(ring)):
                for x in range(width):
                    weights[k, x] = kernels[y // side, x // side, first + k] * np.float32(1 / 8)
        middle, total = wide[y + reach, reach : reach + width], out[y]
        for k in range(len(ring)):
            down, right, weight = ring[k, 0], ring[k, 1], weights[k]
            after = wide[y + reach + down, reach + right : reach + right + width]
            before = wide[y + reach - down, reach - right : reach - right + width]
            for x in range(width):
                one, other = after[x] - middle[x], before[x] - middle[x]
                total[x] += weight[x] * (min(max(one, -limit), limit) + min(max(other, -limit), limit))


@kernel("void(f4[:,::1], i8, u1[:,::1])")
def bordered(plane: Array, border: int, out: Array) -> None:
    """A plane of 8 bits with its border repeated: (H, W) -> (H + 2·border, W + 2·border)."""
    height, width = plane.shape
    for y in range(height):
        given, line = plane[y], out[y + border]
        line[:border] = np.uint8(given[0])
        inner = line[border : border + width]
        for x in range(width):
            inner[x] = np.uint8(np.int32(given[x]))
        line[border + width :] = np.uint8(given[width - 1])
    for y in range(border):
        out[y] = out[border]
        out[border + height + y] = out[border + height - 1]


@kernel("void(i8, i8, f4[:,:,::1], i4[:,:,::1], f4[:,:,::1])")
def warp(first: int, last: int, context: Array, vectors: Array, out: Array) -> None:
    """Some rows of `models.warp.warp_context`, rounded to a stream tensor: (H, W, C) by vectors (3, H, W)."""
    rows, columns, channels = context.shape
    for r in range(first, last):
        for c in range(columns):
            speed = UNIT // (vectors[2, r, c] + 1)
            dy, dx = displacement(vectors[0, r, c] * speed, 0), displacement(vectors[1, r, c] * speed, 0)
            top, left, down, across = r + (dy >> 5), c + (dx >> 5), dy & 31, dx & 31
            y0, y1 = max(0, min(rows - 1, top)), max(0, min(rows - 1, top + 1))
            x0, x1 = max(0, min(columns - 1, left)), max(0, min(columns - 1, left + 1))
            w00, w01 = np.float32((32 - down) * (32 - across)), np.float32((32 - down) * across)
            w10, w11 = np.float32(down * (32 - across)), np.float32(down * across)
            a, b, d, e, line = context[y0, x0], context[y0, x1], context[y1, x0], context[y1, x1], out[r, c]
            for k in range(channels):
                line[k] = grid((a[k] * w00 + b[k] * w01 + d[k] * w10 + e[k] * w11) * np.float32(1 / 1024))
