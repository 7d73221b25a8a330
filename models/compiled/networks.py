"""The networks of a decoder, from their integers; in PyTorch they are in `models/latent.py`, `intra.py`, `inter.py` and `motion.py`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.arrays import Array
from models.compiled import pictures, strips
from models.compiled.layers import Gain, Integers, Narrow, Table, Wide
from models.compiled.pictures import Picture
from models.entropy import TOO_MANY, SymbolDecoder, SymbolSink
from models.integers import CONTEXT_LIMIT, STREAM_BITS, STREAM_LIMIT, VALUE_BITS, VALUE_LIMIT
from models.kernels import coding
from models.kernels.threads import spread
from models.presets import PICTURE, RATES, Preset
from models.pyramid import LEVELS, order
from models.stages import staged
from models.steps import MOST_SYMBOLS, CodedStep, Estimate
from models.tables import FIRST, SCALES, SKIP, STEP

Refine = Callable[[Array, Array, Array], Array]
"""Symbols (H/16, W/16, N), their means, and the tables that they are coded with -> better symbols."""

HYPER_ALIGN = 4
"""z lies on a grid four times coarser than y's."""

LIMIT = 1023
"""The encoder's largest symbol."""

SYMBOLS = 1 << 15
"""Symbols of y that are worth a thread of their own."""

EXPECTED = 1 << 17
"""What is expected of y that is worth one."""

SIDE = 16
"""Channels that an estimator of vectors sees of the context."""

STREAM = STREAM_LIMIT * 2.0**-STREAM_BITS
CONTEXT = CONTEXT_LIMIT * 2.0**-STREAM_BITS
VALUE = VALUE_LIMIT * 2.0**-VALUE_BITS


def clamped(x: Array, largest: float) -> Array:
    """Within ±largest."""
    return x.clip(np.float32(-largest), np.float32(largest))


def table_of(scale: Array) -> Array:
    """The table of frequencies that a logarithm of a scale stands for, int32; see `models.bits.scale_index`."""
    table: Array = ((scale - FIRST) / STEP).round().clip(0, SCALES - 1).astype(np.int32)
    return table


