"""Reading symbols: rANS as in CompressAI's coder, and the vectors of one step of the pyramid, whose every symbol depends on those before.

A source is two arrays: `state`, the coder's 64 bits, and `place`, the next word of the payload and how many symbols are still allowed.
"""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.tables import BYTES, FIRST, FLAG_STEP, FLAGS, SCALES, STEP
from models.vectors import LIMIT, REFERENCES, UNIT

NEAR, SKIP = 5, 2
INPUTS = 17
"""Of an estimator, before those from the context."""


@helper
def _symbols(state, place, words, cumulative, begins, buckets, reaches, indexes, found):
    """Symbols of a group, and after them the values of those that are escaped; False if there are too many."""
    place[1] -= len(indexes)
    if place[1] < 0:
        return False
    x, next_word, escaped = state[0], place[0], 0
    for k in range(len(indexes)):
        table = np.uint64(indexes[k])
        low = x & np.uint64(0xFFFF)
        entry = np.uint64(begins[table]) + np.uint64(buckets[table << np.uint64(8) | low >> np.uint64(8)])
        start, end = np.uint64(cumulative[entry]), np.uint64(cumulative[entry + np.uint64(1)])
        while end <= low:
            entry += np.uint64(1)
            start, end = end, np.uint64(cumulative[entry + np.uint64(1)])
        x = (end - start) * (x >> np.uint64(16)) + (low - start)
        if x < np.uint64(1 << 31):
            x <<= np.uint64(32)
            if next_word < len(words):  # zeros follow the payload
                x |= np.uint64(words[np.uint64(next_word)])
            next_word += 1
        symbol = np.int32(entry - np.uint64(begins[table]))
        if table < np.uint64(SCALES):
            symbol -= reaches[table]
            escaped += symbol > reaches[table]
        found[k] = symbol
    state[0], place[0] = x, next_word
    if escaped:
        values = np.empty(2 * escaped, np.int32)
        if not _symbols(state, place, words, cumulative, begins, buckets, reaches, np.full(2 * escaped, BYTES, np.int32), values):
            return False
        n = 0
        for k in range(len(indexes)):
            if indexes[k] < SCALES and found[k] > reaches[indexes[k]]:
                value = values[n] + 256 * values[n + 1]
                found[k] = value - 65536 if value >= 32768 else value
                n += 2
    return True


@kernel("b1(u8[::1], i8[::1], u4[::1], i4[::1], i4[::1], u2[::1], i4[::1], i4[::1], i4[::1])")
def read_symbols(state: Array, place: Array, words: Array, cumulative: Array, begins: Array, buckets: Array, reaches: Array, indexes: Array, found: Array) -> bool:
    """Symbols `found` (n,) by the tables `indexes` (n,); False if there are more than allowed."""
    return _symbols(state, place, words, cumulative, begins, buckets, reaches, indexes, found)


@helper
def _median(values):
    """Of five."""
    a, b, c, d, e = values[0], values[1], values[2], values[3], values[4]
    low = max(min(a, b), min(c, d))
    high = min(max(a, b), max(c, d))
    return max(min(low, high), min(max(low, high), e))


