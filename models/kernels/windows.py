"""Errors of the windows of blocks, a row of samples at a time: vector code, as in `lanes`, for any processor."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from models.kernels import written
from models.kernels.lanes import AT, BYTE, LANES, SHORT, WORD, emitted

SLACK = 16
"""Bytes that may be read, but do not count, behind the last of a window."""


def _weight(place: int, window: int) -> int:
    """Samples near the border of a window count less, as in `models.search`."""
    return min(2 * min(place, window - 1 - place) + 1, 8)


def window_errors(window: int, squared: bool) -> Any:
    """A function for compiled loops: the weighted sum of absolute or squared differences of two windows, from the addresses of their first samples and the bytes between rows."""
    lanes = -(-window // 16) * 16
    shorts, words = ir.VectorType(SHORT, lanes), ir.VectorType(WORD, lanes)

    @written
    def total(_, one, one_row, other, other_row):
        def emit(context, builder, __, arguments):
            one, one_row, other, other_row = arguments

            def samples(address: ir.Value, row: ir.Value, i: int) -> ir.Value:
                place = builder.add(address, builder.mul(row, ir.Constant(row.type, i)))
                pointer = builder.inttoptr(place, ir.VectorType(BYTE, lanes).as_pointer())
                return builder.zext(builder.load(pointer, align=1), shorts)

            sums = ir.Constant(words, [0] * lanes)
            for i in range(window):
                error = builder.sub(samples(one, one_row, i), samples(other, other_row, i))
                error = builder.select(builder.icmp_signed("<", error, ir.Constant(shorts, [0] * lanes)), builder.neg(error), error)
                weights = [_weight(i, window) * _weight(j, window) if j < window else 0 for j in range(lanes)]
                weighted = builder.mul(error, ir.Constant(shorts, weights))  # at most 255 · 64
                wide = builder.sext(weighted, words)
                sums = builder.add(sums, builder.mul(wide, builder.zext(error, words)) if squared else wide)
            kind = ir.FunctionType(WORD, [words])
            return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.add.v{lanes}i32"), [sums])

        return types.int32(types.intp, types.intp, types.intp, types.intp), emit

    return total


@written
def block_errors(_, now, now_plane, then, then_plane, right, row, then_row, columns, out):
    """The mean absolute errors of blocks of 4×4 side by side, of floats of which every fourth column lies side by side, in planes so many bytes apart; the others are read `right` samples further to the right."""

    def write(lanes, now, now_plane, then, then_plane, right, row, then_row, columns, out):
        builder = lanes.builder
        places = []
        for k in range(4):
            column = builder.add(right, lanes.number(k))
            other = lanes.along(then, builder.and_(column, lanes.number(3)), then_plane)
            places.append((lanes.along(now, lanes.number(k), now_plane), lanes.along(other, builder.lshr(column, lanes.number(2)), 4)))
        with cgutils.for_range(builder, builder.lshr(columns, lanes.number(4))) as loop:
            step, total = builder.mul(loop.index, lanes.number(4 * LANES)), lanes.same(0.0)
            for one, other in places:
                for i in range(4):
                    a, b = (lanes.load(lanes.along(builder.add(place, step), lanes.number(i), r)) for place, r in ((one, row), (other, then_row)))
                    error = builder.fsub(a, b)
                    total = builder.fadd(total, lanes.at_least(error, builder.fsub(lanes.same(0.0), error)))
            lanes.store(builder.fmul(total, lanes.same(1 / 16)), builder.add(out, step))

    return emitted(write, *[AT] * 9)
