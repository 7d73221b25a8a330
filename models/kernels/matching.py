"""Motion search as `models.search` does it, block by block. Vectors are (3, h, w) as in `models.vectors`.

References are bytes at all quarter-sample positions, (pictures, 16, H + 2·MARGIN, W + 2·MARGIN), with the slot of the picture
of each age; the current picture is bytes with OVERLAP samples around it, which repeat its border, and SLACK to the right.
"""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.kernels.arithmetic import displacement
from models.kernels.interpolation import between
from models.kernels.windows import block_errors, window_errors
from models.vectors import UNIT

MARGIN = 40
"""Samples around the reference that blocks may be read from."""

OVERLAP = 2
"""Samples around a block that its vector is judged by as well, less toward the outside: compensation overlaps, too."""

SPREAD, INHERITED = np.float32(1.6), np.float32(3.0)


@kernel("void(i8, i8, f4[:,::1], f4[:,::1], i8, u1[:,:,::1])")
def phases(first: int, last: int, plane: Array, taps: Array, margin: int, out: Array) -> None:
    """Some rows of a plane of 8 bits (H, W) at all quarter-sample positions, with `margin` samples around it: (16, H + 2·margin, W + 2·margin)."""
    height, width = plane.shape
    wide = out.shape[2]
    count = taps.shape[1]
    before = count // 2 - 1
    top = max(0, min(height - 1, first - margin - before))
    given = np.empty((max(0, min(height - 1, last - 1 - margin - before + count - 1)) - top + 1, wide + count - 1), np.float32)
    for y in range(len(given)):
        row = given[y]
        for x in range(len(row)):
            row[x] = plane[top + y, max(0, min(width - 1, x - margin - before))]
    line = np.empty(wide + count - 1, np.float32)
    for i in range(len(taps)):
        for y in range(first, last):
            line[:] = 0
            for k in range(count):
                tap, row = taps[i, k], given[max(0, min(height - 1, y - margin - before + k)) - top]
                if tap:
                    for x in range(len(line)):
                        line[x] += tap * row[x]
            for j in range(len(taps)):
                between(line.ctypes.data, taps[j].ctypes.data, wide, out[i * len(taps) + j, y].ctypes.data)


_absolute8, _squares8, _absolute16, _squares16 = (window_errors(size + 2 * OVERLAP, squared) for size in (8, 16) for squared in (False, True))


@helper
def _start(shape, order, block, overlap, r, c, dy, dx, age):
    """Where the window of a block, with some samples around it, begins in flat planes, by a vector."""
    _, count, tall, wide = shape
    window = block + 2 * overlap
    y = max(0, min(tall - window, r * block - overlap + (dy >> 2) + MARGIN))
    x = max(0, min(wide - window, c * block - overlap + (dx >> 2) + MARGIN))
    slot = order[min(age, len(order) - 1)]
    return ((slot * count + (dy & 3) * 4 + (dx & 3)) * tall + y) * wide + x


@helper
def _errors_of(flat, shape, order, current, block, r, c, dy, dx, age, rough):
    """The weighted sum of the errors of a block's window."""
    one, row = flat.ctypes.data + _start(shape, order, block, OVERLAP, r, c, dy, dx, age), current.shape[1]
    other, wide = current.ctypes.data + r * block * row + c * block, shape[3]
    if block == 8:
        return _absolute8(one, wide, other, row) if rough else _squares8(one, wide, other, row)
    return _absolute16(one, wide, other, row) if rough else _squares16(one, wide, other, row)


@helper
def _worth_of(total, block, multiplier, rough):
    """Bits that such a sum is worth."""
    area = np.float32(block * block)
    mean = np.float32(total) / np.float32(64) / area
    variance = SPREAD * mean * mean if rough else mean
    return INHERITED * area / np.float32(2) * np.log2(np.float32(1) + np.float32(2 * 0.6931471805599453) * multiplier * variance)


@helper
def _worth(flat, shape, order, current, block, r, c, dy, dx, age, multiplier, rough):
    """Bits that the errors of a block are worth."""
    return _worth_of(_errors_of(flat, shape, order, current, block, r, c, dy, dx, age, rough), block, multiplier, rough)


