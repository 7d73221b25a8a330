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

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.entropy import SymbolSink, SymbolSource, flag_bits, flag_index, laplace_bits, scale_index
from models.exact import Grid, Narrow, link
from models.presets import RATES
from models.stages import staged
from models.vectors import LIMIT, REFERENCES, Prediction, displacement, velocity

LEVELS = (8, 4, 2, 1)
SIDE = 16

NEAR = 5
"""Vectors that one is predicted from."""

VECTOR_SYMBOLS = 1 + NEAR + 3
"""The most symbols of a vector."""


@dataclass(frozen=True)
class Cells:
    """Blocks whose vectors are predicted together, by their numbers in raster order."""

    kind: int  # which estimator is theirs: level and pattern
    where: Tensor  # (n,)
    around: Tensor  # (4·n,) their decoded neighbours, one direction after the other; none on the highest level
    parts: tuple[slice, ...]  # of `where`; symbols of one part follow those of another


@dataclass(frozen=True)
class Place:
    """Vectors of the pyramid that are predicted together, in one row, and what they are predicted from."""

    cells: Cells
    near: Tensor  # (N, B, 3, 1, n) four decoded neighbours and the vectors of the frame before, which stand in for them on the highest level
    prediction: Prediction  # their median velocity at their median age
    moved: Tensor  # (1 + N, B, 2, 1, n) how far the prediction and these would have come at the predicted age

    @cached_property
    def base(self) -> Tensor:
        """The predicted vectors, (B, 3, 1, n)."""
        return torch.cat([self.moved[0], self.prediction.age], 1)

    @cached_property
    def candidates(self) -> Tensor:
        """The predicted vectors, then the neighbours: (1 + N, B, 3, 1, n)."""
        return torch.cat([self.base[None], self.near])

    @cached_property
    def distinct(self) -> Tensor:
        """Where each neighbour is neither the prediction nor a neighbour before it: (N, B, 1, 1, n)."""
        numbers = _numbers(self.candidates)
        same = numbers[1:, None] == numbers[None, :-1]
        return ~(same & _before(same.device)).any(1)

    def take(self, field: Tensor) -> Tensor:
        """These of a field (B, C, h, w): (B, C, 1, n)."""
        return field.flatten(2).index_select(2, self.cells.where)[:, :, None]

    def put(self, field: Tensor, vectors: Tensor) -> None:
        """Set these of a contiguous field (B, 3, h, w) to vectors (B, 3, 1, n)."""
        field.view(*field.shape[:2], -1).index_copy_(2, self.cells.where, vectors.flatten(2))

    def difference(self, vectors: Tensor) -> Tensor:
        """What vectors (..., B, 3, 1, n) differ from the prediction."""
        return self.prediction.difference(vectors)

    def vectors(self, difference: Tensor) -> Tensor:
        """The inverse of `difference`, for any difference (B, 3, 1, n)."""
        age = (self.prediction.age + difference[:, 2:]).clamp(0, REFERENCES - 1)
        moved = displacement(self.prediction.speed, age) + difference[:, :2]
        return torch.cat([moved.clamp(-LIMIT, LIMIT - 1), age], 1)


def _numbers(vectors: Tensor) -> Tensor:
    """One number for every vector: (..., 3, 1, n) -> (..., 1, 1, n)."""
    down, right, age = vectors.long().split(1, -3)
    return (down << 20) + (right << 3) + age


@lru_cache(maxsize=8)
def _before(device: torch.device) -> Tensor:
    """Which candidates come before which neighbour: (N, N, 1, 1, 1, 1)."""
    return torch.ones(NEAR, NEAR, dtype=torch.bool, device=device).tril_()[:, :, None, None, None, None]


