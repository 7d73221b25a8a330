"""Exact arithmetic: layers that give the same numbers on every machine.

Every layer here has two forms over the same parameters. The float form is what training begins with. The exact form
computes with integers only, scaled by powers of two, so that each result is the one right integer whatever the order of
additions, the instruction set or the device; it is what streams are written and read with. Rounding is to the nearest,
ties to even, unless said otherwise. `nvc_cli/stream.md` defines all of it in integers.

- A *stream* tensor is a multiple of 2^-12 within ±8 (an integer of 16 bits).
- A `Narrow` convolution takes activations from 0 to 255, or from -128 to 127, and weights of at most ±127. All its sums
  stay below 2^24, so that floats find them as well as the processor's integers do (`models/backends.py`, `models/compiled`).
- A `Wide` convolution, 1×1, takes stream tensors and weights of 15 bits, and sums their upper and lower bytes likewise.
- Gains have 8 significant bits and come from a table of 128 steps to the octave.

In training the exact form passes gradients straight through rounding, and none where a value was clamped.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeVar, cast, overload

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.backends import Float32, Sums
from models.integers import (
    ACTIVATION, COARSEST, EXACT_SUM, FINEST, KNOT, KNOTS, MANTISSAS, OCTAVE, STREAM_BITS, STREAM_LIMIT, TABLE_BITS, WEIGHT, WIDE_WEIGHT, RangeError,
)  # fmt: skip
from models.presets import RATES

OCTAVES = range(-10, 9)
"""Powers of two that activations are sorted by when they are observed."""


def _outside(values: Tensor, low: int, high: int) -> bool:
    return bool((values < low).any() or (values > high).any())


class _Round(torch.autograd.Function):
    """clamp(round(x·scale)), passing gradients of what is not clamped; `scale` is a constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | float, low: float, high: float) -> Tensor:
        scaled = x * scale
        out = scaled.round().clamp_(low, high)
        ctx.save_for_backward((scaled >= low - 0.5) & (scaled <= high + 0.5))
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside * ctx.scale, None, None, None


def rounded(x: Tensor, scale: Tensor | float, low: float, high: float) -> Tensor:
    """Integers clamp(round(x·scale), low, high) in float32, straight through for gradients."""
    if torch.is_grad_enabled() and x.requires_grad:
        return _Round.apply(x.float(), scale, low, high)
    return (x.float() * scale).round_().clamp_(low, high)


class Exact(nn.Module):
    """A layer with a float form and an exact one; `exact` says which is in use."""

    exact = False
    kinds: dict[str, torch.dtype] = {}
    """The integers that the exact form computes with: names, which are those of the tensors that they are made from and whose shape they have, and types."""

    def integers(self) -> dict[str, Tensor]:
        """The integers that the exact form computes with, by name."""
        return {}

    def prepare(self) -> None:
        """Compute the integers once and for all, when parameters change no more."""

    def restore(self, integers: dict[str, Tensor]) -> None:
        """Set parameters from what `integers` gave; the same integers follow from them again.

        Raises:
            RangeError: sums could leave the range in which they are exact.
        """