@helper
def _guess(dy, dx, age, logarithms):
    """A guess at the bits of a vector from its difference to the prediction."""
    dy, dx, age = abs(dy), abs(dx), abs(age)
    if dy + dx + age == 0:
        return np.float32(0)
    last = len(logarithms) - 1
    return np.float32(3) + np.float32(2) * (logarithms[min(dy, last)] + logarithms[min(dx, last)] + logarithms[min(age, last)])


@helper
def _median(a, b, c, d):
    """The mean of the middle two, rounded down."""
    return (a + b + c + d - max(a, b, c, d) - min(a, b, c, d)) >> 1


@helper
def _around(field, r, c, near):
    """Fill `near` (4, 3) with the vectors above, below, left and right; the border repeats. Returns what they predict: velocities and age."""
    rows, columns = field.shape[1:]
    up, down, left, right = max(0, r - 1), min(rows - 1, r + 1), max(0, c - 1), min(columns - 1, c + 1)
    for k in range(3):
        near[0, k], near[1, k], near[2, k], near[3, k] = field[k, up, c], field[k, down, c], field[k, r, left], field[k, r, right]
    a, b, d, e = UNIT // (near[0, 2] + 1), UNIT // (near[1, 2] + 1), UNIT // (near[2, 2] + 1), UNIT // (near[3, 2] + 1)
    vy = _median(near[0, 0] * a, near[1, 0] * b, near[2, 0] * d, near[3, 0] * e)
    vx = _median(near[0, 1] * a, near[1, 1] * b, near[2, 1] * d, near[3, 1] * e)
    return vy, vx, _median(near[0, 2], near[1, 2], near[2, 2], near[3, 2])


@kernel(
    "void(i8, i8, u1[:,:,:,::1], i4[::1], u1[:,::1], i8, i4[:,:,::1], i4[:,:,:,::1], b1, i4[:,::1], i8[::1], f4, b1, f4[::1], i4[:,:,::1])"
)
def refine(
    first: int, last: int, planes: Array, order: Array, current: Array, block: int, field: Array, extra: Array, followed: bool, ring: Array, steps: Array,
    multiplier: float, rough: bool, logarithms: Array, out: Array,
) -> None:  # fmt: skip
    """For some rows of blocks the best of the field itself, of what its neighbours tell, if `followed`, of `extra` (K, 3, h, w), and of rings around what is best so far.

    Args:
        ring: moves, (M, 2).
        steps: by which they are multiplied, one after the other.
        multiplier: the Lagrangian.
        rough: whether errors are absolute ones.
        logarithms: of 1 and more, base 2.
        out: (3, h, w).
    """
    flat, shape = planes.reshape(-1), planes.shape
    offered, near = np.empty((6 + len(extra), 3), np.int64), np.empty((4, 3), np.int64)
    for r in range(first, last):
        for c in range(field.shape[2]):
            vy, vx, mid = _around(field, r, c, near)
            for k in range(3):
                offered[0, k] = field[k, r, c]
            count = 1
            if followed:
                offered[1, 0], offered[1, 1], offered[1, 2] = displacement(vy, mid), displacement(vx, mid), mid
                for j in range(4):
                    for k in range(3):
                        offered[2 + j, k] = near[j, k]
                count = 6
            for e in range(len(extra)):
                for k in range(3):
                    offered[count, k] = extra[e, k, r, c]
                count += 1
            best, cost, vector, least = 0, np.float32(np.inf), np.float32(np.inf), np.int32(0x7FFFFFFF)
            for k in range(count):
                dy, dx, age = offered[k, 0], offered[k, 1], offered[k, 2]
                known = False
                for j in range(k):
                    known = known or (offered[j, 0] == dy and offered[j, 1] == dx and offered[j, 2] == age)
                if not known:
                    bits = _guess(dy - displacement(vy, age), dx - displacement(vx, age), age - mid, logarithms)
                    if bits < cost:
                        total = _errors_of(flat, shape, order, current, block, r, c, dy, dx, age, rough)
                        if bits < vector or total < least:  # what is worse in both needs no logarithm
                            both = bits + _worth_of(total, block, multiplier, rough)
                            if both < cost:
                                best, cost, vector, least = k, both, bits, total
            y, x, age = offered[best, 0], offered[best, 1], offered[best, 2]
            middle_y, middle_x = displacement(vy, age), displacement(vx, age)
            for step in steps:
                top, left = y, x
                for m in range(len(ring)):
                    dy, dx = top + ring[m, 0] * step, left + ring[m, 1] * step
                    bits = _guess(dy - middle_y, dx - middle_x, age - mid, logarithms)
                    if bits < cost:
                        total = _errors_of(flat, shape, order, current, block, r, c, dy, dx, age, rough)
                        if bits < vector or total < least:
                            both = bits + _worth_of(total, block, multiplier, rough)
                            if both < cost:
                                y, x, cost, vector, least = dy, dx, both, bits, total
            out[0, r, c], out[1, r, c], out[2, r, c] = y, x, age


