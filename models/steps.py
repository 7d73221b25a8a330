"""Coding vectors step by step, in compiled loops: what each is predicted to be, how sure that is, and its symbols.

`models.motion` has the same in PyTorch, for training and for searching on a GPU.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from models.arrays import Array
from models.entropy import TOO_MANY, SymbolDecoder, SymbolSink
from models.kernels import vectors
from models.kernels.threads import spread
from models.pyramid import NEAR, Cells, order
from models.tables import load

MOST_SYMBOLS = 1 + NEAR + 3
"""The most symbols of a vector."""


LEAST = 1 << 11
"""Vectors that are worth a thread of their own."""


@dataclass(frozen=True)
class Estimate:
    """What the tables of symbols follow from, beside the vectors near."""

    side: Array  # (blocks, SIDE) float32, what the estimator sees of the context
    quality: np.float32  # the rate point, from -1/2 to 1/2
    layers: tuple[Any, ...]  # of the estimator, as `models.kernels.vectors.foretell` takes them


class CodedStep:
    """Vectors of one step of the pyramid.

    Args:
        cells: which ones.
        field: all of this frame, (3, blocks) int32; those of the steps before are known.
        past: those of the frame before.
        estimate: without it what vectors take is guessed.
    """

    def __init__(self, cells: Cells[Array], field: Array, past: Array, estimate: Estimate | None = None):
        self.cells, self.field, self.estimated = cells, field, estimate is not None
        count = len(cells.where)
        self.near, self.middle, self.base = np.empty((NEAR, 3, count), np.int64), np.empty((3, count), np.int64), np.empty((3, count), np.int64)
        self.distinct, self.tables = np.empty((NEAR, count), np.bool_), np.empty((MOST_SYMBOLS, count), np.int32)
        place = field, past, cells.where, cells.around, *self._place
        if estimate:
            rest = *place, estimate.side, estimate.quality, *estimate.layers, self.tables
            spread(count, lambda first, last: vectors.foretell(first, last, *rest), LEAST)
        else:
            vectors.surround(*place)

    @property
    def _place(self) -> tuple[Array, ...]:
        return self.near, self.middle, self.base, self.distinct

    def read(self, coder: SymbolDecoder) -> None:
        """Read them into the field.

        Raises:
            ValueError: there are more symbols than a frame can have.
        """
        if not vectors.read_vectors(*coder.source, self.field, self.cells.where, np.array(self.cells.ends), *self._place, self.tables):
            raise ValueError(TOO_MANY)

    def write(self, coder: SymbolSink) -> None:
        """Write those of the field."""
        for begin, end in pairwise([0, *self.cells.ends]):
            symbols, indexes = (np.empty(MOST_SYMBOLS * (end - begin), np.int32) for _ in range(2))
            count = vectors.vector_symbols(self.field, self.cells.where, begin, end, *self._place, self.tables, symbols, indexes)
            coder.write(symbols[:count], indexes[:count])

    @property
    def offers(self) -> Array:
        """Those of the field, the predicted ones, and those near: (2 + NEAR, 3, n) int32."""
        return np.concatenate([self.field[:, self.cells.where][None], self.base[None], self.near], dtype=np.int32)

    def bits(self, fields: Array) -> Array:
        """What vectors (K, 3, n) would take in the stream: (K, n)."""
        bits, tables = np.empty((len(fields), fields.shape[2]), np.float32), load()
        if self.estimated:
            vectors.vector_bits(fields, *self._place, self.tables, tables.costs, tables.begins, tables.reaches, bits)
        else:
            vectors.guessed_bits(fields, self.middle, bits)
        return bits


def guessed_steps(field: Array, past: Array) -> Iterator[CodedStep]:
    """The steps of a field (3, h, w), what they take being guessed."""
    for cells in order(*field.shape[1:]):
        yield CodedStep(cells, field.reshape(3, -1), past.reshape(3, -1))