class Grid(Exact):
    """Rounds to multiples of 2^-bits within ±limit·2^-bits; the float form does nothing."""

    def __init__(self, bits: int = STREAM_BITS, limit: int = STREAM_LIMIT):
        super().__init__()
        self.bits, self.limit, self.largest = bits, limit, limit * 2.0**-bits
        # In float32 numbers near this one lie 2^-bits apart, so that adding it rounds; what lies far from it is clamped anyway.
        self.anchor = 1.5 * 2.0 ** (23 - bits)

    def forward(self, x: Tensor) -> Tensor:
        if not self.exact:
            return x
        if torch.is_grad_enabled() and x.requires_grad:
            return rounded(x, 2.0**self.bits, -self.limit, self.limit) * 2.0**-self.bits
        return (x.float() + self.anchor).sub_(self.anchor).clamp_(-self.largest, self.largest)

    def clamp(self, x: Tensor) -> Tensor:
        """The same for an x that is on the grid, but may be too large."""
        return x.clamp(-self.largest, self.largest) if self.exact else x

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x, which is on the grid, plus y rounded to it; y is not needed any more."""
        if not self.exact:
            return x + y
        if torch.is_grad_enabled() and y.requires_grad:
            y = rounded(y, 2.0**self.bits, -EXACT_SUM, EXACT_SUM) * 2.0**-self.bits
            return (x + y).clamp(-self.largest, self.largest)
        return y.float().add_(self.anchor).sub_(self.anchor).add_(x).clamp_(-self.largest, self.largest)


class Convolution(Exact):
    """What both kinds of convolution share: float parameters, and the exponents of their integers."""

    weight: Tensor
    bias: Tensor
    fraction: Tensor

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        layer = nn.Conv2d(inputs, outputs, size, stride, groups=groups)  # for PyTorch's usual first values
        self.weight, self.bias = layer.weight, cast(Tensor, layer.bias)
        self.stride, self.padding, self.groups = stride, (size - 1) // 2 if stride == 1 else 0, groups
        self.register_buffer("fraction", torch.zeros(outputs, dtype=torch.int8))  # bits of each output's weights

    @property
    def out_channels(self) -> int:
        return self.weight.shape[0]

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """In floating point, by what is fastest; on a GPU matrix products, and, where that is compiled into one kernel, sums of shifted planes."""
        if x.is_cuda and self.groups == 1 and weight.shape[2] == 1:
            return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        if x.is_cuda and weight.shape[1:] == (1, 3, 3) and torch.compiler.is_compiling():
            return shifted_sums(x, weight, bias)
        return F.conv2d(x, weight, bias, self.stride, self.padding, 1, self.groups)

    def calibrate(self, limit: int, reads: Tensor | float = 0.0) -> None:
        """The finest weights whose integers stay within ±limit, when activations are multiples of 2^reads."""
        size = (self.weight.detach() * 2.0**reads).abs().flatten(1).amax(1).clamp(min=2.0**-24)
        bias = self.bias.detach().abs().clamp(min=1.0)  # is a multiple of the same step, and must not take the range of the sums
        self.fraction.copy_(torch.minimum((limit / size).log2().floor(), FINEST - bias.log2().ceil()))

    def settle_weights(self) -> None:
        """Choose the exponents of the weights."""
        raise NotImplementedError

    def sums(self) -> Sums:
        """What the exact form sums up."""
        raise NotImplementedError

    def _check(self) -> None:
        """Refuse integers whose sums are not proved to be exact."""
        if (self.sums().reach() >= EXACT_SUM).any():
            raise RangeError("sums of a layer could reach 2^24")


def shifted_sums(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A depth-wise 3×3 convolution as nine products: (B, C, H, W), (C, 1, 3, 3) -> (B, C, H, W). cuDNN is slow at its gradients in channels-last."""
    height, width = x.shape[2:]
    wide = F.pad(x, (1, 1, 1, 1))
    total = torch.zeros((), device=x.device)
    for i in range(3):
        for j in range(3):
            total = total + wide[..., i : i + height, j : j + width].float() * weight[:, 0, i, j].float()[:, None, None]
    total = total if bias is None else total + bias[:, None, None]
    return total.to(torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype)


