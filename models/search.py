"""Motion search, the encoder's own business: any vectors decode. A processor searches in compiled loops (`models/compiled/search.py`).

Block matching from coarse to fine, for all blocks at once. The cost of a vector is in bits: its own, guessed from its distance
to the median of its neighbours, since that is what the vector coder predicts from, and those that its error is worth. If n
samples of variance v were Gaussian, coding them at the Lagrangian λ would cost n·λ·v while they are not worth coding, and
about n/2·log2(v) from there on (reverse water-filling; Cover and Thomas, 10.3): n/2·log2(1 + 2·ln 2·λ·v) joins the two.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.arrays import Array
from models.compiled.pictures import Luma
from models.compiled.search import LARGEST, Slots
from models.compiled.search import Search as InLoops
from models.fusion import fused_for_any_shape, fused_on_cpu
from models.kernels.matching import MARGIN, OVERLAP
from models.motion import Motion, Place, Step, pyramid
from models.overlap import Overlap
from models.plan import OVERLAPS_BELOW, PRICE, RING, STEPS, THOROUGH, Plan
from models.presets import lagrangian
from models.replay import recorded
from models.steps import CodedStep
from models.taps import LUMA_TAPS
from models.vectors import Prediction, displaced, velocity
from models.warp import BLOCK, spaced

COARSE = 4
"""The coarse search runs at a quarter of the resolution, on 16×16 blocks with a margin."""

INHERITED = 3.0
"""What a block's error counts beside the bits of its vector: the frames that follow inherit it."""


def neighbours(field: Tensor) -> Tensor:
    """The vectors above, below, left and right: (B, 3, h, w) -> (4, B, 3, h, w); the border repeats."""
    wide = F.pad(field.float(), (1, 1, 1, 1), mode="replicate").to(field.dtype)
    return torch.stack([wide[..., :-2, 1:-1], wide[..., 2:, 1:-1], wide[..., 1:-1, :-2], wide[..., 1:-1, 2:]])


def median(candidates: Tensor) -> Tensor:
    """Component-wise median of four: the mean of the middle two, rounded down."""
    return (candidates.sum(0, dtype=candidates.dtype) - candidates.amax(0) - candidates.amin(0)) >> 1


def centre(around: Tensor) -> Prediction:
    """What the medians of neighbours (4, B, 3, h, w) predict."""
    return Prediction(median(torch.stack([velocity(field) for field in around])), median(around[:, :, 2:]))


