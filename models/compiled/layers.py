"""Layers of a decoder from their integers (`models/exact.py` has the same in PyTorch): convolutions of bytes, convolutions of streams, tables of rates."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from models.arrays import Array
from models.compiled import strips
from models.integers import (
    ACTIVATION, COARSEST, EXACT_SUM, FINEST, KNOT, KNOTS, MANTISSAS, OCTAVE, STREAM_BITS, STREAM_LIMIT, TABLE_BITS, WEIGHT, WIDE_WEIGHT, Misfit, RangeError,
)  # fmt: skip
from models.kernels import layers, products
from models.kernels.lanes import LANES
from models.presets import RATES


TABLES = ("hyper_scale", "scale_offset")
"""Ends of the names of tables; what else has knots is a gain."""


class Integers:
    """The integers of all layers, by name.

    Args:
        values: as a file of weights has them.
    """

    def __init__(self, values: Mapping[str, Array]):
        self.values, self.left = values, set(values)

    def take(self, name: str, kind: type, shape: tuple[int, ...], low: int | None = None, high: int = 0) -> Array:
        """Those of one name.

        Raises:
            Misfit: there are none, or of another type or shape.
            RangeError: they are not all from `low` to `high`.
        """
        values = self.values.get(name)
        if values is None or values.dtype != kind or values.shape != shape:
            raise Misfit(f"{name} is missing, or of another shape or type")
        if low is not None and values.size and not low <= values.min() <= values.max() <= high:
            raise RangeError(f"{name} is out of range")
        self.left.discard(name)
        return values


class Narrow:
    """A convolution of bytes: activations, as their distance from the smallest. See `models.exact.Narrow`.

    Convolutions of 2×2 that halve the resolution run as 1×1 on the four samples side by side; depth-wise ones within a block only.

    Args:
        integers: with weights, biases and exponents under the layer's name.
        inputs, outputs, size, groups: as of a convolution; one of 2×2 halves the resolution.
        relu: negative inputs count as zero.

    Raises:
        Misfit, RangeError: the integers are not of such a layer, or its sums could leave the range in which they are exact.
    """

    def __init__(self, integers: Integers, name: str, inputs: int, outputs: int, size: int = 1, groups: int = 1, relu: bool = False):
        weight = integers.take(f"{name}.weight", np.int8, (outputs, inputs // groups, size, size), -WEIGHT, WEIGHT)
        bias = integers.take(f"{name}.bias", np.int32, (outputs,)).astype(np.float32)
        reads = integers.take(f"{name}.reads", np.int8, (inputs,), COARSEST, -COARSEST)
        fraction = integers.take(f"{name}.fraction", np.int8, (outputs,), COARSEST, FINEST)
        self.outputs, self.deep, self.halves = outputs, groups > 1, size == 2
        self.low = np.float32(0 if relu else -128)  # the smallest activation
        flat = weight.transpose(0, 2, 3, 1).reshape(outputs * size * size, -1).astype(np.float32)  # taps, then inputs
        rows = flat.reshape(outputs, -1)
        if (ACTIVATION * np.abs(rows).sum(1) + np.abs(bias) >= EXACT_SUM).any():
            raise RangeError("sums of a layer could reach 2^24")
        self.unit, self.scale = np.exp2(-fraction.astype(np.float32)), np.exp2(-reads.astype(np.float32))
        self.reads = padded(self.scale, LANES)
        if self.deep:
            self.packed = padded(rows.T, products.DEPTH)
        else:
            self.packed = products.packed(padded(flat, LANES).reshape(outputs, -1).astype(np.int8))
        self.added = bias + self.low * rows.sum(1)  # as bytes are not below zero

    @cached_property
    def from_numbers(self) -> layers.Reader:
        """How it reads numbers."""
        return np.tile(self.reads, 4 if self.halves else 1), self.low

    @cached_property
    def from_steps(self) -> layers.Reader:
        """How it reads steps of a stream."""
        return padded(self.reads * np.float32(2.0**-STREAM_BITS), products.COLUMNS), self.low

    @cached_property
    def to_numbers(self) -> layers.Layer:
        """The layer, for results as they are."""
        return self._layer(self.unit, np.float32(0))

    @cached_property
    def to_steps(self) -> layers.Layer:
        """The layer, for results that are added to steps of a stream."""
        return self._layer(self.unit * np.float32(2.0**STREAM_BITS), np.float32(0))

    def to_layer(self, reader: "Narrow") -> layers.Layer:
        """The layer, for results that another one reads."""
        return self._layer(self.unit * reader.scale, reader.low)

    def _layer(self, unit: Array, low: np.float32) -> layers.Layer:
        columns = products.DEPTH if self.deep else products.COLUMNS
        return self.packed, padded(unit, columns), padded(self.added * unit, columns), low

    def __call__(self, *parts: Array) -> Array:
        """The convolution of numbers (H, W, C), or of some that lie side by side."""
        return strips.narrow(in_lanes(parts), self.from_numbers, self.to_numbers, self.outputs, self.halves)


class Wide:
    """A 1×1 convolution of streams. Its sums come in two halves, that of upper and that of lower bytes; see `models.exact.Wide`.

    Args:
        integers: with weights and biases under the layer's name.
        inputs, outputs: channels.
        shuffles: every four channels become a square of 2×2.

    Raises:
        Misfit, RangeError: as of Narrow.
    """

    def __init__(self, integers: Integers, name: str, inputs: int, outputs: int, shuffles: bool = False):
        weight = integers.take(f"{name}.weight", np.int16, (outputs, inputs, 1, 1), -WIDE_WEIGHT, WIDE_WEIGHT)[:, :, 0, 0].astype(np.int32)
        bias = integers.take(f"{name}.bias", np.int32, (outputs,), -STREAM_LIMIT, STREAM_LIMIT).astype(np.float32)
        fraction = integers.take(f"{name}.fraction", np.int8, (outputs,), COARSEST, FINEST).astype(np.float32)
        u = (weight + 64) // 128
        v = weight - 128 * u
        halves = u, np.concatenate([padded(u, products.DEPTH), 2 * v], 1)  # by upper bytes; by lower and upper ones
        added = [-128 * half.sum(1).astype(np.float32) for half in halves]
        if any((ACTIVATION * np.abs(half).sum(1) + np.abs(more) >= EXACT_SUM).any() for half, more in zip(halves, added)):
            raise RangeError("sums of a layer could reach 2^24")
        self.corners = 4 if shuffles else 1
        self.channels = outputs // self.corners

        def by_corner(values: Array) -> Array:
            """Channels of one corner together, and padded to whole products: (outputs, ...) -> (n, ...)."""
            corners = values.reshape(self.channels, self.corners, *values.shape[1:]).swapaxes(0, 1)
            missing = [(0, 0), (0, -self.channels % products.COLUMNS)] + [(0, 0)] * (values.ndim - 1)
            return np.pad(corners, missing).reshape(-1, *values.shape[1:])

        one = np.exp2(7 - fraction)  # of the lower half, in steps
        constants = np.stack([by_corner(values).reshape(-1, products.COLUMNS) for values in (256 * one, 256 * one * added[0], one, one * added[1], bias)])
        upper, lower = (products.packed(by_corner(half)) for half in halves)
        self.layer = upper, lower, constants.astype(np.float32)

    def __call__(self, *parts: Array) -> Array:
        """A stream from one or two that lie side by side: (H, W, C1), (H, W, C2) -> (H, W, outputs), or (2·H, 2·W, outputs/4)."""
        return strips.wide(in_lanes(parts), self.layer, self.channels, self.corners)


class Table:
    """A vector for every rate point; see `models.exact.RateTable`.

    Raises:
        Misfit, RangeError: the integers are not of such a table.
    """

    def __init__(self, integers: Integers, name: str, channels: int):
        knots = integers.take(f"{name}.knots", np.int16, (KNOTS, channels), -KNOT, KNOT).astype(np.int32)
        rate = np.arange(RATES)
        low = np.minimum(rate // 8, KNOTS - 2)
        part = (rate - 8 * low)[:, None]
        self.lines = self._values((knots[low] * (8 - part) + knots[low + 1] * part + 4) // 8)  # (64, C)

    def _values(self, steps: Array) -> Array:
        return (steps / (1 << TABLE_BITS)).astype(np.float32)

    def __call__(self, rate: int) -> Array:
        """(C,)."""
        line: Array = self.lines[rate]
        return line


class Gain(Table):
    """A positive gain per channel for every rate point; see `models.exact.RateGain`."""

    def _values(self, steps: Array) -> Array:
        return np.ldexp(np.array(MANTISSAS, np.float32)[steps % OCTAVE], steps // OCTAVE - 7)


def parameters(integers: Mapping[str, Array]) -> dict[str, Array]:
    """What the integers of all layers stand for, by the names of parameters: weights and biases of convolutions, and knots of tables and gains."""
    found: dict[str, Array] = {}
    for name, values in integers.items():
        layer, _, kind = name.rpartition(".")
        if kind == "knots":
            found[name] = values / (1 << TABLE_BITS if layer.endswith(TABLES) else OCTAVE / math.log(2))
        elif kind == "weight":
            bias, reads = integers[f"{layer}.bias"], integers.get(f"{layer}.reads")
            unit = np.exp2(-integers[f"{layer}.fraction"].astype(np.float32))
            weight = values * unit[:, None, None, None]
            if reads is None:
                found[f"{layer}.bias"] = bias * np.float32(2.0**-STREAM_BITS)
            else:
                found[f"{layer}.bias"] = bias * unit
                scale = np.exp2(-reads.astype(np.float32))
                weight = weight * (scale[:, None, None] if values.shape[1] == len(reads) else scale[:, None, None, None])
            found[name] = weight
    return found


def in_lanes(parts: Sequence[Array]) -> Sequence[Array]:
    """Arrays (H, W, C) with channels of zeros up to a multiple of LANES."""
    return parts if parts[0].shape[2] % LANES == 0 else [padded(part, LANES) for part in parts]


def padded(values: Array, unit: int) -> Array:
    """Floats (..., n) with zeros up to a multiple of a unit."""
    missing = -values.shape[-1] % unit
    return np.ascontiguousarray(np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)]), np.float32)
