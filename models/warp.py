"""Motion compensation: overlapped blocks on the picture, bilinear on the context. Exact: integers throughout.

Vectors are (B, 2, H/8, W/8) int32, vertical then horizontal, in quarter luma samples, one for each 8×8 block. They
point from a block to where its content was in the previous picture. Positions outside the picture repeat its border.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from models.fusion import fused
from models.picture import Planes

BLOCK = 8
"""Luma samples of a block's side; the chroma block is half of it."""

LUMA_TAPS = (
    (0, 0, 0, 64, 0, 0, 0, 0),
    (-1, 4, -10, 58, 17, -5, 1, 0),
    (-1, 4, -11, 40, 40, -11, 4, -1),
    (0, 1, -5, 17, 58, -10, 4, -1),
)
"""Quarter-sample interpolation of ITU-T H.265, 8.5.3.3.3.2; every row sums to 64."""

CHROMA_TAPS = (
    (0, 64, 0, 0),
    (-2, 58, 10, -2),
    (-4, 54, 16, -2),
    (-6, 46, 28, -4),
    (-4, 36, 36, -4),
    (-4, 28, 46, -6),
    (-2, 16, 54, -4),
    (-2, 10, 58, -2),
)
"""Eighth-sample interpolation of ITU-T H.265, 8.5.3.3.3.3."""


@fused
def phases(plane: Tensor, taps: tuple[tuple[int, ...], ...]) -> Tensor:
    """All sub-sample positions of a plane of integers: (B, 1, H, W) -> (B, P·P, H, W), in 1/64, rounded to integers."""
    before = len(taps[0]) // 2 - 1
    after = len(taps[0]) - 1 - before
    batch, _, height, width = plane.shape
    rows = F.pad(plane, (before, after, before, after), mode="replicate")[:, 0]
    out = plane.new_empty(batch, len(taps) ** 2, height, width)
    for i, vertical in enumerate(taps):
        line = _weighted([rows[:, k : k + height] for k in range(len(vertical))], vertical)
        for j, horizontal in enumerate(taps):
            out[:, i * len(taps) + j] = _weighted([line[..., k : k + width] for k in range(len(horizontal))], horizontal)
    return out.div_(64).round_()


def _weighted(terms: list[Tensor], weights: tuple[int, ...]) -> Tensor:
    """The sum of the terms that have a weight."""
    (first, *rest) = ((term, weight) for term, weight in zip(terms, weights) if weight)
    total = first[0] * first[1]
    for term, weight in rest:
        total.add_(term, alpha=weight)
    return total


def _overlap(length: int, block: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Along one axis: each sample's own block, the nearest other block, and the weight of its own (of 2·block)."""
    place = torch.arange(length, device=device)
    own, offset = place // block, place % block
    near = offset < block // 2
    other = (own + torch.where(near, -1, 1)).clamp(0, length // block - 1)
    weight = torch.where(near, 2 * offset + 1 + block, 3 * block - 1 - 2 * offset)
    return own, other, weight.float()


def fetch(planes: Tensor, vectors: Tensor, shape: tuple[int, int]) -> Tensor:
    """Read one sample for every vector.

    Args:
        planes: (B, P·P, H, W) from `phases`.
        vectors: (B, 2, h, w) integers in 1/P samples, one for each output sample.
        shape: height and width that the output samples' own positions run over; (h, w) covers all of it.
    """
    batch, count, height, width = planes.shape
    parts = {16: 2, 64: 3}[count]  # log2 of P
    mask = (1 << parts) - 1
    rows = torch.arange(shape[0], device=planes.device, dtype=torch.int32)[:, None]
    columns = torch.arange(shape[1], device=planes.device, dtype=torch.int32)
    y = ((rows << parts) + vectors[:, 0]).clamp(0, (height - 1) << parts)
    x = ((columns << parts) + vectors[:, 1]).clamp(0, (width - 1) << parts)
    phase = ((y & mask) << parts) + (x & mask)
    index = (phase * height + (y >> parts)) * width + (x >> parts)
    return planes.reshape(batch, -1).gather(1, index.reshape(batch, -1).long()).view(batch, *shape)


@fused
def _compensate(plane: Tensor, vectors: Tensor, taps: tuple[tuple[int, ...], ...], block: int) -> Tensor:
    """One plane predicted from overlapped blocks: (B, 1, H, W) -> the same, in exact multiples of 2^-14."""
    height, width = plane.shape[-2:]
    planes = phases(plane, taps)
    own_y, other_y, weight_y = _overlap(height, block, plane.device)
    own_x, other_x, weight_x = _overlap(width, block, plane.device)
    total = 2 * block
    out = 0
    for rows, down in ((own_y, weight_y), (other_y, total - weight_y)):
        band = vectors.index_select(2, rows)
        for columns, across in ((own_x, weight_x), (other_x, total - weight_x)):
            sample = fetch(planes, band.index_select(3, columns), (height, width))
            out = out + sample * (down[:, None] * across)
    return (out / (64 * total * total))[:, None]


def compensate(reference: Planes, vectors: Tensor) -> Planes:
    """Overlapped block motion compensation of an aligned 8-bit picture; not rounded to 8 bits again."""
    return Planes(
        _compensate(reference.y, vectors, LUMA_TAPS, BLOCK),
        _compensate(reference.u, vectors, CHROMA_TAPS, BLOCK // 2),
        _compensate(reference.v, vectors, CHROMA_TAPS, BLOCK // 2),
    )


@fused
def warp_context(context: Tensor, vectors: Tensor) -> Tensor:
    """Bilinear warp of features at 1/8 resolution by the blocks' vectors: (B, C, H/8, W/8) -> the same."""
    batch, channels, height, width = context.shape
    rows = torch.arange(height, device=context.device)[:, None]
    columns = torch.arange(width, device=context.device)
    unit = 4 * BLOCK
    dy, dx = vectors[:, 0], vectors[:, 1]
    top, left = rows + dy // unit, columns + dx // unit
    down, across = (dy % unit).float(), (dx % unit).float()
    start = torch.arange(batch, device=context.device)[:, None, None] * height
    flat = context.permute(0, 2, 3, 1).reshape(-1, channels)
    out = 0
    for y, wy in ((top, unit - down), (top + 1, down)):
        line = (start + y.clamp(0, height - 1)) * width
        for x, wx in ((left, unit - across), (left + 1, across)):
            index = (line + x.clamp(0, width - 1)).reshape(-1)
            weight = (wy * wx / unit**2).reshape(-1, 1)
            out = out + flat.index_select(0, index) * weight.to(flat.dtype)
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)
