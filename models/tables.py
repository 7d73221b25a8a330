"""The frequency tables of the entropy coder: integers in a file, since a stream must mean the same everywhere.

`python -m models.tables` makes the file anew. Logarithms and exponentials may differ between machines in their last
bit, so nothing else computes the tables.
"""

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "weights" / "tables.npz"

SCALES = 64
"""Laplace tables; the natural logarithms of their scales go from FIRST to LAST in equal steps."""
STEP = 1 / 8
FIRST, LAST = -2.5, -2.5 + STEP * (SCALES - 1)

SKIP = 2
"""Symbols with a table under this are zero and cost nothing: they are not in the stream."""

FLAGS = 64
"""Bernoulli tables, after the Laplace ones, for log-odds of one in steps of FLAG_STEP around zero."""
FLAG_STEP = 0.25

BYTES = SCALES + FLAGS
"""The table of uniform bytes, for the values of escaped symbols."""

PRECISION = 16
"""Frequencies sum to 2^16."""


@dataclass(frozen=True)
class Tables:
    """Tables as CompressAI's coder takes them."""

    cumulative: list[list[int]]
    lengths: list[int]
    offsets: list[int]  # first symbol of each table
    reaches: np.ndarray  # (129,) int32, the largest symbol of each that is not escaped; tables without an escape reach beyond any

    # For compiled loops, where one table follows another:

    @cached_property
    def flat(self) -> np.ndarray:
        """The cumulative frequencies, int32."""
        return np.concatenate(self.cumulative).astype(np.int32)

    @cached_property
    def begins(self) -> np.ndarray:
        """Where each table begins, (129,) int32."""
        return np.cumsum([0, *self.lengths[:-1]]).astype(np.int32)

    @cached_property
    def buckets(self) -> np.ndarray:
        """The symbol that every 256th frequency of each table falls to, (129·256,) uint16."""
        return np.concatenate([np.searchsorted(line, np.arange(0, 1 << PRECISION, 256), "right") - 1 for line in self.cumulative]).astype(np.uint16)

    @cached_property
    def costs(self) -> np.ndarray:
        """The bits of every symbol, float32; an escape's value is not counted."""
        parts = [PRECISION - np.log2(np.maximum(np.diff(line, append=line[-1]), 1)) for line in self.cumulative]
        return np.concatenate(parts).astype(np.float32)


@lru_cache(maxsize=1)
def load() -> Tables:
    """The tables of the format: Laplace, Bernoulli, bytes.

    The symbol after a Laplace table's largest is its escape: two bytes with the value follow after all symbols.
    """
    with np.load(FILE) as file:
        lengths, flat = file["lengths"].tolist(), file["cumulative"]
    cumulative = [part.tolist() for part in np.split(flat, np.cumsum(lengths)[:-1])]
    reaches = [(length - 4) // 2 for length in lengths[:SCALES]]  # zero, both signs, the escape, both ends, the empty interval
    offsets = [-reach for reach in reaches] + [0] * (FLAGS + 1)
    return Tables(cumulative, lengths, offsets, np.array(reaches + [1 << 20] * (FLAGS + 1), np.int32))


def build() -> list[list[int]]:
    """Cumulative frequencies of all tables, as they are computed for the file."""
    cumulative = []
    for index in range(SCALES):
        scale = math.exp(FIRST + STEP * index)
        reach = min(max(2, math.ceil(scale * 9)), 512)
        x = np.arange(1, reach + 1)
        side = np.exp(-(x - 0.5) / scale) * -np.expm1(-1 / scale) / 2
        centre = -np.expm1(-0.5 / scale)
        escape = max(0.0, 1 - centre - 2 * side.sum())
        cumulative.append(_cumulative(np.concatenate([side[::-1], [centre], side, [escape]])))
    for index in range(FLAGS):
        one = 1 / (1 + math.exp(-(index + 0.5 - FLAGS / 2) * FLAG_STEP))
        cumulative.append(_cumulative(np.array([1 - one, one])))
    cumulative.append(_cumulative(np.full(256, 1 / 256)))
    return cumulative


def _cumulative(mass: np.ndarray) -> list[int]:
    """Probabilities -> cumulative integer frequencies, none of them zero, and an empty last interval.

    The empty interval stands where CompressAI's coder has its own escape, which can read without bounds.
    """
    total = 1 << PRECISION
    counts = np.maximum(np.floor(mass * (total - len(mass))).astype(np.int64) + 1, 1)
    counts[np.argmax(counts)] += total - counts.sum()
    return [0, *np.cumsum(counts).tolist(), total]


if __name__ == "__main__":
    made = build()
    np.savez_compressed(FILE, cumulative=np.concatenate([np.array(part, np.int32) for part in made]), lengths=np.array([len(part) for part in made], np.int32))
