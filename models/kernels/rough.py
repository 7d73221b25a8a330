"""Networks whose results need not be exact, the encoder's and the enhancer's, in bfloat16: as `layers`.

Streams are floats (n, C), with channels padded to a multiple of 32; what products sum up are numbers of bfloat16, in
unsigned integers of 16 bits, with channels padded to a multiple of 32 as well. A layer is its weights as
`products.packed_roughly` has them, and the bias; a depth-wise one is weights (9, N), and the bias.
"""

import numpy as np
from numba.core import cgutils

from models.arrays import Array
from models.kernels import helper, kernel, written
from models.kernels.lanes import AT, FLOAT, LANES, REAL, SHORT, SUMS, emitted
from models.kernels.products import COLUMNS, ROUGH_DEPTH, ROWS, at, begin, end, room_for_sums, rough_product, scratch

LAYER, DEEP = "Tuple((u2[:,:,::1], f4[::1]))", "Tuple((f4[:,::1], f4[::1]))"
ANY = np.float32(-3e38)
"""Less than anything, for layers without ReLU."""

Layer = tuple[Array, Array]


@written
def _give(_, sums, bias, count, out, stride):
    """Sums and the bias."""

    def write(lanes, sums, bias, count, out, stride):
        def body(bias, total, result):
            lanes.store(lanes.builder.fadd(lanes.load(total), bias), result)

        lanes.walk(32, count, [bias], [(sums, FLOAT, SUMS), (out, FLOAT, stride)], body)

    return emitted(write, *[AT] * 5)


@written
def _hand_on(_, sums, bias, least, count, out, stride):
    """The same, or `least` where that is more, for the next layer."""

    def write(lanes, sums, bias, least, count, out, stride):
        floor = lanes.same(least)

        def body(bias, total, result):
            lanes.store_rough(lanes.at_least(lanes.builder.fadd(lanes.load(total), bias), floor), result)

        lanes.walk(32, count, [bias], [(sums, FLOAT, SUMS), (out, SHORT, stride)], body)

    return emitted(write, AT, AT, REAL, AT, AT, AT)


@written
def _add(_, sums, bias, count, x, x_stride, out, stride):
    """The same, added to a stream x; and that for the next layer."""

    def write(lanes, sums, bias, count, x, x_stride, out, stride):
        def body(bias, total, stream, result):
            value = lanes.builder.fadd(lanes.load(stream), lanes.builder.fadd(lanes.load(total), bias))
            lanes.store(value, stream)
            lanes.store_rough(value, result)

        lanes.walk(32, count, [bias], [(sums, FLOAT, SUMS), (x, FLOAT, x_stride), (out, SHORT, stride)], body)

    return emitted(write, *[AT] * 7)


@written
def _scale(_, x, x_stride, channels, gain, count, stream, stream_stride, out, stride):
    """Channels by their gains, as a stream and for the next layer."""

    def write(lanes, x, x_stride, channels, gain, count, stream, stream_stride, out, stride):
        def body(gain, given, scaled, result):
            value = lanes.builder.fmul(lanes.load(given), gain)
            lanes.store(value, scaled)
            lanes.store_rough(value, result)

        lanes.walk(channels, count, [gain], [(x, FLOAT, x_stride), (stream, FLOAT, stream_stride), (out, SHORT, stride)], body)

    return emitted(write, *[AT] * 9)


@written
def _change(_, x, stride, channels, gain, strength, count, stream, stream_stride, out):
    """x, and what has changed of x · gain, which is the stream, by its strength."""

    def write(lanes, x, stride, channels, gain, strength, count, stream, stream_stride, out):
        def body(gain, strength, given, after, result):
            builder, value = lanes.builder, lanes.load(given)
            lanes.store(lanes.scaled(builder.fsub(lanes.load(after), builder.fmul(value, gain)), strength, value), result)

        lanes.walk(channels, count, [gain, strength], [(x, FLOAT, stride), (stream, FLOAT, stream_stride), (out, FLOAT, stride)], body)

    return emitted(write, *[AT] * 9)


