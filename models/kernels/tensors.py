"""The compiled passes for tensors, which lie channels-last as all that the networks work on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.arrays import Array
from models.kernels import compensation, layers, passes, pictures, rough
from models.kernels.processor import FORM
from models.kernels.products import ROWS
from models.kernels.threads import spread
from models.picture import BORDER, Planes
from models.presets import PICTURE
from models.taps import CHROMA_TAPS, LUMA_TAPS
from models.vectors import REFERENCES

LUMA, CHROMA = (np.array(taps, np.float32) for taps in (LUMA_TAPS, CHROMA_TAPS))


NONE = np.zeros((1, 0, 0), np.float32)
NO_LAYER = np.zeros((0, 0, 0), np.int8), np.zeros(0, np.float32), np.zeros(0, np.float32), np.float32(0)
NO_ROUGH = np.zeros((0, 0, 0), np.uint16), np.zeros(0, np.float32)

AT_LEAST = {"amx": 1 << 27, "vnni512": 1 << 26, "vnni256": 1 << 25}.get(FORM or "", 1 << 24)
"""Products that are worth a thread of their own, about 0.2 ms: to wake one takes half as long."""

BLOCKS = 1 << 10
"""Blocks of a picture that are worth a thread of their own."""

ALONE = 1 << 8
"""Products that take as long as what is done with a sample of a stream by itself."""

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


def strips(kernel: Callable[..., None], count: int, products: int, *arguments: Any) -> None:
    """Give a kernel its places, each of which takes so many products, in as many threads as are worth it."""
    least = AT_LEAST // (ROWS * products) + 1
    if count < 2 * ROWS * least or torch.get_num_threads() == 1:
        kernel(0, count, *arguments)
    else:
        spread(-(-count // ROWS), lambda first, last: kernel(first * ROWS, min(last * ROWS, count), *arguments), least)


def narrow(parts: Sequence[Tensor], reader: layers.Reader, layer: layers.Layer, channels: int, halves: bool) -> Tensor:
    """A layer of what lies side by side, or of its squares of 2×2: (B, C1, H, W), (B, C2, H, W) -> (B, channels, H, W), or (B, channels, H/2, W/2)."""
    batch, _, height, width = parts[0].shape
    out = empty((batch, channels, height // 2, width // 2) if halves else (batch, channels, height, width))
    for k in range(batch):
        one, other = ([places(part)[k] for part in parts] + [NONE])[:2]
        made = rows(out[k : k + 1])
        strips(layers.narrow, len(made), layer[0].size, one, other, reader, layer, made)
    return out


def wide(parts: Sequence[Tensor], layer: layers.Wide, channels: int, corners: int) -> Tensor:
    """See `models.backends.WideInt8`."""
    batch, _, height, width = parts[0].shape
    scale = 2 if corners == 4 else 1
    out = empty((batch, channels, scale * height, scale * width))
    for k, made in enumerate(places(out)):
        one, other = ([rows(part[k : k + 1]) for part in parts] + [NONE[0]])[:2]
        strips(layers.wide, height * width, layer[0].size, one, other, layer, corners, made)
    return out


@dataclass(frozen=True)
class BlockLayers:
    """A block of a stack, as kernels take it."""

    first: layers.Reader  # of `narrow`, from steps
    narrow: layers.Layer
    zero: int  # the byte that stands for zero around what `spatial` reads
    spatial: layers.Layer
    widen: layers.Layer
    second: layers.Reader  # of `expand`, from steps
    expand: layers.Layer
    contract: layers.Layer

    @cached_property
    def products(self) -> int:
        """Of each place."""
        return int(self.narrow[0].size + self.widen[0].size + self.expand[0].size + self.contract[0].size)

    def __deepcopy__(self, _: dict[int, Any]) -> "BlockLayers":
        return self  # it never changes


def through_blocks(x: Tensor, gain: Array, blocks: Sequence[BlockLayers], rectify: bool = False) -> Array:
    """Streams, or their positive parts, by their gains (C,), through blocks in a row: (1, C, H, W) -> steps (H·W, C), with channels padded."""
    (_, _, height, width), count = x.shape, x.shape[2] * x.shape[3]
    half = blocks[0].spatial[0].shape[1]
    stream = np.empty((count, len(blocks[0].first[0])), np.int16)
    inner, other = (np.full((height + 2, width + 2, half), blocks[0].zero, np.uint8) for _ in range(2))
    strips(layers.enter, count, blocks[0].narrow[0].size + ALONE * x.shape[1], rows(x), gain, rectify, blocks[0].first, blocks[0].narrow, stream, inner)
    for block, following in zip(blocks, [*blocks[1:], None]):
        if following and following.zero != block.zero:
            other[:] = following.zero
        ends = (following.first, following.narrow) if following else ((np.zeros_like(block.first[0]), np.float32(0)), NO_LAYER)
        strips(layers.block, count, block.products, inner, stream, block.spatial, block.widen, block.second, block.expand, block.contract, *ends, other)
        inner, other = other, inner
    return stream


def stack(x: Tensor, gain: Array, strength: Array, blocks: Sequence[BlockLayers], limit: float) -> Tensor:
    """x plus what blocks change of x by its gains (C,), by their strength (C,): see `models.blocks.Stack`; (1, C, H, W)."""
    out, stream = empty(x.shape), through_blocks(x, gain, blocks)
    strips(layers.leave, len(stream), ALONE * x.shape[1], rows(x), stream, gain, strength, np.float32(limit), rows(out))
    return out


def rough_narrow(parts: Sequence[Tensor], relu: bool, layer: rough.Layer, channels: int, halves: bool) -> Tensor:
    """`narrow` in bfloat16, of up to four parts."""
    batch, _, height, width = parts[0].shape
    out = empty((batch, channels, height // 2, width // 2) if halves else (batch, channels, height, width))
    least = np.float32(0) if relu else rough.ANY
    for k in range(batch):
        given, made = tuple([*(places(part)[k] for part in parts), *[NONE] * 4][:4]), rows(out[k : k + 1])
        strips(rough.narrow, len(made), layer[0].nbytes, given, least, layer, made)
    return out


@dataclass(frozen=True)
class RoughBlock:
    """A block of a stack in bfloat16."""

    narrow: rough.Layer
    spatial: rough.Layer
    widen: rough.Layer
    expand: rough.Layer
    contract: rough.Layer

    @cached_property
    def products(self) -> int:
        """Of each place, as `BlockLayers.products`."""
        return int(self.narrow[0].nbytes + self.widen[0].nbytes + self.expand[0].nbytes + self.contract[0].nbytes)


def rough_stack(x: Tensor, gain: Array, strength: Array, blocks: Sequence[RoughBlock]) -> Tensor:
    """`stack` in bfloat16."""
    out, (_, channels, height, width), count = empty(x.shape), x.shape, x.shape[2] * x.shape[3]
    given, stream = rows(x), np.empty((count, channels), np.float32)
    inner, other = (np.zeros((height + 2, width + 2, blocks[0].spatial[0].shape[1]), np.uint16) for _ in range(2))
    strips(rough.enter, count, blocks[0].narrow[0].nbytes + ALONE * channels, given, gain, blocks[0].narrow, stream, inner)
    for block, following in zip(blocks, [*blocks[1:], None]):
        narrow = following.narrow if following else NO_ROUGH
        strips(rough.block, count, block.products, inner, stream, block.spatial, block.widen, block.expand, block.contract, narrow, other)
        inner, other = other, inner
    strips(rough.leave, count, ALONE * channels, given, stream, gain, strength, rows(out))
    return out


def numbers(stream: Array, shape: Sequence[int]) -> Tensor:
    """Steps (H·W, C), whose channels may be padded, as a stream (1, C, H, W)."""
    out = empty(shape)
    passes.numbers(stream, rows(out))
    return out


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
