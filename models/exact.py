"""Exact arithmetic: layers that give the same numbers on every machine.

Every layer here has two forms over the same parameters. The float form is what training begins with. The exact form
computes with integers only, scaled by powers of two, so that each result is the one right integer whatever the order of
additions, the instruction set or the device; it is what streams are written and read with. Rounding is to the nearest,
ties to even, unless said otherwise. `nvc_cli/stream.md` defines all of it in integers.

- A *stream* tensor is a multiple of 2^-12 within ±8 (an integer of 16 bits).
- A `Narrow` convolution takes activations of at most ±255 and weights of at most ±127. All its sums stay below 2^24, so
  bfloat16 and float32 hardware both find the exact sum; it is then rounded to bfloat16, as fast hardware does.
- A `Wide` convolution, 1×1, takes stream tensors and weights of 16 bits, and sums them in float64.
- Gains have 8 significant bits and come from a table of 128 steps to the octave.

In training the exact form passes gradients straight through rounding, and none where a value was clamped.
"""

import math
import os
from collections.abc import Iterator
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.presets import RATES

STREAM_BITS, STREAM_LIMIT = 12, (1 << 15) - 1
"""Fractional bits of a stream tensor, and its largest integer."""
CONTEXT_LIMIT = (1 << 14) - 1
"""The largest integer of a context: so that it can be warped with weights of 10 bits."""
ACTIVATION, WEIGHT, WIDE_WEIGHT = 255, 127, (1 << 15) - 1
"""The largest activations and weights of convolutions."""
FINEST, COARSEST = 22, -24
"""Fractional bits that a convolution's weights may have."""
EXACT_SUM, WIDE_SUM = 1 << 24, 1 << 53
"""Integers below these are exact in float32 and in float64."""
OCTAVE = 128
"""Steps of a gain from one power of two to the next."""
KNOT = 16 * OCTAVE
"""The largest entry of a rate table: gains from 2^-16 to 2^16."""
TABLE_BITS = 6
"""Fractional bits of a rate table."""
MANTISSAS = tuple(round(OCTAVE * 2 ** (step / OCTAVE)) for step in range(OCTAVE))
"""128·2^(i/128): no value lies near enough to a tie for rounding to depend on the machine."""
OCTAVES = range(-10, 9)
"""Powers of two that activations are sorted by when they are observed."""
SMALL = 4096
"""Convolutions with fewer weights are computed in float32, where bfloat16 would take longer."""


class RangeError(ValueError):
    """A layer whose sums could leave the range in which they are exact."""


def _outside(values: Tensor, low: int, high: int) -> bool:
    return bool((values < low).any() or (values > high).any())


class _Round(torch.autograd.Function):
    """clamp(round(x·scale)), passing gradients of what is not clamped; `scale` is a constant."""

    @staticmethod
    def forward(ctx, x: Tensor, scale: Tensor | float, low: float, high: float) -> Tensor:
        scaled = x * scale
        out = scaled.round().clamp_(low, high)
        ctx.save_for_backward((scaled >= low - 0.5) & (scaled <= high + 0.5))
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
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

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x, which is on the grid, plus y rounded to it."""
        if not self.exact:
            return x + y
        if torch.is_grad_enabled() and y.requires_grad:
            y = rounded(y, 2.0**self.bits, -EXACT_SUM, EXACT_SUM) * 2.0**-self.bits
            return (x + y).clamp(-self.largest, self.largest)
        return (y.float() + self.anchor).sub_(self.anchor).add_(x).clamp_(-self.largest, self.largest)


class Convolution(Exact):
    """What both kinds of convolution share: float parameters, and the exponents of their integers."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        layer = nn.Conv2d(inputs, outputs, size, stride, groups=groups)  # for PyTorch's usual first values
        self.weight, self.bias = layer.weight, layer.bias
        self.stride, self.padding, self.groups = stride, (size - 1) // 2 if stride == 1 else 0, groups
        self.register_buffer("fraction", torch.zeros(outputs, dtype=torch.int8))  # bits of each output's weights
        self.prepared: tuple[Tensor | None, ...] | None = None

    @property
    def out_channels(self) -> int:
        return self.weight.shape[0]

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, 1, self.groups)

    def calibrate(self, limit: int, reads: Tensor | float = 0.0) -> None:
        """The finest weights whose integers stay within ±limit, when activations are multiples of 2^reads."""
        size = (self.weight.detach() * 2.0**reads).abs().flatten(1).amax(1).clamp(min=2.0**-24)
        bias = self.bias.detach().abs().clamp(min=1.0)  # is a multiple of the same step, and must not take the range of the sums
        self.fraction.copy_(torch.minimum((limit / size).log2().floor(), FINEST - bias.log2().ceil()))