@dataclass(frozen=True)
class Step:
    """A place, and how sure its prediction is."""

    place: Place
    raw: Tensor  # (B, 1 + N + 3, 1, n) what the estimator says: the three that follow

    @property
    def wrong(self) -> Tensor:
        """Log-odds that the prediction is wrong, (B, 1, 1, n)."""
        return self.raw[:, :1]

    @property
    def merge(self) -> Tensor:
        """Log-odds that a wrong one's vector is that neighbour's, if it is none of those before, (B, N, 1, n)."""
        return self.raw[:, 1 : 1 + NEAR]

    @property
    def scale(self) -> Tensor:
        """Logarithm of the scale of the difference, if it is none at all, (B, 3, 1, n)."""
        return self.raw[:, 1 + NEAR :]

    def bits(self, vectors: Tensor) -> Tensor:
        """Of K fields' vectors (K, B, 3, 1, n): (K, B, 1, n)."""
        difference = self.place.difference(vectors)
        wrong = (difference != 0).any(2, keepdim=True)
        same = _numbers(vectors)[:, None] == _numbers(self.place.near)  # (K, N, B, 1, 1, n)
        earlier = same.cumsum(1) > same  # it is one of those that are asked for before
        asked = wrong[:, None] & self.place.distinct & ~earlier
        merge = asked * flag_bits(same, self.merge.transpose(0, 1)[:, :, None])
        rest = (wrong & ~same.any(1)) * laplace_bits(difference, self.scale).sum(2, keepdim=True)
        return (flag_bits(wrong, self.wrong) + merge.sum(1) + rest).squeeze(2)

    def write(self, vectors: Tensor, coder: SymbolSink) -> None:
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

    def read(self, coder: SymbolSource) -> Tensor:
        """The inverse of `write`."""
        place = self.place
        shape = place.base.shape
        wrong, chosen, differences = np.zeros((shape[0], 1, *shape[2:]), bool), np.zeros((1, shape[0], 1, *shape[2:]), np.int64), np.zeros(shape, np.int32)
        for distinct, indexes, part in zip(*zip(*self._parts(place.distinct, self._indexes())), place.cells.parts):
            left = coder.take(indexes[:, :1]).astype(bool)
            for k in range(NEAR):
                same = left & distinct[k]
                same[same] = coder.take(indexes[:, 1 + k, None][same])
                chosen[0, ..., part][same] = 1 + k
                left = left & ~same
            wrong[..., part] = left
            left = np.broadcast_to(left, (len(left), 3, *left.shape[2:]))
            differences[..., part][left] = coder.take(indexes[:, 1 + NEAR :][left])
        device = place.near.device
        vectors = place.candidates.gather(0, torch.from_numpy(chosen).to(device).expand(-1, -1, 3, -1, -1))[0]
        if not wrong.any():
            return vectors
        return torch.where(torch.from_numpy(wrong).to(device), place.vectors(torch.from_numpy(differences).to(device)), vectors)

    def _indexes(self) -> Tensor:
        """Of the tables of the flags and of the difference: (B, 1 + N + 3, 1, n)."""
        return torch.cat([flag_index(self.raw[:, : 1 + NEAR]), scale_index(self.scale)], 1)

    def _parts(self, *tensors: Tensor) -> Iterator[list[np.ndarray]]:
        """Tensors (..., n) as arrays, in the parts that are coded one after the other."""
        arrays = [tensor.cpu().numpy() for tensor in tensors]
        for part in self.place.cells.parts:
            yield [array[..., part] for array in arrays]


