"""The entropy model of motion vectors: a pyramid from every eighth block to every block.

Vectors of a level are predicted by the medians of age and velocity, by component, of their four decoded neighbours and the
vector of the frame before. First comes a flag, whether the prediction is wrong at all; then a flag for each of these five
that is another vector, whether it is the one; then, if none is, the difference to the prediction. A vector that follows its
neighbours costs a hundredth of a bit, so block sizes vary without being signalled.

`Step` is for training, and for a search on a GPU; `models.steps` codes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.arrays import Array
from models.bits import flag_bits, laplace_bits
from models.bridge import host, hosts, on_device
from models.compiled import networks
from models.compiled.layers import Integers
from models.compiled.networks import SIDE
from models.entropy import SymbolDecoder, SymbolSink
from models.exact import Grid, Narrow, integers, layers, link
from models.presets import RATES
from models.pyramid import LEVELS, NEAR, Cells, order
from models.replay import recorded
from models.stages import staged
from models.steps import MOST_SYMBOLS, CodedStep
from models.vectors import Prediction, displacement, velocity

@dataclass(frozen=True)
class Place:
    """Vectors of the pyramid that are predicted together, in one row, and what they are predicted from."""

    cells: Cells[Tensor]
    near: Tensor  # (N, B, 3, 1, n) four decoded neighbours and the vectors of the frame before, which stand in for them on the highest level
    prediction: Prediction[Tensor]  # their median velocity at their median age
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
        return torch.stack([(numbers[k : k + 1] != numbers[:k]).all(0) for k in range(1, len(numbers))])

    def take(self, field: Tensor) -> Tensor:
        """These of a field (B, C, h, w): (B, C, 1, n)."""
        return field.flatten(-2).index_select(-1, self.cells.where)[:, :, None]

    def put(self, field: Tensor, vectors: Tensor) -> None:
        """Set these of a contiguous field (B, 3, h, w) to vectors (B, 3, 1, n)."""
        field.view(*field.shape[:2], -1)[..., self.cells.where] = vectors[:, :, 0]

    def difference(self, vectors: Tensor) -> Tensor:
        """What vectors (..., B, 3, 1, n) differ from the prediction."""
        return self.prediction.difference(vectors)


def _numbers(vectors: Tensor) -> Tensor:
    """One number for every vector: (..., 3, 1, n) -> (..., 1, 1, n)."""
    wide = vectors.long()
    return (wide[..., :1, :, :] << 20) + (wide[..., 1:2, :, :] << 3) + wide[..., 2:, :, :]


@dataclass(frozen=True)
class Step:
    """A place, and how sure its prediction is."""

    place: Place
    raw: Tensor  # (B, 1 + N + 3, 1, n) floats, what the estimator says: the three that follow

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


class Estimator(nn.Sequential):
    """From the neighbourhood of one vector to the distribution of its difference."""

    def __init__(self) -> None:
        super().__init__(Narrow(17 + SIDE, 32), Narrow(32, 32, relu=True), Narrow(32, MOST_SYMBOLS, relu=True))

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
        self.coder: networks.Motion | None = None  # when weights change no more
        self.grid = Grid()
        self.estimators = nn.ModuleList(Estimator() for _ in range(1 + 2 * (len(LEVELS) - 1)))

    def in_loops(self) -> networks.Motion:
        """For coding vectors, which goes through compiled loops wherever the context is."""
        values = integers((f"motion.{name}", layer) for name, layer in layers(self))
        return networks.Motion(Integers({name: value.cpu().numpy() for name, value in values.items()}), self.side.weight.shape[1])

    def bits(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor) -> Tensor:
        """Training: bits of a field for each sample, (B,)."""
        total = torch.zeros(len(field), device=field.device)
        for step in self.steps(field, previous, memory, rate):
            total = total + step.bits(step.place.take(field)[None])[0].sum((1, 2))
        return total

    @staged("vectors")
    def encode(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolSink, steps: Sequence[CodedStep] = ()) -> None:
        """Write the field of one frame, or those of several samples one after the other; steps, if they are known, are not computed again."""
        for step in steps or self._all_steps(field, previous, memory, rate):
            step.write(coder)

    def _all_steps(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor) -> Iterator[CodedStep]:
        """`coded_steps` of every sample of a batch."""
        for k in range(len(field)):
            some = slice(k, k + 1)
            yield from self.coded_steps(host(field[k].contiguous()), previous[some], memory[some], rate[some])

    @staged("vectors")
    def decode(self, previous: Tensor, memory: Tensor, rate: Tensor, coder: SymbolDecoder) -> Tensor:
        """Read the field of one frame."""
        field = np.zeros(previous.shape[1:], np.int32)
        for step in self.coded_steps(field, previous, memory, rate):
            step.read(coder)
        return on_device(field[None], previous.device)

    def coded_steps(self, field: Array, previous: Tensor, memory: Tensor, rate: Tensor) -> Iterator[CodedStep]:
        """The steps of coding a field (3, h, w); whoever decodes fills it in between."""
        loops = self.coder or self.in_loops()
        side, past = hosts([self._side(memory)[0].permute(1, 2, 0).float().contiguous(), previous[0].contiguous()])
        return loops.steps(field, past, side, int(rate))

    @recorded
    def _side(self, memory: Tensor) -> Tensor:
        """What is known of the context where vectors are coded: (B, SIDE, H/8, W/8)."""
        return self.side(memory)

    def steps(self, field: Tensor, previous: Tensor, memory: Tensor, rate: Tensor) -> Iterator[Step]:
        """Goes through the pyramid of a field (B, 3, h, w)."""
        side, quality = F.relu(self.side(memory)), rate[:, None, None, None].float() / RATES - 0.5
        for place in pyramid(field, previous):
            age = place.prediction.age
            moved = (place.moved[1:] - place.moved[:1]).clip(-64, 64)
            ages = place.near[:, :, 2:] - age
            features = (_beside(moved) / 8, quality + 0 * age, _beside(ages), age, place.take(side))
            yield Step(place, self._estimate(place.cells.kind, features))

    def _estimate(self, kind: int, features: Sequence[Tensor]) -> Tensor:
        """What an estimator says of its inputs."""
        x = torch.cat([feature.to(self.side.weight.dtype) for feature in features], 1)
        return self.grid(self.estimators[kind](x).float())


def _beside(values: Tensor) -> Tensor:
    """Those of all neighbours as channels: (N, B, C, 1, n) -> (B, N·C, 1, n)."""
    return values.transpose(0, 1).flatten(1, 2)


@lru_cache(maxsize=None)
def _order_on(height: int, width: int, device: torch.device) -> tuple[Cells[Tensor], ...]:
    """The steps in which a field is coded, on a device."""

    def on(places: Array) -> Tensor:
        return torch.from_numpy(places).to(device)

    return tuple(Cells(step.kind, on(step.where), on(step.around), step.ends) for step in order(height, width))


def pyramid(field: Tensor, previous: Tensor) -> Iterator[Place]:
    """The order in which a contiguous field is coded. A place is predicted from what `field` holds when it is asked for."""
    known, past = (vectors.flatten(-2) for vectors in (field, previous))
    for cells in _order_on(*field.shape[2:], field.device):
        near = past.index_select(-1, cells.where)[None]
        if len(cells.around):
            around = known.index_select(-1, cells.around).view(*known.shape[:2], NEAR - 1, -1)
            near = torch.cat([around.permute(2, 0, 1, 3), near])
        else:
            near = near.expand(NEAR, -1, -1, -1)
        near = near[:, :, :, None]
        speeds = velocity(near)
        middle = median(torch.cat([speeds, near[:, :, 2:]], 2))
        speed, age = middle[:, :2], middle[:, 2:]
        yield Place(cells, near, Prediction(speed, age), displacement(torch.cat([speed[None], speeds]), age))


def median(values: Tensor) -> Tensor:
    """Of five, by comparisons only: many times as fast as PyTorch's. (5, ...) -> (...)."""
    a, b, c, d, e = values
    low = torch.maximum(torch.minimum(a, b), torch.minimum(c, d))
    high = torch.minimum(torch.maximum(a, b), torch.maximum(c, d))
    return torch.maximum(torch.minimum(low, high), torch.minimum(torch.maximum(low, high), e))
