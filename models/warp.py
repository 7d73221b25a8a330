"""Motion compensation: overlapped blocks on the picture, bilinear on the context. Exact: integers throughout.

Positions outside a picture repeat its border.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from models import bridge
from models.compiled import pictures
from models.fusion import fused_on_cpu
from models.picture import Planes
from models.replay import recorded
from models.stages import staged
from models.taps import BORDER, CHROMA_TAPS, LUMA_TAPS
from models.vectors import displacement, velocity

BLOCK = 8
"""Luma samples of a block's side; the chroma block is half of it."""

@lru_cache(maxsize=None)
def _filters(taps: tuple[tuple[int, ...], ...], size: int, device: torch.device) -> Tensor:
    """For every phase the matrix that interpolates `size` samples from a line of size + taps - 1: (P, size, line)."""
    count = len(taps[0])
    matrices = torch.zeros(len(taps), size, size + count - 1, device=device)
    for phase, row in enumerate(taps):
        for k, tap in enumerate(row):
            matrices[phase].diagonal(k).fill_(tap)
    return matrices


@lru_cache(maxsize=None)
def _weights(block: int, count: int, device: torch.device) -> Tensor:
    """The weight of a block's vector over its block and half a block around it, of samples in 1/64 of P planes: (2·block · P · 2·block,)."""
    place = torch.arange(2 * block, device=device)
    line = torch.minimum(2 * place + 1, 4 * block - 1 - 2 * place).float()
    return (line[:, None, None] * line / (64 * (2 * block) ** 2)).expand(-1, count, -1).reshape(-1)


@recorded
def _compensate(planes: Tensor, vectors: Tensor, taps: tuple[tuple[int, ...], ...], block: int, border: int) -> Tensor:
    """Planes predicted from overlapped blocks of N pictures: (N, B, P, H + 2·border, W + 2·border) uint8 -> (B, P, H, W), in exact multiples of 2^-14.

    Every block predicts a window that reaches half a block beyond it on all sides; windows are weighted and added.
    A ring of blocks around the picture repeats those at the border. This is for a GPU.
    """
    pictures, batch, count, tall, wide = planes.shape
    parts = len(taps).bit_length() - 1  # a whole sample is 2^parts units of the vectors
    size, before = 2 * block, len(taps[0]) // 2 - 1
    line = size + len(taps[0]) - 1  # samples that one line of a window is interpolated from
    ring = F.pad(vectors.float(), (1, 1, 1, 1), mode="replicate").int()  # (B, 3, h + 2, w + 2)
    rows, columns = ring.shape[2:]
    first = border - block - block // 2 - before  # where the window of the ring's first block is read, without a vector
    # Beyond the border the nearest sample repeats; so windows that lie wholly outside may all begin at the same place.
    down = (spaced(rows, block, first, planes.device)[:, None] + (ring[:, 0] >> parts)).clamp_(0, tall - line)
    right = (spaced(columns, block, first, planes.device) + (ring[:, 1] >> parts)).clamp_(0, wide - line)
    picture = ring[:, 2].clamp(max=pictures - 1) * batch + spaced(batch, 1, 0, planes.device)[:, None, None]
    start = (picture * (count * tall) + down) * wide + right  # (B, h + 2, w + 2)
    beside = spaced(line, wide, 0, planes.device)[:, None] + spaced(count, tall * wide, 0, planes.device)
    samples = planes.as_strided((planes.numel() - line + 1, line), (1, 1))
    phases = ring[:, :2] & ((1 << parts) - 1)
    filters, weights = _filters(taps, size, planes.device), _weights(block, count, planes.device)

    lines = start.reshape(-1, 1) + beside.view(-1)
    read = samples.index_select(0, lines.view(-1)).view(-1, line, count * line).float()
    vertical, horizontal = (filters.index_select(0, phase.reshape(-1)) for phase in phases.unbind(1))  # (K, size, line)
    with torch.autocast(planes.device.type, enabled=False):  # integers below 2^24: exact in float32
        found = torch.bmm(torch.bmm(vertical, read).view(-1, size * count, line), horizontal.mT)
    windows = found.view(-1, weights.numel()).mul_(1 / 64).round_().mul_(weights).view(batch, rows, columns, 2, block, count, 2, block)
    upper, lower = windows.unbind(3)  # each (B, h + 2, w + 2, block, P, 2, block)
    bands = upper[:, 1:] + lower[:, :-1]
    tiles = bands[:, :, :-1, :, :, 1] + bands[:, :, 1:, :, :, 0]  # (B, h + 1, w + 1, block, P, block), which begin half a block outside the picture
    whole = tiles.permute(0, 4, 1, 3, 2, 5).reshape(batch, count, (rows - 1) * block, (columns - 1) * block)
    half = block // 2
    return whole[..., half : half + tall - 2 * border, half : half + wide - 2 * border]


