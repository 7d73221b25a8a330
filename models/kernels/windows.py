"""Errors of the windows of blocks, a row of samples at a time: vector code, as in `lanes`, for any processor."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from models.kernels import written
from models.kernels.lanes import BYTE, SHORT, WORD

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