@kernel("void(i8, i8, u1[:,:,:,::1], i4[::1], u1[:,::1], i8[::1], i4[:,:,::1], i8, f4, f4[:,::1])")
def errors(
    first: int, last: int, planes: Array, order: Array, current: Array, where: Array, fields: Array, columns: int, multiplier: float, out: Array
) -> None:
    """Bits that the errors of some 8×8 blocks are worth, by their numbers in rows of `columns`, from the first to the last of them: vectors (K, 3, n) -> (K, n)."""
    flat, shape = planes.reshape(-1), planes.shape
    for n in range(first, last):
        r, c = where[n] // columns, where[n] % columns
        for k in range(len(fields)):
            dy, dx, age = fields[k, 0, n], fields[k, 1, n], fields[k, 2, n]
            known = -1
            for j in range(k):
                if fields[j, 0, n] == dy and fields[j, 1, n] == dx and fields[j, 2, n] == age:
                    known = j
            if known >= 0:
                out[k, n] = out[known, n]
            else:
                out[k, n] = _worth(flat, shape, order, current, 8, r, c, dy, dx, age, multiplier, False)


@helper
def _overlapped(flat, shape, order, left_over, rows, columns, r, c, held, dy, dx, age, multiplier, weights, sums):
    """Bits that the errors of the window of an 8×8 block are worth where compensation overlaps, as they come out while all other vectors stay."""
    wide = shape[3]
    first_then, first_now = _start(shape, order, 8, 4, r, c, held[0], held[1], held[2]), _start(shape, order, 8, 4, r, c, dy, dx, age)
    for j in range(16):
        alone = (c == 0 and j < 8) or (c == columns - 1 and j >= 8)  # beyond the border there is no other vector
        weights[j] = np.float32(1) if alone else np.float32(2 * min(j, 15 - j) + 1) / np.float32(16)
        sums[j] = 0
    for i in range(4 if r == 0 else 0, 12 if r == rows - 1 else 16):
        alone = (r == 0 and i < 8) or (r == rows - 1 and i >= 8)
        weight = np.float32(1) if alone else np.float32(2 * min(i, 15 - i) + 1) / np.float32(16)
        before, now = flat[first_then + i * wide : first_then + i * wide + 16], flat[first_now + i * wide : first_now + i * wide + 16]
        line = left_over[r * 8 + i, c * 8 : c * 8 + 16]
        for j in range(16):
            error = line[j] + weight * weights[j] * (np.float32(before[j]) - np.float32(now[j]))
            sums[j] += error * error
    total, first, last = np.float32(0), 4 if c == 0 else 0, 12 if c == columns - 1 else 16
    for j in range(first, last):
        total += sums[j]
    area = np.float32((last - first) * ((12 if r == rows - 1 else 16) - (4 if r == 0 else 0)))
    return INHERITED * area / np.float32(2) * np.log2(np.float32(1) + np.float32(2 * 0.6931471805599453) * multiplier * total / area)


@helper
def _both(flat, shape, order, current, left_over, rows, columns, r, c, held, dy, dx, age, multiplier, weights, sums):
    """The block's own errors count for one half, since the context moves block by block."""
    alone = _worth(flat, shape, order, current, 8, r, c, dy, dx, age, multiplier, False)
    return (alone + _overlapped(flat, shape, order, left_over, rows, columns, r, c, held, dy, dx, age, multiplier, weights, sums)) / np.float32(2)