@lru_cache(maxsize=None)
def spaced(count: int, step: int, first: int, device: torch.device) -> Tensor:
    """`count` numbers from `first` on, `step` apart: (count,) int32."""
    return torch.arange(count, dtype=torch.int32, device=device) * step + first


@staged("motion compensation")
def compensate(references: Sequence[Planes], vectors: Tensor) -> Planes:
    """Overlapped block motion compensation of aligned 8-bit pictures, the newest first; not rounded to 8 bits again.

    Ages beyond the oldest picture mean that one.
    """
    if not vectors.is_cuda:
        known = [[plane.numpy() for plane in picture.bordered] for picture in references]  # luma and chroma, of all samples
        fields = vectors.contiguous().numpy()
        return bridge.to_planes([pictures.compensate([(y[k], uv[k]) for y, uv in known], field) for k, field in enumerate(fields)])
    luma, chroma = (torch.stack(planes) for planes in zip(*(picture.bordered for picture in references)))
    return Planes(_compensate(luma, vectors, LUMA_TAPS, BLOCK, BORDER), *_compensate(chroma, vectors, CHROMA_TAPS, BLOCK // 2, BORDER // 2).split(1, 1))


def compensate_luma(references: Sequence[Tensor], vectors: Tensor) -> Tensor:
    """The same for luma alone, of pictures with their `BORDER`, in bytes: (B, 1, H + 2·BORDER, W + 2·BORDER) each -> (B, 1, H, W)."""
    if not vectors.is_cuda:
        known, fields = [plane.numpy() for plane in references], vectors.contiguous().numpy()
        return bridge.batch([pictures.compensate_luma([plane[k] for plane in known], field) for k, field in enumerate(fields)])[:, None]
    return _compensate(torch.stack(list(references)), vectors, LUMA_TAPS, BLOCK, BORDER)


@staged("context")
@recorded
@fused_on_cpu
def warp_context(context: Tensor, vectors: Tensor) -> Tensor:
    """Bilinear warp of the previous features at 1/8 resolution, as blocks moved since then: (B, C, H/8, W/8) -> the same."""
    batch, channels, height, width = context.shape
    rows = torch.arange(height, device=context.device)[:, None]
    columns = torch.arange(width, device=context.device)
    unit = 4 * BLOCK
    dy, dx = displacement(velocity(vectors), torch.zeros_like(vectors[:, 2:])).unbind(1)
    top, left = rows + dy // unit, columns + dx // unit
    down, across = (dy % unit).float(), (dx % unit).float()
    start = torch.arange(batch, device=context.device)[:, None, None] * height
    flat = context.permute(0, 2, 3, 1).reshape(-1, channels)
    out = torch.zeros_like(flat)
    for y, wy in ((top, unit - down), (top + 1, down)):
        line = (start + y.clamp(0, height - 1)) * width
        for x, wx in ((left, unit - across), (left + 1, across)):
            index = (line + x.clamp(0, width - 1)).reshape(-1)
            weight = (wy * wx / unit**2).reshape(-1, 1)
            out = out + flat.index_select(0, index) * weight.to(flat.dtype)
    return out.view(batch, height, width, channels).permute(0, 3, 1, 2)
