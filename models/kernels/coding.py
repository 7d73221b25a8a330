"""Reading symbols: rANS as in CompressAI's coder, and the vectors of one step of the pyramid, whose every symbol depends on those before.

A source is two arrays: `state`, the coder's 64 bits, and `place`, the next word of the payload and how many symbols are still allowed.
"""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.kernels.arithmetic import displacement, grid
from models.kernels.lanes import dense
from models.kernels.products import at
from models.pyramid import NEAR
from models.tables import BYTES, FIRST, FLAG_STEP, FLAGS, SCALES, SKIP, STEP
from models.vectors import LIMIT, REFERENCES, UNIT

SPEEDS = np.array([UNIT // (age + 1) for age in range(REFERENCES)])
"""What a displacement is multiplied by to be a velocity, by its age: divisions take long."""
INPUTS = 17
"""Of an estimator, before those from the context."""

_SOURCE = "u8[::1], i8[::1], u4[::1], i4[::1], i4[::1], u2[::1], i4[::1]"


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


@kernel(f"b1({_SOURCE}, i4[::1], i4[::1])")
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
def _layer(x, scale, low, weight, bias, a, out):
    """A 1×1 convolution of the integers that x (inputs,) is read as: weight is (inputs, outputs); both sizes are padded to multiples of 16."""
    dense(at(x), at(scale), np.float32(low), len(scale), at(weight), at(bias), len(bias), at(a), at(out))


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
_LAYER = "f4[::1], i8, f4[:,::1], f4[::1]"


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


@kernel(f"void(i8, i8, {_FIELD}, {_CELLS}, {_PLACE}, f4[:,::1], f4, {_LAYER}, {_LAYER}, {_LAYER}, i4[:,::1])")
def foretell(
    first: int, last: int, field: Array, past: Array, where: Array, around: Array, near: Array, middle: Array, base: Array, distinct: Array, side: Array, quality: float,
    scale1: Array, low1: int, weight1: Array, bias1: Array, scale2: Array, low2: int, weight2: Array, bias2: Array,
    scale3: Array, low3: int, weight3: Array, bias3: Array, tables: Array,
) -> None:  # fmt: skip
    """`surround` of some vectors, and which tables their symbols have: the flags and the difference, (1 + NEAR + 3, n).

    Args:
        side: what the estimator sees of the context, (blocks, SIDE).
        quality: the rate point, from -1/2 to 1/2.
        scale1 and so on: the three layers of the estimator, with their sizes padded to multiples of 16.
    """
    _surround(first, last, field, past, where, around, near, middle, base, distinct)
    widest = max(len(scale1), len(bias1), len(bias2), len(bias3))
    x, a, inner, total = np.zeros(widest, np.float32), np.empty(widest, np.float32), np.empty(widest, np.float32), np.empty(widest, np.float32)
    for n in range(first, last):
        age = middle[2, n]
        for k in range(NEAR):
            unit = SPEEDS[near[k, 2, n] & 7]
            for c in range(2):
                moved = displacement(near[k, c, n] * unit, age) - base[c, n]
                x[2 * k + c] = np.float32(max(-64, min(64, moved))) / np.float32(8)
            x[2 * NEAR + 1 + k] = np.float32(near[k, 2, n] - age)
        x[2 * NEAR] = quality
        x[3 * NEAR + 1] = np.float32(age)
        for i in range(side.shape[1]):
            x[INPUTS + i] = side[where[n], i]
        _layer(x, scale1, low1, weight1, bias1, a, total)
        _layer(total, scale2, low2, weight2, bias2, a, inner)
        _layer(inner, scale3, low3, weight3, bias3, a, total)
        for k in range(1 + NEAR + 3):
            raw = max(np.float32(-8), min(np.float32(8), np.rint(total[k] * np.float32(4096)) / np.float32(4096)))
            if k < 1 + NEAR:
                tables[k, n] = SCALES + max(0, min(FLAGS - 1, int(np.floor(raw / FLAG_STEP + FLAGS / 2))))
            else:
                tables[k, n] = max(0, min(SCALES - 1, int(np.rint((raw - FIRST) / STEP))))


@kernel(f"b1({_SOURCE}, i4[:,::1], i8[::1], i8[::1], {_PLACE}, i4[:,::1])")
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
            wrong = _without(left, wrong)
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


@helper
def _step(value, unstep, limit):
    """A value in quantisation steps as a stream tensor's."""
    value = min(max(np.rint(value * np.float32(64)) * np.float32(1 / 64), -limit), limit)
    return grid(value * unstep)


@kernel("void(i8, i8, f4[:,::1], u1[:,::1], f4[::1], f4, u1[:,::1], f4[:,::1])")
def expect(first: int, last: int, mean: Array, tables: Array, unstep: Array, limit: float, turned: Array, out: Array) -> None:
    """What some places of a latent are if all symbols are zeros, (n, N), by their means in steps (n, N), and the tables (n, N) by channels: (N, n).

    Args:
        unstep: the quantisation steps, (N,).
        limit: the largest values in steps.
    """
    channels = len(unstep)
    for begin in range(first, last, 64):  # some places at a time, which stay in the cache
        end = min(last, begin + 64)
        for n in range(begin, end):
            for c in range(channels):
                out[n, c] = _step(mean[n, c], unstep[c], limit)
        for c in range(channels):
            line = turned[c, begin:end]
            for n in range(end - begin):
                line[n] = tables[begin + n, c]


@kernel(f"b1({_SOURCE}, f4[:,::1], f4[::1], f4, u1[::1], f4[:,::1])")
def read_latent(
    state: Array, place: Array, words: Array, cumulative: Array, begins: Array, buckets: Array, reaches: Array,
    mean: Array, unstep: Array, limit: float, turned: Array, out: Array,
) -> bool:  # fmt: skip
    """Symbols of the latent, in the order of channels, then places, into what `expect` has made; False if there are more than allowed.

    Args:
        turned: the tables of this order, and zeros up to a multiple of eight.
    """
    count, channels = mean.shape
    eights = turned.view(np.uint64)
    above = np.uint64(0x0101010101010101 * (256 - SKIP))  # the bits of no table below SKIP, which is a power of two
    size = 0
    for k in range(len(eights)):
        if eights[k] & above:
            for j in range(8 * k, 8 * k + 8):
                size += turned[j] >= SKIP
    where, indexes, found = np.empty(size, np.int64), np.empty(size, np.int32), np.empty(size, np.int32)
    size = 0
    for k in range(len(eights)):
        if eights[k] & above:
            for j in range(8 * k, 8 * k + 8):
                if turned[j] >= SKIP:
                    where[size], indexes[size] = j, turned[j]
                    size += 1
    if not _symbols(state, place, words, cumulative, begins, buckets, reaches, indexes, found):
        return False
    for k in range(size):
        if found[k]:
            c, n = where[k] // count, where[k] % count
            out[n, c] = _step(mean[n, c] + np.float32(found[k]), unstep[c], limit)
    return True


@helper
def _put(x, first, words, cumulative, entry):
    """The coder's state and the first word, after one more symbol in front."""
    start = np.uint64(cumulative[entry])
    count = np.uint64(cumulative[entry + 1]) - start
    if x >= count << np.uint64(47):
        first -= 1
        words[first] = np.uint32(x & np.uint64(0xFFFFFFFF))
        x >>= np.uint64(32)
    part = x // count
    return (part << np.uint64(16)) + (x - part * count) + start, first


@kernel("i8(u8[::1], i8, u4[::1], i4[::1], i4[::1], i4[::1], i4[::1], i4[::1])")
def write_symbols(
    state: Array, first: int, words: Array, cumulative: Array, begins: Array, reaches: Array, symbols: Array, indexes: Array
) -> int:
    """Put a group of symbols (n,) before what begins at the word `first`; returns where it begins then. The last group comes first."""
    x, escape = state[0], np.int64(begins[BYTES])
    for k in range(len(symbols) - 1, -1, -1):
        if indexes[k] < SCALES and abs(symbols[k]) > reaches[indexes[k]]:
            x, first = _put(x, first, words, cumulative, escape + ((symbols[k] >> 8) & 255))
            x, first = _put(x, first, words, cumulative, escape + (symbols[k] & 255))
    for k in range(len(symbols) - 1, -1, -1):
        table, symbol = indexes[k], np.int64(symbols[k])
        if table < SCALES:
            reach = reaches[table]
            symbol = reach + (reach + 1 if abs(symbol) > reach else symbol)
        x, first = _put(x, first, words, cumulative, begins[table] + symbol)
    state[0] = x
    return first


@kernel("i8(i8, i8, f4[:,::1], f4[:,::1], u1[:,::1], f4[::1], f4[::1], f4, i8, i4[::1], i4[::1], f4[:,::1])")
def latent_symbols(
    low: int, high: int, y: Array, mean: Array, tables: Array, step: Array, unstep: Array, limit: float, largest: int, symbols: Array, indexes: Array, out: Array
) -> int:
    """The inverse of `read_latent` for some channels: fills `symbols`, up to `largest`, and `indexes`, and returns how many there are; `out` is what will be read."""
    count, channels = len(mean), high - low
    words, some, most = np.empty((channels, count), np.int32), np.empty((64, channels), np.int32), np.float32(largest)
    for first in range(0, count, 64):  # some places at a time, which stay in the cache
        last = min(count, first + 64)
        for n in range(first, last):
            line, given, middle, known, made = some[n - first], y[n, low:high], mean[n, low:high], tables[n, low:high], out[n, low:high]
            for c in range(channels):
                table = np.int32(known[c])
                value = min(max(np.rint(given[c] * step[low + c] - middle[c]), -most), most)
                value = value if table >= SKIP else np.float32(0)
                line[c] = np.int32(value) * np.int32(256) + table
                made[c] = _step(middle[c] + value, unstep[low + c], limit)
        for c in range(channels):
            column = words[c, first:last]
            for n in range(last - first):
                column[n] = some[n, c]
    size = 0
    for c in range(channels):
        line = words[c]
        for n in range(count):
            symbols[size], indexes[size] = line[n] >> 8, line[n] & 255
            size += (line[n] & 255) >= SKIP
    return size


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