@kernel("void(i8, i8, i8, u1[:,:,:,::1], i4[::1], u1[:,::1], f4[:,::1], i4[:,:,::1], i4[:,::1], i8[::1], f4, f4[::1], i4[:,:,::1])")
def settle(
    first: int, last: int, parity: int, planes: Array, order: Array, current: Array, left_over: Array, field: Array, ring: Array, steps: Array,
    multiplier: float, logarithms: Array, out: Array,
) -> None:  # fmt: skip
    """For every second block of every second row: the best of its vector, those around it, what they predict, and small moves, where compensation overlaps.

    Args:
        parity: which of the four sets of blocks, whose windows do not overlap.
        left_over: the errors of the field as it is, (H + 8, W + 8), with zeros around them.
        ring, steps, multiplier, logarithms: as of `refine`.
        out: (3, h, w), where only these are set.
    """
    flat, shape = planes.reshape(-1), planes.shape
    rows, columns = field.shape[1:]
    offered, near = np.empty((6, 3), np.int64), np.empty((4, 3), np.int64)
    weights, sums = np.empty(16, np.float32), np.empty(16, np.float32)
    for r in range(first, last):
        if r & 1 != parity >> 1:
            continue
        for c in range(parity & 1, columns, 2):
            vy, vx, mid = _around(field, r, c, near)
            held = field[:, r, c]
            for k in range(3):
                offered[0, k] = held[k]
                for j in range(4):
                    offered[1 + j, k] = near[j, k]
            offered[5, 0], offered[5, 1], offered[5, 2] = displacement(vy, mid), displacement(vx, mid), mid
            best, cost = 0, np.float32(np.inf)
            for k in range(6):
                dy, dx, age = offered[k, 0], offered[k, 1], offered[k, 2]
                bits = _guess(dy - displacement(vy, age), dx - displacement(vx, age), age - mid, logarithms)
                if bits < cost:
                    bits += _both(flat, shape, order, current, left_over, rows, columns, r, c, held, dy, dx, age, multiplier, weights, sums)
                if bits < cost:
                    best, cost = k, bits
            y, x, age = offered[best, 0], offered[best, 1], offered[best, 2]
            middle_y, middle_x = displacement(vy, age), displacement(vx, age)
            for step in steps:
                top, left = y, x
                for m in range(len(ring)):
                    dy, dx = top + ring[m, 0] * step, left + ring[m, 1] * step
                    bits = _guess(dy - middle_y, dx - middle_x, age - mid, logarithms)
                    if bits < cost:
                        bits += _both(flat, shape, order, current, left_over, rows, columns, r, c, held, dy, dx, age, multiplier, weights, sums)
                    if bits < cost:
                        y, x, cost = dy, dx, bits
            out[0, r, c], out[1, r, c], out[2, r, c] = y, x, age


@kernel("void(i8, i8, u1[:,:,:,::1], i4[::1], u1[:,::1], f4[:,::1], i8[::1], i4[:,:,::1], i8, i8, f4, f4[:,::1])")
def overlapped_errors(
    first: int, last: int, planes: Array, order: Array, current: Array, left_over: Array, where: Array, fields: Array, rows: int, columns: int, multiplier: float, out: Array
) -> None:
    """`errors` where compensation overlaps; the first of the vectors is that of the field."""
    flat, shape = planes.reshape(-1), planes.shape
    weights, sums = np.empty(16, np.float32), np.empty(16, np.float32)
    for n in range(first, last):
        r, c, held = where[n] // columns, where[n] % columns, fields[0, :, n]
        for k in range(len(fields)):
            dy, dx, age = fields[k, 0, n], fields[k, 1, n], fields[k, 2, n]
            out[k, n] = _both(flat, shape, order, current, left_over, rows, columns, r, c, held, dy, dx, age, multiplier, weights, sums)


