"""Overlapped block motion compensation, as `models.warp` does it."""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.vectors import REFERENCES

_PICTURES = f"UniTuple(u1[:,:,::1], {REFERENCES})"


@helper
def _across8(plane, top, left, taps, lines, out):
    """Lines of a window of 8×8 blocks, interpolated between columns."""
    t0, t1, t2, t3, t4, t5, t6, t7 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5], taps[6], taps[7]
    for i in range(lines):
        s = plane[top + i, left : left + 23]
        if t3 == 64:
            for j in range(16):
                out[i, j] = np.int32(64) * s[j + 3]
        else:
            for j in range(16):
                out[i, j] = (
                    t0 * s[j] + t1 * s[j + 1] + t2 * s[j + 2] + t3 * s[j + 3] + t4 * s[j + 4] + t5 * s[j + 5] + t6 * s[j + 6] + t7 * s[j + 7]
                )  # fmt: skip


@helper
def _down8(across, taps, weights, out):
    """The window itself, interpolated between rows and weighted, added to `out` (16, 16)."""
    t0, t1, t2, t3, t4, t5, t6, t7 = taps[0], taps[1], taps[2], taps[3], taps[4], taps[5], taps[6], taps[7]
    for i in range(16):
        weight, line = weights[i], out[i]
        for j in range(16):
            v = (
                t0 * across[i, j] + t1 * across[i + 1, j] + t2 * across[i + 2, j] + t3 * across[i + 3, j]
                + t4 * across[i + 4, j] + t5 * across[i + 5, j] + t6 * across[i + 6, j] + t7 * across[i + 7, j]
            )  # fmt: skip
            line[j] += ((v + 31 + ((v >> 6) & 1)) >> 6) * weight * weights[j]


@helper
def _across4(plane, top, left, taps, lines, out):
    """`_across8` for 4×4 blocks, with four taps."""
    t0, t1, t2, t3 = taps[0], taps[1], taps[2], taps[3]
    for i in range(lines):
        s = plane[top + i, left : left + 11]
        for j in range(8):
            out[i, j] = t0 * s[j] + t1 * s[j + 1] + t2 * s[j + 2] + t3 * s[j + 3]


@helper
def _down4(across, taps, weights, out):
    """`_down8` for these."""
    t0, t1, t2, t3 = taps[0], taps[1], taps[2], taps[3]
    for i in range(8):
        weight, line = weights[i], out[i]
        for j in range(8):
            v = t0 * across[i, j] + t1 * across[i + 1, j] + t2 * across[i + 2, j] + t3 * across[i + 3, j]
            line[j] += ((v + 31 + ((v >> 6) & 1)) >> 6) * weight * weights[j]


@helper
def _compensate(first_row, last_row, planes, vectors, taps, border, out, block, count):
    """See `luma` and `chroma`. Windows of a ring of blocks around the picture come first and last; a band is what two rows of them share."""
    parts, tall, wide = planes[0].shape
    _, rows, columns = vectors.shape
    height, width = out.shape[1:]
    half, size, before = block // 2, 2 * block, count // 2 - 1
    lines = size + count - 1
    shift = 2 if count == 8 else 3  # a whole sample is 2^shift units of the vectors
    mask = (1 << shift) - 1
    first = border - block - half - before
    band = np.zeros((parts, size, (columns + 2) * block + block), np.int32)
    across, weights = np.empty((lines, size), np.int32), np.empty(size, np.int32)
    for i in range(size):
        weights[i] = min(2 * i + 1, 4 * block - 1 - 2 * i)
    unit = np.float32(1 / (64 * size * size))
    for r in range(max(0, first_row - 1), last_row):
        for c in range(columns + 2):
            y, x = max(0, min(rows - 1, r - 1)), max(0, min(columns - 1, c - 1))
            dy, dx = vectors[0, y, x], vectors[1, y, x]
            picture = planes[max(0, min(REFERENCES - 1, vectors[2, y, x]))]
            top = max(0, min(tall - lines, first + r * block + (dy >> shift)))
            left = max(0, min(wide - lines, first + c * block + (dx >> shift)))
            for p in range(parts):
                window = band[p, :, c * block : c * block + size]
                if count == 8:
                    _across8(picture[p], top, left, taps[dx & mask], lines, across)
                    _down8(across, taps[dy & mask], weights, window)
                else:
                    _across4(picture[p], top, left, taps[dx & mask], lines, across)
                    _down4(across, taps[dy & mask], weights, window)
        # The upper half of the band is complete: its first line is line r·block - block - half of the picture.
        for p in range(parts):
            for i in range(block):
                y = r * block - block - half + i
                if r >= first_row and 0 <= y < height:
                    for x in range(width):
                        out[p, y, x] = np.float32(band[p, i, x + block + half]) * unit
            band[p, :block] = band[p, block:]
            band[p, block:] = 0


@kernel(f"void(i8, i8, {_PICTURES}, i4[:,:,::1], i4[:,::1], i8, f4[:,:,::1])")
def luma(first: int, last: int, planes: tuple[Array, ...], vectors: Array, taps: Array, border: int, out: Array) -> None:
    """Blocks of 8×8, predicted from pictures of several ages.

    Args:
        first, last: which rows of the windows, of which there is one more above and below the blocks; they fill what lies half a block higher.
        planes: of each age (P, H + 2·border, W + 2·border), with their borders.
        vectors: (3, H/8, W/8).
        taps: of the interpolation, (4, 8).
        out: (P, H, W), in multiples of 2^-14.
    """
    _compensate(first, last, planes, vectors, taps, border, out, 8, 8)


@kernel(f"void(i8, i8, {_PICTURES}, i4[:,:,::1], i4[:,::1], i8, f4[:,:,::1])")
def chroma(first: int, last: int, planes: tuple[Array, ...], vectors: Array, taps: Array, border: int, out: Array) -> None:
    """The same of blocks of 4×4, with taps (8, 4)."""
    _compensate(first, last, planes, vectors, taps, border, out, 4, 4)
