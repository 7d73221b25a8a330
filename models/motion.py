"""The entropy model of motion vectors: a pyramid from every eighth block to every block.

Vectors of a level are predicted by the medians of age and velocity, by component, of their four decoded neighbours and the
vector of the frame before. First comes a flag, whether the prediction is wrong at all; then a flag for each of these five
that is another vector, whether it is the one; then, if none is, the difference to the prediction. A vector that follows its
neighbours costs a hundredth of a bit, so block sizes vary without being signalled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, Generic

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arrays import Array, Values, array, joined, least, most, taken
from models.backends import Float32, Products
from models.entropy import TOO_MANY, Source, SymbolDecoder, SymbolSink, SymbolSource, flag_bits, flag_index, laplace_bits, scale_index
from models.exact import Grid, Narrow, layers, link
from models.kernels import usable
from models.presets import RATES
from models.stages import staged
from models.tables import load
from models.vectors import LIMIT, REFERENCES, Prediction, displacement, velocity

LEVELS = (8, 4, 2, 1)
SIDE = 16

NEAR = 5
"""Vectors that one is predicted from."""

AT_ONCE = 240
"""Vectors that an array's estimator sees at a time: NumPy would start threads for more, which get in the way of PyTorch's."""

VECTOR_SYMBOLS = 1 + NEAR + 3
"""The most symbols of a vector."""


@dataclass(frozen=True)
class Cells(Generic[Values]):
    """Blocks whose vectors are predicted together, by their numbers in raster order."""

    kind: int  # which estimator is theirs: level and pattern
    where: Values  # (n,)
    around: Values  # (4·n,) their decoded neighbours, one direction after the other; none on the highest level
    parts: tuple[slice, ...]  # of `where`; symbols of one part follow those of another


@dataclass(frozen=True)
class Place(Generic[Values]):
    """Vectors of the pyramid that are predicted together, in one row, and what they are predicted from."""

    cells: Cells[Values]
    near: Values  # (N, B, 3, 1, n) four decoded neighbours and the vectors of the frame before, which stand in for them on the highest level
    prediction: Prediction[Values]  # their median velocity at their median age
    moved: Values  # (1 + N, B, 2, 1, n) how far the prediction and these would have come at the predicted age

    @cached_property
    def base(self) -> Values:
        """The predicted vectors, (B, 3, 1, n)."""
        return joined([self.moved[0], self.prediction.age], 1)

    @cached_property
    def candidates(self) -> Values:
        """The predicted vectors, then the neighbours: (1 + N, B, 3, 1, n)."""
        return joined([self.base[None], self.near], 0)

    @cached_property
    def distinct(self) -> Values:
        """Where each neighbour is neither the prediction nor a neighbour before it: (N, B, 1, 1, n)."""
        numbers = _numbers(self.candidates)
        return joined([(numbers[k : k + 1] != numbers[:k]).all(0)[None] for k in range(1, len(numbers))], 0)

    def take(self, field: Values) -> Values:
        """These of a field (B, C, h, w): (B, C, 1, n)."""
        return taken(field.reshape(*field.shape[:2], -1), self.cells.where)[:, :, None]

    def put(self, field: Values, vectors: Values) -> None:
        """Set these of a contiguous field (B, 3, h, w) to vectors (B, 3, 1, n)."""
        field.reshape(*field.shape[:2], -1)[..., self.cells.where] = vectors[:, :, 0]

    def difference(self, vectors: Values) -> Values:
        """What vectors (..., B, 3, 1, n) differ from the prediction."""
        return self.prediction.difference(vectors)

    def vectors(self, difference: Values) -> Values:
        """The inverse of `difference`, for any difference (B, 3, 1, n)."""
        age = (self.prediction.age + difference[:, 2:]).clip(0, REFERENCES - 1)
        moved = displacement(self.prediction.speed, age) + difference[:, :2]
        return joined([moved.clip(-LIMIT, LIMIT - 1), age], 1)


def _numbers(vectors: Values) -> Values:
    """One number for every vector: (..., 3, 1, n) -> (..., 1, 1, n)."""
    wide = vectors.long() if isinstance(vectors, Tensor) else vectors.astype(np.int64)
    return (wide[..., :1, :, :] << 20) + (wide[..., 1:2, :, :] << 3) + wide[..., 2:, :, :]


@dataclass(frozen=True)
class Step(Generic[Values]):
    """A place, and how sure its prediction is."""

    place: Place[Values]
    raw: Values  # (B, 1 + N + 3, 1, n) floats, what the estimator says: the three that follow

    @property
    def wrong(self) -> Values:
        """Log-odds that the prediction is wrong, (B, 1, 1, n)."""
        return self.raw[:, :1]

    @property
    def merge(self) -> Values:
        """Log-odds that a wrong one's vector is that neighbour's, if it is none of those before, (B, N, 1, n)."""
        return self.raw[:, 1 : 1 + NEAR]

    @property
    def scale(self) -> Values:
        """Logarithm of the scale of the difference, if it is none at all, (B, 3, 1, n)."""
        return self.raw[:, 1 + NEAR :]

    def bits(self: "Step[Tensor]", vectors: Tensor) -> Tensor:
        """Of K fields' vectors (K, B, 3, 1, n): (K, B, 1, n)."""
        difference = self.place.difference(vectors)
        wrong = (difference != 0).any(2, keepdim=True)
        same = _numbers(vectors)[:, None] == _numbers(self.place.near)  # (K, N, B, 1, 1, n)
        earlier = same.cumsum(1) > same  # it is one of those that are asked for before
        asked = wrong[:, None] & self.place.distinct & ~earlier
        merge = asked * flag_bits(same, self.merge.transpose(0, 1)[:, :, None])
        rest = (wrong & ~same.any(1)) * laplace_bits(difference, self.scale).sum(2, keepdim=True)
        return (flag_bits(wrong, self.wrong) + merge.sum(1) + rest).squeeze(2)

    def write(self, vectors: Values, coder: SymbolSink) -> None:
        """Write vectors (B, 3, 1, n)."""
        place = self.place
        whole = place.difference(vectors), _numbers(place.near) == _numbers(vectors), place.distinct, self._indexes()
        for differences, sames, distinct, indexes in self._parts(*whole):
            left = (differences != 0).any(1, keepdims=True)
            coder.write(left, indexes[:, :1])
            for k in range(NEAR):
                asked = left & distinct[k]
                coder.write(sames[k][asked], indexes[:, 1 + k, None][asked])
                left = left & ~sames[k]
            left = np.broadcast_to(left, differences.shape)
            coder.write(differences[left], indexes[:, 1 + NEAR :][left])

    def read(self: "Step[Array]", coder: SymbolSource) -> Array:
        """The inverse of `write`."""
        place = self.place
        vectors, differences, wrong = place.base.copy(), np.zeros_like(place.base), np.zeros_like(place.prediction.age, dtype=bool)
        for near, distinct, indexes, found, difference, left in self._parts(place.near, place.distinct, self._indexes(), vectors, differences, wrong):
            left[:] = coder.take(indexes[:, :1])
            for k in range(NEAR):
                asked = left & distinct[k]
                if asked.any():
                    same = np.zeros_like(asked)
                    same[asked] = coder.take(indexes[:, 1 + k, None][asked])
                    np.copyto(found, near[k], where=same)
                    left &= ~same
            if left.any():
                everywhere = np.broadcast_to(left, difference.shape)
                difference[everywhere] = coder.take(indexes[:, 1 + NEAR :][everywhere])
        if wrong.any():
            np.copyto(vectors, place.vectors(differences), where=wrong)
        return vectors

    def _indexes(self) -> Values:
        """Of the tables of the flags and of the difference: (B, 1 + N + 3, 1, n)."""
        return joined([flag_index(self.raw[:, : 1 + NEAR]), scale_index(self.scale)], 1)

    def _parts(self, *values: Values) -> Iterator[list[Array]]:
        """Tensors or arrays (..., n) as arrays, in the parts that are coded one after the other."""
        arrays = [array(value) for value in values]
        for part in self.place.cells.parts:
            yield [array[..., part] for array in arrays]


