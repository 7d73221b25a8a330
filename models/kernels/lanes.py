"""What is done before and after products, sixteen channels at a time: vector code that the compiler of loops does not find by itself.

Functions for compiled loops, of addresses. They go through rows, of which `stride` bytes lie between two; sums are those of
a product, 32 in a row. Streams are floats, multiples of 2^-12, or 16-bit integers in steps of 2^-12; an activation is a
byte, its distance from the smallest one, `low`. Where floats are multiplied one is a power of two, or the product has no
more than 24 bits, so that nothing depends on how it is computed.
"""

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from models.kernels import written
from models.kernels.arithmetic import LIMIT, STEPS, UNIT

Builder = Any

LANES = 16
BYTE, SHORT, WORD, ADDRESS, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()
SIZE = {BYTE: 1, SHORT: 2, WORD: 4, FLOAT: 4}
ANCHOR = 1.5 * 2.0**23
"""Near it floats are whole, so that adding it rounds; and the lower bits are those of the integer."""
SUMS = 4 * 32
"""Bytes of a row of sums."""


class Lanes:
    """Writes operations of sixteen lanes, or of another number."""

    def __init__(self, builder: Builder, count: int = LANES):
        self.builder, self.count = builder, count
        self.floats, self.words, self.shorts = (ir.VectorType(kind, count) for kind in (FLOAT, WORD, SHORT))

    def number(self, value: int) -> ir.Constant:
        return ir.Constant(ADDRESS, value)

    def along(self, address: ir.Value, index: ir.Value, stride: ir.Value | int) -> ir.Value:
        """An address `index` strides on."""
        return self.builder.add(address, self.builder.mul(index, self.number(stride) if isinstance(stride, int) else stride))

    def _pointer(self, address: ir.Value, kind: ir.Type) -> ir.Value:
        return self.builder.inttoptr(address, ir.VectorType(kind, self.count).as_pointer())

    def load(self, address: ir.Value, kind: ir.Type = FLOAT) -> ir.Value:
        """Floats; or integers, all but bytes signed, as floats."""
        value = self.builder.load(self._pointer(address, kind), align=1)
        if kind == FLOAT:
            return value
        widen = self.builder.zext if kind == BYTE else self.builder.sext
        return self.builder.sitofp(value if kind == WORD else widen(value, self.words), self.floats)

    def store(self, value: ir.Value, address: ir.Value, kind: ir.Type = FLOAT) -> None:
        """Floats; or the lower bits of floats near `ANCHOR`."""
        if kind != FLOAT:
            value = self.builder.trunc(self.builder.bitcast(value, self.words), ir.VectorType(kind, self.count))
        self.builder.store(value, self._pointer(address, kind), align=1)

    def load_rough(self, address: ir.Value) -> ir.Value:
        """Of bfloat16."""
        bits = self.builder.zext(self.builder.load(self._pointer(address, SHORT), align=1), self.words)
        return self.builder.bitcast(self.builder.shl(bits, ir.Constant(self.words, [16] * self.count)), self.floats)

    def store_rough(self, value: ir.Value, address: ir.Value) -> None:
        """As bfloat16, rounded; which way ties go does not matter."""
        bits = self.builder.add(self.builder.bitcast(value, self.words), ir.Constant(self.words, [1 << 15] * self.count))
        upper = self.builder.trunc(self.builder.lshr(bits, ir.Constant(self.words, [16] * self.count)), self.shorts)
        self.builder.store(upper, self._pointer(address, SHORT), align=1)

    def at_least(self, value: ir.Value, least: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.fcmp_ordered(">", value, least), value, least)

    def where(self, known: ir.Value, value: ir.Value) -> ir.Value:
        """The value where something else is positive, elsewhere zero."""
        return self.builder.select(self.builder.fcmp_ordered(">", known, self.same(0.0)), value, self.same(0.0))

    def same(self, value: ir.Value | float) -> ir.Value:
        """One float in all lanes."""
        if isinstance(value, float):
            return ir.Constant(self.floats, [value] * self.count)
        single = self.builder.insert_element(ir.Constant(self.floats, ir.Undefined), value, ir.Constant(WORD, 0))
        return self.builder.shuffle_vector(single, ir.Constant(self.floats, ir.Undefined), ir.Constant(self.words, [0] * self.count))

    def scaled(self, value: ir.Value, factor: ir.Value, added: ir.Value) -> ir.Value:
        """value · factor + added."""
        kind = ir.FunctionType(self.floats, [self.floats] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.fmuladd.v{self.count}f32"), [value, factor, added])

    def clamped(self, value: ir.Value, low: ir.Value, high: ir.Value) -> ir.Value:
        return self.at_least(self.builder.select(self.builder.fcmp_ordered("<", value, high), value, high), low)

    def anchored(self, value: ir.Value) -> ir.Value:
        """Rounded to the nearest, ties to even, and `ANCHOR` more."""
        return self.builder.fadd(value, self.same(ANCHOR))

    def loose(self, value: ir.Value) -> ir.Value:
        """What is anchored, as it is."""
        return self.builder.fsub(value, self.same(ANCHOR))

    def steps(self, anchored: ir.Value) -> ir.Value:
        """Steps of a stream, within what it holds; all are anchored, too large ones at least roughly."""
        return self.clamped(anchored, self.same(ANCHOR - float(LIMIT)), self.same(ANCHOR + float(LIMIT)))

    def reading(self, low: ir.Value) -> Callable[[ir.Value, ir.Value], None]:
        """What stores values as activations at an address."""
        top = self.same(self.builder.fadd(low, ir.Constant(FLOAT, 255.0)))
        bottom, anchor = self.same(low), self.same(self.builder.fsub(ir.Constant(FLOAT, ANCHOR), low))  # low is even: ties are where they were
        return lambda value, address: self.store(self.builder.fadd(self.clamped(value, bottom, top), anchor), address, BYTE)

    def walk(
        self, channels: ir.Value | int, count: ir.Value, constants: Sequence[ir.Value], places: Sequence[tuple[ir.Value, ir.Type, ir.Value | int]],
        body: Callable[..., None],
    ) -> None:  # fmt: skip
        """For every sixteen channels and each of `count` rows: `body`, given constants of the channels, and addresses in rows of a kind and stride."""
        channels = self.number(channels) if isinstance(channels, int) else channels
        with cgutils.for_range(self.builder, self.builder.lshr(channels, self.number(4))) as group:
            given = [self.load(self.along(address, group.index, 4 * LANES)) for address in constants]
            firsts = [self.along(address, group.index, LANES * SIZE[kind]) for address, kind, _ in places]
            with cgutils.for_range(self.builder, count) as row:
                body(*given, *(self.along(first, row.index, stride) for first, (_, _, stride) in zip(firsts, places)))


def emitted(write: Callable[..., None], *kinds: Any, count: int = LANES) -> Any:
    """A function for compiled loops that `write` writes, of arguments of these types, in so many lanes."""

    def emit(context: Any, builder: Builder, _: Any, arguments: Any) -> Any:
        write(Lanes(builder, count), *arguments)
        return context.get_dummy_value()

    return types.void(*kinds), emit


AT, REAL = types.intp, types.float32


@written
def give(_, sums, unit, bias, count, out, stride):
    """Sums in units, plus the bias."""

    def write(lanes, sums, unit, bias, count, out, stride):
        def body(unit, bias, total, result):
            lanes.store(lanes.scaled(lanes.load(total, WORD), unit, bias), result)

        lanes.walk(32, count, [unit, bias], [(sums, WORD, SUMS), (out, FLOAT, stride)], body)

    return emitted(write, *[AT] * 6)


@written
def hand_on(_, sums, unit, bias, low, count, out, stride):
    """The same as activations of the layer that reads them."""

    def write(lanes, sums, unit, bias, low, count, out, stride):
        read = lanes.reading(low)

        def body(unit, bias, total, activations):
            read(lanes.scaled(lanes.load(total, WORD), unit, bias), activations)

        lanes.walk(32, count, [unit, bias], [(sums, WORD, SUMS), (out, BYTE, stride)], body)

    return emitted(write, AT, AT, AT, REAL, AT, AT, AT)


@written
def add_and_read(_, sums, unit, bias, count, x, x_stride, scale, low, out, stride):
    """The same, in steps, added to a stream x of integers; and what the next layer reads of it."""

    def write(lanes, sums, unit, bias, count, x, x_stride, scale, low, out, stride):
        read = lanes.reading(low)

        def body(unit, bias, scale, total, stream, activations):
            change = lanes.anchored(lanes.scaled(lanes.load(total, WORD), unit, bias))
            value = lanes.steps(lanes.builder.fadd(change, lanes.load(stream, SHORT)))
            lanes.store(value, stream, SHORT)
            read(lanes.builder.fmul(lanes.loose(value), scale), activations)

        lanes.walk(32, count, [unit, bias, scale], [(sums, WORD, SUMS), (x, SHORT, x_stride), (out, BYTE, stride)], body)

    return emitted(write, AT, AT, AT, AT, AT, AT, AT, REAL, AT, AT)


@written
def join(_, sums, constants, step, count, out, stride):
    """Sums of upper bytes, and of lower ones, which lie behind those of all rows, each in its units plus its bias, and a bias: a stream of floats. The constants lie `step` bytes apart."""

    def write(lanes, sums, constants, step, count, out, stride):
        def body(upper, upper_bias, lower, lower_bias, bias, total, result):
            low = lanes.scaled(lanes.load(lanes.builder.add(total, lanes.number(32 * SUMS)), WORD), lower, lower_bias)
            both = lanes.builder.fadd(lanes.scaled(lanes.load(total, WORD), upper, upper_bias), low)
            value = lanes.steps(lanes.builder.fadd(lanes.anchored(both), bias))
            lanes.store(lanes.builder.fmul(lanes.loose(value), lanes.same(float(UNIT))), result)

        given = [lanes.along(constants, lanes.number(k), step) for k in range(5)]
        lanes.walk(32, count, given, [(sums, WORD, SUMS), (out, FLOAT, stride)], body)

    return emitted(write, *[AT] * 6)


@written
def scale_and_read(_, x, x_stride, channels, least, gain, count, stream, stream_stride, scale, low, out, stride):
    """What is no less than `least` of a stream, by its gains, in steps; and what the next layer reads of it."""

    def write(lanes, x, x_stride, channels, least, gain, count, stream, stream_stride, scale, low, out, stride):
        read = lanes.reading(low)
        floor = lanes.same(least)

        def body(gain, scale, given, steps, activations):
            builder = lanes.builder
            value = lanes.loose(lanes.steps(lanes.anchored(builder.fmul(lanes.load(given), lanes.same(float(STEPS))))))
            value = lanes.at_least(value, floor)
            value = lanes.steps(lanes.anchored(builder.fmul(value, gain)))
            lanes.store(value, steps, SHORT)
            read(lanes.builder.fmul(lanes.loose(value), scale), activations)

        lanes.walk(channels, count, [gain, scale], [(x, FLOAT, x_stride), (stream, SHORT, stream_stride), (out, BYTE, stride)], body)

    return emitted(write, AT, AT, AT, REAL, AT, AT, AT, AT, AT, REAL, AT, AT)


@written
def add_change(_, x, stride, channels, gain, strength, limit, count, stream, stream_stride, out):
    """What a stack gives: x, and what has changed of x · gain in its blocks, which is `stream`, by their strength; of at most ±limit."""

    def write(lanes, x, stride, channels, gain, strength, limit, count, stream, stream_stride, out):
        most = lanes.same(limit)
        least = lanes.builder.fsub(lanes.same(0.0), most)

        def body(gain, strength, given, steps, result):
            builder, value = lanes.builder, lanes.load(given)
            before = lanes.loose(lanes.steps(lanes.anchored(builder.fmul(builder.fmul(value, gain), lanes.same(float(STEPS))))))
            changed = lanes.steps(lanes.anchored(builder.fmul(builder.fsub(lanes.load(steps, SHORT), before), strength)))
            moved = builder.fadd(value, builder.fmul(lanes.loose(changed), lanes.same(float(UNIT))))
            lanes.store(lanes.clamped(moved, least, most), result)

        lanes.walk(channels, count, [gain, strength], [(x, FLOAT, stride), (stream, SHORT, stream_stride), (out, FLOAT, stride)], body)

    return emitted(write, AT, AT, AT, AT, AT, REAL, AT, AT, AT, AT)


@written
def read(_, x, x_stride, channels, count, scale, low, out, stride):
    """Floats as activations."""

    def write(lanes, x, x_stride, channels, count, scale, low, out, stride):
        read = lanes.reading(low)

        def body(scale, given, activations):
            read(lanes.builder.fmul(lanes.load(given), scale), activations)

        lanes.walk(channels, count, [scale], [(x, FLOAT, x_stride), (out, BYTE, stride)], body)

    return emitted(write, AT, AT, AT, AT, AT, REAL, AT, AT)


@written
def split(_, x, x_stride, channels, count, out, half, stride):
    """A stream's integers plus 2^15 + 2^7: lower bytes plus 128, and `half` bytes behind them upper ones plus 128."""

    def write(lanes, x, x_stride, channels, count, out, half, stride):
        def body(given, lower, upper):
            value = lanes.scaled(lanes.load(given), lanes.same(float(STEPS)), lanes.same(ANCHOR + float((1 << 15) + (1 << 7))))
            lanes.store(value, lower, BYTE)
            bits = lanes.builder.lshr(lanes.builder.bitcast(value, lanes.words), ir.Constant(lanes.words, [8] * LANES))
            lanes.store(lanes.builder.bitcast(bits, lanes.floats), upper, BYTE)

        lanes.walk(channels, count, [], [(x, FLOAT, x_stride), (out, BYTE, stride), (lanes.builder.add(out, half), BYTE, stride)], body)

    return emitted(write, *[AT] * 7)


@written
def deep(_, corner, row, channels, weight, unit, bias, low, count, out, stride):
    """A depth-wise convolution of 3×3 at `count` places side by side, as activations, of bytes from the upper left neighbour of the first on, with rows so far apart."""

    def write(lanes, corner, row, channels, weight, unit, bias, low, count, out, stride):
        builder, read = lanes.builder, lanes.reading(low)
        with cgutils.for_range(builder, builder.lshr(channels, lanes.number(4))) as group:
            some, four = builder.mul(group.index, lanes.number(LANES)), builder.mul(group.index, lanes.number(4 * LANES))
            weights = [lanes.load(builder.add(lanes.along(weight, lanes.number(4 * k), channels), four)) for k in range(9)]
            unit, bias = lanes.load(builder.add(unit, four)), lanes.load(builder.add(bias, four))
            first, to = builder.add(corner, some), builder.add(out, some)

            def column(index: ir.Value) -> list[ir.Value]:
                here = lanes.along(first, index, channels)
                return [lanes.load(lanes.along(here, lanes.number(k), row), BYTE) for k in range(3)]

            known = [cgutils.alloca_once(builder, lanes.floats) for _ in range(6)]  # of the columns to the left and in the middle
            for place, value in zip(known, column(lanes.number(0)) + column(lanes.number(1))):
                builder.store(value, place)
            with cgutils.for_range(builder, count) as loop:
                values = [builder.load(place) for place in known] + column(builder.add(loop.index, lanes.number(2)))
                total = lanes.same(0.0)
                for k, value in enumerate(values):
                    total = lanes.scaled(value, weights[3 * (k % 3) + k // 3], total)
                for place, value in zip(known, values[3:]):
                    builder.store(value, place)
                read(lanes.scaled(total, unit, bias), lanes.along(to, loop.index, stride))

    return emitted(write, AT, AT, AT, AT, AT, AT, REAL, AT, AT, AT)
