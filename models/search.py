"""Motion search, the encoder's own business: any vectors decode.

Block matching from coarse to fine, for all blocks at once. The cost of a vector is in bits: its own, guessed from its distance
to the median of its neighbours, since that is what the vector coder predicts from, and those that its error is worth. If n
samples of variance v were Gaussian, coding them at the Lagrangian λ would cost n·λ·v while they are not worth coding, and
about n/2·log2(v) from there on (reverse water-filling; Cover and Thomas, 10.3): n/2·log2(1 + 2·ln 2·λ·v) joins the two.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.fusion import fused
from models.motion import pyramid
from models.presets import lagrangian
from models.warp import BLOCK, LUMA_TAPS

COARSE = 4
"""The coarse search runs at a quarter of the resolution, on 16×16 blocks with a margin."""

SWEEPS = 4
"""How often vectors of 16×16 blocks are offered those of their neighbours, before they are refined."""

MARGIN = 40
"""Samples around the reference that blocks may be read from."""

INHERITED = 3.0
"""What a block's error counts beside the bits of its vector: the frames that follow inherit it."""

PRUNE = 2.0
"""What a bit counts when vectors are held against what the coder predicts: the vectors around them cost less, too."""

CROSS = ((-1, 0), (1, 0), (0, -1), (0, 1))
RING = (*CROSS, (-1, -1), (-1, 1), (1, -1), (1, 1))


def neighbours(field: Tensor) -> Tensor:
    """The vectors above, below, left and right: (B, 2, h, w) -> (4, B, 2, h, w); the border repeats."""
    wide = F.pad(field.float(), (1, 1, 1, 1), mode="replicate").to(field.dtype)
    return torch.stack([wide[..., :-2, 1:-1], wide[..., 2:, 1:-1], wide[..., 1:-1, :-2], wide[..., 1:-1, 2:]])


def median(candidates: Tensor) -> Tensor:
    """Component-wise median of four: the mean of the middle two, rounded down."""
    return (candidates.sum(0, dtype=candidates.dtype) - candidates.amax(0) - candidates.amin(0)) >> 1


@dataclass(frozen=True)
class Reference:
    """A picture at all quarter-sample positions, from which blocks are read."""

    planes: Tensor  # (B, 16, H + 2·MARGIN, W + 2·MARGIN), contiguous

    @classmethod
    def of(cls, luma: Tensor) -> "Reference":
        """From luma (B, 1, H, W); beyond its border the nearest sample repeats."""
        wide = F.pad(luma.float(), (MARGIN,) * 4, mode="replicate")
        return cls(phases(wide))

    def blocks(self, field: Tensor, block: int) -> Tensor:
        """The block that each vector points to: (B, 2, h, w) -> (B, h, w, block, block)."""
        lines = _lines(field, block, self.planes.shape)
        windows = self.planes.as_strided((self.planes.numel() - block + 1, block), (1, 1))
        return windows.index_select(0, lines.reshape(-1)).view(*lines.shape, block)


@fused
def _lines(field: Tensor, block: int, shape: tuple[int, int, int, int]) -> Tensor:
    """Where each line of the blocks that vectors point to begins in planes of this shape: (B, 2, h, w) -> (B, h, w, block)."""
    batch, count, tall, wide = shape
    device = field.device
    rows, columns = (torch.arange(size, device=device, dtype=torch.int32) * block for size in field.shape[2:])
    far = MARGIN - block  # a block that lies further outside looks the same
    y = (rows[:, None] + (field[:, 0] >> 2)).clamp(-MARGIN, tall - 2 * MARGIN + far) + MARGIN
    x = (columns + (field[:, 1] >> 2)).clamp(-MARGIN, wide - 2 * MARGIN + far) + MARGIN
    phase = (field[:, 0] & 3) * 4 + (field[:, 1] & 3)
    plane = torch.arange(batch, device=device, dtype=torch.int32)[:, None, None] * count + phase
    start = (plane * tall + y) * wide + x  # (B, h, w)
    return start[..., None] + torch.arange(block, device=device, dtype=torch.int32) * wide


