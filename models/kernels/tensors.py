"""The compiled passes for tensors, which lie channels-last as all that the networks work on."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.arrays import Array
from models.kernels import compensation, passes, pictures
from models.kernels.threads import spread
from models.picture import BORDER, Planes
from models.presets import PICTURE
from models.taps import CHROMA_TAPS, LUMA_TAPS
from models.vectors import REFERENCES

LUMA, CHROMA = (np.array(taps, np.int32) for taps in (LUMA_TAPS, CHROMA_TAPS))


AT_ONCE = 1 << 18
"""Samples of a pass that are worth a thread of their own."""


def _pass(kernel: Callable[..., None], *arguments: Any) -> None:
    """Do a pass, of which arrays (n, C) are given by rows and all else as it is."""
    count, channels = next(x.shape for x in arguments if isinstance(x, np.ndarray) and x.ndim == 2)
    if count * channels < 2 * AT_ONCE:
        kernel(*arguments)
    else:
        cut = [isinstance(x, np.ndarray) and x.ndim == 2 for x in arguments]
        spread(count, lambda first, last: kernel(*(x[first:last] if c else x for x, c in zip(arguments, cut))), max(1, AT_ONCE // channels))


class Reader:
    """How a convolution of bytes reads its inputs."""

    def __init__(self, scale: Tensor, low: int):
        self.scale, self.low = scale.numpy().reshape(-1).copy(), float(low)

    def __call__(self, x: Tensor) -> Tensor:
        """Activations."""
        activations = empty(x.shape, torch.uint8)
        _pass(passes.read, rows(x), self.scale, self.low, rows(activations))
        return activations


def rows(x: Tensor) -> Array:
    """(B, C, H, W) -> (B·H·W, C)."""
    return places(x).reshape(-1, x.shape[1])


def places(x: Tensor) -> Array:
    """(B, C, H, W) -> (B, H, W, C)."""
    return x.permute(0, 2, 3, 1).contiguous().numpy()


def empty(shape: Sequence[int], kind: torch.dtype = torch.float32) -> Tensor:
    """A new tensor (B, C, H, W), channels-last."""
    batch, channels, height, width = shape
    return torch.empty((batch, height, width, channels), dtype=kind).permute(0, 3, 1, 2)


def add(x: Tensor, y: Tensor) -> Tensor:
    """x of a stream, plus y rounded to it."""
    out = empty(x.shape)
    _pass(passes.add, rows(x), rows(y), rows(out))
    return out


def add_and_read(x: Array, y: Tensor, reader: Reader) -> Tensor:
    """Add y to x (n, C), in steps; and read the sums."""
    activations = empty(y.shape, torch.uint8)
    _pass(passes.add_and_read, x, rows(y), reader.scale, reader.low, rows(activations))
    return activations


def scale_and_read(x: Tensor, gain: Array, reader: Reader, kernel: Callable[..., None] = passes.scale_and_read) -> tuple[Array, Tensor]:
    """x times the gains (C,), in steps (n, C); and read."""
    given, activations = rows(x), empty(x.shape, torch.uint8)
    out = np.empty(given.shape, np.int16)
    _pass(kernel, given, gain, reader.scale, reader.low, out, rows(activations))
    return out, activations


def add_change(x: Tensor, body: Array, last: Tensor, gain: Array, strength: Array, limit: float) -> Tensor:
    """x plus what blocks have changed of it: see `passes.add_change`."""
    out = empty(x.shape)
    _pass(passes.add_change, rows(x), body, rows(last), gain, strength, limit, rows(out))
    return out


def split(parts: Sequence[Tensor]) -> Tensor:
    """Stream tensors side by side as bytes: (B, C1, H, W), (B, C2, H, W) ... -> (B, 2·(C1 + C2 + ...), H, W)."""
    batch, _, height, width = parts[0].shape
    channels = sum(part.shape[1] for part in parts)
    words = np.empty((batch * height * width, channels), "<u2")
    first = 0
    for part in parts:
        _pass(passes.split, rows(part), first, words)
        first += part.shape[1]
    return torch.from_numpy(words.view(np.uint8).reshape(batch, height, width, 2 * channels)).permute(0, 3, 1, 2)


def join(sums: Tensor, bias: Array) -> Tensor:
    """The halves of the sums of a `Wide` convolution, and its bias (C,): (B, 2·C, H, W) -> (B, C, H, W)."""
    batch, channels, height, width = sums.shape
    out = empty((batch, channels // 2, height, width))
    _pass(passes.join, rows(sums), bias, rows(out))
    return out


def join_shuffled(sums: Tensor, bias: Array) -> Tensor:
    """The same at twice the resolution: (B, 2·4·C, H, W) -> (B, C, 2·H, 2·W); channels of one corner lie together."""
    batch, channels, height, width = sums.shape
    out = empty((batch, channels // 8, 2 * height, 2 * width))
    for given, taken in zip(places(sums), places(out)):
        passes.join_shuffled(given, bias, taken)
    return out


def rectify_and_read(x: Tensor, gain: Array, reader: Reader) -> tuple[Array, Tensor]:
    """The same of what is positive of x."""
    return scale_and_read(x, gain, reader, passes.rectify_and_read)


def read_parts(parts: Sequence[Tensor], reader: Reader) -> Tensor:
    """Activations of tensors side by side."""
    batch, _, height, width = parts[0].shape
    activations = empty((batch, sum(part.shape[1] for part in parts), height, width), torch.uint8)
    first = 0
    for part in parts:
        after = first + part.shape[1]
        _pass(passes.read_part, rows(part), reader.scale[first:after], reader.low, first, rows(activations))
        first = after
    return activations


def prior(parameters: Tensor, step: Array, offset: Array, limit: float) -> tuple[Tensor, Tensor]:
    """Means and scales from parameters (B, 2·N, h, w): each (B, N, h, w)."""
    batch, channels, height, width = parameters.shape
    mean, scale = (empty((batch, channels // 2, height, width)) for _ in range(2))
    _pass(passes.prior, rows(parameters), step, offset, limit, rows(mean), rows(scale))
    return mean, scale


def features(planes: Planes) -> Tensor:
    """`to_features`, rounded to a stream tensor."""
    batch, _, height, width = planes.y.shape
    out = empty((batch, PICTURE, height // 8, width // 8))
    for *given, made in zip(*_flat(planes), places(out)):
        pictures.features(*given, made)
    return out


def released(residual: Tensor, detail: Tensor, reference: Tensor, release: Tensor) -> Planes:
    """`pictures.released` as planes."""
    planes = _planes(residual)
    for arrays in zip(*(places(x) for x in (residual, detail, reference, release)), *_flat(planes)):
        pictures.released(*arrays)
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
        pictures.warp(given, moves, to)
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

        spread(rows + 2, some, 8)
    return Planes(y, uv[:, :1], uv[:, 1:])


def compensate_luma(references: Sequence[Tensor], vectors: Tensor) -> Tensor:
    """The same of luma alone."""
    batch, _, rows, columns = vectors.shape
    y = torch.empty(batch, 1, 8 * rows, 8 * columns)
    for k in range(batch):
        rest = _pictures(references, k), vectors[k].contiguous().numpy(), LUMA, BORDER, y[k].numpy()

        def some(first: int, last: int, rest: tuple[Any, ...] = rest) -> None:
            compensation.luma(first, last, *rest)

        spread(rows + 2, some, 8)
    return y


def _pictures(references: Sequence[Tensor], k: int) -> tuple[Array, ...]:
    """One sample's planes of all ages; beyond the oldest picture it stands for the others."""
    known = [picture[k].numpy() for picture in references[:REFERENCES]]
    return (*known, *known[-1:] * (REFERENCES - len(known)))