class Narrow(Convolution):
    """A convolution of 8-bit integers, with ReLU before it if `relu`.

    Args:
        inputs, outputs, size, stride, groups: as of Conv2d; padding keeps the size of an unstrided one.
        relu: negative inputs count as zero.
    """

    backend = torch.float32
    """What exact sums are computed in; see `choose_backend`."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1, relu: bool = False):
        super().__init__(inputs, outputs, size, stride, groups)
        self.relu = relu
        self.register_buffer("reads", torch.zeros(inputs, dtype=torch.int8))  # inputs are read as multiples of 2^reads
        self.seen: Tensor | None = None  # moments of the inputs by octave, while they are observed

    def forward(self, x: Tensor) -> Tensor:
        """In float, or exactly: float32 multiples of 2^-fraction, of the precision of bfloat16 before the bias."""
        if not self.exact:
            x = F.relu(x) if self.relu else x
            if self.seen is not None:
                self._watch(x.detach().float())
            return self.convolve(x, self.weight, self.bias)
        weight, bias, read, write = self.prepared if self.prepared is not None else self._prepare()
        low = 0 if self.relu else -ACTIVATION
        a = rounded(x, read, low, ACTIVATION) if read is not None else x.round_().clamp_(low, ACTIVATION)
        total = self.convolve(a.to(self.backend), weight.to(self.backend)).bfloat16()
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
        if self.weight.numel() < SMALL:
            self.backend = torch.float32
        weight, *rest = self._prepare()
        self.prepared = (weight.to(self.backend).contiguous(memory_format=torch.channels_last), *rest)

    def feed(self, reader: "Narrow") -> None:
        """Give the result in the units in which `reader`, which is also prepared and the only one, reads it."""
        weight, bias, read, write = self.prepared
        reader_weight, reader_bias, scale, reader_write = reader.prepared
        self.prepared = weight, bias * scale, read, write * scale
        reader.prepared = reader_weight, reader_bias, None, reader_write

    def observe(self) -> None:
        """Watch the inputs of the float form from now on."""
        self.seen = torch.zeros(3, len(OCTAVES), len(self.reads), dtype=torch.float64, device=self.reads.device)

    def _watch(self, x: Tensor) -> None:
        """Add up, for every octave and channel, the count, the sum and the sum of squares of |x| (B, C, H, W)."""
        x = x.abs()
        octave = torch.frexp(x).exponent.clamp(OCTAVES[0], OCTAVES[-1]) - OCTAVES[0]  # |x| lies from 2^(octave - 1) to 2^octave
        channels = x.shape[1]
        place = (octave * channels + torch.arange(channels, device=x.device)[:, None, None]).flatten()
        for sums, values in zip(self.seen, (x > 0, x, x.double().square())):
            sums += torch.bincount(place, values.double().flatten(), sums.numel()).view_as(sums)

    def settle(self) -> None:
        """Choose the exponents of the inputs: those with the least squared error of rounding and clamping what was seen."""
        count, total, squares = self.seen
        errors = []
        for exponent in OCTAVES:  # the largest activation is taken for 2^exponent, so the step is 2^(exponent - 8)
            above = torch.tensor([octave > exponent for octave in OCTAVES], device=count.device)
            clamped = squares[above].sum(0) - 2 * 2.0**exponent * total[above].sum(0) + 4.0**exponent * count[above].sum(0)
            errors.append(clamped + count[~above].sum(0) * 4.0 ** (exponent - 8) / 12)
        best = OCTAVES[0] + torch.stack(errors).argmin(0)
        # Channels that were hardly seen may well be needed: none gets less than a part of the range that others need.
        self.reads.copy_(torch.maximum(best, best.max() - 3) - 8)
        self.seen = None

    def settle_weights(self) -> None:
        """Choose the exponents of the weights, after those of the inputs."""
        self.calibrate(WEIGHT, self._absorbed(self.reads.float()))

    def integers(self) -> dict[str, Tensor]:
        weight, bias, _, write = self._prepare()
        bias = (bias / write).flatten().int()
        return {"weight": weight.to(torch.int8), "bias": bias, "reads": self.reads.clone(), "fraction": self.fraction.clone()}

    @torch.no_grad()
    def restore(self, integers: dict[str, Tensor]) -> None:
        weight, bias = integers["weight"].float(), integers["bias"].float()
        total = weight.abs().sum((1, 2, 3)) * ACTIVATION
        if (total + bias.abs() >= EXACT_SUM).any() or weight.abs().max() > WEIGHT or _outside(integers["fraction"], COARSEST, FINEST):
            raise RangeError("sums of a layer could reach 2^24")
        if _outside(integers["reads"], COARSEST, -COARSEST):
            raise RangeError("exponents of a layer are out of range")
        for name in ("reads", "fraction"):
            getattr(self, name).copy_(integers[name])
        fraction = self.fraction.float()
        self.weight.copy_(weight * torch.exp2(-self._absorbed(self.reads.float()) - fraction[:, None, None, None]))
        self.bias.copy_(bias * torch.exp2(-fraction))


class Wide(Convolution):
    """A 1×1 convolution of stream tensors with weights of 16 bits, for what a picture passes through."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.grid = Grid()

    def forward(self, x: Tensor) -> Tensor:
        """In float, or exactly: a stream tensor."""
        if not self.exact:
            return self.convolve(x, self.weight, self.bias)
        if torch.is_grad_enabled():
            weight, bias = self._prepare()
            with torch.autocast(x.device.type, enabled=False):
                return self.grid(self.grid(self.convolve(x.float(), weight)) + bias)
        matrix, bias, unit = self.prepared if self.prepared is not None else self._matrix()
        batch, channels, height, width = x.shape
        total = x.permute(0, 2, 3, 1).reshape(-1, channels).double() @ matrix
        total = total.round_().float().view(batch, height, width, -1).permute(0, 3, 1, 2)
        return torch.addcmul(bias, total, unit).clamp_(-self.grid.largest, self.grid.largest)

    def _prepare(self) -> tuple[Tensor, Tensor]:
        fraction = torch.exp2(self.fraction.float())[:, None, None, None]
        bias = rounded(self.bias, 2.0**STREAM_BITS, -STREAM_LIMIT, STREAM_LIMIT) * 2.0**-STREAM_BITS
        return rounded(self.weight, fraction, -WIDE_WEIGHT, WIDE_WEIGHT) / fraction, bias[:, None, None]

    def _matrix(self) -> tuple[Tensor, Tensor, Tensor]:
        """Weights in float64 that give sums in units of stream tensors, the bias, and that unit."""
        weight, bias = self._prepare()
        matrix = weight.flatten(1).T.double() * 2.0**STREAM_BITS
        return matrix.contiguous(), bias, torch.full_like(bias, 2.0**-STREAM_BITS)

    def prepare(self) -> None:
        self.prepared = self._matrix()

    def settle_weights(self) -> None:
        self.calibrate(WIDE_WEIGHT)

    def integers(self) -> dict[str, Tensor]:
        weight, bias = self._prepare()
        weight = weight * torch.exp2(self.fraction.float())[:, None, None, None]
        bias = (bias * 2.0**STREAM_BITS).flatten()
        return {"weight": weight.to(torch.int16), "bias": bias.int(), "fraction": self.fraction.clone()}

    @torch.no_grad()
    def restore(self, integers: dict[str, Tensor]) -> None:
        weight = integers["weight"].double()
        if (weight.abs().sum((1, 2, 3)) * STREAM_LIMIT >= WIDE_SUM).any() or _outside(integers["fraction"], COARSEST, FINEST):
            raise RangeError("sums of a layer could reach 2^53")
        self.fraction.copy_(integers["fraction"])
        self.weight.copy_(weight * torch.exp2(-self.fraction.double())[:, None, None, None])
        self.bias.copy_(integers["bias"] * 2.0**-STREAM_BITS)


