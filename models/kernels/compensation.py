"""Overlapped block motion compensation, as `models.warp` does it."""

import numpy as np

from models.arrays import Array
from models.kernels import helper, kernel
from models.kernels.interpolation import window_of
from models.vectors import REFERENCES

_PICTURES = f"UniTuple(u1[:,:,::1], {REFERENCES})"


_window8, _window4 = window_of(16, 8), window_of(8, 4)


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
    band = np.zeros((parts, size, (columns + 2) * block + block), np.float32)
    room, weights = np.empty((size + count) * (size + 32), np.float32), np.empty(size, np.float32)
    for i in range(size):
        weights[i] = min(2 * i + 1, 4 * block - 1 - 2 * i)
    row = 4 * band.shape[2]
    unit = np.float32(1 / (64 * size * size))
    for r in range(max(0, first_row - 1), last_row):
        for c in range(columns + 2):
            y, x = max(0, min(rows - 1, r - 1)), max(0, min(columns - 1, c - 1))
            dy, dx = vectors[0, y, x], vectors[1, y, x]
            picture = planes[max(0, min(REFERENCES - 1, vectors[2, y, x]))]
            top = max(0, min(tall - lines, first + r * block + (dy >> shift)))
            left = max(0, min(wide - lines, first + c * block + (dx >> shift)))
            for p in range(parts):
                plane, window = picture[p, top, left:].ctypes.data, band[p, 0, c * block :].ctypes.data
                across, down = taps[dx & mask].ctypes.data, taps[dy & mask].ctypes.data
                if count == 8:
                    _window8(plane, wide, across, down, weights.ctypes.data, window, row, room.ctypes.data)
                else:
                    _window4(plane, wide, across, down, weights.ctypes.data, window, row, room.ctypes.data)
        # The upper half of the band is complete: its first line is line r·block - block - half of the picture.
        for p in range(parts):
            for i in range(block):
                y = r * block - block - half + i
                if r >= first_row and 0 <= y < height:
                    for x in range(width):
                        out[p, y, x] = band[p, i, x + block + half] * unit
            band[p, :block] = band[p, block:]
            band[p, block:] = 0


@kernel(f"void(i8, i8, {_PICTURES}, i4[:,:,::1], f4[:,::1], i8, f4[:,:,::1])")
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


@kernel(f"void(i8, i8, {_PICTURES}, i4[:,:,::1], f4[:,::1], i8, f4[:,:,::1])")
def chroma(first: int, last: int, planes: tuple[Array, ...], vectors: Array, taps: Array, border: int, out: Array) -> None:
    """The same of blocks of 4×4, with taps (8, 4)."""
    _compensate(first, last, planes, vectors, taps, border, out, 4, 4)