class Estimator(nn.Sequential):
    """From the neighbourhood of one vector to the distribution of its difference."""

    def __init__(self) -> None:
        super().__init__(Narrow(17 + SIDE, 32), Narrow(32, 32, relu=True), Narrow(32, 1 + NEAR + 3, relu=True))

    def link(self) -> None:
        """Let prepared layers hand over integers without rescaling them in between."""
        link(*self)


class Told:
    """A step of coding vectors in compiled loops: what `models.kernels.coding` takes, and does.

    Args:
        cells: which vectors.
        field, past: this frame's and the last one's, (3, blocks).
        estimator: what tells the tables of their symbols; without it their bits are guessed.
    """

    def __init__(self, cells: Cells[Array], field: Array, past: Array, estimator: tuple[Any, ...] = ()):
        from models.kernels import coding

        self.kernels, self.cells, self.field = coding, cells, field
        count = len(cells.where)
        self.near, self.middle, self.base = np.empty((NEAR, 3, count), np.int64), np.empty((3, count), np.int64), np.empty((3, count), np.int64)
        self.distinct, self.tables = np.empty((NEAR, count), np.bool_), np.empty((1 + NEAR + 3, count), np.int32)
        self.priced = bool(estimator)
        place = (field, past, cells.where, cells.around, *self.place)
        if estimator:
            coding.foretell(*place, *estimator, self.tables)
        else:
            coding.surround(*place)

    @property
    def place(self) -> tuple[Array, ...]:
        return self.near, self.middle, self.base, self.distinct

    @cached_property
    def ends(self) -> Array:
        return np.array([len(self.cells.where) if part.stop is None else part.stop for part in self.cells.parts])

    def read(self, source: Source) -> bool:
        """Read the vectors; False if there are more symbols than allowed."""
        return self.kernels.read_vectors(*source.arrays, self.field, self.cells.where, self.ends, *self.place, self.tables)

    def write(self, coder: SymbolSink) -> None:
        """Write the vectors."""
        for begin, end in pairwise([0, *self.ends]):
            symbols, indexes = (np.empty(VECTOR_SYMBOLS * (end - begin), np.int32) for _ in range(2))
            count = self.kernels.vector_symbols(self.field, self.cells.where, begin, end, *self.place, self.tables, symbols, indexes)
            coder.write(symbols[:count], indexes[:count])

    def _guessed(self, fields: Array) -> Array:
        difference = np.abs(Prediction(self.middle[None, :2, None], self.middle[None, 2:, None]).difference(fields[:, None, :, None].astype(np.int64)))[:, 0, :, 0]
        return 2 * np.log2(1 + difference).sum(1) + 3 * (difference.sum(1) > 0)

    @property
    def offers(self) -> Array:
        """The vectors of the field, the predicted ones, and those near: (2 + NEAR, 3, n) int32."""
        return np.concatenate([self.field[:, self.cells.where][None], self.base[None], self.near], dtype=np.int32)

    def bits(self, fields: Array) -> Array:
        """What vectors (K, 3, n) take: (K, n)."""
        if not self.priced:
            return self._guessed(fields)
        bits, tables = np.empty((len(fields), fields.shape[2]), np.float32), load()
        self.kernels.vector_bits(fields, *self.place, self.tables, tables.costs, tables.arrays[1], tables.reaches, bits)
        return bits


