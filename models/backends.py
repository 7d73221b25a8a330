"""Convolutions of small integers, exactly, by what the machine is fast at.

All backends give the same numbers. `Float32` runs everywhere: every sum stays below 2^24, where float32 is exact whatever
the order of additions. `Int8` is for x86 processors with AMX, VNNI or AVX2, which sum up products of bytes in 32-bit integers.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.arrays import Array
from models.kernels import layers, networks, products
from models.kernels.lanes import LANES
from models.kernels.processor import FORM

ACTIVATION = 255
"""The range of activations: they are bytes, from 0 or from -128 on."""
EXACT_SUM = 1 << 24
"""Integers below this are exact in float32."""


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


class Int8(Float32):
    """Integers held in bytes, as their distance from the smallest, in compiled loops (`models/kernels/layers.py`).

    Convolutions of 2×2 that halve the resolution run as 1×1 on the four samples side by side. Depth-wise ones have a loop
    within a block only, and run in float32 elsewhere.

    Raises:
        NotImplementedError: this processor has no instructions for it.
    """

    def __init__(self, sums: Sums):
        if FORM is None:
            raise NotImplementedError("this processor has no exact 8-bit products")
        super().__init__(sums)
        self.outputs, self.deep, self.halves = len(sums.weight), sums.groups > 1, sums.stride == 2
        self.low, self.unit = np.float32(sums.low), sums.unit.cpu().numpy()
        weight = sums.weight.permute(0, 2, 3, 1).flatten(0, 2).cpu().numpy()
        self.reads = padded(sums.scale.cpu().numpy().reshape(-1), LANES)
        if self.deep:
            self.packed = padded(weight.reshape(self.outputs, -1).T, products.DEPTH)
        else:
            self.packed = products.packed(padded(weight, LANES).reshape(self.outputs, -1).astype(np.int8))
        self.added = sums.bias.cpu().numpy() + sums.low * weight.reshape(self.outputs, -1).sum(1)  # as bytes are not below zero

    def __deepcopy__(self, _: dict[int, Any]) -> "Int8":
        return self  # it never changes

    @cached_property
    def from_numbers(self) -> layers.Reader:
        """How it reads numbers."""
        return np.tile(self.reads, 4 if self.halves else 1), self.low

    @cached_property
    def from_steps(self) -> layers.Reader:
        """How it reads steps of a stream."""
        return padded(self.reads * np.float32(2.0**-12), products.COLUMNS), self.low

    @cached_property
    def from_integers(self) -> layers.Reader:
        """How it takes what another layer has read for it."""
        return np.ones_like(self.from_numbers[0]), self.low

    @cached_property
    def to_numbers(self) -> layers.Layer:
        """The layer, for results as they are."""
        return self._layer(self.unit, 0)

    @cached_property
    def to_steps(self) -> layers.Layer:
        """The layer, for results that are added to steps of a stream."""
        return self._layer(self.unit * np.float32(2.0**12), 0)

    def to_layer(self, reader: "Int8") -> layers.Layer:
        """The layer, for results that another one reads."""
        if self.sums.next is not None:  # has been reckoned with
            return self._layer(self.unit, self.sums.next)
        return self._layer(self.unit * reader.reads[: self.outputs], reader.sums.low)

    def _layer(self, unit: Array, low: int) -> layers.Layer:
        columns = products.DEPTH if self.deep else products.COLUMNS
        return self.packed, padded(unit, columns), padded(self.added * unit, columns), np.float32(low)

    def of(self, x: Tensor, *others: Tensor) -> Tensor:
        """The convolution of any float32 tensor, or of several that lie side by side."""
        return super().of(x) if self.deep else self._handed(self._convolved((x, *others), self.from_numbers))

    def __call__(self, a: Tensor) -> Tensor:
        """The convolution of what `read`, or a convolution that hands on, has given."""
        return super().__call__(a) if self.deep else self._handed(self._convolved((a,), self.from_integers))

    def _convolved(self, parts: Sequence[Tensor], reader: layers.Reader) -> Tensor:
        return networks.narrow(in_lanes(parts), reader, self.to_numbers, self.outputs, self.halves)


class WideInt8:
    """A convolution of streams whose sums come in two halves, that of upper and that of lower bytes; see `models.exact.Wide`.

    Args:
        sums: of upper bytes, then those of lower ones, (2·outputs, 2·inputs, 1, 1), of inputs by turns lower and upper.
        bias: (outputs,), multiples of 2^-12.
        corners: 4, if every four channels are to become a square of 2×2; or 1.
    """

    def __init__(self, sums: Sums, bias: Tensor, corners: int):
        outputs = len(bias)
        self.corners, self.channels = corners, outputs // corners
        groups = -(-self.channels // LANES)
        order = np.full((corners, groups * LANES), -1)  # channels of one corner together, and padded
        order[:, : self.channels] = np.arange(outputs).reshape(-1, corners).T
        both = np.stack([order.reshape(-1, LANES), np.where(order < 0, -1, order + outputs).reshape(-1, LANES)])  # (2, groups, 16)

        def of(values: Array, chosen: Array) -> Array:
            return np.concatenate([values, np.zeros_like(values[:1])])[chosen]  # -1 is the last

        weight, unit, added = (values.cpu().numpy() for values in (sums.weight.flatten(1), sums.unit * 2.0**12, sums.bias))
        constants = [of(values, half) for half in both for values in (unit, unit * added)] + [of(bias.cpu().numpy() * np.float32(2.0**12), both[0])]
        self.layer = products.packed(of(weight, both.swapaxes(0, 1).reshape(-1)).astype(np.int8)), np.stack(constants)

    def __deepcopy__(self, _: dict[int, Any]) -> "WideInt8":
        return self  # it never changes

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """A stream from one or two that lie side by side: (B, C1, H, W), (B, C2, H, W) -> (B, outputs, H, W), or (B, outputs/4, 2·H, 2·W)."""
        return networks.wide(in_lanes(parts), self.layer, self.channels, self.corners)


class Rough:
    """A convolution whose results need not be exact, in bfloat16, by AMX: 1×1, 2×2 that halves the resolution, or, as part of a block, 3×3 depth-wise."""

    def __init__(self, weight: Tensor, bias: Tensor, relu: bool, stride: int, groups: int):
        flat = weight.detach().permute(0, 2, 3, 1).flatten(1).numpy()
        self.relu, self.halves, self.outputs = relu, stride == 2, len(weight)
        self.layer = padded(flat.T, products.COLUMNS) if groups > 1 else products.packed_roughly(flat), padded(bias.detach().numpy(), products.COLUMNS)

    def __deepcopy__(self, _: dict[int, Any]) -> "Rough":
        return self  # it never changes

    def __call__(self, parts: Sequence[Tensor]) -> Tensor:
        """Of tensors (B, C, H, W) that lie side by side."""
        return networks.rough_narrow(parts, self.relu, self.layer, self.outputs, self.halves)


def in_lanes(parts: Sequence[Tensor]) -> Sequence[Tensor]:
    """Tensors (B, C, H, W) with channels of zeros up to a multiple of LANES."""
    if parts[0].shape[1] % LANES == 0:
        return parts
    return [F.pad(part, (0, 0, 0, 0, 0, -part.shape[1] % LANES)) for part in parts]


def padded(values: Array, unit: int) -> Array:
    """Floats (..., n) with zeros up to a multiple of a unit."""
    missing = -values.shape[-1] % unit
    return np.ascontiguousarray(np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, missing)]), np.float32)


Backend = type[Float32] | type[Int8]

BACKENDS: dict[str, Backend] = {"int8": Int8, "float32": Float32}


def choose_backend(device: torch.device) -> Backend:
    """The fastest backend that is exact on this machine; NVC_BACKEND in the environment overrides it.

    Raises:
        ValueError: NVC_BACKEND names another backend, or one that this processor cannot have.
    """
    if forced := os.environ.get("NVC_BACKEND"):
        if forced not in BACKENDS:
            raise ValueError(f"NVC_BACKEND is {forced!r}, which is none of {', '.join(BACKENDS)}; correct or unset it")
        if not is_exact(BACKENDS[forced]):
            raise ValueError(f"NVC_BACKEND is {forced!r}, which this processor has no instructions for; unset it")
        return BACKENDS[forced]
    return next(backend for backend in BACKENDS.values() if backend is Float32 or (device.type == "cpu" and is_exact(backend)))


def is_exact(backend: Backend) -> bool:
    """Whether this machine has a backend, and it sums up the largest integers without error."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.randint(0, 2, (40, 96, 1, 1), generator=generator) * 254.0 - 127  # 16-bit sums cannot hold two of these products
    a = torch.randint(0, 2, (1, 96, 3, 11), generator=generator) * 255.0 - 128
    ones = torch.ones(96)
    with torch.inference_mode():
        try:
            layer = backend(Sums(weight, 1000 * ones[:40], ones[:40] / 64, ones, -128, None, 1, 0, 1))
            result = layer.of(a)
        except (NotImplementedError, RuntimeError):
            return False
        return torch.equal(result.double(), (F.conv2d(a.double(), weight.double()) + 1000) / 64)
