"""Layers of convolutions of bytes (`models/exact.py`), with what comes before and after each, in strips of places that stay in the cache.

Arrays are (n, C): places, then channels. Channels that a product gives are padded to a multiple of 32, those that it sums up
to one of DEPTH. A layer (LAYER) is its weights as `products.packed` has them, what sums are multiplied by, the bias in the
units that this makes, and the smallest activation of the layer that reads them, if one does.
"""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.kernels import lanes
from models.kernels.arithmetic import LIMIT, UNIT
from models.kernels.lanes import SUMS
from models.kernels.products import COLUMNS, DEPTH, ROWS, at, begin, end, product, room_for_sums, scratch

LAYER = "Tuple((i1[:,:,::1], f4[::1], f4[::1], f4))"
"""Weights (groups, words, 128), units, bias, the reader's smallest activation."""
DEEP = "Tuple((f4[:,::1], f4[::1], f4[::1], f4))"
"""The same of a depth-wise layer: weights (9, N)."""
WIDE = "Tuple((i1[:,:,::1], i1[:,:,::1], f4[:,:,::1]))"
"""Of one whose sums come in two halves: weights of the upper, by upper bytes alone, and of the lower, by lower and then upper ones; and units and bias of either half, and a bias, in steps: (5, groups, 32)."""
READER = "Tuple((f4[::1], f4))"
"""How a layer reads its inputs: what they are multiplied by, and the smallest activation."""
LAYERS = "Tuple((i1[:,:,:,::1], f4[:,::1], f4[:,::1], f4[::1]))"
DEEPS = "Tuple((f4[:,:,::1], f4[:,::1], f4[:,::1], f4[::1]))"
READERS = "Tuple((f4[:,::1], f4[::1]))"
"""The same of all blocks in a row."""

Layer = tuple[Array, Array, Array, np.float32]
Wide = tuple[Array, Array, Array]
Reader = tuple[Array, np.float32]
Layers = tuple[Array, Array, Array, Array]
Readers = tuple[Array, Array]


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


@helper
def _one(layers, k):
    """That of the k-th block."""
    weight, unit, bias, low = layers
    return weight[k], unit[k], bias[k], low[k]


@helper
def _numbers(steps, out):
    """Steps of a stream, whose channels may be padded, as floats."""
    for n in range(len(out)):
        for c in range(out.shape[1]):
            out[n, c] = np.float32(steps[n, c]) * UNIT