def phases(plane: Tensor) -> Tensor:
    """All quarter-sample positions of luma: (B, 1, H, W) -> (B, 16, H, W)."""
    taps = LUMA_TAPS
    before = len(taps[0]) // 2 - 1
    after = len(taps[0]) - 1 - before
    batch, _, height, width = plane.shape
    rows = F.pad(plane, (before, after, before, after), mode="replicate")[:, 0]
    out = plane.new_empty(batch, len(taps) ** 2, height, width)
    for i, vertical in enumerate(taps):
        line = _weighted([rows[:, k : k + height] for k in range(len(vertical))], vertical)
        for j, horizontal in enumerate(taps):
            out[:, i * len(taps) + j] = _weighted([line[..., k : k + width] for k in range(len(horizontal))], horizontal)
    return out.div_(64 * 64)


def _weighted(terms: list[Tensor], weights: tuple[int, ...]) -> Tensor:
    """The sum of the terms that have a weight."""
    (first, *rest) = ((term, weight) for term, weight in zip(terms, weights) if weight)
    total = first[0] * first[1]
    for term, weight in rest:
        total.add_(term, alpha=weight)
    return total


def tiles(plane: Tensor, block: int) -> Tensor:
    """A plane cut into blocks: (B, H, W) -> (B, H/block, W/block, block, block)."""
    batch, height, width = plane.shape
    return plane.view(batch, height // block, block, width // block, block).transpose(2, 3).contiguous()


def vector_cost(reference: Reference, current: Tensor, field: Tensor, centre: Tensor, multiplier: Tensor) -> Tensor:
    """Bits that the vector of each block and its error are worth: (B, h, w).

    Args:
        reference: what is predicted from.
        current: the picture in blocks, (B, h, w, block, block).
        field: the vectors to judge, (B, 2, h, w).
        centre: what they are predicted to be, the same shape.
        multiplier: λ of each sample, (B,).
    """
    return _cost(reference.blocks(field, current.shape[-1]), current, field - centre, multiplier)


@fused
def _cost(blocks: Tensor, current: Tensor, difference: Tensor, multiplier: Tensor) -> Tensor:
    count = blocks.shape[3] * blocks.shape[4]
    variance = blocks.sub_(current).square_().sum((3, 4)) / count
    error = count / 2 * torch.log2(1 + 2 * math.log(2) * multiplier[:, None, None] * variance)
    return INHERITED * error + vector_bits(difference)


def vector_bits(difference: Tensor) -> Tensor:
    """A guess at the bits of vectors from their differences to the prediction: (B, 2, h, w) -> (B, h, w)."""
    distance = difference.abs().float()
    return 2 * torch.log2(1 + distance).sum(1) + 3 * (distance.sum(1) > 0)


@fused
def _coarse(current: Tensor, reference: Tensor, reach: int) -> Tensor:
    """Full search at a quarter of the resolution: (B, H, W) -> vectors (B, 2, H/16, W/16) in quarter samples."""
    small, past = (F.avg_pool2d(x[:, None], COARSE)[:, 0] for x in (current, reference))
    height, width = small.shape[-2:]
    radius = reach // COARSE
    past = F.pad(past[:, None], (radius,) * 4, mode="replicate")[:, 0]
    span = torch.arange(-radius, radius + 1, device=current.device)
    best, where = None, None
    for dy in range(2 * radius + 1):
        windows = past[:, dy : dy + height].unfold(2, width, 1)  # (B, h, K, w)
        error = (windows - small[:, :, None]).abs().transpose(1, 2)  # (B, K, h, w)
        error = F.avg_pool2d(error, COARSE)
        error = F.avg_pool2d(error, 3, stride=1, padding=1, count_include_pad=False) + error / 4
        error = error + 0.02 * (span.abs()[:, None, None] + abs(dy - radius))
        least, column = error.min(1)
        vector = torch.stack([torch.full_like(column, dy - radius), column - radius], 1)
        if best is None:
            best, where = least, vector
        else:
            better = least < best
            best = torch.where(better, least, best)
            where = torch.where(better[:, None], vector, where)
    return (where * 4 * COARSE).int()


class Search:
    """Finds the vectors of a frame.

    Args:
        reach: largest displacement of the coarse search, in luma samples.
        thorough: test more candidates; for encoding rather than training.
    """

    def __init__(self, reach: int = 48, thorough: bool = True):
        self.reach, self.thorough = reach, thorough

    @torch.no_grad()
    def __call__(self, current: Tensor, reference: Tensor, previous: Tensor, rate: Tensor) -> Tensor:
        """Vectors (B, 2, H/8, W/8) int32 that predict `current` from `reference`, both luma (B, 1, H, W) of 8 bits.

        Args:
            previous: vectors of the frame before, for temporal candidates.
            rate: rate point of each sample, (B,); low qualities get smoother vectors.
        """
        multiplier = lagrangian(rate.double()).float()
        plane, past_plane = current[:, 0].float(), reference[:, 0].float()
        field = _coarse(plane, past_plane, self.reach)
        planes, large, small = Reference.of(reference), tiles(plane, 2 * BLOCK), tiles(plane, BLOCK)
        past = previous[..., ::2, ::2]
        for _ in range(SWEEPS):  # the coarse search is noise where nothing is to be seen: let it follow its neighbours
            around = neighbours(field)
            field = self._refine(planes, large, field, [median(around), *around, torch.zeros_like(field), past], (), multiplier)
        steps = (8, 4, 2, 1) if self.thorough else (6, 2)
        field = self._refine(planes, large, field, [], steps, multiplier)
        field = field.repeat_interleave(2, 2).repeat_interleave(2, 3)
        start = [*(torch.roll(field, shift, axis) for shift in (2, -2) for axis in (2, 3)), previous]
        steps = (4, 2, 1) if self.thorough else (1,)
        field = self._refine(planes, small, field, start, steps, multiplier)
        for _ in range(2 if self.thorough else 1):
            around = neighbours(field)
            field = self._refine(planes, small, field, [median(around), *around], (), multiplier)
        return self._prune(planes, small, field, previous, multiplier)

    def _prune(self, planes: Reference, current: Tensor, field: Tensor, previous: Tensor, multiplier: Tensor) -> Tensor:
        """Go through the field as it will be coded, and take the prediction where the better vector is not worth its bits."""
        field = field.clone()
        error = vector_cost(planes, current, field, field, multiplier)
        for place in pyramid(field, previous):
            predicted = field.clone()
            predicted[place.where] = place.base
            others = vector_cost(planes, current, predicted, predicted, multiplier)
            own, blocks = field[place.where], (place.where[0], *place.where[2:])
            bits = PRUNE * vector_bits(own - place.base)
            keep = error[blocks] + bits < others[blocks]
            field[place.where] = torch.where(keep[:, None], own, place.base)
            error[blocks] = torch.where(keep, error[blocks], others[blocks])
        return field

    def _refine(
        self, planes: Reference, current: Tensor, field: Tensor, extra: list[Tensor], steps: tuple[int, ...], multiplier: Tensor
    ) -> Tensor:
        """The best of the field itself, the extra candidates, and rings of shrinking size around what is best so far."""
        centre = median(neighbours(field))
        best = vector_cost(planes, current, field, centre, multiplier)

        def consider(candidate: Tensor) -> None:
            nonlocal best, field
            cost = vector_cost(planes, current, candidate, centre, multiplier)
            better = cost < best
            best = torch.where(better, cost, best)
            field = torch.where(better[:, None], candidate, field)

        for candidate in extra:
            consider(candidate)
        for step in steps:
            middle = field
            for dy, dx in RING if self.thorough or current.shape[-1] > BLOCK else CROSS:
                consider(torch.stack([middle[:, 0] + step * dy, middle[:, 1] + step * dx], 1))
        return field
