"""Layers of convolutions of bytes (`models/exact.py`), with what comes before and after each, in strips of places that stay in the cache.

Arrays are (n, C): places, then channels. Channels that a product gives are padded to a multiple of 32, those that it sums up
to one of 64. A layer (LAYER) is its weights as `products.packed` has them, what sums are multiplied by, the bias in the
units that this makes, and the smallest activation of the layer that reads them, if one does.
"""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.kernels import lanes
from models.kernels.arithmetic import LIMIT
from models.kernels.lanes import SUMS
from models.kernels.products import COLUMNS, DEPTH, ROWS, at, begin, end, product, room_for_sums, scratch

LAYER = "Tuple((i1[:,:,::1], f4[::1], f4[::1], f4))"
"""Weights (groups, depth, 2048), units, bias, the reader's smallest activation."""
DEEP = "Tuple((f4[:,::1], f4[::1], f4[::1], f4))"
"""The same of a depth-wise layer: weights (9, N)."""
WIDE = "Tuple((i1[:,:,::1], f4[:,:,::1]))"
"""Of one whose sums come in two halves: weights; and, for every sixteen channels, units and bias of either half, and a bias, in steps: (5, groups, 16)."""
READER = "Tuple((f4[::1], f4))"
"""How a layer reads its inputs: what they are multiplied by, and the smallest activation."""

Layer = tuple[Array, Array, Array, np.float32]
Wide = tuple[Array, Array]
Reader = tuple[Array, np.float32]


@helper
def _multiply(a, weight, sums):
    product(a.ctypes.data, a.shape[1], weight.ctypes.data, weight.shape[0], sums.ctypes.data)


@helper
def _strip(channels, unit):
    """Bytes for a strip, with channels padded to a multiple."""
    width = (channels + unit - 1) // unit * unit
    made = scratch(ROWS * width).reshape(ROWS, width)
    made[:] = 0
    return made


@helper
def _hand_on(a, layer, count, sums, out):
    """A layer's sums as activations of the next one."""
    weight, unit, bias, low = layer
    for g in range(len(weight)):
        _multiply(a, weight[g], sums)
        first = g * COLUMNS
        lanes.hand_on(at(sums), at(unit) + 4 * first, at(bias) + 4 * first, low, count, at(out) + first, out.shape[1])


@helper
def _add(a, layer, count, sums, x, reader, out):
    """A layer's sums added to x, in steps of a stream; and what the next layer reads of it."""
    weight, unit, bias, _ = layer
    scale, low = reader
    for g in range(len(weight)):
        _multiply(a, weight[g], sums)
        first = g * COLUMNS
        lanes.add_and_read(
            at(sums), at(unit) + 4 * first, at(bias) + 4 * first, count, at(x) + 2 * first, 2 * x.shape[1],
            at(scale) + 4 * first, low, at(out) + first, out.shape[1],
        )  # fmt: skip


@helper
def _deep(h, start, count, layer, out):
    """A depth-wise convolution at the places of a strip, of h (H + 2, W + 2, N), which has a border."""
    weight, unit, bias, low = layer
    width, channels = h.shape[1] - 2, h.shape[2]
    place = start
    while place < start + count:
        row, column = place // width, place % width
        some = min(width - column, start + count - place)
        lanes.deep(
            at(h) + (row * (width + 2) + column) * channels, (width + 2) * channels, channels, at(weight), at(unit), at(bias),
            low, some, at(out) + (place - start) * out.shape[1], out.shape[1],
        )  # fmt: skip
        place += some


@helper
def _place(a, layer, start, count, sums, out):
    """A layer's sums as activations of the next one, at the places of a strip in `out` (H + 2, W + 2, N), which has a border."""
    weight, unit, bias, low = layer
    width, channels = out.shape[1] - 2, out.shape[2]
    for g in range(len(weight)):
        _multiply(a, weight[g], sums)
        first, done = g * COLUMNS, 0
        while done < count:
            row, column = (start + done) // width, (start + done) % width
            some = min(width - column, count - done)
            to = at(out) + ((row + 1) * (width + 2) + column + 1) * channels + first
            lanes.hand_on(at(sums) + SUMS * done, at(unit) + 4 * first, at(bias) + 4 * first, low, some, to, channels)
            done += some


@kernel(f"void(i8, i8, f4[:,::1], f4[::1], b1, {READER}, {LAYER}, i2[:,::1], u1[:,:,::1])")
def enter(first: int, last: int, x: Array, gain: Array, rectify: bool, reader: Reader, narrow: Layer, stream: Array, out: Array) -> None:
    """A stream, or its positive part, by its gains, in steps; and what the first layer of a block makes of it."""
    channels = x.shape[1]
    scale, low = reader
    wide, sums = _strip(channels, DEPTH), room_for_sums()
    least = np.float32(0) if rectify else -LIMIT
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        strip = stream[start : start + count]
        lanes.scale_and_read(
            at(x) + 4 * channels * start, 4 * channels, channels, least, at(gain), count, at(strip), 2 * strip.shape[1],
            at(scale), low, at(wide), wide.shape[1],
        )  # fmt: skip
        _place(wide, narrow, start, count, sums, out)
    end()