@helper
def _displacement(speed, age):
    moved = (speed * (age + 1) + UNIT // 2) // UNIT
    return max(-LIMIT, min(LIMIT - 1, moved))


@helper
def _layer(x, scale, low, weight, bias, a, total):
    """A 1×1 convolution of the integers that x (inputs,) is read as: weight is (inputs, outputs)."""
    for i in range(len(scale)):
        a[i] = max(np.float32(low), min(np.float32(low + 255), np.rint(x[i] * scale[i])))
    outputs = len(bias)
    for o in range(outputs):
        total[o] = bias[o]
    for i in range(len(scale)):
        value = a[i]
        for o in range(outputs):
            total[o] += weight[i, o] * value


_LAYER = "f4[::1], i8, f4[:,::1], f4[::1]"


@kernel(
    "b1(u8[::1], i8[::1], u4[::1], i4[::1], i4[::1], u2[::1], i4[::1], i4[:,::1], i4[:,::1], f4[:,::1], f4, i8[::1], i8[::1], i8[::1], "
    f"{_LAYER}, {_LAYER}, {_LAYER})"
)
def read_vectors(
    state: Array, place: Array, words: Array, cumulative: Array, begins: Array, buckets: Array, reaches: Array,
    field: Array, past: Array, side: Array, quality: float, where: Array, around: Array, ends: Array,
    scale1: Array, low1: int, weight1: Array, bias1: Array, scale2: Array, low2: int, weight2: Array, bias2: Array,
    scale3: Array, low3: int, weight3: Array, bias3: Array,
) -> bool:  # fmt: skip
    """The vectors of one step; False if there are more symbols than allowed.

    Args:
        field, past: this frame's vectors, to be filled, and the last one's, (3, blocks).
        side: what the estimator sees of the context, (blocks, SIDE).
        where, around, ends: `models.motion.Cells`.
        scale1 and so on: the three layers of the estimator.
    """
    count = len(where)
    near = np.empty((NEAR, 3, count), np.int64)
    speeds, ages = np.empty((3, NEAR), np.int64), np.empty(NEAR, np.int64)
    middle = np.empty((3, count), np.int64)  # predicted velocity and age
    base = np.empty((3, count), np.int64)
    distinct = np.empty((NEAR, count), np.bool_)
    tables = np.empty((1 + NEAR + 3, count), np.int32)
    widest = max(len(scale1), len(bias1), len(bias2), len(bias3))
    x, a, total = np.empty(widest, np.float32), np.empty(widest, np.float32), np.empty(widest, np.float32)
    for n in range(count):
        cell = where[n]
        for k in range(NEAR):
            for c in range(3):
                near[k, c, n] = field[c, around[k * count + n]] if len(around) and k < NEAR - 1 else past[c, cell]
            unit = UNIT // (near[k, 2, n] + 1)
            speeds[0, k], speeds[1, k], speeds[2, k] = near[k, 0, n] * unit, near[k, 1, n] * unit, near[k, 2, n]
        for c in range(3):
            middle[c, n] = _median(speeds[c])
        age = middle[2, n]
        base[0, n], base[1, n], base[2, n] = _displacement(middle[0, n], age), _displacement(middle[1, n], age), age
        for k in range(NEAR):
            other = near[k, 0, n] != base[0, n] or near[k, 1, n] != base[1, n] or near[k, 2, n] != base[2, n]
            for j in range(k):
                other = other and (near[k, 0, n] != near[j, 0, n] or near[k, 1, n] != near[j, 1, n] or near[k, 2, n] != near[j, 2, n])
            distinct[k, n] = other
            for c in range(2):
                moved = _displacement(speeds[c, k], age) - base[c, n]
                x[2 * k + c] = np.float32(max(-64, min(64, moved))) / np.float32(8)
            x[2 * NEAR + 1 + k] = np.float32(near[k, 2, n] - age)
        x[2 * NEAR] = quality
        x[3 * NEAR + 1] = np.float32(age)
        for i in range(side.shape[1]):
            x[INPUTS + i] = side[cell, i]
        _layer(x, scale1, low1, weight1, bias1, a, total)
        _layer(total, scale2, low2, weight2, bias2, a, x)
        _layer(x, scale3, low3, weight3, bias3, a, total)
        for k in range(1 + NEAR + 3):
            raw = max(np.float32(-8), min(np.float32(8), np.rint(total[k] * np.float32(4096)) / np.float32(4096)))
            if k < 1 + NEAR:
                tables[k, n] = SCALES + max(0, min(FLAGS - 1, int(np.floor(raw / FLAG_STEP + FLAGS / 2))))
            else:
                tables[k, n] = max(0, min(SCALES - 1, int(np.rint((raw - FIRST) / STEP))))
    left, asked = np.empty(count, np.int64), np.empty(count, np.int64)
    indexes, found = np.empty(3 * count, np.int32), np.empty(3 * count, np.int32)
    begin = 0
    for end in ends:
        size = end - begin
        if not _symbols(state, place, words, cumulative, begins, buckets, reaches, tables[0, begin:end], found[:size]):
            return False
        wrong = 0
        for n in range(begin, end):
            if found[n - begin]:
                left[wrong] = n
                wrong += 1
        for k in range(NEAR):
            size = 0
            for m in range(wrong):
                if distinct[k, left[m]]:
                    asked[size] = m
                    indexes[size] = tables[1 + k, left[m]]
                    size += 1
            if not _symbols(state, place, words, cumulative, begins, buckets, reaches, indexes[:size], found[:size]):
                return False
            for m in range(size):
                if found[m]:
                    n = left[asked[m]]
                    for c in range(3):
                        base[c, n] = near[k, c, n]
                    left[asked[m]] = -1
            size = 0
            for m in range(wrong):
                if left[m] >= 0:
                    left[size] = left[m]
                    size += 1
            wrong = size
        for c in range(3):
            for m in range(wrong):
                indexes[c * wrong + m] = tables[1 + NEAR + c, left[m]]
        size = 3 * wrong
        if not _symbols(state, place, words, cumulative, begins, buckets, reaches, indexes[:size], found[:size]):
            return False
        for m in range(wrong):
            n = left[m]
            age = max(0, min(REFERENCES - 1, middle[2, n] + found[2 * wrong + m]))
            for c in range(2):
                base[c, n] = max(-LIMIT, min(LIMIT - 1, _displacement(middle[c, n], age) + found[c * wrong + m]))
            base[2, n] = age
        begin = end
    for n in range(count):
        for c in range(3):
            field[c, where[n]] = base[c, n]
    return True


@helper
def _step(value, unstep, limit):
    """A value in quantisation steps as a stream tensor's."""
    value = min(max(np.rint(value * np.float32(64)) * np.float32(1 / 64), -limit), limit)
    return min(max(np.rint(value * unstep * np.float32(4096)), np.float32(-32639)), np.float32(32639)) * np.float32(1 / 4096)


@kernel("b1(u8[::1], i8[::1], u4[::1], i4[::1], i4[::1], u2[::1], i4[::1], f4[:,::1], f4[:,::1], f4[::1], f4, f4[:,::1])")
def read_latent(
    state: Array, place: Array, words: Array, cumulative: Array, begins: Array, buckets: Array, reaches: Array,
    mean: Array, scale: Array, unstep: Array, limit: float, out: Array,
) -> bool:  # fmt: skip
    """The latent; False if there are more symbols than allowed.

    Args:
        mean, scale: what it is predicted to be in quantisation steps, (n, N); symbols are in the order of channels, then places.
        unstep: the quantisation steps, (N,).
        limit: the largest values in steps.
        out: (n, N).
    """
    count, channels = mean.shape
    tables = np.empty((channels, count), np.uint8)
    for n in range(count):
        for c in range(channels):
            index = np.rint((scale[n, c] - np.float32(FIRST)) * np.float32(1 / STEP))
            tables[c, n] = np.uint8(np.int32(min(max(index, np.float32(0)), np.float32(SCALES - 1))))
            out[n, c] = _step(mean[n, c], unstep[c], limit)
    flat = tables.reshape(-1)
    where, indexes = np.empty(count * channels, np.int32), np.empty(count * channels, np.int32)
    size = 0
    for k in range(count * channels):
        where[size], indexes[size] = k, flat[k]
        size += flat[k] >= SKIP
    found = np.empty(size, np.int32)
    if not _symbols(state, place, words, cumulative, begins, buckets, reaches, indexes[:size], found):
        return False
    for k in range(size):
        c, n = where[k] // count, where[k] % count
        if found[k]:
            out[n, c] = _step(mean[n, c] + np.float32(found[k]), unstep[c], limit)
    return True