class Motion(nn.Module):
    """Codes vector fields (`models/vectors.py`).

    Args:
        context: channels of the context of the frame before, which tells where objects are.
    """

    def __init__(self, context: int):
        super().__init__()
        self.side = Narrow(context, SIDE)
        self.grid = Grid()
        self.estimators = nn.ModuleList(Estimator() for _ in range(1 + 2 * (len(LEVELS) - 1)))
        self.products: list[list[Products]] = []  # the same for arrays, once they are prepared

    def prepare(self) -> None:
        """Have the estimators as matrix products, too, when they are prepared for `Float32` and change no more."""
        prepared = [[layer.prepared for _, layer in layers(estimator, Narrow)] for estimator in self.estimators]
        self.products = [[Products(layer.sums) for layer in row if isinstance(layer, Float32)] for row in prepared]

    def bits(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor) -> Tensor:
        """Training: bits of a field for each sample, (B,)."""
        total = torch.zeros(len(field), device=field.device)
        for step in self.steps(field, previous, memory, rate):
            total = total + step.bits(step.place.take(field)[None])[0].sum((1, 2))
        return total

    @staged("vectors")
    def encode(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolSink, steps: Sequence[Step[Tensor]] = ()) -> None:
        """Write the field of one frame; its steps, if they are known, are not computed again."""
        if self.products and len(field) == 1 and not field.is_cuda and usable():
            for told in self.told(array(field.contiguous()), array(previous), memory, rate):
                told.write(coder)
            return
        for step in steps or self.steps(field, previous, memory, rate):
            step.write(step.place.take(field), coder)

    @staged("vectors")
    def decode(self, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolSource) -> Tensor:
        """Read the field of one frame."""
        past = array(previous)
        field = np.zeros_like(past)
        if self.products and isinstance(coder, SymbolDecoder) and coder.source and len(field) == 1:
            self._read(coder.source, field, past, memory, rate)
            return torch.from_numpy(field).to(previous.device)
        for step in self.steps(field, past, memory, rate):
            step.place.put(field, step.read(coder))
        return torch.from_numpy(field).to(previous.device)

    def _read(self, source: Source, field: Array, past: Array, memory: Tensor, rate: Tensor) -> None:
        """Read a field (1, 3, h, w) by a compiled loop."""
        for told in self.told(field, past, memory, rate):
            if not told.read(source):
                raise ValueError(TOO_MANY)

    def told(self, field: Array, past: Array, memory: Tensor, rate: Tensor) -> Iterator["Told"]:
        """`steps` by compiled loops, for one field."""
        side = array(F.relu(self.side(memory)).permute(0, 2, 3, 1).contiguous()).reshape(-1, SIDE)
        known, before = field.reshape(3, -1), np.ascontiguousarray(past.reshape(3, -1))
        quality = np.float32(int(rate)) / np.float32(RATES) - np.float32(0.5)
        for cells, weights in zip(order(field), self._weights()):
            yield Told(cells, known, before, (side, quality, *weights))

    def _weights(self):
        """Of every estimator: scales of its inputs, the smallest one, weights (inputs, outputs), and the bias, of each layer."""
        if not hasattr(self, "_w"):
            self._w = []
            for row in self.products:
                flat, handed = [], False
                for layer in row:
                    flat += [
                        np.ones_like(layer.scale[:, 0]) if handed else np.ascontiguousarray(layer.scale[:, 0]),
                        (previous if handed else layer.sums.low),
                        np.ascontiguousarray(layer.weight.T), np.ascontiguousarray(layer.bias[:, 0]),
                    ]
                    handed, previous = layer.sums.next is not None, layer.sums.next
                self._w.append(flat)
        return self._w

    def steps(self, field: Values, previous: Values, memory: Tensor, rate: Tensor) -> Iterator[Step[Values]]:
        """Goes through the pyramid; whoever decodes fills `field` in between."""
        side, quality = F.relu(self.side(memory)), rate[:, None, None, None].float() / RATES - 0.5
        if isinstance(field, Tensor):
            estimate, around = self._estimate, (side, quality)
        else:
            estimate, around = self._estimate_array, (array(side), array(quality))
        for place in pyramid(field, previous):
            age = place.prediction.age
            moved = (place.moved[1:] - place.moved[:1]).clip(-64, 64)
            ages = place.near[:, :, 2:] - age
            yield Step(place, estimate(place.cells.kind, (_beside(moved), around[1] + 0 * age, _beside(ages), age, place.take(around[0]))))

    def _estimate(self, kind: int, features: Sequence[Tensor]) -> Tensor:
        """What an estimator says of its inputs, the first of which are in eighths."""
        moved, *others = (feature.to(self.side.weight.dtype) for feature in features)
        return self.grid(self.estimators[kind](torch.cat([moved / 8, *others], 1)).float())

    def _estimate_array(self, kind: int, features: Sequence[Array]) -> Array:
        """The same for arrays."""
        if not self.products:
            return array(self._estimate(kind, [torch.from_numpy(feature) for feature in features]))
        x = np.concatenate(features, 1, dtype=np.float32, casting="unsafe")[0, :, 0]
        x[: 2 * NEAR] /= 8
        raw = np.empty((1 + NEAR + 3, x.shape[1]), np.float32)
        for begin in range(0, x.shape[1], AT_ONCE):
            a, handed = x[:, begin : begin + AT_ONCE], False
            for products in self.products[kind]:
                a = products(a if handed else products.read(a))
                handed = products.sums.next is not None
            raw[:, begin : begin + AT_ONCE] = self.grid.array(a)
        return raw[None, :, None]


