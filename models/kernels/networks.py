"""The networks in compiled loops, for tensors, which lie channels-last: single layers, and stacks of blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.arrays import Array
from models.kernels import layers, parameters, rough
from models.kernels.processor import FORM
from models.kernels.products import ROWS
from models.kernels.tensors import empty, places, rows
from models.kernels.threads import spread

NONE = np.zeros((1, 0, 0), np.float32)
NO_LAYER = np.zeros((0, 0, 0), np.int8), np.zeros(0, np.float32), np.zeros(0, np.float32), np.float32(0)
NO_ROUGH = np.zeros((0, 0, 0), np.uint16), np.zeros(0, np.float32)

AT_LEAST = {"amx": 1 << 27, "vnni512": 1 << 26, "vnni256": 1 << 25}.get(FORM or "", 1 << 24)
"""Products that are worth a thread of their own, about 0.2 ms: to wake one takes half as long."""

ALONE = 1 << 8
"""Products that take as long as what is done with a sample of a stream by itself."""


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
    inner, other = (np.zeros((height + 2, width + 2, half), np.uint8) for _ in range(2))  # with ReLU the smallest activation is zero
    strips(layers.enter, count, blocks[0].narrow[0].size + ALONE * x.shape[1], rows(x), gain, rectify, blocks[0].first, blocks[0].narrow, stream, inner)
    for block, following in zip(blocks, [*blocks[1:], None]):
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
    parameters.numbers(stream, rows(out))
    return out


def prior(said: Tensor, step: Array, offset: Array, limit: float) -> tuple[Tensor, Tensor]:
    """Means and scales from what is said of them (B, 2·N, h, w): each (B, N, h, w)."""
    batch, channels, height, width = said.shape
    mean, scale = (empty((batch, channels // 2, height, width)) for _ in range(2))
    strips(parameters.prior, batch * height * width, ALONE * channels, rows(said), step, offset, limit, rows(mean), rows(scale))
    return mean, scale
