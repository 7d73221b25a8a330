"""Motion compensation: overlapped blocks on the picture, bilinear on the context. Exact: integers throughout.

Positions outside a picture repeat its border.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from models.fusion import fused_on_cpu
from models.picture import Planes
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
def _weights(block: int, device: torch.device) -> Tensor:
    """The weight of a block's vector over its block and half a block around it: (2·block, 2·block), of (2·block)²."""
    place = torch.arange(2 * block, device=device)
    line = torch.minimum(2 * place + 1, 4 * block - 1 - 2 * place).float()
    return line[:, None] * line


def _compensate(planes: Tensor, vectors: Tensor, taps: tuple[tuple[int, ...], ...], block: int) -> Tensor:
    """Planes predicted from overlapped blocks of N pictures: (B, N, P, H, W) -> (B, P, H, W), in exact multiples of 2^-14.

    Every block predicts a window that reaches half a block beyond it on all sides; windows are weighted and added.
    A ring of blocks around the picture repeats those at the border.
    """
    batch, pictures, count, height, width = planes.shape
    parts = len(taps).bit_length() - 1  # a whole sample is 2^parts units of the vectors
    size, before = 2 * block, len(taps[0]) // 2 - 1
    line = size + len(taps[0]) - 1  # samples that one line of a window is interpolated from
    ring = F.pad(vectors.float(), (1, 1, 1, 1), mode="replicate").int()  # (B, 3, h + 2, w + 2)
    rows, columns = ring.shape[2:]
    first = -block - block // 2 - before  # where the window of the ring's first block is read, without a vector
    down = torch.arange(rows, device=planes.device, dtype=torch.int32)[:, None] * block + first + (ring[:, 0] >> parts)
    right = torch.arange(columns, device=planes.device, dtype=torch.int32) * block + first + (ring[:, 1] >> parts)

    # Beyond the border the nearest sample repeats; so windows that lie wholly outside may all begin at the same place.
    padded = F.pad(planes.flatten(1, 2), (line, line, line, line), mode="replicate").reshape(-1)
    tall, wide = height + 2 * line, width + 2 * line
    start = (down.clamp(-line, height) + line) * wide + right.clamp(-line, width) + line  # (B, h + 2, w + 2)
    picture = torch.arange(batch, device=planes.device)[:, None, None] * pictures + ring[:, 2].clamp(max=pictures - 1)
    plane = picture[:, None] * count + torch.arange(count, device=planes.device)[:, None, None]  # (B, P, h + 2, w + 2)
    lines = (plane * (tall * wide) + start[:, None]).reshape(-1, 1) + torch.arange(line, device=planes.device) * wide
    windows = padded.as_strided((padded.numel() - line + 1, line), (1, 1))[lines]  # (N, line, line)

    def interpolate(axis: int) -> Tensor:
        phase = (ring[:, axis] & ((1 << parts) - 1)).long()[:, None].expand(batch, count, rows, columns)
        return _filters(taps, size, planes.device)[phase.reshape(-1)]  # (N, size, line)

    with torch.autocast(planes.device.type, enabled=False):  # integers below 2^24: exact in float32
        windows = torch.bmm(torch.bmm(interpolate(0), windows), interpolate(1).mT)
    windows = windows.div_(64).round_().mul_(_weights(block, planes.device))
    quarters = windows.view(batch, count, rows, columns, 2, block, 2, block)
    bands = quarters[:, :, :-1, :, 1] + quarters[:, :, 1:, :, 0]  # (B, P, h + 1, w + 2, block, 2, block)
    tiles = bands[:, :, :, :-1, :, 1] + bands[:, :, :, 1:, :, 0]  # (B, P, h + 1, w + 1, block, block)
    whole = tiles.transpose(3, 4).reshape(batch, count, (rows - 1) * block, (columns - 1) * block)
    half = block // 2  # tiles begin half a block outside the picture
    return whole[:, :, half : half + height, half : half + width] / (64 * size * size)


@staged("motion compensation")
def compensate(references: Sequence[Planes], vectors: Tensor) -> Planes:
    """Overlapped block motion compensation of aligned 8-bit pictures, the newest first; not rounded to 8 bits again.

    Ages beyond the oldest picture mean that one.
    """
    luma = torch.stack([picture.y for picture in references], 1)
    chroma = torch.stack([torch.cat([picture.u, picture.v], 1) for picture in references], 1)
    return Planes(_compensate(luma, vectors, LUMA_TAPS, BLOCK), *_compensate(chroma, vectors, CHROMA_TAPS, BLOCK // 2).split(1, 1))


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