class Narrow(Convolution):
    """A convolution of 8-bit integers, with ReLU before it if `relu`.

    Args:
        inputs, outputs, size, stride, groups: as of Conv2d; padding keeps the size of an unstrided one.
        relu: negative inputs count as zero.
    """

    kinds = {"weight": torch.int8, "bias": torch.int32, "reads": torch.int8, "fraction": torch.int8}
    reads: Tensor

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1, relu: bool = False):
        super().__init__(inputs, outputs, size, stride, groups)
        self.relu = relu
        self.low = 0 if relu else -128  # the smallest activation; the largest is 255 more
        self.step = 8 if relu else 7  # bits of the largest activation
        self.register_buffer("reads", torch.zeros(inputs, dtype=torch.int8))  # inputs are read as multiples of 2^reads
        self.prepared: Float32 | None = None
        self.seen: Tensor | None = None  # moments of the inputs by octave, while they are observed
        self.reader: tuple[Narrow, ...] = ()  # the layer that alone reads the results, if there is one
        self.fed = False  # whether inputs come prepared from a layer before it

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """In float, or exactly: float32 multiples of 2^-fraction; prepared layers hand on what their reader sums up. Inputs may come in parts that lie side by side."""
        if others:
            x = torch.cat([x, *others], 1)
        if not self.exact:
            x = F.relu(x) if self.relu else x
            if self.seen is not None:
                self._watch(self.seen, x.detach().float())
            return self.convolve(x, self.weight, self.bias)
        if self.prepared is not None:
            return self.prepared(x) if self.fed else self.prepared.of(x)
        weight, bias, read, write = self._prepare()
        total = self.convolve(rounded(x, read, self.low, self.low + ACTIVATION), weight)
        return torch.addcmul(bias, total.float(), write)

    def _prepare(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights as integers, the bias, and the powers of two by which inputs and sums are multiplied."""
        reads, fraction = self.reads.float(), self.fraction.float()
        absorbed = torch.exp2(self._absorbed(reads) + fraction[:, None, None, None])
        weight = rounded(self.weight, absorbed, -WEIGHT, WEIGHT)
        write = torch.exp2(-fraction)
        bias = rounded(self.bias, 1 / write, -EXACT_SUM, EXACT_SUM) * write
        return weight, bias[:, None, None], torch.exp2(-reads)[:, None, None], write[:, None, None]

    def _absorbed(self, reads: Tensor) -> Tensor:
        """Exponents of the inputs in the shape of the weights."""
        return reads[:, None, None, None] if self.groups > 1 else reads[:, None, None]

    def prepare(self) -> None:
        sums = self.sums()
        for reader in self.reader:
            linked = replace(sums, unit=sums.unit * torch.exp2(-reader.reads.float()), next=reader.low)
            reader.fed = bool((linked.reach() < EXACT_SUM).all())
            sums = linked if reader.fed else sums
        self.prepared = Float32(sums)

    @torch.no_grad()
    def sums(self) -> Sums:
        weight, bias, read, write = self._prepare()
        return Sums(weight, (bias / write).flatten(), write.flatten(), read.flatten(), self.low, None, self.stride, self.padding, self.groups)

    def observe(self) -> None:
        """Watch the inputs of the float form from now on."""
        self.seen = torch.zeros(3, len(OCTAVES), len(self.reads), dtype=torch.float64, device=self.reads.device)

    def _watch(self, seen: Tensor, x: Tensor) -> None:
        """Add up in `seen`, for every octave and channel, the count, the sum and the sum of squares of |x| (B, C, H, W)."""
        x = x.abs()
        octave = torch.frexp(x).exponent.clamp(OCTAVES[0], OCTAVES[-1]) - OCTAVES[0]  # |x| lies from 2^(octave - 1) to 2^octave
        channels = x.shape[1]
        place = (octave * channels + torch.arange(channels, device=x.device)[:, None, None]).flatten()
        for sums, values in zip(seen, (x > 0, x, x.double().square())):
            sums += torch.bincount(place, values.double().flatten(), sums.numel()).view_as(sums)

    def settle(self) -> None:
        """Choose the exponents of the inputs: those with the least squared error of rounding and clamping what was seen."""
        if self.seen is None:
            raise RuntimeError("a layer cannot settle before it observes")
        count, total, squares = self.seen
        errors = []
        for exponent in OCTAVES:  # the largest activation is taken for 2^exponent, so one is 2^(exponent - step)
            above = torch.tensor([octave > exponent for octave in OCTAVES], device=count.device)
            clamped = squares[above].sum(0) - 2 * 2.0**exponent * total[above].sum(0) + 4.0**exponent * count[above].sum(0)
            errors.append(clamped + count[~above].sum(0) * 4.0 ** (exponent - self.step) / 12)
        best = OCTAVES[0] + torch.stack(errors).argmin(0)
        # Channels that were hardly seen may well be needed: none gets less than a part of the range that others need.
        self.reads.copy_(torch.maximum(best, best.max() - 3) - self.step)
        self.seen = None

    def settle_weights(self) -> None:
        """Choose the exponents of the weights, after those of the inputs."""
        self.calibrate(WEIGHT, self._absorbed(self.reads.float()))

    def integers(self) -> dict[str, Tensor]:
        sums = self.sums()
        return {"weight": sums.weight.to(torch.int8), "bias": sums.bias.int(), "reads": self.reads.clone(), "fraction": self.fraction.clone()}

    @torch.no_grad()
    def restore(self, integers: dict[str, Tensor]) -> None:
        weight, bias = integers["weight"].float(), integers["bias"].float()
        if _outside(weight, -WEIGHT, WEIGHT) or _outside(integers["fraction"], COARSEST, FINEST):
            raise RangeError("weights of a layer are out of range")
        if _outside(integers["reads"], COARSEST, -COARSEST):
            raise RangeError("exponents of a layer are out of range")
        for name in ("reads", "fraction"):
            getattr(self, name).copy_(integers[name])
        fraction = self.fraction.float()
        self.weight.copy_(weight * torch.exp2(-self._absorbed(self.reads.float()) - fraction[:, None, None, None]))
        self.bias.copy_(bias * torch.exp2(-fraction))
        self._check()


class Wide(Convolution):
    """A 1×1 convolution of stream tensors with weights of 15 bits, for what a picture passes through.

    Stream integers are x = 256·h + l and weights are w = 128·u + v, in bytes; 128·T stands for Σ w·x, where
    T = Σ u·x + 2·v·h leaves out only the products v·l. Of l and v, both signed, small numbers lose nothing. T is rounded to float32.
    """

    kinds = {"weight": torch.int16, "bias": torch.int32, "fraction": torch.int8}

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.grid = Grid()
        self.prepared: tuple[Float32, Tensor] | None = None

    def forward(self, *parts: Tensor) -> Tensor:
        """In float, or exactly: a stream tensor. Inputs may come in parts, that are to lie side by side."""
        x = torch.cat([part.to(parts[-1].dtype) for part in parts], 1) if len(parts) > 1 else parts[0]
        if not self.exact:
            return self.convolve(x, self.weight, self.bias)
        if torch.is_grad_enabled():
            weight = self._weight() * torch.exp2(-self.fraction.float())[:, None, None, None]
            with torch.autocast(x.device.type, enabled=False):
                return self.grid.add(self._bias(), self.convolve(x.float(), weight))
        kernel, bias = self.prepared or (Float32(self.sums()), self._bias())
        shifted = torch.add(x, self.grid.anchor + 8.0 + 2.0**-5).permute(0, 2, 3, 1).contiguous()  # the lowest 16 bits are 2^15 + 2^7 + x
        pairs = shifted.view(torch.int32).to(torch.int16).view(torch.uint8)  # (B, H, W, 2·inputs): 128 + l, 128 + h, ...
        high, low = kernel(pairs.permute(0, 3, 1, 2).float()).chunk(2, 1)
        return self.grid.add(bias, high + low)

    def _weight(self) -> Tensor:
        return rounded(self.weight, torch.exp2(self.fraction.float())[:, None, None, None], -WIDE_WEIGHT, WIDE_WEIGHT)

    def _bias(self) -> Tensor:
        return (rounded(self.bias, 2.0**STREAM_BITS, -STREAM_LIMIT, STREAM_LIMIT) * 2.0**-STREAM_BITS)[:, None, None]

    @torch.no_grad()
    def sums(self) -> Sums:
        """Σ 256·u·h, then the rest of T: (2·outputs, 2·inputs, 1, 1)."""
        weight = self._weight().flatten(1)
        u = ((weight + 64) / 128).floor()
        v = weight - 128 * u
        weight = torch.cat([torch.stack([torch.zeros_like(u), u], 2), torch.stack([u, 2 * v], 2)]).flatten(1)[:, :, None, None]
        bias = -128 * weight.sum((1, 2, 3))
        unit = torch.exp2(7 - STREAM_BITS - self.fraction.float())
        ones = torch.ones(weight.shape[1], device=unit.device)
        return Sums(weight, bias, torch.cat([256 * unit, unit]), ones, 0, None, 1, 0, 1)

    def prepare(self) -> None:
        self.prepared = Float32(self.sums()), self._bias().detach()

    def settle_weights(self) -> None:
        self.calibrate(WIDE_WEIGHT)
        while (over := (self.sums().reach() >= EXACT_SUM).view(2, -1).any(0)).any():
            self.fraction -= over.to(torch.int8)

    def integers(self) -> dict[str, Tensor]:
        bias = (self._bias().detach() * 2.0**STREAM_BITS).flatten()
        return {"weight": self._weight().detach().to(torch.int16), "bias": bias.int(), "fraction": self.fraction.clone()}

    @torch.no_grad()
    def restore(self, integers: dict[str, Tensor]) -> None:
        weight = integers["weight"].float()
        if _outside(weight, -WIDE_WEIGHT, WIDE_WEIGHT) or _outside(integers["fraction"], COARSEST, FINEST):
            raise RangeError("weights of a layer are out of range")
        self.fraction.copy_(integers["fraction"])
        self.weight.copy_(weight * torch.exp2(-self.fraction.float())[:, None, None, None])
        self.bias.copy_(integers["bias"] * 2.0**-STREAM_BITS)
        self._check()


class RateTable(Exact):
    """A learned vector for every rate point: eight steps of --qp as knots, linear in between.

    Args:
        channels: length of the vector.
        first, last: initial value at rate 0 and at rate 64.
    """

    kinds = {"knots": torch.int16}
    steps = float(1 << TABLE_BITS)  # of one unit, in the exact form

    def __init__(self, channels: int, first: float = 0.0, last: float = 0.0):
        super().__init__()
        line = torch.linspace(first, last, KNOTS)
        self.knots = nn.Parameter(line[:, None].repeat(1, channels))
        self.prepared: Tensor | None = None  # (64, C, 1, 1)

    @torch.no_grad()
    def prepare(self) -> None:
        """Compute the vectors of all rate points once and for all."""
        self.prepared = self._vector(torch.arange(RATES, device=self.knots.device))

    def vector(self, rate: Tensor) -> Tensor:
        """(B,) -> (B, C, 1, 1)."""
        return self.prepared[rate.long()] if self.prepared is not None else self._vector(rate)

    def _vector(self, rate: Tensor) -> Tensor:
        """The exact form rounds to the table's steps, ties up."""
        if not self.exact:
            return self._between(self.knots, rate)
        knots = rounded(self.knots, self.steps, -KNOT, KNOT)
        between = self._between(knots, rate)
        return (between + ((between + 0.5).floor() - between).detach()) / self.steps

    def _between(self, knots: Tensor, rate: Tensor) -> Tensor:
        place = rate.float() / 8
        low = place.floor().clamp(0, KNOTS - 2).long()
        part = (place - low)[:, None]
        return (knots[low] * (1 - part) + knots[low + 1] * part)[:, :, None, None]

    def integers(self) -> dict[str, Tensor]:
        return {"knots": rounded(self.knots.detach(), self.steps, -KNOT, KNOT).to(torch.int16)}

    @torch.no_grad()
    def restore(self, integers: dict[str, Tensor]) -> None:
        if _outside(integers["knots"], -KNOT, KNOT):
            raise RangeError("entries of a rate table are out of range")
        self.knots.copy_(integers["knots"].double() / self.steps)


class RateGain(RateTable):
    """A learned positive gain per channel for every rate point, stored as its logarithm. Its result is a stream tensor."""

    steps = OCTAVE / math.log(2)

    def __init__(self, channels: int, first: float = 0.0, last: float = 0.0):
        super().__init__(channels, first, last)
        self.grid = Grid()

    def _vector(self, rate: Tensor) -> Tensor:
        """Exact gains have 8 significant bits."""
        logarithm = super()._vector(rate)
        if not self.exact:
            return logarithm.exp()
        step = (logarithm.detach() * self.steps).round().long()
        gain = torch.ldexp(_mantissas(step.device)[step % OCTAVE], torch.div(step, OCTAVE, rounding_mode="floor"))
        return gain if not logarithm.requires_grad else gain * (1 + logarithm - logarithm.detach())

    def forward(self, x: Tensor, rate: Tensor) -> Tensor:
        """Scale the channels of x (B, C, H, W); a bfloat16 activation is not promoted to float32."""
        vector = self.vector(rate)
        if not self.exact:
            return x * vector.to(x.dtype)
        if self.prepared is None:
            return self.grid(x * vector)
        anchored = torch.addcmul(torch.full_like(vector, self.grid.anchor), x, vector)  # products are exact, so this rounds them
        return self.grid.clamp(anchored.sub_(self.grid.anchor))


@lru_cache(maxsize=None)
def _mantissas(device: torch.device) -> Tensor:
    return torch.tensor(MANTISSAS, device=device, dtype=torch.float32) / OCTAVE


ExactLayer = TypeVar("ExactLayer", bound=Exact)


@overload
def layers(module: nn.Module) -> Iterator[tuple[str, Exact]]: ...


@overload
def layers(module: nn.Module, kind: type[ExactLayer]) -> Iterator[tuple[str, ExactLayer]]: ...


def layers(module: nn.Module, kind: type[Exact] = Exact) -> Iterator[tuple[str, Exact]]:
    """All layers of a kind, by name."""
    return ((name, layer) for name, layer in module.named_modules() if isinstance(layer, kind))


def integers(named: Iterable[tuple[str, Exact]]) -> dict[str, Tensor]:
    """All integers that the exact forms of some layers compute with, by layer and name."""
    return {f"{name}.{key}": value for name, layer in named for key, value in layer.integers().items()}


def link(*chain: Narrow) -> None:
    """Let each layer, when it is prepared, hand on integers to the next one, which is the only one to read them."""
    for writer, reader in pairwise(chain):
        writer.reader = (reader,)