def _beside(values: Values) -> Values:
    """Those of all neighbours as channels: (N, B, C, 1, n) -> (B, N·C, 1, n)."""
    beside = values.swapaxes(0, 1)
    return beside.reshape(len(beside), -1, *beside.shape[3:])


def pyramid(field: Values, previous: Values) -> Iterator[Place[Values]]:
    """The order in which a contiguous field is coded. A place is predicted from what `field` holds when it is asked for."""
    known, past = (vectors.reshape(*vectors.shape[:2], -1) for vectors in (field, previous))
    for cells in order(field):
        near = taken(past, cells.where)[None]
        if len(cells.around):
            around = taken(known, cells.around).reshape(*known.shape[:2], NEAR - 1, -1)
            near = joined([around.swapaxes(1, 2).swapaxes(0, 1), near], 0)
        else:
            near = joined(NEAR * [near], 0)
        near = near[:, :, :, None]
        speeds = velocity(near)
        middle = median(joined([speeds, near[:, :, 2:]], 2))
        speed, age = middle[:, :2], middle[:, 2:]
        yield Place(cells, near, Prediction(speed, age), displacement(joined([speed[None], speeds], 0), age))


def median(values: Values) -> Values:
    """Of five, by comparisons only: many times as fast as PyTorch's. (5, ...) -> (...)."""
    a, b, c, d, e = values
    low = most(least(a, b), least(c, d))
    high = least(most(a, b), most(c, d))
    return most(least(low, high), least(most(low, high), e))


