"""Motion compensation: overlapped blocks on the picture, bilinear on the context. Exact: integers throughout.

Positions outside a picture repeat its border.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.fusion import fused_on_cpu
from models.kernels import usable
from models.kernels.threads import spread
from models.picture import BORDER, Planes
from models.stages import staged
from models.vectors import displacement, velocity

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

AT_ONCE = 1 << 13
"""Blocks times their size in samples that a processor compensates at a time, so that they stay in its caches."""


@lru_cache(maxsize=8)
def _filters(taps: tuple[tuple[int, ...], ...], size: int, device: torch.device) -> Tensor:
    """For every phase the matrix that interpolates `size` samples from a line of size + taps - 1: (P, size, line)."""
    count = len(taps[0])
    matrices = torch.zeros(len(taps), size, size + count - 1, device=device)
    for phase, row in enumerate(taps):
        for k, tap in enumerate(row):
            matrices[phase].diagonal(k).fill_(tap)
    return matrices


@lru_cache(maxsize=8)
def _weights(block: int, count: int, device: torch.device) -> Tensor:
    """The weight of a block's vector over its block and half a block around it, of samples in 1/64 of P planes: (2·block · P · 2·block,)."""
    place = torch.arange(2 * block, device=device)
    line = torch.minimum(2 * place + 1, 4 * block - 1 - 2 * place).float()
    return (line[:, None, None] * line / (64 * (2 * block) ** 2)).expand(-1, count, -1).reshape(-1)


def _compensate(planes: Tensor, vectors: Tensor, taps: tuple[tuple[int, ...], ...], block: int, border: int) -> Tensor:
    """Planes predicted from overlapped blocks of N pictures: (N, B, P, H + 2·border, W + 2·border) uint8 -> (B, P, H, W), in exact multiples of 2^-14.

    Every block predicts a window that reaches half a block beyond it on all sides; windows are weighted and added.
    A ring of blocks around the picture repeats those at the border. A processor works on some rows of blocks at a time.
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

    def windows(some: slice) -> Tensor:
        """What blocks of some rows predict, weighted: (B, rows, w + 2, 2, block, P, 2, block)."""
        lines = start[:, some].reshape(-1, 1) + beside.view(-1)
        read = samples.index_select(0, lines.view(-1)).view(-1, line, count * line).float()
        vertical, horizontal = (filters.index_select(0, phase[:, some].reshape(-1)) for phase in phases.unbind(1))  # (K, size, line)
        with torch.autocast(planes.device.type, enabled=False):  # integers below 2^24: exact in float32
            found = torch.bmm(torch.bmm(vertical, read).view(-1, size * count, line), horizontal.mT)
        return found.view(-1, weights.numel()).mul_(1 / 64).round_().mul_(weights).view(batch, -1, columns, 2, block, count, 2, block)

    whole = torch.empty(batch, count, rows - 1, block, columns - 1, block, device=planes.device)
    tiles, above = whole.permute(0, 2, 4, 3, 1, 5), None  # (B, h + 1, w + 1, block, P, block), which begin half a block outside the picture
    some = rows if planes.is_cuda else max(1, AT_ONCE // (batch * columns * block))
    for top in range(0, rows, some):
        upper, lower = windows(slice(top, top + some)).unbind(3)  # each (B, rows, w + 2, block, P, 2, block)
        upper[:, 1:] += lower[:, :-1]
        if above is not None:
            upper[:, 0] += above
        above, bands = lower[:, -1], upper[:, int(top == 0) :]
        bottom = min(top + some, rows) - 1
        torch.add(bands[:, :, :-1, :, :, 1], bands[:, :, 1:, :, :, 0], out=tiles[:, bottom - bands.shape[1] : bottom])
    half = block // 2
    return whole.view(batch, count, (rows - 1) * block, (columns - 1) * block)[..., half : half + tall - 2 * border, half : half + wide - 2 * border]


@lru_cache(maxsize=2)
def _taps(taps):
    return np.array(taps, np.int32)


@lru_cache(maxsize=256)
def spaced(count: int, step: int, first: int, device: torch.device) -> Tensor:
    """`count` numbers from `first` on, `step` apart: (count,) int32."""
    return torch.arange(count, dtype=torch.int32, device=device) * step + first


@staged("motion compensation")
def compensate(references: Sequence[Planes], vectors: Tensor) -> Planes:
    """Overlapped block motion compensation of aligned 8-bit pictures, the newest first; not rounded to 8 bits again.

    Ages beyond the oldest picture mean that one.
    """
    luma, chroma = (torch.stack(planes) for planes in zip(*(picture.bordered for picture in references)))
    if not vectors.is_cuda and len(vectors) == 1 and usable():
        from models.kernels import compensation
        height, width = vectors.shape[2:]
        y, uv = np.empty((1, height * 8, width * 8), np.float32), np.empty((2, height * 4, width * 4), np.float32)
        field = vectors[0].contiguous().numpy()
        one, two = (luma[:, 0].numpy(), field, _taps(LUMA_TAPS), BORDER, y), (chroma[:, 0].numpy(), field, _taps(CHROMA_TAPS), BORDER // 2, uv)

        def some(first, last):
            compensation.luma(first, last, *one)
            compensation.chroma(first, last, *two)

        spread(height + 2, some, 8)
        return Planes(torch.from_numpy(y)[None], torch.from_numpy(uv[:1])[None], torch.from_numpy(uv[1:])[None])
    return Planes(compensate_luma(luma, vectors), *_compensate(chroma, vectors, CHROMA_TAPS, BLOCK // 2, BORDER // 2).split(1, 1))


def compensate_luma(pictures: Tensor, vectors: Tensor) -> Tensor:
    """The same for luma alone, of pictures with their `BORDER`, in bytes: (N, B, 1, H + 2·BORDER, W + 2·BORDER) -> (B, 1, H, W)."""
    return _compensate(pictures, vectors, LUMA_TAPS, BLOCK, BORDER)


@staged("context")
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
