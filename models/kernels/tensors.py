"""Pictures and motion in compiled loops, for tensors, which lie channels-last as all that the networks work on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.arrays import Array
from models.kernels import compensation, pictures
from models.kernels.threads import spread
from models.picture import BORDER, Planes
from models.presets import PICTURE
from models.taps import CHROMA_TAPS, LUMA_TAPS
from models.vectors import REFERENCES

LUMA, CHROMA = (np.array(taps, np.float32) for taps in (LUMA_TAPS, CHROMA_TAPS))

BLOCKS = 1 << 10
"""Blocks of a picture that are worth a thread of their own."""


def _by_rows(kernel: Callable[..., None], shape: tuple[int, ...], *arguments: Any) -> None:
    """Give a kernel the rows of blocks of a picture (H, W, C), in as many threads as are worth it."""
    spread(shape[0], lambda first, last: kernel(first, last, *arguments), BLOCKS // shape[1] + 1)


def rows(x: Tensor) -> Array:
    """(B, C, H, W) -> (B·H·W, C)."""
    return places(x).reshape(-1, x.shape[1])


def places(x: Tensor) -> Array:
    """(B, C, H, W) -> (B, H, W, C)."""
    return np.ascontiguousarray(x.numpy().transpose(0, 2, 3, 1))


def empty(shape: Sequence[int], kind: torch.dtype = torch.float32) -> Tensor:
    """A new tensor (B, C, H, W), channels-last."""
    batch, channels, height, width = shape
    return torch.empty((batch, height, width, channels), dtype=kind).permute(0, 3, 1, 2)


def features(planes: Planes) -> Tensor:
    """`to_features`, rounded to a stream tensor."""
    batch, _, height, width = planes.y.shape
    out = empty((batch, PICTURE, height // 8, width // 8))
    for *given, made in zip(*_flat(planes), places(out)):
        _by_rows(pictures.features, made.shape, *given, made)
    return out


def released(residual: Tensor, detail: Tensor, reference: Tensor, release: Tensor) -> Planes:
    """`pictures.released` as planes."""
    planes = _planes(residual)
    for arrays in zip(*(places(x) for x in (residual, detail, reference, release)), *_flat(planes)):
        _by_rows(pictures.released, arrays[0].shape, *arrays)
    return planes


def enhanced(
    picture: Planes, parts: Sequence[Tensor], kernels: Tensor, rings: Sequence[Array], size: float, limit: float, limits: Sequence[float]
) -> Planes:
    """The end of `models.filters.Enhancer`, of one picture: what `parts` make of it (`pictures.corrected`), and smoothing by kernels of luma, u and v, with their rings and limits."""
    planes = _planes(parts[0])
    pictures.corrected(*(places(part)[0] for part in parts), size, limit, *(plane[0] for plane in _flat(planes)))
    first = 0
    for given, made, ring, most in zip(_flat(picture), _flat(planes), rings, limits):
        pictures.smooth(given[0], places(kernels)[0], first, ring, most, made[0])
        first += len(ring)
    return planes


def rounded_planes(samples: Tensor) -> Planes:
    """`to_planes`, rounded."""
    planes = _planes(samples)
    for arrays in zip(places(samples), *_flat(planes)):
        pictures.planes(*arrays)
    return planes


def _planes(features: Tensor) -> Planes:
    """New planes of the size that features have."""
    batch, _, height, width = features.shape
    return Planes(*(torch.empty(batch, 1, size * height, size * width) for size in (8, 4, 4)))


def _flat(planes: Planes) -> list[Array]:
    return [plane[:, 0].contiguous().numpy() for plane in (planes.y, planes.u, planes.v)]


def bordered(plane: Tensor, border: int) -> Tensor:
    """`models.picture.bordered`."""
    batch, count, height, width = plane.shape
    out = torch.empty((batch, count, height + 2 * border, width + 2 * border), dtype=torch.uint8)
    for given, wide in zip(plane.detach().float().flatten(0, 1).contiguous().numpy(), out.flatten(0, 1).numpy()):
        pictures.bordered(given, border, wide)
    return out


def warp(context: Tensor, vectors: Tensor) -> Tensor:
    """`models.warp.warp_context`, rounded to a stream tensor."""
    out = empty(context.shape)
    for given, moves, to in zip(places(context), vectors.contiguous().numpy(), places(out)):
        _by_rows(pictures.warp, to.shape, given, moves, to)
    return out


def compensate(references: Sequence[tuple[Tensor, Tensor]], vectors: Tensor) -> Planes:
    """`models.warp.compensate` from luma and chroma with their borders, in bytes: (B, 1, ...) and (B, 2, ...), the newest picture first."""
    batch, _, rows, columns = vectors.shape
    y, uv = (torch.empty(batch, count, side * rows, side * columns) for count, side in ((1, 8), (2, 4)))
    luma, chroma = zip(*references)
    for k in range(batch):
        field = vectors[k].contiguous().numpy()
        one, two = (_pictures(luma, k), field, LUMA, BORDER, y[k].numpy()), (_pictures(chroma, k), field, CHROMA, BORDER // 2, uv[k].numpy())

        def some(first: int, last: int, one: tuple[Any, ...] = one, two: tuple[Any, ...] = two) -> None:
            compensation.luma(first, last, *one)
            compensation.chroma(first, last, *two)

        spread(rows + 2, some, BLOCKS // columns + 1)
    return Planes(y, uv[:, :1], uv[:, 1:])


def compensate_luma(references: Sequence[Tensor], vectors: Tensor) -> Tensor:
    """The same of luma alone."""
    batch, _, rows, columns = vectors.shape
    y = torch.empty(batch, 1, 8 * rows, 8 * columns)
    for k in range(batch):
        rest = _pictures(references, k), vectors[k].contiguous().numpy(), LUMA, BORDER, y[k].numpy()

        def some(first: int, last: int, rest: tuple[Any, ...] = rest) -> None:
            compensation.luma(first, last, *rest)

        spread(rows + 2, some, BLOCKS // columns + 1)
    return y


def _pictures(references: Sequence[Tensor], k: int) -> tuple[Array, ...]:
    """One sample's planes of all ages; beyond the oldest picture it stands for the others."""
    known = [picture[k].numpy() for picture in references[:REFERENCES]]
    return (*known, *known[-1:] * (REFERENCES - len(known)))