def order(field: Values) -> tuple[Cells[Values], ...]:
    """The steps in which a field (B, 3, h, w) is coded: every eighth block, then those in between, level by level."""
    height, width = field.shape[2:]
    if isinstance(field, Tensor):
        return _order_on(height, width, field.device)
    return _order(height, width)


@lru_cache(maxsize=8)
def _order_on(height: int, width: int, device: torch.device) -> tuple[Cells[Tensor], ...]:
    return tuple(Cells(step.kind, _on(step.where, device), _on(step.around, device), step.parts) for step in _order(height, width))


def _on(values: Array, device: torch.device) -> Tensor:
    return torch.from_numpy(values).to(device)


@lru_cache(maxsize=8)
def _order(height: int, width: int) -> tuple[Cells[Array], ...]:
    number = np.arange(height * width).reshape(height, width)

    def cells(kind: int, grid: Array, *parts: tuple[int, int, tuple[tuple[int, int], ...]]) -> Cells[Array]:
        """Every second block of a grid from the given row and column on, with neighbours at the given offsets; these are reflected at the border."""
        where, around = [], []
        for row, column, offsets in parts:
            rows, columns = (np.arange(first, size, 2) for first, size in zip((row, column), grid.shape))
            where.append(grid[np.ix_(rows, columns)].reshape(-1))
            beside = [np.ix_(_reflected(rows + down, len(grid)), _reflected(columns + right, grid.shape[1])) for down, right in offsets]
            around.append(np.stack([grid[places].reshape(-1) for places in beside]))
        ends = np.cumsum([0, *map(len, where)]).tolist()
        inside, near = (np.concatenate(arrays, -1).reshape(-1) for arrays in (where, around))
        return Cells(kind, inside, near, tuple(slice(*pair) for pair in pairwise(ends)))

    top = number[:: LEVELS[0], :: LEVELS[0]].reshape(-1)
    steps = [Cells(0, top, top[:0], (slice(None),))]
    for level, s in enumerate(LEVELS[1:]):
        grid = number[::s, ::s]
        tall, wide = (size > 1 for size in grid.shape)  # are there odd rows, odd columns?
        if tall and wide:
            steps.append(cells(1 + 2 * level, grid, (1, 1, ((-1, -1), (-1, 1), (1, -1), (1, 1)))))
        upright, flat = ((-1, 0), (1, 0)), ((0, -1), (0, 1))
        plus = (*(upright if tall else flat), *(flat if wide else upright))
        crosses = [(row, column, plus) for row, column, exists in ((1, 0, tall), (0, 1, wide)) if exists]
        if crosses:
            steps.append(cells(2 + 2 * level, grid, *crosses))
    return tuple(steps)


def _reflected(places: np.ndarray, size: int) -> np.ndarray:
    return np.where(places < 0, 1, np.where(places >= size, size - 2, places))
