"""Convolutions of small integers in PyTorch, exactly.

Every sum of integers stays below 2^24, where float32 is exact whatever the order of additions. On a processor,
streams are coded by `models/compiled` instead.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from models.integers import ACTIVATION


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
