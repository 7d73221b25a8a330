"""Products of bytes: what all convolutions come down to, by the processor's own instructions for them.

A product is a block of ROWS × COLUMNS sums of 32 bits, of unsigned bytes by signed ones; or of floats, of pairs of bfloat16. AMX multiplies tiles of 16 × 64
bytes; VNNI multiplies four bytes of a row by those of 16 or of 8 columns, NEON by those of 4; all other processors multiply integers of 16 bits. All sum up
exactly. See the Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2 (TDPBUSD, TDPBF16PS, VPDPBUSD), and the Arm Architecture
Reference Manual for A-profile architecture, C7.2 (SDOT).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from models.arrays import Array
from models.kernels import helper, written
from models.kernels.lanes import ADDRESS, AT, BYTE, FLOAT, SHORT, WORD, Builder, emitted
from models.kernels.processor import FORM, ROUGH

ROWS, COLUMNS = 32, 32
"""Of a product: rows and columns of sums."""
DEPTH = 64 if FORM == "amx" else COLUMNS
"""What the bytes that are summed up are a multiple of."""
ROUGH_DEPTH = 32
"""The same of numbers of bfloat16."""

NOTHING, POINTER = ir.VoidType(), BYTE.as_pointer()
LINE = 4 * COLUMNS
"""Bytes of the weights of all columns for one word, which is four bytes of a row, or two numbers; and of a row of sums."""

def _number(value: int) -> ir.Constant:
    return ir.Constant(ADDRESS, value)


def _call(builder: Builder, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), arguments)


def _tile(k: int) -> ir.Constant:
    return ir.Constant(BYTE, k)


def _at(builder: Builder, address: ir.Value, *offsets: ir.Value | int) -> ir.Value:
    """A pointer to an address plus offsets."""
    for offset in offsets:
        address = builder.add(address, _number(offset) if isinstance(offset, int) else offset)
    return builder.inttoptr(address, POINTER)


def _tiled(instruction: str) -> Callable[..., None]:
    """By AMX: tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 columns."""
    return lambda builder, *arguments: _emit_tiled(builder, f"llvm.x86.{instruction}", *arguments)


def _emit_tiled(builder: Builder, instruction: str, a: ir.Value, stride: ir.Value, weight: ir.Value, words: ir.Value, out: ir.Value) -> None:
    for k in range(4):
        _call(builder, "llvm.x86.tilezero", NOTHING, _tile(k))
    with cgutils.for_range(builder, builder.lshr(words, _number(4))) as loop:
        across, down = builder.mul(loop.index, _number(64)), builder.mul(loop.index, _number(16 * LINE))
        below = builder.mul(stride, _number(16))
        _call(builder, "llvm.x86.tileloadd64", NOTHING, _tile(4), _at(builder, a, across), stride)
        for k in (0, 1):
            _call(builder, "llvm.x86.tileloadd64", NOTHING, _tile(6 + k), _at(builder, weight, down, 64 * k), _number(LINE))
            _call(builder, instruction, NOTHING, _tile(k), _tile(4), _tile(6 + k))
        _call(builder, "llvm.x86.tileloadd64", NOTHING, _tile(5), _at(builder, a, across, below), stride)
        for k in (0, 1):
            _call(builder, instruction, NOTHING, _tile(2 + k), _tile(5), _tile(6 + k))
    for k in range(4):
        _call(builder, "llvm.x86.tilestored64", NOTHING, _tile(k), _at(builder, out, 16 * LINE * (k >> 1) + 64 * (k & 1)), _number(LINE))


def _vnni(builder: Builder, total: ir.Value, bytes_: ir.Value, weights: ir.Value) -> ir.Value:
    return _call(builder, f"llvm.x86.avx512.vpdpbusd.{32 * total.type.count}", total.type, total, bytes_, weights)


def _sdot(builder: Builder, total: ir.Value, bytes_: ir.Value, weights: ir.Value) -> ir.Value:
    """Signed bytes by signed ones. As assembly, so that it need not be among the instructions that LLVM takes the processor for having."""
    kind = ir.FunctionType(total.type, [total.type] * 3)
    return builder.asm(kind, ".arch_extension dotprod\n\tsdot $0.4s, $2.16b, $3.16b", "=w,0,w,w", [total, bytes_, weights], False)


def _pairs(builder: Builder, total: ir.Value, numbers: ir.Value, weights: ir.Value) -> ir.Value:
    """Two of bfloat16, which are the upper halves of floats."""
    lanes = total.type.count
    low, high = (ir.Constant(numbers.type, [value] * lanes) for value in (16, -1 << 16))
    kind = ir.FunctionType(total.type, [total.type] * 3)
    multiply = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{lanes}f32")
    for half in (lambda x: builder.shl(x, low), lambda x: builder.and_(x, high)):
        total = builder.call(multiply, [*(builder.bitcast(half(x), total.type) for x in (numbers, weights)), total])
    return total


def _by_words(
    lanes: int, rows: int, multiply: Callable[..., ir.Value] = _vnni, signed: bool = False, kind: ir.Type = WORD, across: int = COLUMNS
) -> Callable[..., None]:  # fmt: skip
    """By what multiplies the four bytes, or two numbers, of a word, in vectors of so many sums, so many rows and columns at a time.

    If it takes signed bytes, it gets what is 128 less, and sums begin with what that leaves out.
    """
    vector, totals, columns = ir.VectorType(WORD, lanes), ir.VectorType(kind, lanes), across // lanes
    zeros, nothing = ir.Constant(vector, [0] * lanes), ir.Constant(totals, [0] * lanes)
    middle = ir.Constant(vector, [-0x7F7F7F80] * lanes)  # of bytes that are -128

    def place(builder: Builder, address: ir.Value, kind: ir.Type = vector) -> ir.Value:
        return builder.bitcast(address, kind.as_pointer())

    def weights_of(builder: Builder, weight: ir.Value, word: ir.Value) -> list[ir.Value]:
        """Of so many columns."""
        places = [_at(builder, weight, builder.mul(word, _number(LINE)), 4 * lanes * k) for k in range(columns)]
        return [builder.load(place(builder, address), align=4) for address in places]

    def variables(builder: Builder, values: list[ir.Value]) -> list[ir.Value]:
        """That have these values now."""
        made = [cgutils.alloca_once_value(builder, nothing) for _ in values]
        for variable, value in zip(made, values):
            builder.store(value, variable)
        return made

    def emit(builder: Builder, a: ir.Value, stride: ir.Value, weight: ir.Value, words: ir.Value, out: ir.Value) -> None:
        with cgutils.for_range(builder, _number(COLUMNS // across)) as part:
            begin = builder.mul(part.index, _number(4 * across))
            go(builder, a, stride, builder.add(weight, begin), words, builder.add(out, begin))

    def go(builder: Builder, a: ir.Value, stride: ir.Value, weight: ir.Value, words: ir.Value, out: ir.Value) -> None:
        """For so many columns."""
        begin = variables(builder, [nothing] * columns)
        if signed:
            with cgutils.for_range(builder, words) as loop:
                for total, some in zip(begin, weights_of(builder, weight, loop.index)):
                    builder.store(multiply(builder, builder.load(total), middle, some), total)
        with cgutils.for_range(builder, _number(ROWS // rows)) as group:
            first = builder.mul(group.index, _number(rows))
            sums = [variables(builder, [builder.sub(nothing, builder.load(total)) if signed else nothing for total in begin]) for _ in range(rows)]
            with cgutils.for_range(builder, words) as loop:
                weights = weights_of(builder, weight, loop.index)
                for r, line in enumerate(sums):
                    offset = builder.mul(builder.add(first, _number(r)), stride)
                    word = builder.load(builder.bitcast(_at(builder, a, offset, builder.mul(loop.index, _number(4))), WORD.as_pointer()), align=1)
                    single = builder.insert_element(ir.Constant(vector, ir.Undefined), word, ir.Constant(WORD, 0))
                    wide = builder.shuffle_vector(single, ir.Constant(vector, ir.Undefined), zeros)
                    wide = builder.xor(wide, middle) if signed else wide
                    for total, some in zip(line, weights):
                        builder.store(multiply(builder, builder.load(total), wide, some), total)
            for r, line in enumerate(sums):
                offset = builder.mul(builder.add(first, _number(r)), _number(LINE))
                for k, total in enumerate(line):
                    builder.store(builder.load(total), place(builder, _at(builder, out, offset, 4 * lanes * k), totals), align=4)

    return emit


PIECE = 64
"""Words that are multiplied plainly at a time: all rows of them, widened to 16 bits, stay in the cache."""


def _plainly(builder: Builder, a: ir.Value, stride: ir.Value, weight: ir.Value, words: ir.Value, out: ir.Value) -> None:
    """By whatever LLVM finds for sums of products of 16 bits in pairs (on x86 PMADDWD): eight columns of four rows at a time, whose two pairs of a word are added at the end."""
    count, rows, columns = 16, 4, 8  # of bytes, four columns; and what is multiplied at a time
    bytes_, shorts, wide, sums_ = (ir.VectorType(kind, lanes) for kind, lanes in ((BYTE, count), (SHORT, count), (WORD, count), (WORD, count // 2)))
    line = 8 * PIECE  # bytes of a widened row
    room = builder.ptrtoint(cgutils.alloca_once(builder, ir.ArrayType(shorts, ROWS * line // 32)), ADDRESS)

    def place(kind: ir.Type, address: ir.Value, *offsets: ir.Value | int) -> ir.Value:
        return builder.bitcast(_at(builder, address, *offsets), kind.as_pointer())

    def halved(values: ir.Value) -> ir.Value:
        """Sums of neighbours."""
        half = [ir.Constant(ir.VectorType(WORD, values.type.count // 2), list(range(first, values.type.count, 2))) for first in (0, 1)]
        return builder.add(*(builder.shuffle_vector(values, values, lanes) for lanes in half))

    def widened(first: ir.Value, some: ir.Value) -> None:
        """So many words of all rows."""
        with cgutils.for_range(builder, _number(ROWS)) as row:
            given, to = builder.add(a, builder.mul(row.index, stride)), builder.add(room, builder.mul(row.index, _number(line)))
            with cgutils.for_range(builder, builder.lshr(some, _number(2))) as four:
                value = builder.load(place(bytes_, given, builder.mul(first, _number(4)), builder.mul(four.index, _number(16))), align=1)
                builder.store(builder.zext(value, shorts), place(shorts, to, builder.mul(four.index, _number(32))), align=16)

    with cgutils.for_range(builder, _number(ROWS * LINE // 32)) as each:
        builder.store(ir.Constant(sums_, [0] * 8), place(sums_, out, builder.mul(each.index, _number(32))), align=4)
    with cgutils.for_range(builder, builder.udiv(builder.add(words, _number(PIECE - 1)), _number(PIECE))) as piece:
        first = builder.mul(piece.index, _number(PIECE))
        left = builder.sub(words, first)
        some = builder.select(builder.icmp_unsigned("<", left, _number(PIECE)), left, _number(PIECE))
        widened(first, some)
        with cgutils.for_range(builder, _number(COLUMNS // columns)) as part, cgutils.for_range(builder, _number(ROWS // rows)) as group:
            begin = builder.mul(part.index, _number(4 * columns))
            totals = [[cgutils.alloca_once(builder, sums_) for _ in range(columns // 4)] for _ in range(rows)]
            for total in sum(totals, []):
                builder.store(ir.Constant(sums_, [0] * 8), total)
            with cgutils.for_range(builder, some) as word:
                deep = builder.mul(builder.add(first, word.index), _number(LINE))
                weights = [builder.sext(builder.load(place(bytes_, weight, begin, deep, count * k), align=1), shorts) for k in range(columns // 4)]
                for r, row in enumerate(totals):
                    at_word = place(ADDRESS, room, builder.mul(group.index, _number(rows * line)), builder.mul(word.index, _number(8)), line * r)
                    single = builder.insert_element(ir.Constant(ir.VectorType(ADDRESS, 4), ir.Undefined), builder.load(at_word, align=8), ir.Constant(WORD, 0))
                    same = builder.bitcast(builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(WORD, 4), [0] * 4)), shorts)
                    for total, given in zip(row, weights):
                        made = builder.mul(builder.sext(same, wide), builder.sext(given, wide))
                        builder.store(builder.add(builder.load(total), halved(made)), total)
            for r, row in enumerate(totals):
                for k, total in enumerate(row):
                    made = halved(builder.load(total))
                    to = place(made.type, out, begin, builder.mul(group.index, _number(rows * LINE)), LINE * r + count * k)
                    builder.store(builder.add(made, builder.load(to, align=4)), to, align=4)


EMITTED: dict[str, Callable[..., None]] = {
    "amx": _tiled("tdpbusd"), "vnni512": _by_words(16, 8), "vnni256": _by_words(8, 2),
    "dotprod": _by_words(4, 2, _sdot, signed=True), "plain": _plainly,
}  # fmt: skip
EMITTED_ROUGHLY: dict[str, Callable[..., None]] = {
    "amx": _tiled("tdpbf16ps"), "avx512": _by_words(16, 8, _pairs, kind=FLOAT), "avx2": _by_words(8, 4, _pairs, kind=FLOAT, across=16),
    "neon": _by_words(4, 4, _pairs, kind=FLOAT, across=16), "sse": _by_words(4, 4, _pairs, kind=FLOAT, across=8),
}  # fmt: skip
"""Of bfloat16."""


def product_in(emit: Callable[..., None]) -> Any:
    """The product in a form: a function for compiled loops, of addresses.

    It sums up `words` of four bytes, or of two numbers of bfloat16, of 32 rows, that lie `stride` bytes apart from `a` on, by weights that `packed` laid out, and writes (32, 32) sums to `out`.
    """

    @written
    def product(_, a, stride, weight, words, out):
        return emitted(lambda lanes, *arguments: emit(lanes.builder, *arguments), *[AT] * 5)

    return product


product, rough_product = product_in(EMITTED[FORM]), product_in(EMITTED_ROUGHLY[ROUGH])


@written
def _configure(_, address):
    return emitted(lambda lanes, address: _call(lanes.builder, "llvm.x86.ldtilecfg", NOTHING, lanes.builder.inttoptr(address, POINTER)), AT)


@written
def _release(_):
    return emitted(lambda lanes: _call(lanes.builder, "llvm.x86.tilerelease", NOTHING))


@helper
def scratch(size):
    """Bytes from an address on that is a multiple of 64."""
    bytes_ = np.empty(size + 64, np.uint8)
    first = -bytes_.ctypes.data & 63
    return bytes_[first : first + size]


@helper
def at(array):
    """The address of an array."""
    return array.ctypes.data


@helper
def room_for_sums():
    """Bytes for what a product gives."""
    return scratch(4 * ROWS * COLUMNS)


if FORM == "amx":

    @helper
    def begin():
        """Make tiles ready: eight of 16 rows of 64 bytes. Whoever begins must end."""
        shape = np.zeros(64, np.uint8)
        shape[0] = 1  # palette
        for tile in range(8):
            shape[16 + 2 * tile] = 64
            shape[48 + tile] = 16
        _configure(shape.ctypes.data)

    @helper
    def end():
        """Let tiles go."""
        _release()

else:

    @helper
    def begin():
        """There is nothing to make ready."""

    @helper
    def end():
        """There is nothing to let go."""


def packed(weight: Array) -> Array:
    """Signed bytes (N, K) as products take them, with zeros beyond: (N/32, K/4, 128), N rounded up, K to a multiple of DEPTH, at an address that is a multiple of 64."""
    return _in_lines(weight.astype(np.int8), DEPTH, 4)


def packed_roughly(weight: Array) -> Array:
    """The same of floats, as bfloat16 in unsigned integers of 16 bits: (N/32, K/2, 64), K rounded up to a multiple of 32."""
    bits = np.ascontiguousarray(weight, np.float32).view(np.uint32)
    return _in_lines(((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16), ROUGH_DEPTH, 2)


def _in_lines(weight: Array, depth: int, side: int) -> Array:
    """Word by word, of which each has `side` weights of all columns."""
    wide = np.zeros([-(-size // unit) * unit for size, unit in zip(weight.shape, (COLUMNS, depth))], weight.dtype)
    wide[: weight.shape[0], : weight.shape[1]] = weight
    return aligned(wide.reshape(-1, COLUMNS, wide.shape[1] // side, side).swapaxes(1, 2).reshape(len(wide) // COLUMNS, -1, COLUMNS * side))


def aligned(values: Array) -> Array:
    """The same at an address that is a multiple of 64."""
    room = np.empty(values.nbytes + 64, np.uint8)
    first = -room.ctypes.data % 64
    out: Array = room[first : first + values.nbytes].view(values.dtype).reshape(values.shape)
    out[:] = values
    return out
