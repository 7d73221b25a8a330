"""Reading and writing symbols, rANS as in CompressAI's coder; and those of a latent.

A source is two arrays: `state`, the coder's 64 bits, and `place`, the next word of the payload and how many symbols are still allowed.
"""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.kernels.arithmetic import grid
from models.tables import BYTES, SCALES, SKIP

SOURCE = "u8[::1], i8[::1], u4[::1], i4[::1], i4[::1], u2[::1], i4[::1]"


@helper
def read_group(state, place, words, cumulative, begins, buckets, reaches, indexes, found):
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
        if not read_group(state, place, words, cumulative, begins, buckets, reaches, np.full(2 * escaped, BYTES, np.int32), values):
            return False
        n = 0
        for k in range(len(indexes)):
            if indexes[k] < SCALES and found[k] > reaches[indexes[k]]:
                value = values[n] + 256 * values[n + 1]
                found[k] = value - 65536 if value >= 32768 else value
                n += 2
    return True


@kernel(f"b1({SOURCE}, i4[::1], i4[::1])")
def read_symbols(state: Array, place: Array, words: Array, cumulative: Array, begins: Array, buckets: Array, reaches: Array, indexes: Array, found: Array) -> bool:
    """Symbols `found` (n,) by the tables `indexes` (n,); False if there are more than allowed."""
    return read_group(state, place, words, cumulative, begins, buckets, reaches, indexes, found)


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


@kernel(f"b1({SOURCE}, f4[:,::1], f4[::1], f4, u1[::1], f4[:,::1])")
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
    if not read_group(state, place, words, cumulative, begins, buckets, reaches, indexes, found):
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