@kernel(f"void(i8, i8, u1[:,:,::1], i2[:,::1], {DEEP}, {LAYER}, {READER}, {LAYER}, {LAYER}, {READER}, {LAYER}, u1[:,:,::1])")
def block(
    first: int, last: int, h: Array, x: Array, spatial: Layer, widen: Layer, second: Reader, expand: Layer, contract: Layer, following: Reader,
    narrow: Layer, out: Array,
) -> None:  # fmt: skip
    """The rest of a block, from what its first layer gave, added to x; and what the first layer of the next block makes of it, if there is one."""
    moved, wide, hidden = _strip(h.shape[2], DEPTH), _strip(x.shape[1], DEPTH), _strip(DEPTH * contract[0].shape[1], DEPTH)
    sums = room_for_sums()
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        strip = x[start : start + count]
        _deep(h, start, count, spatial, moved)
        _add(moved, widen, count, sums, strip, second, wide)
        _hand_on(wide, expand, count, sums, hidden)
        _add(hidden, contract, count, sums, strip, following, wide)
        if len(narrow[0]):
            _place(wide, narrow, start, count, sums, out)
    end()


@kernel("void(i8, i8, f4[:,::1], i2[:,::1], f4[::1], f4[::1], f4, f4[:,::1])")
def leave(first: int, last: int, x: Array, stream: Array, gain: Array, strength: Array, limit: float, out: Array) -> None:
    """What a stack gives: x, and what its blocks have changed of x · gain, by their strength; of at most ±limit."""
    channels = x.shape[1]
    lanes.add_change(
        at(x) + 4 * channels * first, 4 * channels, channels, at(gain), at(strength), limit, last - first,
        at(stream) + 2 * stream.shape[1] * first, 2 * stream.shape[1], at(out) + 4 * channels * first,
    )  # fmt: skip


@helper
def _join(sums, layer, group, count, out, stride):
    """Sixteen channels of a stream."""
    constants = layer[1]
    lanes.join(sums, at(constants[0, group]), 64 * constants.shape[1], count, out, stride)


@kernel(f"void(i8, i8, f4[:,::1], f4[:,::1], {WIDE}, i8, f4[:,:,::1])")
def wide(first: int, last: int, one: Array, other: Array, layer: Wide, corners: int, out: Array) -> None:
    """A stream (H, W, C) from one or two that lie side by side; or by `corners`, 1 or 4, the squares of 2×2 of one twice as high and wide."""
    channels, width = out.shape[2], out.shape[1] // (2 if corners == 4 else 1)
    words, sums = _strip(2 * (one.shape[1] + other.shape[1]), DEPTH), room_for_sums()
    result = scratch(4 * 16 * ROWS).view(np.float32).reshape(ROWS, 16)
    weight, groups = layer[0], (channels + 15) // 16
    row = 4 * channels * out.shape[1]
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        before = 0
        for part in (one, other):
            if part.shape[1]:
                lanes.split(at(part) + 4 * part.shape[1] * start, 4 * part.shape[1], part.shape[1], count, at(words) + 2 * before, words.shape[1])
                before += part.shape[1]
        for g in range(len(weight)):
            _multiply(words, weight[g], sums)
            corner, channel = g // groups, g % groups * 16
            done = 0
            while done < count:
                y, x = (start + done) // width, (start + done) % width
                some = min(width - x, count - done)
                stride = 4 * channels
                if corners == 4:
                    y, x, stride = 2 * y + (corner >> 1), 2 * x + (corner & 1), 2 * stride
                if channel + 16 <= channels:
                    _join(at(sums) + SUMS * done, layer, g, some, at(out) + row * y + 4 * (channels * x + channel), stride)
                else:
                    _join(at(sums) + SUMS * done, layer, g, some, at(result), 64)
                    for r in range(some):
                        out[y, x + r * (2 if corners == 4 else 1), channel:] = result[r, : channels - channel]
                done += some
    end()


@kernel(f"void(i8, i8, f4[:,:,::1], f4[:,:,::1], {READER}, {LAYER}, f4[:,::1])")
def narrow(first: int, last: int, one: Array, other: Array, reader: Reader, layer: Layer, out: Array) -> None:
    """A layer of one or two inputs (H, W, C) that lie side by side; or, where these are larger than the results, of their squares of 2×2."""
    scale, low = reader
    weight, unit, bias, _ = layer
    height, width, outputs = one.shape[0], one.shape[1], out.shape[1]
    halves = 2 if height * width > len(out) else 1
    width //= halves
    activations, sums = _strip(DEPTH * weight.shape[1], DEPTH), room_for_sums()
    result = scratch(4 * COLUMNS * ROWS).view(np.float32).reshape(ROWS, COLUMNS)
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        before = 0
        for corner in range(halves * halves):
            for part in (one, other):
                channels, done = part.shape[2], 0
                while done < count and channels:
                    y, x = halves * ((start + done) // width) + (corner >> 1), (start + done) % width
                    some = min(width - x, count - done)
                    given = at(part) + 4 * channels * (y * part.shape[1] + halves * x + (corner & 1))
                    to = at(activations) + activations.shape[1] * done + before
                    lanes.read(given, 4 * channels * halves, channels, some, at(scale) + 4 * before, low, to, activations.shape[1])
                    done += some
                before += channels
        for g in range(len(weight)):
            _multiply(activations, weight[g], sums)
            here = g * COLUMNS
            if here + COLUMNS <= outputs:
                lanes.give(at(sums), at(unit) + 4 * here, at(bias) + 4 * here, count, at(out) + 4 * (outputs * start + here), 4 * outputs)
            else:
                lanes.give(at(sums), at(unit) + 4 * here, at(bias) + 4 * here, count, at(result), 4 * COLUMNS)
                for r in range(count):
                    for c in range(outputs - here):
                        out[start + r, here + c] = result[r, c]
    end()
