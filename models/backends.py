"""Convolutions of small integers, exactly, by what the machine is fast at.

All backends give the same numbers. `Float32` runs everywhere: every sum stays below 2^24, where float32 is exact whatever
the order of additions. `Int8` is for x86 processors with VNNI or AMX, whose 8-bit products are summed in 32-bit integers;
older ones saturate, which `choose_backend` finds out.
"""

import math
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from models.kernels.tensors import Reader

ACTIVATION = 255
"""The range of activations: they are bytes, from 0 or from -128 on."""
EXACT_SUM = 1 << 24
"""Integers below this are exact in float32."""
PACKINGS = 4
"""Sizes of inputs for which a layer has its weights packed, the latest ones."""


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

    def take(self, values: Tensor) -> Tensor:
        """The integers that are summed, of bytes, where the smallest a is 0."""
        return values.float()

    def __call__(self, a: Tensor) -> Tensor:
        """The convolution of what `read`, or a convolution that hands on, has given."""
        s = self.sums
        total = F.conv2d(a, self.weight, self.bias, s.stride, s.padding, 1, s.groups)
        return total if s.next is None else total.round_().clamp_(s.next, s.next + ACTIVATION)


class Int8:
    """Integers held in bytes, as their distance from the smallest; oneDNN sums, rescales and rounds in one pass.

    Weights are packed for the size of the inputs and the number of threads: oneDNN takes other layouts as well, but rearranges them at
    every call, which can take fifty times as long as the sums.

    Convolutions of 2×2 that halve the resolution run as 1×1 on the four samples side by side: with AMX, oneDNN (seen in PyTorch 2.11)
    gives wrong sums for strided ones where the result is one sample wide.
    """

    def __init__(self, sums: Sums):
        self.halves = sums.stride == 2
        if self.halves:
            weight = sums.weight.permute(0, 2, 3, 1).flatten(1)[:, :, None, None]
            sums = replace(sums, weight=weight, stride=1)
        self.geometry = ([sums.stride] * 2, [sums.padding] * 2, [1, 1], sums.groups)
        self.middle = -sums.low if sums.padding else 0  # the byte that stands for zero, with which oneDNN pads
        self.weight, self.unit = sums.weight.to(torch.int8).contiguous(), sums.unit
        bias = (sums.bias + (sums.low + self.middle) * sums.weight.sum((1, 2, 3))) * sums.unit - (sums.next or 0)
        kind = torch.float32 if sums.next is None else torch.uint8
        zero = torch.zeros_like(sums.unit, dtype=torch.int64)
        self.convolve = torch.ops.onednn.qconv2d_pointwise.default
        self.rest: tuple[Any, ...] = (sums.unit, zero, bias, *self.geometry, 1.0, 0, kind, "none", [], "")
        self.packed = lru_cache(maxsize=PACKINGS)(self._pack)
        self.reader = Reader(sums.scale, sums.low)

    def _pack(self, shape: torch.Size, threads: int) -> Tensor:
        return torch.ops.onednn.qconv_prepack(self.weight, self.unit, 1.0, self.middle, *self.geometry, list(shape))

    def __deepcopy__(self, _: dict[int, Any]) -> "Int8":
        return self  # it never changes, and PyTorch cannot copy packed weights

    def read(self, x: Tensor) -> Tensor:
        """The integers that are summed, of any float32 tensor (B, C, H, W)."""
        return self.reader(x)

    def take(self, values: Tensor) -> Tensor:
        """The integers that are summed, of bytes, where the smallest a is 0."""
        return values

    def __call__(self, a: Tensor) -> Tensor:
        """The convolution of what `read`, or a convolution that hands on, has given."""
        a = side_by_side(a) if self.halves else a
        return self.convolve(a, 1.0, self.middle, self.packed(a.shape, torch.get_num_threads()), *self.rest)


def side_by_side(a: Tensor) -> Tensor:
    """The samples of every square of 2×2 as channels, row by row: (B, C, H, W) -> (B, 4·C, H/2, W/2), both channels-last."""
    batch, channels, height, width = a.shape
    squares = a.permute(0, 2, 3, 1).reshape(batch, height // 2, 2, width // 2, 2, channels).transpose(2, 3)
    return squares.reshape(batch, height // 2, width // 2, 4 * channels).permute(0, 3, 1, 2)


Backend = type[Float32] | type[Int8]

BACKENDS: dict[str, Backend] = {"int8": Int8, "float32": Float32}


def choose_backend(device: torch.device) -> Backend:
    """The fastest backend that is exact on this machine; NVC_BACKEND in the environment overrides it.

    Raises:
        ValueError: NVC_BACKEND names another backend.
    """
    if forced := os.environ.get("NVC_BACKEND"):
        if forced not in BACKENDS:
            raise ValueError(f"NVC_BACKEND is {forced!r}, which is none of {', '.join(BACKENDS)}; correct or unset it")
        return BACKENDS[forced]
    if device.type != "cpu":
        return Float32
    with torch.inference_mode():
        return min(BACKENDS.values(), key=seconds)


def seconds(backend: Backend) -> float:
    """What a typical row of layers takes, or infinity where its results are wrong or there are none."""
    generator = torch.Generator().manual_seed(1)
    # Neighbouring products of the largest integers, which 16-bit sums cannot hold.
    weight = torch.randint(0, 2, (192, 96, 1, 1), generator=generator) * 254.0 - 127
    deep = torch.randint(-127, 128, (192, 1, 3, 3), generator=generator).float()
    halving = torch.randint(-127, 128, (32, 192, 2, 2), generator=generator).float()
    ones = torch.ones(192)
    times = []
    try:
        first = backend(Sums(weight, 1000 * ones, ones / 4096, torch.ones(96), -128, -128, 1, 0, 1))
        second = backend(Sums(deep, -1000 * ones, ones / 512, ones, -128, 0, 1, 1, 192))
        third = backend(Sums(halving, 10 * ones[:32], ones[:32] / 64, ones, 0, None, 2, 0, 1))
        for height, width in ((34, 2), (2, 18), (32, 32)):  # results one sample wide are a case of their own
            x = torch.randint(-140, 141, (1, 96, height, width), generator=generator) + 0.5
            for _ in range(6 if width == 32 else 1):
                begin = perf_counter()
                result = third(second(first(first.read(x.contiguous(memory_format=torch.channels_last)))))
                times.append(perf_counter() - begin)
            a = x.double().round().clamp(-128, 127)
            a = ((F.conv2d(a, weight.double()) + 1000) / 4096).round().clamp(-128, 127)
            a = ((F.conv2d(a, deep.double(), padding=1, groups=192) - 1000) / 512).round().clamp(0, 255)
            if not torch.equal(result.double(), (F.conv2d(a, halving.double(), stride=2) + 10) / 64):
                return math.inf
    except (RuntimeError, AttributeError, NotImplementedError):  # this processor or this PyTorch cannot
        return math.inf
    return min(times[2:])
