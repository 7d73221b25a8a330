"""Gradients of the blocks of `rough`, for an encoder that refines what it codes: with respect to their inputs, while weights stay.

They need what was kept on the way forward: what the first layer of each block gave, and its hidden numbers, both without what is negative. Layers
backward are those forward with their weights transposed, and without a bias; depth-wise ones are turned by half a turn.
"""

from models.arrays import Array
from models.kernels import kernel, written
from models.kernels.lanes import AT, FLOAT, SHORT, SUMS, emitted
from models.kernels.products import COLUMNS, ROWS, at, begin, end, room_for_sums
from models.kernels.rough import ANY, DEEP, LAYER, Layer, _added, _moved, _multiply, _placed, _read, _strip


@written
def _where(_, sums, kept, kept_stride, count, out, stride):
    """Sums where what was kept is positive, for the next layer."""

    def write(lanes, sums, kept, kept_stride, count, out, stride):
        def body(total, known, result):
            lanes.store_rough(lanes.where(lanes.load_rough(known), lanes.load(total)), result)

        lanes.walk(32, count, [], [(sums, FLOAT, SUMS), (kept, SHORT, kept_stride), (out, SHORT, stride)], body)

    return emitted(write, *[AT] * 6)


@written
def _only(_, x, x_stride, channels, kept, kept_stride, count):
    """Numbers, in place, where what was kept is positive."""

    def write(lanes, x, x_stride, channels, kept, kept_stride, count):
        lanes.walk(
            channels, count, [], [(x, SHORT, x_stride), (kept, SHORT, kept_stride)],
            lambda number, known: lanes.store_rough(lanes.where(lanes.load_rough(known), lanes.load_rough(number)), number),
        )  # fmt: skip

    return emitted(write, *[AT] * 6)


@kernel(f"void(i8, i8, f4[:,::1], u2[:,::1], {LAYER}, {LAYER}, {LAYER}, u2[:,:,::1])")
def back_to_moved(first: int, last: int, gradient: Array, hidden: Array, contract: Layer, expand: Layer, widen: Layer, out: Array) -> None:
    """From the gradient of what a block gives (n, C) to that of what its depth-wise layer gives, `out` (H + 2, W + 2, N); to the gradient comes that through the second half."""
    wide, inner, sums = _strip(gradient.shape[1]), _strip(hidden.shape[1]), room_for_sums()
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        strip = gradient[start : start + count]
        _read(at(strip), 4 * strip.shape[1], strip.shape[1], ANY, count, at(wide), 2 * wide.shape[1])
        for g in range(len(contract[0])):
            _multiply(wide, contract[0][g], sums)
            here = 2 * g * COLUMNS
            _where(at(sums), at(hidden) + 2 * hidden.shape[1] * start + here, 2 * hidden.shape[1], count, at(inner) + here, 2 * inner.shape[1])
        _added(inner, expand, count, sums, strip, wide)
        _placed(wide, widen, start, count, ANY, sums, out)
    end()


@kernel(f"void(i8, i8, u2[:,:,::1], u2[:,:,::1], {DEEP}, {LAYER}, f4[:,::1])")
def back_to_input(first: int, last: int, moved: Array, h: Array, spatial: Layer, narrow: Layer, gradient: Array) -> None:
    """From there on, by what the first layer gave: the gradient of what the block is given."""
    width, channels = h.shape[1] - 2, h.shape[2]
    inner, wide, sums = _strip(channels), _strip(gradient.shape[1]), room_for_sums()
    begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        _moved(moved, start, count, spatial, inner)
        done = 0
        while done < count:
            row, column = (start + done) // width, (start + done) % width
            some = min(width - column, count - done)
            known = at(h) + 2 * ((row + 1) * (width + 2) + column + 1) * channels
            _only(at(inner) + 2 * inner.shape[1] * done, 2 * inner.shape[1], channels, known, 2 * channels, some)
            done += some
        _added(inner, narrow, count, sums, gradient[start : start + count], wide)
    end()