class RateTable(Exact):
    """A learned vector for every rate point: eight steps of --qp as knots, linear in between.

    Args:
        channels: length of the vector.
        first, last: initial value at rate 0 and at rate 64.
    """

    KNOTS = RATES // 8 + 1
    steps = float(1 << TABLE_BITS)  # of one unit, in the exact form

    def __init__(self, channels: int, first: float = 0.0, last: float = 0.0):
        super().__init__()
        line = torch.linspace(first, last, self.KNOTS)
        self.knots = nn.Parameter(line[:, None].repeat(1, channels))
        self.prepared: Tensor | None = None  # (64, C, 1, 1)

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
        low = place.floor().clamp(0, self.KNOTS - 2).long()
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
        mantissas = torch.tensor(MANTISSAS, device=step.device, dtype=torch.float32) / OCTAVE
        gain = torch.ldexp(mantissas[step % OCTAVE], torch.div(step, OCTAVE, rounding_mode="floor"))
        return gain if not logarithm.requires_grad else gain * (1 + logarithm - logarithm.detach())

    def forward(self, x: Tensor, rate: Tensor) -> Tensor:
        """Scale the channels of x (B, C, H, W); a bfloat16 activation is not promoted to float32."""
        vector = self.vector(rate)
        return self.grid(x * vector) if self.exact else x * vector.to(x.dtype)


