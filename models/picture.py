"""Pictures as the networks see them: 8-bit 4:2:0 planes un-shuffled into 96 channels at 1/8 resolution."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from models.compiled import pictures
from models.presets import aligned
from models.taps import BORDER


@dataclass(frozen=True)
class Planes:
    """Luma and chroma in 8-bit sample values, held in float32."""

    y: Tensor  # (B, 1, H, W)
    u: Tensor  # (B, 1, H/2, W/2)
    v: Tensor  # (B, 1, H/2, W/2)

    def rounded(self) -> "Planes":
        """The 8-bit picture that a decoder shows and predicts from."""
        return Planes(*(plane.round().clamp(0, 255) for plane in (self.y, self.u, self.v)))

    @cached_property
    def bordered(self) -> tuple[Tensor, Tensor]:
        """Of an 8-bit picture, with the border around it: luma (B, 1, H + 2·BORDER, W + 2·BORDER) and chroma (B, 2, H/2 + BORDER, W/2 + BORDER), as bytes."""
        return bordered(self.y), bordered(torch.cat([self.u, self.v], 1), BORDER // 2)

    def detach(self) -> "Planes":
        return Planes(self.y.detach(), self.u.detach(), self.v.detach())


def bordered(plane: Tensor, border: int = BORDER) -> Tensor:
    """A plane of 8 bits as bytes, with its border repeated: (B, C, H, W) -> (B, C, H + 2·border, W + 2·border)."""
    if not plane.is_cuda:
        flat = plane.detach().float().flatten(0, 1).contiguous().numpy()
        return torch.from_numpy(pictures.bordered(flat, border)).unflatten(0, plane.shape[:2])
    return F.pad(plane, (border,) * 4, mode="replicate").to(torch.uint8)


def pad(planes: Planes) -> Planes:
    """Repeat the last row and column until the luma size is a multiple of 16."""
    height, width = planes.y.shape[-2:]
    tall, wide = aligned(height), aligned(width)

    if (tall, wide) == (height, width):
        return planes

    def grow(plane: Tensor, rows: int, columns: int) -> Tensor:
        return F.pad(plane, (0, columns - plane.shape[-1], 0, rows - plane.shape[-2]), mode="replicate")

    return Planes(grow(planes.y, tall, wide), grow(planes.u, tall // 2, wide // 2), grow(planes.v, tall // 2, wide // 2))


def crop(planes: Planes, height: int, width: int) -> Planes:
    """Cut a padded picture back to `height` × `width` luma samples."""
    rows, columns = (height + 1) // 2, (width + 1) // 2
    return Planes(planes.y[..., :height, :width], planes.u[..., :rows, :columns], planes.v[..., :rows, :columns])


def to_features(planes: Planes) -> Tensor:
    """Planes -> (B, 96, H/8, W/8), centred on zero, one unit is 256 grey levels; channels-last, like all that the networks work on."""
    parts = (F.pixel_unshuffle(planes.y, 8), F.pixel_unshuffle(planes.u, 4), F.pixel_unshuffle(planes.v, 4))
    return (torch.cat(parts, 1).contiguous(memory_format=torch.channels_last) - 128) / 256


def to_planes(features: Tensor) -> Planes:
    """(B, 96, H/8, W/8) -> planes; the inverse of `to_features`, not yet rounded."""
    samples = features * 256 + 128
    return Planes(
        F.pixel_shuffle(samples[:, :64], 8), F.pixel_shuffle(samples[:, 64:80], 4), F.pixel_shuffle(samples[:, 80:], 4)
    )
