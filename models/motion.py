"""The entropy model of motion vectors: a pyramid from every eighth block to every block.

Vectors of a level are predicted by the medians of age and velocity, by component, of their four decoded neighbours and the
vector of the frame before. First comes a flag, whether the prediction is wrong at all; then a flag for each of these five
that is another vector, whether it is the one; then, if none is, the difference to the prediction. A vector that follows its
neighbours costs a hundredth of a bit, so block sizes vary without being signalled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.entropy import SymbolSink, SymbolSource, flag_bits, flag_index, laplace_bits, scale_index
from models.exact import Grid, Narrow, link
from models.presets import RATES
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
    near: list[Tensor]  # four decoded neighbours (B, 3, h', w') and the vectors of the frame before, which stand in for them on the highest level
    prediction: Prediction  # their median velocity at their median age

    @property
    def base(self) -> Tensor:
        """The predicted vectors, (B, 3, h', w')."""
        return self.prediction.vectors

    def choices(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The neighbours (B, 3, h', w'), in order, and where they are (B, 1, h', w') neither the prediction nor one of those before."""
        known = [self.base]
        for vectors in self.near:
            yield vectors, torch.stack([(vectors != other).any(1, keepdim=True) for other in known]).all(0)
            known.append(vectors)

    def difference(self, vectors: Tensor) -> Tensor:
        """What vectors (B, 3, h', w') differ from the prediction."""
        return self.prediction.difference(vectors)

    def vectors(self, difference: Tensor) -> Tensor:
        """The inverse of `difference`, for any difference."""
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
        """Of vectors (B, 3, h', w'): (B, h', w')."""
        difference = self.place.difference(vectors)
        left = (difference != 0).any(1, keepdim=True)
        total = flag_bits(left, self.wrong)
        for k, (choice, distinct) in enumerate(self.place.choices()):
            same = (vectors == choice).all(1, keepdim=True)
            total = total + (left & distinct) * flag_bits(same, self.merge[:, k, None])
            left = left & ~same
        return (total + left * laplace_bits(difference, self.scale).sum(1, keepdim=True))[:, 0]


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

    def encode(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolSink) -> None:
        """Write the field of one frame."""
        for step in self.steps(field, previous, memory, rate):
            vectors = field[step.place.where]
            difference = step.place.difference(vectors)
            left = (difference != 0).any(1, keepdim=True)
            coder.write(left, flag_index(step.wrong))
            for k, (choice, distinct) in enumerate(step.place.choices()):
                same, asked = (vectors == choice).all(1, keepdim=True), left & distinct
                coder.write(same[asked], flag_index(step.merge[:, k, None])[asked])
                left = left & ~same
            left = left.expand_as(difference)
            coder.write(difference[left], scale_index(step.scale)[left])

    def decode(self, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolSource) -> Tensor:
        """Read the field of one frame."""
        field = torch.zeros_like(previous)
        for step in self.steps(field, previous, memory, rate):
            left = coder.read(flag_index(step.wrong)).bool()
            vectors = step.place.base
            for k, (choice, distinct) in enumerate(step.place.choices()):
                same = left & distinct
                same[same.clone()] = coder.read(flag_index(step.merge[:, k, None])[same]).bool()
                vectors = torch.where(same, choice, vectors)
                left = left & ~same
            difference = torch.zeros_like(vectors)
            difference[left.expand_as(vectors)] = coder.read(scale_index(step.scale)[left.expand_as(vectors)])
            field[step.place.where] = torch.where(left, step.place.vectors(difference), vectors)
        return field

    def steps(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor) -> Iterator[Step]:
        """Goes through the pyramid; whoever decodes fills `field` in between."""
        side = F.relu(self.side(memory))
        quality = rate[:, None, None, None].float() / RATES - 0.5
        for place in pyramid(field, previous):
            base, age = place.base, place.prediction.age
            moved = [(displacement(velocity(n), age) - base[:, :2]).float().clamp(-64, 64) / 8 for n in place.near]
            ages = [(n[:, 2:] - age).float() for n in place.near]
            features = torch.cat([*moved, quality.expand_as(age), *ages, age], 1)
            features = torch.cat([features.to(side.dtype), side[place.where]], 1)
            wrong, merge, scale = self.grid(self.estimators[place.kind](features).float()).split((1, NEAR, 3), 1)
            yield Step(place, wrong, merge, scale)


def pyramid(field: Tensor, previous: Tensor) -> Iterator[Place]:
    """The order in which a field is coded. A place is predicted from what `field` holds when it is asked for."""
    every = slice(None)

    def place(kind: int, rows: slice, columns: slice, around: list[Tensor]) -> Place:
        where = (every, every, rows, columns)
        past = previous[where]
        near = [*(around or (NEAR - 1) * [past]), past]
        speed = torch.stack([velocity(n) for n in near]).median(0).values
        age = torch.stack([n[:, 2:] for n in near]).median(0).values
        return Place(kind, where, near, Prediction(speed, age))

    top = LEVELS[0]
    yield place(0, slice(0, None, top), slice(0, None, top), [])
    for level, s in enumerate(LEVELS[1:]):
        diagonal, cross = 1 + 2 * level, 2 + 2 * level
        even, odd = slice(0, None, 2 * s), slice(s, None, 2 * s)
        tall, wide = (-(-size // s) > 1 for size in field.shape[2:])  # are there odd rows, odd columns?
        if tall and wide:
            yield place(diagonal, odd, odd, _around(field[..., ::s, ::s], 1, 1, ((-1, -1), (-1, 1), (1, -1), (1, 1))))
        upright, flat = ((-1, 0), (1, 0)), ((0, -1), (0, 1))
        plus = [*(upright if tall else flat), *(flat if wide else upright)]
        if tall:
            yield place(cross, odd, even, _around(field[..., ::s, ::s], 1, 0, plus))
        if wide:
            yield place(cross, even, odd, _around(field[..., ::s, ::s], 0, 1, plus))


def _around(grid: Tensor, row: int, column: int, offsets: Sequence[tuple[int, int]]) -> list[Tensor]:
    """Neighbours, at the given offsets, of every second vector from (row, column); reflected at the border."""
    height, width = grid.shape[2:]

    def line(first: int, offset: int, size: int) -> Tensor:
        place = torch.arange(first, size, 2, device=grid.device) + offset
        return torch.where(place < 0, 1, torch.where(place >= size, size - 2, place))

    return [
        grid.index_select(2, line(row, dy, height)).index_select(3, line(column, dx, width)) for dy, dx in offsets
    ]
