"""Layers whose results need not be exact, in bfloat16, from their parameters: of the encoder's networks and of the enhancer. `models/exact.py` has them in PyTorch."""

from functools import cached_property
from typing import Any

import numpy as np

from models.arrays import Array
from models.compiled import strips
from models.compiled.layers import padded
from models.kernels import products, rough
from models.kernels.lanes import LANES


class Rough:
    """A convolution: 1×1, 2×2 that halves the resolution, or, as part of a block, 3×3 depth-wise.

    Args:
        weight: (outputs, inputs / groups, rows, columns).
        bias: (outputs,).
        relu: negative inputs count as zero.
    """

    def __init__(self, weight: Array, bias: Array, relu: bool, stride: int = 1, groups: int = 1):
        flat = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
        self.relu, self.halves, self.outputs, self.deep, self.flat = relu, stride == 2, len(weight), groups > 1, flat
        self.layer = padded(flat.T, products.COLUMNS) if groups > 1 else products.packed_roughly(flat), padded(bias, products.COLUMNS)

    def __deepcopy__(self, _: dict[int, Any]) -> "Rough":
        return self  # it never changes

    @cached_property
    def backward(self) -> rough.Layer:
        """What takes a gradient of the results to that of the inputs: of a 1×1 convolution, or a depth-wise one."""
        layer = padded(self.flat.T[::-1], products.COLUMNS) if self.deep else products.packed_roughly(self.flat.T)
        return layer, np.zeros(-(-self.flat.shape[0 if self.deep else 1] // products.COLUMNS) * products.COLUMNS, np.float32)

    def __call__(self, *parts: Array) -> Array:
        """Of arrays (H, W, C) that lie side by side."""
        return strips.rough_narrow(parts, self.relu, self.layer, self.outputs, self.halves)


def fits(inputs: int) -> bool:
    """Whether loops take layers of so many inputs."""
    return inputs % LANES == 0