class References:
    """Pictures at all quarter-sample positions, from which blocks are read, on a GPU. Those of the call before are not made anew.

    Args:
        count: how many pictures at most; fewer where they would take over a gigabyte.
    """

    def __init__(self, count: int):
        self.count, self.slots = count, Slots(0)
        self.memory = 0  # how often memory has been set aside
        self.planes = torch.empty(0, dtype=torch.uint8)  # (N, B, 16, H + 2·MARGIN, W + 2·MARGIN)
        self.order = torch.empty(0, dtype=torch.int32)  # the slot of the picture of each age; as the planes, it stays where it is in memory

    def update(self, pictures: Sequence[Tensor]) -> None:
        """Read blocks from these from now on: luma (B, 1, H, W) of 8 bits, the newest first; border samples repeat."""
        batch, _, height, width = pictures[0].shape
        shape = (batch, 16, height + 2 * MARGIN, width + 2 * MARGIN)
        if self.planes.shape[1:] != shape or self.planes.device != pictures[0].device:
            count = max(1, min(self.count, LARGEST // math.prod(shape)))
            with torch.inference_mode(False):  # for use in any mode
                self.planes = torch.empty(count, *shape, dtype=torch.uint8, device=pictures[0].device)
                self.ages = torch.zeros(count, dtype=torch.int32, device=pictures[0].device)
            self.slots, self.memory = Slots(count), self.memory + 1
        order, new = self.slots.update(pictures[: len(self.slots)])
        for place in new:
            self.planes[place] = _framed_phases(self.slots.held[place])
        self.order = self.ages[: len(order)].copy_(_known(tuple(order), self.planes.device))

    def forget(self) -> None:
        """Make the pictures of the next call anew."""
        self.slots = Slots(len(self.slots))

    def __len__(self) -> int:
        return len(self.order)

    def windows(self, fields: Tensor, block: int, rows: Tensor, columns: Tensor, overlap: int = OVERLAP) -> Tensor:
        """The windows that vectors point to: (K, B, 3, h, w) -> (K, B, h, w, window, window) uint8; window = block + 2·overlap.

        The vectors are of blocks in these rows and columns of blocks, which broadcast to (h, w).
        """
        window = block + 2 * overlap
        lines = _lines(fields, self.order, window, self.planes.shape[1:], rows * block - overlap, columns * block - overlap)
        samples = self.planes.as_strided((self.planes.numel() - window + 1, window), (1, 1))
        return samples.index_select(0, lines.reshape(-1)).view(*lines.shape, window)


@recorded
def _framed_phases(picture: Tensor) -> Tensor:
    """A picture of 8 bits at all quarter-sample positions, with a margin around it: (B, 1, H, W) -> (B, 16, H + 2·MARGIN, W + 2·MARGIN)."""
    return phases(F.pad(picture.float(), (MARGIN,) * 4, mode="replicate")).round_().clamp_(0, 255)


@lru_cache(maxsize=None)
def _known(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    """Numbers on a device, where they have been before."""
    return torch.tensor(numbers, dtype=torch.int32, device=device)


@fused_on_cpu
def _lines(fields: Tensor, order: Tensor, window: int, shape: tuple[int, ...], rows: Tensor, columns: Tensor) -> Tensor:
    """Where each line of the windows that vectors point to begins in planes of this shape: (K, B, 3, h, w) -> (K, B, h, w, window).

    `rows` and `columns` tell the windows' places without vectors.
    """
    batch, count, tall, wide = shape
    far = MARGIN - window  # a window that lies further outside looks the same
    dy, dx, age = fields.unbind(2)
    y = (rows + (dy >> 2)).clamp(-MARGIN, tall - 2 * MARGIN + far) + MARGIN
    x = (columns + (dx >> 2)).clamp(-MARGIN, wide - 2 * MARGIN + far) + MARGIN
    phase = (dy & 3) * 4 + (dx & 3)
    picture = order[age.clamp(max=len(order) - 1)] * batch + torch.arange(batch, device=fields.device, dtype=torch.int32)[:, None, None]
    start = ((picture * count + phase) * tall + y) * wide + x  # (K, B, h, w)
    return start[..., None] + torch.arange(window, device=fields.device, dtype=torch.int32) * wide


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
    return out.mul_(1 / (64 * 64))


def _weighted(terms: list[Tensor], weights: tuple[int, ...]) -> Tensor:
    """The sum of the terms that have a weight."""
    (first, *rest) = ((term, weight) for term, weight in zip(terms, weights) if weight)
    total = first[0] * first[1]
    for term, weight in rest:
        total.add_(term, alpha=weight)
    return total


def windows(plane: Tensor, block: int) -> Tensor:
    """The windows of the blocks of a plane of 8 bits: (B, H, W) -> (B, H/block, W/block, window, window) uint8."""
    plane = F.pad(plane[:, None], (OVERLAP,) * 4, mode="replicate")[:, 0].to(torch.uint8)
    return plane.unfold(1, block + 2 * OVERLAP, block).unfold(2, block + 2 * OVERLAP, block).contiguous()


@lru_cache(maxsize=None)
def _weights(window: int, device: torch.device) -> Tensor:
    """What the error of each sample of a window counts, in 1/64; blocks side by side add up to 1: (window²,)."""
    place = torch.arange(window, device=device)
    line = (2 * torch.minimum(place, window - 1 - place) + 1).clamp(max=4 * OVERLAP).float() * (2 / OVERLAP)
    return (line[:, None] * line).flatten()


@fused_for_any_shape
def _worth(variance: Tensor, count: int | Tensor, multiplier: Tensor) -> Tensor:
    """Bits that errors of `count` samples of this variance, (K, B, h, w), are worth."""
    return INHERITED * count / 2 * torch.log2(1 + 2 * math.log(2) * multiplier[:, None, None] * variance)


@fused_for_any_shape
def _variances(found: Tensor, current: Tensor, weights: Tensor) -> Tensor:
    """Mean squared errors of windows (K, B, h, w, window, window): (K, B, h, w)."""
    return (found.float() - current.float()).square_().flatten(-2) @ weights / weights.sum()


def vector_bits(difference: Tensor) -> Tensor:
    """A guess at the bits of vectors from their differences to the prediction: (..., 3, h, w) -> (..., h, w)."""
    distance = difference.abs().float()
    return 2 * torch.log2(1 + distance).sum(-3) + 3 * (distance.sum(-3) > 0)


def _coarse(current: Tensor, reference: Tensor, reach: int) -> Tensor:
    """Full search at a quarter of the resolution: (B, H, W) -> vectors (B, 2, H/16, W/16) in quarter samples."""
    small, past = (F.avg_pool2d(x[:, None], COARSE)[:, 0] for x in (current, reference))
    height, width = small.shape[-2:]
    radius = reach // COARSE
    past = F.pad(past[:, None], (radius,) * 4, mode="replicate")[:, 0]
    span = torch.arange(-radius, radius + 1, device=current.device)

    def row(dy: int) -> tuple[Tensor, Tensor]:
        """The least error, and its vector, of displacements by `dy - radius` rows."""
        windows = past[:, dy : dy + height].unfold(2, width, 1)  # (B, h, K, w)
        error = (windows - small[:, :, None]).abs().transpose(1, 2)  # (B, K, h, w)
        error = F.avg_pool2d(error, COARSE)
        error = F.avg_pool2d(error, 3, stride=1, padding=1, count_include_pad=False) + error / 4
        error = error + 0.02 * (span.abs()[:, None, None] + abs(dy - radius))
        least, column = error.min(1)
        return least, torch.stack([torch.full_like(column, dy - radius), column - radius], 1)

    best, where = row(0)
    for dy in range(1, 2 * radius + 1):
        least, vector = row(dy)
        better = least < best
        best = torch.where(better, least, best)
        where = torch.where(better[:, None], vector, where)
    return (where * 4 * COARSE).int()


@dataclass(frozen=True)
class Guess:
    """A step of the vector coder whose bits are guessed."""

    place: Place

    def bits(self, vectors: Tensor) -> Tensor:
        """Of vectors (..., B, 3, h', w'): (..., B, h', w')."""
        return vector_bits(self.place.difference(vectors))


@dataclass(frozen=True)
class Pricing:
    """What vectors cost in the stream."""

    motion: Motion
    previous: Tensor  # vectors of the frame before, (B, 3, h, w)
    context: Tensor  # of the frame before, (B, C, h, w)
    rate: Tensor  # (B,)
    known: list[CodedStep] = field(default_factory=list)  # the steps that `coded_steps` has been through

    def coded_steps(self, field: Array, k: int) -> Iterator[CodedStep]:
        """The steps of coding the field (3, h, w) of one sample, in compiled loops."""
        some = slice(k, k + 1)
        for step in self.motion.coded_steps(field, self.previous[some], self.context[some], self.rate[some]):
            self.known.append(step)
            yield step


class Search:
    """Finds the vectors of a frame.

    Args:
        reach: largest displacement of the coarse search, in luma samples.
        plan: what to try.
        references: how many pictures to search.
    """

    def __init__(self, reach: int = 48, plan: Plan = THOROUGH, references: int = 4):
        self.reach, self.plan = reach, plan
        self.references = References(references)
        self.loops: list[InLoops] = []  # for every sample, on a processor
        self.known: list[tuple[Tensor, list[Luma]]] = []  # pictures of the call before, there

    @torch.no_grad()
    def __call__(
        self,
        current: Tensor,
        pictures: Sequence[Tensor],
        previous: Tensor,
        rate: Tensor,
        pricing: Pricing | None = None,
        older: Sequence[int] | None = None,
    ) -> Tensor:
        """Vectors (B, 3, H/8, W/8) int32 that predict `current` from earlier pictures, all luma (B, 1, H, W) of 8 bits.

        Args:
            pictures: the newest first.
            previous: vectors of the frame before, for temporal candidates.
            rate: rate point of each sample, (B,); low qualities get smoother vectors.
            pricing: what vectors cost; without it, or by a plan that is not priced, that is guessed.
            older: ages of the pictures that are searched beside the newest; by default all.
        """
        if current.is_cuda:
            return self._on_device(current, pictures, previous, rate, pricing, older)
        self.known = [(picture, self._lumas(picture)) for picture in pictures]
        self.loops += [InLoops(self.reach, self.plan, self.references.count) for _ in range(len(current) - len(self.loops))]
        fields = []
        for k, (plane, past, point, search) in enumerate(zip(_planes(current), previous.contiguous().numpy(), rate.tolist(), self.loops)):
            priced = partial(pricing.coded_steps, k=k) if pricing else None
            fields.append(search(plane, [lumas[k] for _, lumas in self.known], past, point, priced, older))
        return torch.from_numpy(np.stack(fields))

    def _lumas(self, picture: Tensor) -> list[Luma]:
        """Those of all samples, the same ones as in the call before."""
        return next((lumas for known, lumas in self.known if known is picture), None) or [Luma(plane) for plane in _planes(picture)]

    def forget(self) -> None:
        """Make nothing of the pictures of calls before, which may hold others by now."""
        self.references.forget()
        self.known = []

    def _on_device(
        self, current: Tensor, pictures: Sequence[Tensor], previous: Tensor, rate: Tensor, pricing: Pricing | None, older: Sequence[int] | None
    ) -> Tensor:
        """The same for all blocks of all samples at once."""
        self.references.update(pictures)
        ages = tuple(age for age in range(1, len(self.references)) if older is None or age in older)
        pricing = pricing if self.plan.priced else None
        overlaps = self.plan.overlaps if self.plan.overlaps and float(rate.max()) < OVERLAPS_BELOW else 0
        motion, context = (pricing.motion, pricing.context) if pricing else (None, None)
        count = len(self.references)
        used = pictures[: count if overlaps else 1]
        return self._matched((self.references.memory, count), _known(ages, current.device), overlaps, motion, context, current, previous, rate, *used)

    @recorded
    def _matched(
        self, memory: tuple[int, int], ages: Tensor, overlaps: int, motion: Motion | None, context: Tensor | None, current: Tensor, previous: Tensor,
        rate: Tensor, *pictures: Tensor,
    ) -> Tensor:  # fmt: skip
        """What `_on_device` finds. References are in this memory of theirs, and so many; `motion` and `context` are the pricing's, whose vectors and rates are these."""
        plan = self.plan
        multiplier = lagrangian(rate.double()).float()
        plane = current[:, 0].float()
        field = _coarse(plane, pictures[0][:, 0].float(), self.reach)
        field = torch.cat([field, torch.zeros_like(field[:, :1])], 1)
        large, small = windows(plane, 2 * BLOCK), windows(plane, BLOCK)
        past = velocity(previous[..., ::2, ::2])
        moved = displaced(past, torch.zeros_like(field[:, 2:]))
        for _ in range(plan.sweeps):  # the coarse search is noise where nothing is to be seen: let it follow its neighbours
            around = neighbours(field)
            field = self._refine(large, field, [centre(around).vectors, *around, torch.zeros_like(field), moved], (), multiplier)
        field = self._refine(large, field, [], plan.large, multiplier)
        found: list[Tensor] = []  # in older pictures
        for age in ages:
            same = age.expand_as(field[:, 2:])
            start = displaced(velocity(field), same)
            extra = [past, torch.zeros_like(past), *(velocity(last) for last in found[-1:])]
            found.append(self._refine(large, start, [displaced(speed, same) for speed in extra], plan.older, multiplier))
        newest = field
        field = self._refine(large, field, found, (), multiplier)
        if found:
            around = neighbours(field)
            field = self._refine(large, field, [centre(around).vectors, *around], (), multiplier)
        field, *others = (f.repeat_interleave(2, 2).repeat_interleave(2, 3) for f in (field, newest, *found))
        candidates = [*(torch.roll(field, shift, axis) for shift in (2, -2) for axis in (2, 3)), previous]
        if found:
            candidates += others
        field = self._refine(small, field, candidates, plan.small, multiplier)
        for _ in range(plan.passes):
            around = neighbours(field)
            field = self._refine(small, field, [centre(around).vectors, *around], (), multiplier)
        field, overlap = field.clone(memory_format=torch.contiguous_format), None
        if overlaps:
            overlap = Overlap(current, pictures, self.references)
            for _ in range(overlaps):
                self._settle(small, field, overlap, multiplier)
        steps: Iterator[Step | Guess] = (Guess(place) for place in pyramid(field, previous))
        if motion is not None and context is not None:
            steps = motion.steps(field, previous, context, rate)
        return self._prune(small, field, overlap, steps, multiplier)

    def _settle(self, current: Tensor, field: Tensor, overlap: Overlap, multiplier: Tensor) -> None:
        """Offer every vector those around it, and small moves, in four turns of blocks whose windows do not overlap."""
        height, width = field.shape[2:]
        for first in ((0, 0), (0, 1), (1, 0), (1, 1)):
            rows, columns = (torch.arange(start, size, 2, device=field.device) for start, size in zip(first, (height, width)))
            where = (rows[:, None] * width + columns).flatten()
            around = neighbours(field)
            expected = centre(around)
            offered = torch.stack([field, *around, expected.vectors]).flatten(-2).index_select(-1, where)[..., None, :]
            expected = Prediction(*(values.flatten(-2).index_select(-1, where)[..., None, :] for values in (expected.speed, expected.age)))
            overlap.update(field)
            held = best = offered[0]
            for moves in (None, *STEPS):
                fields = offered if moves is None else best + _moves(RING, moves, field.device)
                errors = self._errors_at(current, where, fields, held, overlap, multiplier)
                best = _best(fields, errors + vector_bits(expected.difference(fields)))
            field.view(*field.shape[:2], -1).index_copy_(2, where, best[:, :, 0])

    def _prune(self, current: Tensor, field: Tensor, overlap: Overlap | None, steps: Iterator[Step | Guess], multiplier: Tensor) -> Tensor:
        """Go through the field as it will be coded, and take the prediction, or a vector near, where the better vector is not worth its bits."""
        for step in steps:
            place = step.place
            held = place.take(field)
            fields = torch.cat([held[None], place.candidates])
            if overlap:
                overlap.update(field)
            errors = self._errors_at(current, place.cells.where, fields, held, overlap, multiplier)
            place.put(field, _best(fields, errors + PRICE * step.bits(fields)))
        return field

    def _errors_at(self, current: Tensor, where: Tensor, fields: Tensor, held: Tensor, overlap: Overlap | None, multiplier: Tensor) -> Tensor:
        """Bits that the errors of some blocks are worth, by their numbers in raster order: vectors (K, B, 3, 1, n) -> (K, B, 1, n).

        With overlap those of the blocks themselves count for one half, since the context moves block by block.
        """
        width = current.shape[2]
        rows, columns = (where // width).int(), (where % width).int()
        errors = self._errors(current.flatten(1, 2).index_select(1, where)[:, None], fields, multiplier, rows, columns)
        return (errors + _worth(*overlap.variances(fields, held, rows, columns), multiplier)) / 2 if overlap else errors

    def _refine(self, current: Tensor, field: Tensor, extra: list[Tensor], steps: tuple[int, ...], multiplier: Tensor) -> Tensor:
        """The best of the field itself, the extra candidates, and rings of shrinking size around what is best so far."""
        expected = centre(neighbours(field))

        def best(fields: Tensor) -> Tensor:
            bits = vector_bits(expected.difference(fields))
            return _best(fields, self._errors(current, fields, multiplier) + bits)

        if extra:
            field = best(torch.stack([field, *extra]))
        ring = RING if current.shape[-1] > BLOCK + 2 * OVERLAP else self.plan.ring
        for step in steps:
            field = best(field + _moves(ring, step, field.device))
        return field

    def _errors(
        self, current: Tensor, fields: Tensor, multiplier: Tensor, rows: Tensor | None = None, columns: Tensor | None = None
    ) -> Tensor:
        """Bits that the errors of blocks are worth: vectors (K, B, 3, h, w) -> (K, B, h, w).

        Args:
            current: the picture in windows, (B, h, w, window, window) uint8.
            multiplier: λ of each sample, (B,).
            rows, columns: which blocks these are, if not all: they broadcast to (h, w).
        """
        window, device = current.shape[-1], current.device
        rows = spaced(fields.shape[-2], 1, 0, device)[:, None] if rows is None else rows
        columns = spaced(fields.shape[-1], 1, 0, device) if columns is None else columns
        found = self.references.windows(fields, window - 2 * OVERLAP, rows, columns)
        return _worth(_variances(found, current, _weights(window, device)), (window - 2 * OVERLAP) ** 2, multiplier)


def _planes(luma: Tensor) -> Array:
    """(B, 1, H, W) -> (B, H, W) float32."""
    planes: Array = luma[:, 0].float().contiguous().numpy()
    return planes


def _best(fields: Tensor, costs: Tensor) -> Tensor:
    """Of every block the vector that costs least, the first of those that cost the same: (K, B, 3, h, w), (K, B, h, w) -> (B, 3, h, w)."""
    choice = costs.min(0).indices
    return fields.gather(0, choice[None, :, None].expand(1, *fields.shape[1:]))[0]


@lru_cache(maxsize=None)
def _moves(ring: tuple[tuple[int, int], ...], step: int, device: torch.device) -> Tensor:
    """No move, then those of a ring: (K, 1, 3, 1, 1)."""
    moves = torch.tensor([(0, 0), *ring], dtype=torch.int32, device=device) * step
    return F.pad(moves, (0, 1))[:, None, :, None, None]
