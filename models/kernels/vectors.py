"""The vectors of one step of the pyramid, whose every symbol depends on those before: what they are predicted from, which tables their symbols have, and what they take."""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel, lanes, products
from models.kernels.arithmetic import displacement
from models.kernels.coding import SOURCE, read_group
from models.kernels.lanes import SUMS
from models.kernels.layers import LAYER, READER, Layer, Reader, _hand_on, _multiply, _strip
from models.kernels.products import COLUMNS, DEPTH, ROWS, at, room_for_sums, scratch
from models.pyramid import NEAR
from models.tables import FIRST, FLAG_STEP, FLAGS, SCALES, STEP
from models.vectors import LIMIT, REFERENCES, UNIT

SPEEDS = np.array([UNIT // (age + 1) for age in range(REFERENCES)])
"""What a displacement is multiplied by to be a velocity, by its age: divisions take long."""
INPUTS = 17
"""Of an estimator, before those from the context."""


@helper
def _median(values):
    """Of five."""
    a, b, c, d, e = values[0], values[1], values[2], values[3], values[4]
    low = max(min(a, b), min(c, d))
    high = min(max(a, b), max(c, d))
    return max(min(low, high), min(max(low, high), e))


@helper
def _surround(first, last, field, past, where, around, near, middle, base, distinct):
    """See `surround`."""
    count = len(where)
    speeds = np.empty((3, NEAR), np.int64)
    for n in range(first, last):
        for k in range(NEAR):
            for c in range(3):
                near[k, c, n] = field[c, around[k * count + n]] if len(around) and k < NEAR - 1 else past[c, where[n]]
            unit = SPEEDS[near[k, 2, n] & 7]
            speeds[0, k], speeds[1, k], speeds[2, k] = near[k, 0, n] * unit, near[k, 1, n] * unit, near[k, 2, n]
        for c in range(3):
            middle[c, n] = _median(speeds[c])
        for c in range(2):
            base[c, n] = displacement(middle[c, n], middle[2, n])
        base[2, n] = middle[2, n]
        for k in range(NEAR):
            other = near[k, 0, n] != base[0, n] or near[k, 1, n] != base[1, n] or near[k, 2, n] != base[2, n]
            for j in range(k):
                other = other and (near[k, 0, n] != near[j, 0, n] or near[k, 1, n] != near[j, 1, n] or near[k, 2, n] != near[j, 2, n])
            distinct[k, n] = other


@helper
def _without(left, count):
    """Remove what is negative; returns how many stay."""
    size = 0
    for m in range(count):
        if left[m] >= 0:
            left[size] = left[m]
            size += 1
    return size


_FIELD, _CELLS = "i4[:,::1], i4[:,::1]", "i8[::1], i8[::1]"
_PLACE = "i8[:,:,::1], i8[:,::1], i8[:,::1], b1[:,::1]"


@kernel(f"void({_FIELD}, {_CELLS}, {_PLACE})")
def surround(field: Array, past: Array, where: Array, around: Array, near: Array, middle: Array, base: Array, distinct: Array) -> None:
    """What the vectors of one step are predicted from: `models.motion.Place`.

    Args:
        field, past: this frame's vectors and the last one's, (3, blocks).
        where, around: `models.motion.Cells`.
        near: to be filled with the vectors beside each and the one before, (NEAR, 3, n).
        middle: with their median velocity and age, (3, n).
        base: with the predicted vectors, (3, n).
        distinct: with where each of `near` is none before it and not the prediction, (NEAR, n).
    """
    _surround(0, len(where), field, past, where, around, near, middle, base, distinct)


@kernel(f"void(i8, i8, {_FIELD}, {_CELLS}, {_PLACE}, f4[:,::1], f4, {READER}, {LAYER}, {LAYER}, {LAYER}, i4[:,::1])")
def foretell(
    first: int, last: int, field: Array, past: Array, where: Array, around: Array, near: Array, middle: Array, base: Array, distinct: Array, side: Array, quality: float,
    reader: Reader, enter: Layer, inner: Layer, leave: Layer, tables: Array,
) -> None:  # fmt: skip
    """`surround` of some vectors, and which tables their symbols have: the flags and the difference, (1 + NEAR + 3, n).

    Args:
        side: what the estimator sees of the context, (blocks, SIDE).
        quality: the rate point, from -1/2 to 1/2.
        reader, enter, inner, leave: how the estimator's first layer reads, and its layers, none of which gives more channels than a product does.
    """
    _surround(first, last, field, past, where, around, near, middle, base, distinct)
    scale, low = reader
    width, sums = len(scale), room_for_sums()
    x, said = np.zeros((ROWS, width), np.float32), scratch(SUMS * ROWS).view(np.float32).reshape(ROWS, COLUMNS)
    given, hidden, deeper = (_strip(4 * enter[0].shape[1], DEPTH), _strip(4 * inner[0].shape[1], DEPTH), _strip(4 * leave[0].shape[1], DEPTH))
    products.begin()
    for start in range(first, last, ROWS):
        count = min(ROWS, last - start)
        for r in range(count):
            n = start + r
            line, age = x[r], middle[2, n]
            for k in range(NEAR):
                unit = SPEEDS[near[k, 2, n] & 7]
                for c in range(2):
                    moved = displacement(near[k, c, n] * unit, age) - base[c, n]
                    line[2 * k + c] = np.float32(max(-64, min(64, moved))) / np.float32(8)
                line[2 * NEAR + 1 + k] = np.float32(near[k, 2, n] - age)
            line[2 * NEAR] = quality
            line[3 * NEAR + 1] = np.float32(age)
            for i in range(side.shape[1]):
                line[INPUTS + i] = side[where[n], i]
        lanes.read(at(x), 4 * width, width, count, at(scale), low, at(given), given.shape[1])
        _hand_on(given, enter, count, sums, hidden)
        _hand_on(hidden, inner, count, sums, deeper)
        _multiply(deeper, leave[0][0], sums)
        lanes.give(at(sums), at(leave[1]), at(leave[2]), count, at(said), SUMS)
        for r in range(count):
            for k in range(1 + NEAR + 3):
                raw = max(np.float32(-8), min(np.float32(8), np.rint(said[r, k] * np.float32(4096)) / np.float32(4096)))
                if k < 1 + NEAR:
                    tables[k, start + r] = SCALES + max(0, min(FLAGS - 1, int(np.floor(raw / FLAG_STEP + FLAGS / 2))))
                else:
                    tables[k, start + r] = max(0, min(SCALES - 1, int(np.rint((raw - FIRST) / STEP))))
    products.end()


@kernel(f"b1({SOURCE}, i4[:,::1], i8[::1], i8[::1], {_PLACE}, i4[:,::1])")
def read_vectors(
    state: Array, place: Array, words: Array, cumulative: Array, begins: Array, buckets: Array, reaches: Array, field: Array, where: Array, ends: Array,
    near: Array, middle: Array, base: Array, distinct: Array, tables: Array,
) -> bool:  # fmt: skip
    """The vectors of one step, which `foretell` has told of, in groups that end at `ends`; False if there are more symbols than allowed."""
    count = len(where)
    left, asked = np.empty(count, np.int64), np.empty(count, np.int64)
    indexes, found = np.empty(3 * count, np.int32), np.empty(3 * count, np.int32)
    begin = 0
    for end in ends:
        size = end - begin
        if not read_group(state, place, words, cumulative, begins, buckets, reaches, tables[0, begin:end], found[:size]):
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
            if not read_group(state, place, words, cumulative, begins, buckets, reaches, indexes[:size], found[:size]):
                return False
            for m in range(size):
                if found[m]:
                    n = left[asked[m]]
                    for c in range(3):
                        base[c, n] = near[k, c, n]
                    left[asked[m]] = -1
            wrong = _without(left, wrong)
        for c in range(3):
            for m in range(wrong):
                indexes[c * wrong + m] = tables[1 + NEAR + c, left[m]]
        size = 3 * wrong
        if not read_group(state, place, words, cumulative, begins, buckets, reaches, indexes[:size], found[:size]):
            return False
        for m in range(wrong):
            n = left[m]
            age = max(0, min(REFERENCES - 1, middle[2, n] + found[2 * wrong + m]))
            for c in range(2):
                base[c, n] = max(-LIMIT, min(LIMIT - 1, displacement(middle[c, n], age) + found[c * wrong + m]))
            base[2, n] = age
        begin = end
    for n in range(count):
        for c in range(3):
            field[c, where[n]] = base[c, n]
    return True


@kernel(f"i8(i4[:,::1], i8[::1], i8, i8, {_PLACE}, i4[:,::1], i4[::1], i4[::1])")
def vector_symbols(
    field: Array, where: Array, begin: int, end: int, near: Array, middle: Array, base: Array, distinct: Array, tables: Array,
    symbols: Array, indexes: Array,
) -> int:  # fmt: skip
    """The inverse of `read_vectors`, for one group: fills `symbols` and `indexes`, and returns how many there are."""
    left = np.empty(end - begin, np.int64)
    size, wrong = 0, 0
    for n in range(begin, end):
        cell = where[n]
        other = field[0, cell] != base[0, n] or field[1, cell] != base[1, n] or field[2, cell] != base[2, n]
        symbols[size], indexes[size] = other, tables[0, n]
        size += 1
        if other:
            left[wrong] = n
            wrong += 1
    for k in range(NEAR):
        for m in range(wrong):
            n = left[m]
            if distinct[k, n]:
                cell = where[n]
                same = field[0, cell] == near[k, 0, n] and field[1, cell] == near[k, 1, n] and field[2, cell] == near[k, 2, n]
                symbols[size], indexes[size] = same, tables[1 + k, n]
                size += 1
                if same:
                    left[m] = -1
        wrong = _without(left, wrong)
    for c in range(3):
        for m in range(wrong):
            n = left[m]
            age = field[2, where[n]]
            symbols[size] = age - middle[2, n] if c == 2 else field[c, where[n]] - displacement(middle[c, n], age)
            indexes[size] = tables[1 + NEAR + c, n]
            size += 1
    return size


@kernel(f"void(i4[:,:,::1], {_PLACE}, i4[:,::1], f4[::1], i4[::1], i4[::1], f4[:,::1])")
def vector_bits(
    fields: Array, near: Array, middle: Array, base: Array, distinct: Array, tables: Array, costs: Array, begins: Array, reaches: Array, bits: Array
) -> None:
    """What vectors (K, 3, n) would take in the stream: (K, n). `costs` are the bits of every symbol of every table."""
    for v in range(len(fields)):
        for n in range(fields.shape[2]):
            y, x, age = fields[v, 0, n], fields[v, 1, n], fields[v, 2, n]
            wrong = y != base[0, n] or x != base[1, n] or age != base[2, n]
            total = costs[begins[tables[0, n]] + wrong]
            for k in range(NEAR):
                if wrong and distinct[k, n]:
                    same = y == near[k, 0, n] and x == near[k, 1, n] and age == near[k, 2, n]
                    total += costs[begins[tables[1 + k, n]] + same]
                    wrong = not same
            if wrong:
                for c in range(3):
                    table = tables[1 + NEAR + c, n]
                    symbol = age - middle[2, n] if c == 2 else fields[v, c, n] - displacement(middle[c, n], age)
                    if abs(symbol) > reaches[table]:
                        total += np.float32(16)
                        symbol = reaches[table] + 1
                    total += costs[begins[table] + symbol + reaches[table]]
            bits[v, n] = total


@kernel("void(i4[:,:,::1], i8[:,::1], f4[:,::1])")
def guessed_bits(fields: Array, middle: Array, bits: Array) -> None:
    """A guess at what vectors (K, 3, n) would take, from their differences to the prediction: (K, n). See `models.search.vector_bits`."""
    for v in range(len(fields)):
        for n in range(fields.shape[2]):
            age = fields[v, 2, n]
            y = abs(fields[v, 0, n] - displacement(middle[0, n], age))
            x = abs(fields[v, 1, n] - displacement(middle[1, n], age))
            older = abs(age - middle[2, n])
            known = np.log2(np.float32(1 + y)) + np.log2(np.float32(1 + x)) + np.log2(np.float32(1 + older))
            bits[v, n] = np.float32(2) * known + np.float32(3 if y + x + older else 0)
