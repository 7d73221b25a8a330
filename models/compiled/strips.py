"""Layers and stacks of blocks by kernels (`models/kernels/layers.py`, `rough.py`), which take places in strips, in as many threads as are worth it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from models.arrays import Array
from models.kernels import gradients, layers, parameters, products, rough
from models.kernels.processor import FORM
from models.kernels.products import ROWS
from models.kernels.threads import spread, threads

NONE = np.zeros((1, 0, 0), np.float32)
NO_STRENGTH = np.zeros(0, np.float32)
NO_ROUGH = np.zeros((0, 0, 0), np.uint16), np.zeros(0, np.float32)
NO_HIDDEN = np.zeros((0, 0), np.uint16)

AT_LEAST = {"amx": 1 << 27, "vnni512": 1 << 26, "vnni256": 1 << 25}.get(FORM, 1 << 24)
"""Products that are worth a thread of their own, about 0.2 ms: to wake one takes half as long."""

ALONE = 1 << 8
"""Products that take as long as what is done with a sample of a stream by itself."""


def strips(kernel: Callable[..., None], count: int, each: int, *arguments: Any) -> None:
    """Give a kernel its places, each of which takes so many products, in as many threads as are worth it."""
    least = AT_LEAST // (ROWS * each) + 1
    if count < 2 * ROWS * least or threads() == 1:
        kernel(0, count, *arguments)
    else:
        spread(-(-count // ROWS), lambda first, last: kernel(first * ROWS, min(last * ROWS, count), *arguments), least)


def rows(x: Array) -> Array:
    """(H, W, C) -> (H·W, C)."""
    return x.reshape(-1, x.shape[-1])


def _empty(like: Array, channels: int, halves: bool) -> Array:
    height, width = (size // 2 if halves else size for size in like.shape[:2])
    return np.empty((height, width, channels), np.float32)


def narrow(parts: Sequence[Array], reader: layers.Reader, layer: layers.Layer, channels: int, halves: bool) -> Array:
    """A layer of what lies side by side, or of its squares of 2×2: (H, W, C1), (H, W, C2) -> (H, W, channels), or (H/2, W/2, channels)."""
    out, (one, other) = _empty(parts[0], channels, halves), [*parts, NONE][:2]
    strips(layers.narrow, out.shape[0] * out.shape[1], layer[0].size, one, other, reader, layer, rows(out))
    return out


def wide(parts: Sequence[Array], layer: layers.Wide, channels: int, corners: int) -> Array:
    """A layer of streams; see `models.compiled.layers.Wide`."""
    (height, width, _), scale = parts[0].shape, 2 if corners == 4 else 1
    out = np.empty((scale * height, scale * width, channels), np.float32)
    one, other = [*map(rows, parts), NONE[0]][:2]
    strips(layers.wide, height * width, layer[0].size + layer[1].size, one, other, layer, corners, out)
    return out


@dataclass(frozen=True)
class Blocks:
    """Blocks in a row, as the kernel takes them."""

    first: layers.Readers  # of `narrow`, from steps
    narrow: layers.Layers
    spatial: layers.Layers
    widen: layers.Layers
    second: layers.Readers  # of `expand`, from steps
    expand: layers.Layers
    contract: layers.Layers

    @cached_property
    def products(self) -> int:
        """Of each place."""
        return int(self.narrow[0].size + self.widen[0].size + self.expand[0].size + self.contract[0].size)


def together(parts: Sequence[tuple[Any, ...]]) -> Any:
    """Layers, or how layers read, of all blocks in a row."""
    first, *rest = (np.stack(values) for values in zip(*parts))
    return products.aligned(first), *rest


def through_blocks(x: Array, gain: Array, blocks: Blocks) -> Array:
    """The positive part of a stream by its gains (C,) through blocks in a row: (H, W, C) -> (H, W, C)."""
    return _through(x, gain, NO_STRENGTH, True, blocks, 0.0)


def stack(x: Array, gain: Array, strength: Array, blocks: Blocks, limit: float) -> Array:
    """x plus what blocks change of x by its gains (C,), by their strength (C,): see `models.blocks.Stack`; (H, W, C)."""
    return _through(x, gain, strength, False, blocks, limit)


def _through(x: Array, gain: Array, strength: Array, rectify: bool, b: Blocks, limit: float) -> Array:
    out = np.empty_like(x)
    given = rows(x), x.shape[1], gain, strength, rectify, b.first, b.narrow, b.spatial, b.widen, b.second, b.expand, b.contract, np.float32(limit), rows(out)
    count, beside = -(-len(given[0]) // ROWS), 2 * len(b.narrow[0]) * (1 + x.shape[1] // ROWS)  # strips, of which those at an end are done twice
    spread(count, lambda first, last: layers.stack(first, last, *given), max(AT_LEAST // (ROWS * b.products), beside) + 1)
    return out


def rough_narrow(parts: Sequence[Array], relu: bool, layer: rough.Layer, channels: int, halves: bool) -> Array:
    """`narrow` in bfloat16, of up to four parts."""
    out, given = _empty(parts[0], channels, halves), tuple([*parts, *[NONE] * 4][:4])
    strips(rough.narrow, out.shape[0] * out.shape[1], layer[0].nbytes, given, np.float32(0) if relu else rough.ANY, layer, rows(out))
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
        """Of each place, as `Blocks.products`."""
        return int(self.narrow[0].nbytes + self.widen[0].nbytes + self.expand[0].nbytes + self.contract[0].nbytes)


@dataclass(frozen=True)
class Kept:
    """What the gradient of a stack needs of its way forward: of every block what its first layer gave (H + 2, W + 2, N), and its hidden numbers."""

    inner: list[Array]
    hidden: list[Array]


def rough_stack(x: Array, gain: Array, strength: Array, blocks: Sequence[RoughBlock]) -> Array:
    """`stack` in bfloat16."""
    (height, width, _), half = x.shape, blocks[0].spatial[0].shape[1]
    inner = [np.zeros((height + 2, width + 2, half), np.uint16) for _ in blocks[:2]]  # which take turns
    return _rough_stack(x, gain, strength, blocks, Kept(inner, [NO_HIDDEN] * len(blocks)))


def kept_stack(x: Array, gain: Array, strength: Array, blocks: Sequence[RoughBlock]) -> tuple[Array, Kept]:
    """`rough_stack`, and what its gradient needs."""
    (height, width, _), half = x.shape, blocks[0].spatial[0].shape[1]
    inner = [np.zeros((height + 2, width + 2, half), np.uint16) for _ in blocks]
    kept = Kept(inner, [np.empty((-(-height * width // ROWS) * ROWS, 2 * block.contract[0].shape[1]), np.uint16) for block in blocks])
    return _rough_stack(x, gain, strength, blocks, kept), kept


def _rough_stack(x: Array, gain: Array, strength: Array, blocks: Sequence[RoughBlock], kept: Kept) -> Array:
    """Into what is kept, where the last block needs no room for a following one."""
    (height, width, channels), out, inner = x.shape, np.empty_like(x), kept.inner
    count, stream = height * width, np.empty((height * width, channels), np.float32)
    strips(rough.enter, count, blocks[0].narrow[0].nbytes + ALONE * channels, rows(x), gain, blocks[0].narrow, stream, inner[0])
    for k, (block, following) in enumerate(zip(blocks, [*blocks[1:], None])):
        narrow, room = following.narrow if following else NO_ROUGH, inner[(k + 1) % len(inner)]
        strips(
            rough.block, count, block.products, inner[k % len(inner)], stream, block.spatial, block.widen, block.expand, block.contract, narrow, room,
            kept.hidden[k],
        )  # fmt: skip
    strips(rough.leave, count, ALONE * channels, rows(x), stream, gain, strength, rows(out))
    return out


def stack_gradient(gradient: Array, kept: Kept, gain: Array, strength: Array, blocks: Sequence[RoughBlock]) -> Array:
    """The gradient of what a stack is given, from that of what it gives: (H, W, C) -> (H, W, C). `blocks` are those backward."""
    count, given = gradient.shape[0] * gradient.shape[1], rows(gradient)
    through = given * strength
    for block, inner, hidden in zip(reversed(blocks), reversed(kept.inner), reversed(kept.hidden)):
        moved = np.zeros_like(inner)
        strips(gradients.back_to_moved, count, block.products, through, hidden, block.contract, block.expand, block.widen, moved)
        strips(gradients.back_to_input, count, block.products, moved, inner, block.spatial, block.narrow, through)
    return (given * (1 - strength * gain) + through * gain).reshape(gradient.shape)


def prior(x: Array, reader: layers.Reader, layer: layers.Layer, step: Array, offset: Array, limit: float) -> tuple[Array, Array]:
    """Means and tables from what a layer says of them by x (h, w, C): each (h, w, N)."""
    shape = *x.shape[:2], len(step)
    mean, tables = np.empty(shape, np.float32), np.empty(shape, np.uint8)
    strips(parameters.prior, x.shape[0] * x.shape[1], layer[0].size + 2 * ALONE * len(step), rows(x), reader, layer, step, offset, limit, rows(mean), rows(tables))
    return mean, tables