@kernel("void(i8[::1], i4[:,:,::1], f4[:,::1], f4[:,::1], f4, i4[:,::1])")
def choose(where: Array, fields: Array, worth: Array, bits: Array, price: float, field: Array) -> None:
    """Set some of a field's vectors (3, blocks) to those of `fields` (K, 3, n) that cost least, the first of such that cost the same."""
    for n in range(len(where)):
        best, cost = 0, worth[0, n] + price * bits[0, n]
        for k in range(1, len(fields)):
            other = worth[k, n] + price * bits[k, n]
            if other < cost:
                best, cost = k, other
        for c in range(3):
            field[c, where[n]] = fields[best, c, n]


@kernel("void(f4[:,::1], i8, f4[:,::1])")
def quarter(plane: Array, around: int, out: Array) -> None:
    """Means of 4×4 samples, with some `around` that repeat the border: (H, W) -> (H/4 + 2·around, W/4 + 2·around)."""
    rows, columns = len(plane) // 4, plane.shape[1] // 4
    for r in range(len(out)):
        y, line = 4 * max(0, min(rows - 1, r - around)), out[r]
        for c in range(columns):
            total = np.float32(0)
            for i in range(4):
                for j in range(4):
                    total += plane[y + i, 4 * c + j]
            line[around + c] = total * np.float32(1 / 16)
        line[:around] = line[around]
        line[around + columns :] = line[around + columns - 1]


@helper
def _apart(plane, columns):
    """Every fourth column side by side, with zeros behind them: (H, W) -> (4, H, columns)."""
    out = np.zeros((4, len(plane), columns), np.float32)
    for y in range(len(plane)):
        for x in range(plane.shape[1]):
            out[x & 3, y, x >> 2] = plane[y, x]
    return out


@kernel("void(i8, i8, f4[:,::1], f4[:,::1], i8, i4[:,:,::1])")
def coarse(first: int, last: int, small: Array, past: Array, radius: int, out: Array) -> None:
    """Full search of some rows of 4×4 blocks (h, w) within `radius`, of pictures at a quarter of the resolution; `past` has as much around it, repeated. Vectors (2, h, w) are in its samples.

    The error of a block is the mean of those of the blocks around it, and a quarter of its own.
    """
    rows, columns = len(small) // 4, small.shape[1] // 4
    wide = (columns + 15) // 16 * 16  # so that loops over columns are whole vectors
    now, then = _apart(small, wide), _apart(past, wide + (past.shape[1] - small.shape[1] + 7) // 4)
    error, least = np.zeros((rows + 2, wide + 2), np.float32), np.full((rows, wide), np.inf, np.float32)
    count, down = np.empty((rows, wide), np.float32), np.zeros(wide + 2, np.float32)
    for r in range(rows):
        for c in range(wide):
            count[r, c] = (min(rows, r + 2) - max(0, r - 1)) * max(1, min(columns, c + 2) - max(0, c - 1))
    best, sums = np.zeros((rows, wide), np.int32), np.empty(wide, np.float32)
    for dy in range(2 * radius + 1):
        for dx in range(2 * radius + 1):
            price = np.float32(0.02) * np.float32(abs(dy - radius) + abs(dx - radius))
            place = np.int32(dy * (2 * radius + 1) + dx)
            for r in range(max(0, first - 1), min(rows, last + 1)):
                block_errors(
                    now[0, 4 * r].ctypes.data, now.strides[0], then[0, 4 * r + dy].ctypes.data, then.strides[0], dx,
                    now.strides[1], then.strides[1], wide, sums.ctypes.data,
                )  # fmt: skip
                error[r + 1, 1 : 1 + columns] = sums[:columns]
            for r in range(first, last):
                above, here, below = error[r], error[r + 1], error[r + 2]
                for c in range(wide + 2):
                    down[c] = above[c] + here[c] + below[c]
                left, middle, right, own = down[:wide], down[1 : wide + 1], down[2 : wide + 2], error[r + 1, 1 : wide + 1]
                low, where, around = least[r], best[r], count[r]
                for c in range(wide):
                    cost = (left[c] + middle[c] + right[c]) / around[c] + own[c] / np.float32(4) + price
                    where[c] = place if cost < low[c] else where[c]
                    low[c] = cost if cost < low[c] else low[c]
    for r in range(first, last):
        for c in range(columns):
            out[0, r, c], out[1, r, c] = best[r, c] // (2 * radius + 1) - radius, best[r, c] % (2 * radius + 1) - radius