@written
def _read(_, x, x_stride, channels, least, count, out, stride):
    """Floats, or `least` where that is more, for a layer."""

    def write(lanes, x, x_stride, channels, least, count, out, stride):
        floor = lanes.same(least)
        lanes.walk(channels, count, [], [(x, FLOAT, x_stride), (out, SHORT, stride)], lambda a, b: lanes.store_rough(lanes.at_least(lanes.load(a), floor), b))

    return emitted(write, AT, AT, AT, REAL, AT, AT, AT)


@written
def _deep(_, corner, row, channels, weight, bias, count, out, stride):
    """A depth-wise convolution of 3×3 at `count` places side by side, from the upper left neighbour of the first on, with rows so far apart."""

    def write(lanes, corner, row, channels, weight, bias, count, out, stride):
        builder = lanes.builder
        with cgutils.for_range(builder, builder.lshr(channels, lanes.number(4))) as group:
            two, four = builder.mul(group.index, lanes.number(2 * LANES)), builder.mul(group.index, lanes.number(4 * LANES))
            weights = [lanes.load(builder.add(lanes.along(weight, lanes.number(4 * k), channels), four)) for k in range(9)]
            added = lanes.load(builder.add(bias, four))
            place = builder.mul(channels, lanes.number(2))
            with cgutils.for_range(builder, count) as loop:
                here, total = lanes.along(builder.add(corner, two), loop.index, place), added
                for k, factor in enumerate(weights):
                    at = lanes.along(lanes.along(here, lanes.number(k // 3), row), lanes.number(k % 3), place)
                    total = lanes.scaled(lanes.load_rough(at), factor, total)
                lanes.store_rough(total, lanes.along(builder.add(out, two), loop.index, stride))

    return emitted(write, *[AT] * 8)


@helper
def _strip(channels):
    width = (channels + ROUGH_DEPTH - 1) // ROUGH_DEPTH * ROUGH_DEPTH
    made = scratch(2 * ROWS * width).view(np.uint16).reshape(ROWS, width)
    made[:] = 0
    return made


@helper
def _multiply(a, weight, sums):
    rough_product(a.ctypes.data, 2 * a.shape[1], weight.ctypes.data, weight.shape[0], sums.ctypes.data)


@helper
def _added(a, layer, count, sums, x, out):
    """A layer's results added to x, and those for the next one."""
    weight, bias = layer
    for g in range(len(weight)):
        _multiply(a, weight[g], sums)
        first = g * COLUMNS
        _add(at(sums), at(bias) + 4 * first, count, at(x) + 4 * first, 4 * x.shape[1], at(out) + 2 * first, 2 * out.shape[1])


@helper
def _handed(a, layer, least, count, sums, out):
    """A layer's results for the next one."""
    weight, bias = layer
    for g in range(len(weight)):
        _multiply(a, weight[g], sums)
        first = g * COLUMNS
        _hand_on(at(sums), at(bias) + 4 * first, least, count, at(out) + 2 * first, 2 * out.shape[1])


@helper
def _placed(a, layer, start, count, least, sums, out):
    """The same at the places of a strip in `out` (H + 2, W + 2, N), which has a border."""
    weight, bias = layer
    width, channels = out.shape[1] - 2, out.shape[2]
    for g in range(len(weight)):
        _multiply(a, weight[g], sums)
        first, done = g * COLUMNS, 0
        while done < count:
            row, column = (start + done) // width, (start + done) % width
            some = min(width - column, count - done)
            to = at(out) + 2 * (((row + 1) * (width + 2) + column + 1) * channels + first)
            _hand_on(at(sums) + SUMS * done, at(bias) + 4 * first, least, some, to, 2 * channels)
            done += some


@helper
def _moved(h, start, count, layer, out):
    """A depth-wise convolution at the places of a strip, of h (H + 2, W + 2, N)."""
    weight, bias = layer
    width, channels = h.shape[1] - 2, h.shape[2]
    place = start
    while place < start + count:
        row, column = place // width, place % width
        some = min(width - column, start + count - place)
        corner, to = at(h) + 2 * (row * (width + 2) + column) * channels, at(out) + 2 * (place - start) * out.shape[1]
        _deep(corner, 2 * (width + 2) * channels, channels, at(weight), at(bias), some, to, 2 * out.shape[1])
        place += some


@kernel(f"void(i8, i8, f4[:,::1], f4[::1], {LAYER}, f4[:,::1], u2[:,:,::1])")
def enter(first: int, last: int, x: Array, gain: Array, narrow: Layer, stream: Array, out: Array) -> None:
    """A stream by its gains, and what the first layer of a block makes of it."""
    channels = x.shape[1]
    wide, sums = _strip(channels), room_for_sums()
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        strip = stream[start : start + count]
        _scale(at(x) + 4 * channels * start, 4 * channels, channels, at(gain), count, at(strip), 4 * strip.shape[1], at(wide), 2 * wide.shape[1])
        _placed(wide, narrow, start, count, np.float32(0), sums, out)
    end()


@kernel(f"void(i8, i8, u2[:,:,::1], f4[:,::1], {DEEP}, {LAYER}, {LAYER}, {LAYER}, {LAYER}, u2[:,:,::1], u2[:,::1])")
def block(
    first: int, last: int, h: Array, x: Array, spatial: Layer, widen: Layer, expand: Layer, contract: Layer, narrow: Layer, out: Array, hidden: Array
) -> None:
    """The rest of a block, from what its first layer gave, added to x; and what the first layer of the next block makes of it, if there is one.

    Its hidden numbers stay in `hidden`, which is empty or has places padded to a multiple of 32.
    """
    moved, wide, room, sums = _strip(h.shape[2]), _strip(x.shape[1]), _strip(2 * contract[0].shape[1]), room_for_sums()
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        strip, inner = x[start : start + count], hidden[start : start + ROWS] if len(hidden) else room
        _moved(h, start, count, spatial, moved)
        _added(moved, widen, count, sums, strip, wide)
        _handed(wide, expand, np.float32(0), count, sums, inner)
        _added(inner, contract, count, sums, strip, wide)
        if len(narrow[0]):
            _placed(wide, narrow, start, count, np.float32(0), sums, out)
    end()


@kernel("void(i8, i8, f4[:,::1], f4[:,::1], f4[::1], f4[::1], f4[:,::1])")
def leave(first: int, last: int, x: Array, stream: Array, gain: Array, strength: Array, out: Array) -> None:
    """What a stack gives: x, and what its blocks have changed of x · gain, by their strength."""
    channels = x.shape[1]
    _change(
        at(x) + 4 * channels * first, 4 * channels, channels, at(gain), at(strength), last - first,
        at(stream) + 4 * stream.shape[1] * first, 4 * stream.shape[1], at(out) + 4 * channels * first,
    )  # fmt: skip


@kernel(f"void(i8, i8, UniTuple(f4[:,:,::1], 4), f4, {LAYER}, f4[:,::1])")
def narrow(first: int, last: int, parts: tuple[Array, ...], least: float, layer: Layer, out: Array) -> None:
    """A layer of inputs (H, W, C) that lie side by side; or, where these are larger than the results, of their squares of 2×2."""
    weight, bias = layer
    height, width, outputs = parts[0].shape[0], parts[0].shape[1], out.shape[1]
    halves = 2 if height * width > len(out) else 1
    width //= halves
    numbers, sums = _strip(2 * weight.shape[1]), room_for_sums()
    result = scratch(4 * COLUMNS * ROWS).view(np.float32).reshape(ROWS, COLUMNS)
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        before = 0
        for corner in range(halves * halves):
            for part in parts:
                channels, done = part.shape[2], 0
                while done < count and channels:
                    y, x = halves * ((start + done) // width) + (corner >> 1), (start + done) % width
                    some = min(width - x, count - done)
                    given = at(part) + 4 * channels * (y * part.shape[1] + halves * x + (corner & 1))
                    _read(given, 4 * channels * halves, channels, least, some, at(numbers) + 2 * (numbers.shape[1] * done + before), 2 * numbers.shape[1])
                    done += some
                before += channels
        for g in range(len(weight)):
            _multiply(numbers, weight[g], sums)
            here = g * COLUMNS
            if here + COLUMNS <= outputs:
                _give(at(sums), at(bias) + 4 * here, count, at(out) + 4 * (outputs * start + here), 4 * outputs)
            else:
                _give(at(sums), at(bias) + 4 * here, count, at(result), 4 * COLUMNS)
                for r in range(count):
                    for c in range(outputs - here):
                        out[start + r, here + c] = result[r, c]
    end()
