"""Convolutions by what the machine is fast at: of small integers, exactly, in PyTorch; and of what need not be exact, in compiled loops.

Every sum of integers stays below 2^24, where float32 is exact whatever the order of additions. Processors with products of bytes
have a decoder's layers as `models/compiled` instead.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.bridge import each, tensor
from models.compiled import strips
from models.compiled.layers import padded
from models.integers import ACTIVATION
from models.kernels import products, rough


@dataclass(frozen=True)
class Sums:
    """A convolution of integers a: unit · (Σ weight · a + bias) for each output channel; all tensors are float32."""

    weight: Tensor  # (outputs, inputs / groups, rows, columns), integers from -127 to 127
    bias: Tensor  # (outputs,), integers; `reach` must stay below 2^24
    unit: Tensor  # (outputs,), powers of two
    scale: Tensor  # (inputs,), powers of two: a = clamp(round(scale · x))
    low: int  # the smallest a, -128 or 0; the largest is 255 more
    next: int | None  # the same for the convolution that the results are for: they are rounded and clamped; None: they are not
    stride: int
    padding: int  # of zeros
    groups: int

    def reach(self) -> Tensor:
        """What no sum of an output channel exceeds, whichever backend computes it: (outputs,)."""
        return ACTIVATION * self.weight.abs().sum((1, 2, 3)) + self.bias.abs() - (self.next or 0) / self.unit


class Float32:
    """Integers held in float32."""

    def __init__(self, sums: Sums):
        self.sums = sums
        # Powers of two can as well be multiplied beforehand.
        self.weight = (sums.weight * sums.unit[:, None, None, None]).contiguous(memory_format=torch.channels_last)
        self.bias, self.scale = sums.bias * sums.unit, sums.scale[:, None, None]

    def read(self, x: Tensor) -> Tensor:
        """The integers that are summed, of any float32 tensor (B, C, H, W)."""
        return (x * self.scale).round_().clamp_(self.sums.low, self.sums.low + ACTIVATION)

    def of(self, x: Tensor) -> Tensor:
        """The convolution of any float32 tensor (B, C, H, W)."""
        return self(self.read(x))

    def __call__(self, a: Tensor) -> Tensor:
        """The convolution of what `read`, or a convolution that hands on, has given."""
        s = self.sums
        return self._handed(F.conv2d(a, self.weight, self.bias, s.stride, s.padding, 1, s.groups))

    def _handed(self, total: Tensor) -> Tensor:
        """Results as those who read them have them."""
        low = self.sums.next
        return total if low is None else total.round_().clamp_(low, low + ACTIVATION)


class Rough:
    """A convolution whose results need not be exact, in bfloat16: 1×1, 2×2 that halves the resolution, or, as part of a block, 3×3 depth-wise."""

    def __init__(self, weight: Tensor, bias: Tensor, relu: bool, stride: int, groups: int):
        flat = weight.detach().permute(0, 2, 3, 1).flatten(1).numpy()
        self.relu, self.halves, self.outputs, self.deep, self.flat = relu, stride == 2, len(weight), groups > 1, flat
        self.layer = padded(flat.T, products.COLUMNS) if groups > 1 else products.packed_roughly(flat), padded(bias.detach().numpy(), products.COLUMNS)

    def __deepcopy__(self, _: dict[int, Any]) -> "Rough":
        return self  # it never changes

    @cached_property
    def backward(self) -> rough.Layer:
        """What takes a gradient of the results to that of the inputs: of a 1×1 convolution, or a depth-wise one."""
        layer = padded(self.flat.T[::-1], products.COLUMNS) if self.deep else products.packed_roughly(self.flat.T)
        return layer, np.zeros(-(-self.flat.shape[0 if self.deep else 1] // products.COLUMNS) * products.COLUMNS, np.float32)

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """Of tensors (B, C, H, W) that lie side by side."""
        return tensor(each(lambda *given: strips.rough_narrow(given, self.relu, self.layer, self.outputs, self.halves), parts))
