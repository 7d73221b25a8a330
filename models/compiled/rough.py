"""Layers and stacks whose results need not be exact, in bfloat16, from their parameters: of the encoder's networks and of the enhancer. `models/exact.py` has them in PyTorch."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from models.arrays import Array
from models.compiled import strips
from models.compiled.layers import padded
from models.integers import KNOTS, Misfit
from models.kernels import products, rough
from models.kernels.lanes import LANES
from models.presets import RATES


class Rough:
    """A convolution: 1×1, 2×2 that halves the resolution, or, as part of a block, 3×3 depth-wise.

    Args:
        weight: (outputs, inputs / groups, rows, columns).
        bias: (outputs,).
        relu: negative inputs count as zero.
        deep: it is depth-wise.

    Raises:
        ValueError: loops do not take so many channels.
    """

    def __init__(self, weight: Array, bias: Array, relu: bool = False, deep: bool = False):
        if (len(weight) if deep else weight.shape[1]) % LANES:
            raise ValueError(f"loops take channels that are a multiple of {LANES}")
        flat = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
        self.relu, self.halves, self.outputs, self.deep, self.flat = relu, weight.shape[2] == 2, len(weight), deep, flat
        self.layer = padded(flat.T, products.COLUMNS) if deep else products.packed_roughly(flat), padded(bias, products.COLUMNS)

    @cached_property
    def backward(self) -> rough.Layer:
        """What takes a gradient of the results to that of the inputs: of a 1×1 convolution, or a depth-wise one."""
        layer = padded(self.flat.T[::-1], products.COLUMNS) if self.deep else products.packed_roughly(self.flat.T)
        return layer, np.zeros(-(-self.flat.shape[0 if self.deep else 1] // products.COLUMNS) * products.COLUMNS, np.float32)

    def __call__(self, *parts: Array) -> Array:
        """Of arrays (H, W, C) that lie side by side."""
        return strips.rough_narrow(parts, self.relu, self.layer, self.outputs, self.halves)

    def gradient(self, *parts: Array) -> Array:
        """That of the inputs of a 1×1 convolution, from those of its results, which lie side by side."""
        return strips.rough_narrow(parts, False, self.backward, self.flat.shape[1], False)


class Parameters:
    """The parameters of layers, by name.

    Raises:
        Misfit: one that is asked for is not there, or of another shape.
    """

    def __init__(self, values: Mapping[str, Array]):
        self.values = values

    def take(self, name: str, *shape: int) -> Array:
        """Those of one name, in float32."""
        value = self.values.get(name)
        if value is None or value.shape != shape:
            raise Misfit(f"{name} is missing, or of another shape")
        return value.astype(np.float32)

    def layer(self, name: str, inputs: int, outputs: int, size: int = 1, groups: int = 1, relu: bool = False) -> Rough:
        """A convolution."""
        return Rough(self.take(f"{name}.weight", outputs, inputs // groups, size, size), self.take(f"{name}.bias", outputs), relu, groups > 1)

    def beside(self, inputs: int, outputs: Mapping[str, int]) -> Rough:
        """Convolutions 1×1 of the same inputs, whose results lie side by side."""
        weights = [self.take(f"{name}.weight", count, inputs, 1, 1) for name, count in outputs.items()]
        return Rough(np.concatenate(weights), np.concatenate([self.take(f"{name}.bias", count) for name, count in outputs.items()]))

    def gains(self, name: str, channels: int) -> Array:
        """Gains at all rate points (64, C); see `models.exact.RateGain`."""
        knots, rate = self.take(f"{name}.knots", KNOTS, channels), np.arange(RATES)
        low = np.minimum(rate // 8, KNOTS - 2)
        part = (rate / 8 - low).astype(np.float32)[:, None]
        return np.exp(knots[low] * (1 - part) + knots[low + 1] * part)


class Stack:
    """`models.blocks.Stack`: (H, W, C) -> (H, W, C).

    Raises:
        ValueError: loops do not take so many channels.
    """

    def __init__(self, given: Parameters, name: str, channels: int, count: int):
        if channels % products.COLUMNS:
            raise ValueError(f"stacks of loops take channels that are a multiple of {products.COLUMNS}")
        self.gain, self.strength = (given.gains(f"{name}.{gains}", channels) for gains in ("gain", "strength"))
        half, self.parts = channels // 2, []
        for place in (f"{name}.body.{k}" for k in range(count)):
            self.parts.append((
                given.layer(f"{place}.narrow", channels, half), given.layer(f"{place}.spatial", half, half, 3, half, relu=True),
                given.layer(f"{place}.widen", half, channels), given.layer(f"{place}.expand", channels, 2 * channels),
                given.layer(f"{place}.contract", 2 * channels, channels, relu=True),
            ))  # fmt: skip
        self.blocks = [strips.RoughBlock(*(part.layer for part in parts)) for parts in self.parts]

    def __call__(self, x: Array, rate: int) -> Array:
        return strips.rough_stack(x, self.gain[rate], self.strength[rate], self.blocks)

    @cached_property
    def backward(self) -> list[strips.RoughBlock]:
        """What takes gradients back through each block."""
        return [strips.RoughBlock(*(part.backward for part in parts)) for parts in self.parts]

    def kept(self, x: Array, rate: int) -> tuple[Array, strips.Kept]:
        """The same, and what its gradient needs."""
        return strips.kept_stack(x, self.gain[rate], self.strength[rate], self.blocks)

    def gradient(self, gradient: Array, kept: strips.Kept, rate: int) -> Array:
        """That of what is given, from that of what comes out."""
        return strips.stack_gradient(gradient, kept, self.gain[rate], self.strength[rate], self.backward)