@kernel(
    f"void(i8, i8, f4[:,::1], i8, f4[::1], f4[::1], b1, {READERS}, {LAYERS}, {DEEPS}, {LAYERS}, {READERS}, {LAYERS}, {LAYERS}, f4, f4[:,::1])"
)
def stack(
    first: int, last: int, x: Array, width: int, gain: Array, strength: Array, rectify: bool, begin_reads: Readers, narrow: Layers, spatial: Layers,
    widen: Layers, middle_reads: Readers, expand: Layers, contract: Layers, limit: float, out: Array,
) -> None:  # fmt: skip
    """Some strips of what blocks in a row make of a stream (H·W, C), or of its positive part, by its gains.

    With strengths it is x, and what has changed of x · gain, by their strength; of at most ±limit. Without, it is what has become of x · gain.

    Every block goes as many strips behind the one before as its convolution of 3×3 needs, so that what they hand on is still in the cache. What
    others do before the first strip and behind the last one, but is needed here, is done here, too.
    """
    places, channels = x.shape
    blocks, lag = len(narrow[0]), (ROWS + width) // ROWS
    begins, ends = np.full(blocks + 1, first), np.full(blocks + 1, last)  # of the first layer, and of the rest of each block
    for k in range(blocks - 1, -1, -1):
        begins[k] = max(0, begins[k + 1] * ROWS - width - 1) // ROWS
        ends[k] = (min(places, ends[k + 1] * ROWS + width + 1) + ROWS - 1) // ROWS
    origin = begins[0] * ROWS
    above = origin // width * width  # places above the first row that is held
    held = min(places, ends[0] * ROWS)
    half, padded = spatial[0].shape[2], begin_reads[0].shape[1]
    inner = np.zeros((blocks, (held - 1 - above) // width + 3, width + 2, half), np.uint8)  # with ReLU the smallest activation is zero
    stream = np.empty((held - origin, padded), np.int16)
    moved, wide, hidden = _strip(half, DEPTH), _strip(padded, DEPTH), _strip(4 * contract[0].shape[2], DEPTH)
    sums, least = room_for_sums(), np.float32(0) if rectify else -LIMIT
    begin()
    for now in range(begins[0], ends[blocks] + lag * blocks):
        for k in range(blocks + 1):
            place = now - lag * k
            if begins[k] <= place < ends[k]:
                start = place * ROWS
                count = min(ROWS, places - start)
                strip = stream[start - origin : start - origin + count]
                if k == 0:
                    lanes.scale_and_read(
                        at(x) + 4 * channels * start, 4 * channels, channels, least, at(gain), count, at(strip), 2 * padded,
                        at(begin_reads[0]), begin_reads[1][0], at(wide), wide.shape[1],
                    )  # fmt: skip
                else:
                    b, following = k - 1, min(k, blocks - 1)
                    _deep(inner[b], start - above, count, _one(spatial, b), moved)
                    _add(moved, _one(widen, b), count, sums, strip, (middle_reads[0][b], middle_reads[1][b]), wide)
                    _hand_on(wide, _one(expand, b), count, sums, hidden)
                    _add(hidden, _one(contract, b), count, sums, strip, (begin_reads[0][following], begin_reads[1][following]), wide)
                if k < blocks:
                    _place(wide, _one(narrow, k), start - above, count, sums, inner[k])
                elif len(strength):
                    lanes.add_change(
                        at(x) + 4 * channels * start, 4 * channels, channels, at(gain), at(strength), limit, count, at(strip), 2 * padded,
                        at(out) + 4 * channels * start,
                    )  # fmt: skip
                else:
                    _numbers(strip, out[start : start + count])
    end()


@helper
def _join(sums, constants, group, count, out, stride):
    """Channels of a stream from both halves' sums, of which all upper ones lie before the lower ones."""
    lanes.join(sums, at(constants[0, group]), 4 * COLUMNS * constants.shape[1], count, out, stride)


@kernel(f"void(i8, i8, f4[:,::1], f4[:,::1], {WIDE}, i8, f4[:,:,::1])")
def wide(first: int, last: int, one: Array, other: Array, layer: Wide, corners: int, out: Array) -> None:
    """A stream (H, W, C) from one or two that lie side by side; or by `corners`, 1 or 4, the squares of 2×2 of one twice as high and wide."""
    channels, width = out.shape[2], out.shape[1] // (2 if corners == 4 else 1)
    upper, lower, constants = layer
    half = 4 * upper.shape[1]  # bytes of a place before the upper ones
    words, sums = _strip(2 * half, DEPTH), scratch(2 * SUMS * ROWS)
    result = scratch(SUMS * ROWS).view(np.float32).reshape(ROWS, COLUMNS)
    row, groups = 4 * channels * out.shape[1], (channels + COLUMNS - 1) // COLUMNS
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        before = 0
        for part in (one, other):
            if part.shape[1]:
                lanes.split(at(part) + 4 * part.shape[1] * start, 4 * part.shape[1], part.shape[1], count, at(words) + before, half, words.shape[1])
                before += part.shape[1]
        for g in range(len(upper)):
            product(at(words) + half, words.shape[1], at(upper[g]), upper.shape[1], at(sums))
            product(at(words), words.shape[1], at(lower[g]), lower.shape[1], at(sums) + SUMS * ROWS)
            corner, channel = g // groups, g % groups * COLUMNS
            done = 0
            while done < count:
                y, x = (start + done) // width, (start + done) % width
                some = min(width - x, count - done)
                stride = 4 * channels
                if corners == 4:
                    y, x, stride = 2 * y + (corner >> 1), 2 * x + (corner & 1), 2 * stride
                if channel + COLUMNS <= channels:
                    _join(at(sums) + SUMS * done, constants, g, some, at(out) + row * y + 4 * (channels * x + channel), stride)
                else:
                    _join(at(sums) + SUMS * done, constants, g, some, at(result), SUMS)
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
    activations, sums = _strip(4 * weight.shape[1], DEPTH), room_for_sums()
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