def layers(module: nn.Module, kind: type = Exact) -> Iterator[tuple[str, Exact]]:
    """All layers of a kind, by name."""
    return ((name, layer) for name, layer in module.named_modules() if isinstance(layer, kind))


def choose_backend(device: torch.device) -> torch.dtype:
    """bfloat16 where it is exact and faster on this machine, else float32; NVC_BACKEND in the environment overrides it.

    Raises:
        ValueError: NVC_BACKEND names another type.
    """
    names = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    if forced := os.environ.get("NVC_BACKEND"):
        if forced not in names:
            raise ValueError(f"NVC_BACKEND is {forced!r}, which is none of {', '.join(names)}; correct or unset it")
        return names[forced]
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(-ACTIVATION, ACTIVATION + 1, (1, 96, 32, 32), generator=generator).to(device).to(memory_format=torch.channels_last)
    w = torch.randint(-WEIGHT, WEIGHT + 1, (192, 96, 1, 1), generator=generator).to(device).to(memory_format=torch.channels_last)
    expected = F.conv2d(x.double(), w.double()).bfloat16()

    def attempt(kind: torch.dtype) -> float:
        a, b = x.to(kind), w.to(kind)
        times = []
        for _ in range(6):
            begin = perf_counter()
            total = F.conv2d(a, b).bfloat16()
            right = torch.equal(total, expected)  # waits for the device, too
            times.append(perf_counter() - begin)
        return min(times) if right else math.inf

    with torch.inference_mode():
        return min(names.values(), key=attempt)
