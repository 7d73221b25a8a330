"""What the symbols of a latent take in the stream, and what it would be worth to change each of them by one."""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.tables import SKIP


@helper
def _price(symbol, table, costs, begins, reaches):
    reach = reaches[table]
    if abs(symbol) > reach:
        return costs[begins[table] + 2 * reach + 1] + np.float32(16)
    return costs[begins[table] + symbol + reach]


@kernel("f8(i4[::1], i4[::1], f4[::1], i4[::1], i4[::1])")
def total(symbols: Array, tables: Array, costs: Array, begins: Array, reaches: Array) -> float:
    """The bits of symbols by their tables; `costs` are those of every symbol of every table."""
    bits = 0.0
    for n in range(len(symbols)):
        if tables[n] >= SKIP:
            bits += _price(symbols[n], tables[n], costs, begins, reaches)
    return bits


@kernel("void(i4[::1], i4[::1], f4[::1], f4, f4[::1], i4[::1], i4[::1], f4[::1], i4[::1])")
def changes(
    symbols: Array, tables: Array, slopes: Array, curvature: float, costs: Array, begins: Array, reaches: Array, gains: Array, moves: Array
) -> None:
    """The better of both changes of each symbol, and the bits that it gains, where a change costs its part of `slopes` and `curvature` beside the bits."""
    for n in range(len(symbols)):
        gains[n], moves[n] = np.float32(0), 0
        if tables[n] >= SKIP:
            bits = _price(symbols[n], tables[n], costs, begins, reaches) - curvature
            down = bits - _price(symbols[n] - 1, tables[n], costs, begins, reaches) + slopes[n]
            up = bits - _price(symbols[n] + 1, tables[n], costs, begins, reaches) - slopes[n]
            gains[n], moves[n] = max(down, up), 1 if up > down else -1