def shuffled(x: Array) -> Array:
    """Every four channels become a square of 2×2: (H, W, 4·C) -> (2·H, 2·W, C)."""
    height, width, channels = x.shape
    return np.ascontiguousarray(x.reshape(height, width, channels // 4, 2, 2).transpose(0, 3, 1, 4, 2)).reshape(2 * height, 2 * width, -1)


def blocks(integers: Integers, names: Sequence[str], channels: int) -> strips.Blocks:
    """`models.blocks.Block`, some in a row."""
    half, parts = channels // 2, []
    for name in names:
        narrow = Narrow(integers, f"{name}.narrow", channels, half)
        spatial = Narrow(integers, f"{name}.spatial", half, half, 3, groups=half, relu=True)
        widen = Narrow(integers, f"{name}.widen", half, channels)
        expand = Narrow(integers, f"{name}.expand", channels, 2 * channels)
        contract = Narrow(integers, f"{name}.contract", 2 * channels, channels, relu=True)
        parts.append((
            narrow.from_steps, narrow.to_layer(spatial), spatial.to_layer(widen), widen.to_steps, expand.from_steps, expand.to_layer(contract), contract.to_steps
        ))  # fmt: skip
    return strips.Blocks(*map(strips.together, zip(*parts)))


class Stack:
    """`models.blocks.Stack`: (H, W, C) -> (H, W, C)."""

    def __init__(self, integers: Integers, name: str, channels: int, count: int, largest: float = STREAM):
        self.gain, self.strength = (Gain(integers, f"{name}.{gain}", channels) for gain in ("gain", "strength"))
        self.blocks = blocks(integers, [f"{name}.body.{k}" for k in range(count)], channels)
        self.largest = largest

    def __call__(self, x: Array, rate: int) -> Array:
        return strips.stack(x, self.gain(rate), self.strength(rate), self.blocks, self.largest)


@dataclass(frozen=True)
class Prior:
    """What is known of y before it is decoded, in units of the quantisation step."""

    mean: Array  # (H/16, W/16, N)
    tables: Array  # (H/16, W/16, N) uint8, of symbols


class Latent:
    """`models.latent.Latent`: what is known of y, and y itself."""

    def __init__(self, integers: Integers, name: str, preset: Preset, context: int):
        n, side, width = preset.latent, preset.side, preset.prior
        self.step, self.unstep = (Gain(integers, f"{name}.{gain}", n) for gain in ("step", "unstep"))
        self.hyper_scale, self.scale_offset = Table(integers, f"{name}.hyper_scale", preset.hyper), Table(integers, f"{name}.scale_offset", n)
        self.hyper_decoder = (
            Narrow(integers, f"{name}.hyper_decoder.0.0", preset.hyper, 4 * 64),
            Narrow(integers, f"{name}.hyper_decoder.1.0", 64, 4 * side, relu=True),
        )
        self.temporal = Narrow(integers, f"{name}.temporal", context, side, 2) if context else None
        self.fuse = Narrow(integers, f"{name}.fuse", 2 * side if context else side, width, relu=True)
        self.fuse_gain = Gain(integers, f"{name}.fuse_gain", width)
        self.refine = blocks(integers, [f"{name}.refine"], width)
        self.parameters_out = Narrow(integers, f"{name}.parameters_out", width, 2 * n)

    @staged("prior")
    def prior(self, z: Array, context: Array | None, rate: int, height: int, width: int) -> Prior:
        """Of y (height, width, N) from decoded z (H/64, W/64, Z) and the temporal context (H/8, W/8, C)."""
        for layer in self.hyper_decoder:
            z = shuffled(layer(z))
        parts = [np.ascontiguousarray(z[:height, :width])]
        if self.temporal and context is not None:
            parts.append(self.temporal(context))
        fused = self.fuse(*parts)
        refined, out = strips.through_blocks(fused, self.fuse_gain(rate), self.refine), self.parameters_out
        return Prior(*strips.prior(refined, out.from_numbers, out.to_numbers, self.step(rate), self.scale_offset(rate), VALUE))

    @staged("latent")
    def encode(self, y: Array, z: Array, context: Array | None, rate: int, coder: SymbolSink, refine: Refine | None = None) -> Array:
        """Write z (H/64, W/64, Z), not yet quantised, and y (H/16, W/16, N) of one frame, whose symbols are refined if need be; returns the ŷ that `decode` will return."""
        z = clamped(z.round(), LIMIT)
        coder.write(z.transpose(2, 0, 1), self._hyper_tables(z.shape[0], z.shape[1], rate))
        return self.write(y, self.prior(z, context, rate, *y.shape[:2]), rate, coder, refine)

    def _hyper_tables(self, height: int, width: int, rate: int) -> Array:
        """Those that z is coded with, channel by channel: (Z, height, width)."""
        table = table_of(5 * self.hyper_scale(rate))
        return table.repeat(height * width).reshape(-1, height, width)

    @staged("latent")
    def decode(self, context: Array | None, rate: int, height: int, width: int, coder: SymbolDecoder) -> Array:
        """Read z and y of one frame, its last symbols; returns ŷ (height, width, N).

        Raises:
            ValueError: there are more symbols than a frame can have, or more or less than these.
        """
        z = coder.take(self._hyper_tables(-(-height // HYPER_ALIGN), -(-width // HYPER_ALIGN), rate)).astype(np.float32)
        latent = self.read(self.prior(np.ascontiguousarray(z.transpose(1, 2, 0)), context, rate, height, width), rate, coder)
        coder.finish()
        return latent

    @staged("entropy coding")
    def read(self, prior: Prior, rate: int, coder: SymbolDecoder) -> Array:
        """Read y; returns ŷ."""
        mean, tables, unstep = strips.rows(prior.mean), strips.rows(prior.tables), self.unstep(rate)
        latent, turned = np.empty_like(mean), np.zeros(mean.size + -mean.size % 8, np.uint8)
        by_channel = turned[: mean.size].reshape(mean.shape[::-1])
        spread(len(mean), lambda first, last: coding.expect(first, last, mean, tables, unstep, VALUE, by_channel, latent), EXPECTED // len(unstep) + 1)
        if not coding.read_latent(*coder.source, mean, unstep, VALUE, turned, latent):
            raise ValueError(TOO_MANY)
        return latent.reshape(prior.mean.shape)

    def write(self, y: Array, prior: Prior, rate: int, coder: SymbolSink, refine: Refine | None = None) -> Array:
        """Write y (H/16, W/16, N), its symbols refined if need be; returns ŷ."""
        if refine:
            step = self.step(rate)
            nearest = np.subtract(y * step, prior.mean).round()
            first = np.where(prior.tables >= SKIP, clamped(nearest, LIMIT), np.float32(0))
            y = (clamped(refine(first, prior.mean, prior.tables.astype(np.int32)).astype(np.float32), LIMIT) + prior.mean) / step  # what rounds to these symbols
        latent, (symbols, indexes) = np.empty_like(y), (np.empty(y.size, np.int32) for _ in range(2))
        given = strips.rows(y), strips.rows(prior.mean), strips.rows(prior.tables), self.step(rate), self.unstep(rate)
        places = len(given[0])
        parts: dict[int, tuple[Array, Array]] = {}

        def some(first: int, last: int) -> None:
            """Channels, whose symbols follow one another."""
            own = slice(first * places, last * places)
            count = coding.latent_symbols(first, last, *given, VALUE, LIMIT, symbols[own], indexes[own], strips.rows(latent))
            parts[first] = symbols[own][:count], indexes[own][:count]

        spread(y.shape[2], some, SYMBOLS // places + 1)
        coder.write(*map(np.concatenate, zip(*(parts[first] for first in sorted(parts)))))  # one group, since its escapes follow it
        return latent


class Intra:
    """`models.intra.Intra`, from ŷ on."""

    def __init__(self, integers: Integers, preset: Preset):
        width, n = preset.intra_context, preset.latent
        self.latent = Latent(integers, "intra.latent", preset, 0)
        self.from_latent, self.detail = (Wide(integers, f"intra.{name}.0", n, 4 * c, shuffles=True) for name, c in (("from_latent", width), ("detail", PICTURE)))
        self.decoder = Stack(integers, "intra.decoder", width, preset.intra_blocks)
        self.to_context = Wide(integers, "intra.to_context", width, preset.context)
        self.head = Stack(integers, "intra.head", preset.context, 1)
        self.leave = Wide(integers, "intra.leave", preset.context, PICTURE)

    @staged("keyframe network")
    def synthesise(self, latent: Array, rate: int) -> tuple[Array, Array]:
        """ŷ (H/16, W/16, N) -> c (H/8, W/8, C), and detail that passes it by (H/8, W/8, 96)."""
        return clamped(self.to_context(self.decoder(self.from_latent(latent), rate)), CONTEXT), self.detail(latent)

    @staged("keyframe network")
    def picture(self, context: Array, detail: Array, rate: int) -> Picture:
        """c and detail -> a picture of 8 bits."""
        return pictures.rounded(clamped(self.leave(self.head(context, rate)) + detail, STREAM))


class Inter:
    """`models.inter.Inter`, what a decoder has of it."""

    def __init__(self, integers: Integers, preset: Preset):
        c, n = preset.context, preset.latent
        self.refresh = Wide(integers, "inter.refresh", PICTURE, c)
        self.enter = Wide(integers, "inter.enter", PICTURE + c, c)
        self.context = Stack(integers, "inter.context", c, preset.context_blocks)
        self.latent = Latent(integers, "inter.latent", preset, c)
        self.from_latent, self.detail = (Wide(integers, f"inter.{name}.0", n, 4 * w, shuffles=True) for name, w in (("from_latent", c), ("detail", PICTURE)))
        self.merge = Wide(integers, "inter.merge", 2 * c, c)
        self.decoder = Stack(integers, "inter.decoder", c, preset.decoder_blocks)
        self.filter = Stack(integers, "inter.filter.stack", c, preset.filter_blocks, CONTEXT)
        self.head = Stack(integers, "inter.head", c, 1)
        self.residual = Wide(integers, "inter.residual", c, PICTURE)
        self.release = Narrow(integers, "inter.release", c, PICTURE)

    @staged("context")
    def predict(self, reference: Array, memory: Array, rate: int) -> Array:
        """Warped picture (H/8, W/8, 96) and warped context (H/8, W/8, C) -> temporal context p (H/8, W/8, C)."""
        return self.context(self.enter(reference, memory), rate)

    @staged("synthesis")
    def synthesise(self, latent: Array, context: Array, rate: int) -> tuple[Array, Array]:
        """ŷ and p -> c (H/8, W/8, C), before the in-loop filter, and detail that passes it by (H/8, W/8, 96)."""
        return self.decoder(self.merge(self.from_latent(latent), context), rate), self.detail(latent)

    @staged("in-loop filter")
    def filtered(self, context: Array, switch: bool, rate: int) -> Array:
        """c -> c̃."""
        return self.filter(context, rate) if switch else clamped(context, CONTEXT)

    @staged("reconstruction")
    def picture(self, context: Array, detail: Array, reference: Array, rate: int) -> Picture:
        """c̃, detail and the warped picture -> a picture of 8 bits."""
        x = self.head(context, rate)
        return pictures.released(self.residual(x), detail, reference, self.release(x))


class Motion:
    """`models.motion.Motion`."""

    def __init__(self, integers: Integers, context: int):
        self.side = Narrow(integers, "motion.side", context, SIDE)
        self.estimators = [_estimator(integers, f"motion.estimators.{k}") for k in range(1 + 2 * (len(LEVELS) - 1))]

    def __deepcopy__(self, _: dict[int, Any]) -> "Motion":
        """Itself, as it never changes."""
        return self

    def coded_steps(self, field: Array, previous: Array, memory: Array, rate: int) -> Iterator[CodedStep]:
        """The steps of coding a field (3, h, w), by the context before (H/8, W/8, C); whoever decodes fills it in between."""
        return self.steps(field, previous, self.side(memory), rate)

    @staged("vectors")
    def encode(self, field: Array, previous: Array, memory: Array, rate: int, coder: SymbolSink, steps: Sequence[CodedStep] = ()) -> None:
        """Write the field of one frame; steps, if they are known, are not computed again."""
        for step in steps or self.coded_steps(field, previous, memory, rate):
            step.write(coder)

    def steps(self, field: Array, previous: Array, side: Array, rate: int) -> Iterator[CodedStep]:
        """The steps of coding a field (3, h, w); whoever decodes fills it in between. `side` is what the layer of this name says of the context before."""
        seen = np.maximum(strips.rows(side), 0)
        quality = np.float32(rate) / np.float32(RATES) - np.float32(0.5)
        for cells in order(*field.shape[1:]):
            yield CodedStep(cells, field.reshape(3, -1), previous.reshape(3, -1), Estimate(seen, quality, self.estimators[cells.kind]))

    @staged("vectors")
    def decode(self, previous: Array, memory: Array, rate: int, coder: SymbolDecoder) -> Array:
        """Read the field of one frame: (3, h, w) int32.

        Raises:
            ValueError: there are more symbols than a frame can have.
        """
        field = np.zeros_like(previous)
        for step in self.coded_steps(field, previous, memory, rate):
            step.read(coder)
        return field


def _estimator(integers: Integers, name: str) -> tuple[Any, ...]:
    """As `models.kernels.vectors.foretell` takes it: how the first layer reads, and all layers."""
    first, second, third = (
        Narrow(integers, f"{name}.{k}", inputs, outputs, relu=k > 0) for k, (inputs, outputs) in enumerate(((17 + SIDE, 32), (32, 32), (32, MOST_SYMBOLS)))
    )
    return first.from_numbers, first.to_layer(second), second.to_layer(third), third.to_numbers