class Estimator(nn.Sequential):
    """From the neighbourhood of one vector to the distribution of its difference."""

    def __init__(self) -> None:
        super().__init__(Narrow(17 + SIDE, 32), Narrow(32, 32, relu=True), Narrow(32, 1 + NEAR + 3, relu=True))

    def link(self) -> None:
        """Let prepared layers hand over integers without rescaling them in between."""
        link(*self)


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

    def bits(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor) -> Tensor:
        """Training: bits of a field for each sample, (B,)."""
        total = torch.zeros(len(field), device=field.device)
        for step in self.steps(field, previous, memory, rate):
            total = total + step.bits(step.place.take(field)[None])[0].sum((1, 2))
        return total

    @staged("vectors")
    def encode(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolSink, steps: Sequence[Step] = ()) -> None:
        """Write the field of one frame; its steps, if they are known, are not computed again."""
        for step in steps or self.steps(field, previous, memory, rate):
            step.write(step.place.take(field), coder)

    @staged("vectors")
    def decode(self, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolSource) -> Tensor:
        """Read the field of one frame."""
        field = torch.zeros(previous.shape, dtype=previous.dtype, device=previous.device)
        for step in self.steps(field, previous, memory, rate):
            step.place.put(field, step.read(coder))
        return field

    def steps(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor) -> Iterator[Step]:
        """Goes through the pyramid; whoever decodes fills `field` in between."""
        side = F.relu(self.side(memory))
        quality = rate[:, None, None, None].float() / RATES - 0.5
        for place in pyramid(field, previous):
            age = place.prediction.age
            moved = (place.moved[1:] - place.moved[:1]).float().clamp_(-64, 64).mul_(1 / 8)
            ages = (place.near[:, :, 2:] - age).float()
            features = (_beside(moved), quality.expand_as(age), _beside(ages), age.float(), place.take(side))
            x = torch.cat([feature.to(side.dtype) for feature in features], 1)
            yield Step(place, self.grid(self.estimators[place.cells.kind](x).float()))


def _beside(tensors: Tensor) -> Tensor:
    """Those of all neighbours as channels: (N, B, C, 1, n) -> (B, N·C, 1, n)."""
    return tensors.transpose(0, 1).flatten(1, 2)


def pyramid(field: Tensor, previous: Tensor) -> Iterator[Place]:
    """The order in which a contiguous field is coded. A place is predicted from what `field` holds when it is asked for."""
    known, past = field.view(*field.shape[:2], -1), previous.flatten(2)
    for cells in order(*field.shape[2:], field.device):
        near = past.index_select(2, cells.where)[None]
        if len(cells.around):
            around = known.index_select(2, cells.around).unflatten(2, (NEAR - 1, -1)).permute(2, 0, 1, 3)
            near = torch.cat([around, near])
        near = near.expand(NEAR, -1, -1, -1)[:, :, :, None]
        speeds = velocity(near)
        speed, age = median(torch.cat([speeds, near[:, :, 2:]], 2)).split((2, 1), 1)
        yield Place(cells, near, Prediction(speed, age), displacement(torch.cat([speed[None], speeds]), age))


def median(values: Tensor) -> Tensor:
    """Of five, by comparisons only: many times as fast as PyTorch's. (5, ...) -> (...)."""
    a, b, c, d, e = values
    low = torch.maximum(torch.minimum(a, b), torch.minimum(c, d))
    high = torch.minimum(torch.maximum(a, b), torch.maximum(c, d))
    return torch.maximum(torch.minimum(low, high), torch.minimum(torch.maximum(low, high), e))


@lru_cache(maxsize=8)
def order(height: int, width: int, device: torch.device) -> tuple[Cells, ...]:
    """The steps in which fields of a size are coded: every eighth block, then those in between, level by level."""
    number = np.arange(height * width).reshape(height, width)

    def cells(kind: int, grid: np.ndarray, *parts: tuple[int, int, tuple[tuple[int, int], ...]]) -> Cells:
        """Every second block of a grid from the given row and column on, with neighbours at the given offsets; these are reflected at the border."""
        where, around = [], []
        for row, column, offsets in parts:
            rows, columns = (np.arange(first, size, 2) for first, size in zip((row, column), grid.shape))
            where.append(grid[np.ix_(rows, columns)].reshape(-1))
            beside = [np.ix_(_reflected(rows + down, len(grid)), _reflected(columns + right, grid.shape[1])) for down, right in offsets]
            around.append(np.stack([grid[places].reshape(-1) for places in beside]))
        ends = np.cumsum([0, *map(len, where)]).tolist()
        inside, near = (torch.from_numpy(np.concatenate(arrays, -1).reshape(-1)).to(device) for arrays in (where, around))
        return Cells(kind, inside, near, tuple(slice(*pair) for pair in pairwise(ends)))

    top = torch.from_numpy(number[:: LEVELS[0], :: LEVELS[0]].reshape(-1)).to(device)
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
