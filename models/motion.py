"""The entropy model of motion vectors: a pyramid from every eighth block to every block.

Vectors of a level are predicted by the medians of age and velocity, by component, of their four decoded neighbours and the
vector of the frame before. First comes a flag, whether the prediction is wrong at all; then a flag for each of these five
that is another vector, whether it is the one; then, if none is, the difference to the prediction. A vector that follows its
neighbours costs a hundredth of a bit, so block sizes vary without being signalled.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

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
class Place:
    """Vectors of the pyramid that are coded together, and what they are predicted from."""

    kind: int  # which estimator is theirs: level and pattern
    where: tuple[slice, slice, slice, slice]  # index into (B, 3, h, w)
    near: Tensor  # (N, B, 3, h', w') four decoded neighbours and the vectors of the frame before, which stand in for them on the highest level
    speeds: Tensor  # (N, B, 2, h', w') of these
    prediction: Prediction  # their median velocity at their median age

    @cached_property
    def base(self) -> Tensor:
        """The predicted vectors, (B, 3, h', w')."""
        return self.prediction.vectors

    @cached_property
    def candidates(self) -> Tensor:
        """The predicted vectors, then the neighbours: (1 + N, B, 3, h', w')."""
        return torch.cat([self.base[None], self.near])

    @cached_property
    def distinct(self) -> Tensor:
        """Where each neighbour is neither the prediction nor a neighbour before it: (N, B, 1, h', w')."""
        same = (self.near[:, None] == self.candidates[None, :-1]).all(3, keepdim=True)
        before = torch.ones(NEAR, NEAR, dtype=torch.bool, device=same.device).tril_()
        return ~(same & before[:, :, None, None, None, None]).any(1)

    def difference(self, vectors: Tensor) -> Tensor:
        """What vectors (..., B, 3, h', w') differ from the prediction."""
        return self.prediction.difference(vectors)

    def vectors(self, difference: Tensor) -> Tensor:
        """The inverse of `difference`, for any difference (B, 3, h', w')."""
        age = (self.prediction.age + difference[:, 2:]).clamp(0, REFERENCES - 1)
        moved = displacement(self.prediction.speed, age) + difference[:, :2]
        return torch.cat([moved.clamp(-LIMIT, LIMIT - 1), age], 1)


@dataclass(frozen=True)
class Step:
    """A place, and how sure its prediction is."""

    place: Place
    wrong: Tensor  # (B, 1, h', w') log-odds that the prediction is wrong
    merge: Tensor  # (B, N, h', w') log-odds that a wrong one's vector is that neighbour's, if it is none of those before
    scale: Tensor  # (B, 3, h', w') logarithm of the scale of the difference, if it is none at all

    def bits(self, vectors: Tensor) -> Tensor:
        """Of vectors (..., B, 3, h', w'): (..., B, h', w')."""
        difference = self.place.difference(vectors)
        left = (difference != 0).any(-3, keepdim=True)
        total = flag_bits(left, self.wrong)
        for k, (choice, distinct) in enumerate(zip(self.place.near, self.place.distinct)):
            same = (vectors == choice).all(-3, keepdim=True)
            total = total + (left & distinct) * flag_bits(same, self.merge[:, k, None])
            left = left & ~same
        return (total + left * laplace_bits(difference, self.scale).sum(-3, keepdim=True)).squeeze(-3)

    def write(self, vectors: Tensor, coder: SymbolSink) -> None:
        """Write vectors (B, 3, h', w')."""
        place = self.place
        difference = place.difference(vectors)
        same = (place.near == vectors).all(2, keepdim=True)
        differences, sames, distinct, indexes = _arrays(difference, same, place.distinct, self._indexes())
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
        distinct, indexes = _arrays(place.distinct, self._indexes())
        left = coder.take(indexes[:, :1]).astype(bool)
        chosen = np.zeros(left.shape, np.int64)
        for k in range(NEAR):
            same = left & distinct[k]
            same[same] = coder.take(indexes[:, 1 + k, None][same])
            chosen[same] = 1 + k
            left = left & ~same
        wide = np.broadcast_to(left, (len(left), 3, *left.shape[2:]))
        differences = np.zeros(wide.shape, np.int32)
        differences[wide] = coder.take(indexes[:, 1 + NEAR :][wide])
        device = place.near.device
        choice = torch.from_numpy(chosen).to(device)
        vectors = place.candidates.gather(0, choice[None].expand(1, -1, 3, -1, -1))[0]
        if not left.any():
            return vectors
        return torch.where(torch.from_numpy(left).to(device), place.vectors(torch.from_numpy(differences).to(device)), vectors)

    def _indexes(self) -> Tensor:
        """Of the tables of the flags and of the difference: (B, 1 + N + 3, h', w')."""
        return torch.cat([flag_index(self.wrong), flag_index(self.merge), scale_index(self.scale)], 1)


def _arrays(*tensors: Tensor) -> list[np.ndarray]:
    return [tensor.cpu().numpy() for tensor in tensors]


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
            total = total + step.bits(field[step.place.where]).sum((1, 2))
        return total

    @staged("vectors")
    def encode(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolSink) -> None:
        """Write the field of one frame."""
        for step in self.steps(field, previous, memory, rate):
            step.write(field[step.place.where], coder)

    @staged("vectors")
    def decode(self, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolSource) -> Tensor:
        """Read the field of one frame."""
        field = torch.zeros_like(previous)
        for step in self.steps(field, previous, memory, rate):
            field[step.place.where] = step.read(coder)
        return field

    def steps(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor) -> Iterator[Step]:
        """Goes through the pyramid; whoever decodes fills `field` in between."""
        side = F.relu(self.side(memory))
        quality = rate[:, None, None, None].float() / RATES - 0.5
        for place in pyramid(field, previous):
            base, age = place.base, place.prediction.age
            moved = (displacement(place.speeds, age) - base[:, :2]).float().clamp(-64, 64) / 8
            ages = (place.near[:, :, 2:] - age).float()
            features = torch.cat([_beside(moved), quality.expand_as(age), _beside(ages), age.float()], 1)
            features = torch.cat([features.to(side.dtype), side[place.where]], 1)
            wrong, merge, scale = self.grid(self.estimators[place.kind](features).float()).split((1, NEAR, 3), 1)
            yield Step(place, wrong, merge, scale)


def _beside(tensors: Tensor) -> Tensor:
    """Those of all neighbours as channels: (N, B, C, h, w) -> (B, N·C, h, w)."""
    return tensors.transpose(0, 1).flatten(1, 2)


def pyramid(field: Tensor, previous: Tensor) -> Iterator[Place]:
    """The order in which a field is coded. A place is predicted from what `field` holds when it is asked for."""
    every = slice(None)

    def place(kind: int, rows: slice, columns: slice, around: Tensor | None) -> Place:
        where = (every, every, rows, columns)
        past = previous[where][None]
        near = past.repeat(NEAR, 1, 1, 1, 1) if around is None else torch.cat([around, past])
        speeds = velocity(near)
        prediction = Prediction(speeds.median(0).values, near[:, :, 2:].median(0).values)
        return Place(kind, where, near, speeds, prediction)

    top = LEVELS[0]
    yield place(0, slice(0, None, top), slice(0, None, top), None)
    for level, s in enumerate(LEVELS[1:]):
        diagonal, cross = 1 + 2 * level, 2 + 2 * level
        even, odd = slice(0, None, 2 * s), slice(s, None, 2 * s)
        tall, wide = (-(-size // s) > 1 for size in field.shape[2:])  # are there odd rows, odd columns?
        if tall and wide:
            yield place(diagonal, odd, odd, _around(field[..., ::s, ::s], 1, 1, ((-1, -1), (-1, 1), (1, -1), (1, 1))))
        upright, flat = ((-1, 0), (1, 0)), ((0, -1), (0, 1))
        plus = (*(upright if tall else flat), *(flat if wide else upright))
        if tall:
            yield place(cross, odd, even, _around(field[..., ::s, ::s], 1, 0, plus))
        if wide:
            yield place(cross, even, odd, _around(field[..., ::s, ::s], 0, 1, plus))


def _around(grid: Tensor, row: int, column: int, offsets: tuple[tuple[int, int], ...]) -> Tensor:
    """Neighbours, at the given offsets, of every second vector from (row, column); reflected at the border: (N, B, 3, h, w)."""
    rows, columns = (_lines(first, tuple(parts), size, grid.device) for first, parts, size in zip((row, column), zip(*offsets), grid.shape[2:]))
    return grid[:, :, rows[:, :, None], columns[:, None]].permute(2, 0, 1, 3, 4)


@lru_cache(maxsize=256)
def _lines(first: int, offsets: tuple[int, ...], size: int, device: torch.device) -> Tensor:
    """Every second place of a line of `size` from the first on, moved by each offset: (N, count)."""
    place = torch.arange(first, size, 2, device=device) + torch.tensor(offsets, device=device)[:, None]
    return torch.where(place < 0, 1, torch.where(place >= size, size - 2, place))
