"""Samples between samples, in vector code as in `lanes`. All numbers are floats, whole and below 2^24, so that none is ever rounded unless it says so."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from models.kernels import written
from models.kernels.lanes import AT, BYTE, FLOAT, LANES, Lanes, emitted


def _taps(lanes: Lanes, address: ir.Value, count: int) -> list[ir.Value]:
    """Taps, each in all lanes."""
    pointer = lanes.builder.inttoptr(address, FLOAT.as_pointer())
    return [lanes.same(lanes.builder.load(lanes.builder.gep(pointer, [lanes.number(k)]))) for k in range(count)]


def _weighted(lanes: Lanes, taps: list[ir.Value], address: ir.Value, step: int) -> ir.Value:
    """The sum of taps times the floats at an address, and `step` bytes further on each."""
    total = lanes.same(0.0)
    for k, tap in enumerate(taps):
        total = lanes.scaled(lanes.load(lanes.builder.add(address, lanes.number(step * k))), tap, total)
    return total


@written
def between(_, line, taps, count, out):
    """Bytes between those whose weighted sums a line holds: eight taps, over 4096, to the nearest, ties to even; `count` of them, no fewer than 16."""

    def write(lanes, line, taps, count, out):
        builder = lanes.builder
        tap, last = _taps(lanes, taps, 8), builder.sub(count, lanes.number(LANES))
        read = lanes.reading(ir.Constant(FLOAT, 0.0))
        with cgutils.for_range(builder, builder.udiv(builder.add(count, lanes.number(LANES - 1)), lanes.number(LANES))) as loop:
            place = builder.mul(loop.index, lanes.number(LANES))
            place = builder.select(builder.icmp_signed("<", place, last), place, last)
            total = _weighted(lanes, tap, lanes.along(line, place, 4), 4)
            read(builder.fmul(total, lanes.same(1 / 4096)), builder.add(out, place))

    return emitted(write, *[AT] * 4)


def window_of(size: int, count: int) -> Any:
    """A function for compiled loops: a window of `size`² samples between those of a plane of bytes, by `count` taps both ways, weighted and added to floats.

    Its arguments are addresses and distances of rows in bytes: of the plane's first sample that counts, of the taps across and down, of the weights, of what
    is added to, and of room for (size + count)·(size + 32) floats. Samples are rounded once, to multiples of 1/64, ties to even.
    """
    lines, row = size + count - 1, 4 * (size + 16)

    @written
    def window(_, plane, plane_row, across, down, weights, out, out_row, room):
        def write(lanes, plane, plane_row, across, down, weights, out, out_row, room):
            builder = lanes.builder
            moved = builder.add(room, lanes.number(row * lines))
            with cgutils.for_range(builder, lanes.number(lines)) as loop:
                given, to = lanes.along(plane, loop.index, plane_row), lanes.along(room, loop.index, row)
                for first in (0, count - 1):
                    lanes.store(lanes.load(builder.add(given, lanes.number(first)), BYTE), builder.add(to, lanes.number(4 * first)))
            taps = _taps(lanes, across, count)
            with cgutils.for_range(builder, lanes.number(lines)) as loop:
                lanes.store(_weighted(lanes, taps, lanes.along(room, loop.index, row), 4), lanes.along(moved, loop.index, 4 * size))
            taps, sides = _taps(lanes, down, count), lanes.load(weights)
            with cgutils.for_range(builder, lanes.number(size)) as loop:
                total = _weighted(lanes, taps, lanes.along(moved, loop.index, 4 * size), 4 * size)
                value = lanes.loose(lanes.anchored(builder.fmul(total, lanes.same(1 / 64))))
                pointer = builder.inttoptr(lanes.along(weights, loop.index, 4), FLOAT.as_pointer())
                weight = builder.fmul(lanes.same(builder.load(pointer)), sides)
                place = lanes.along(out, loop.index, out_row)
                lanes.store(lanes.scaled(value, weight, lanes.load(place)), place)

        return emitted(write, *[AT] * 8, count=size)

    return window
