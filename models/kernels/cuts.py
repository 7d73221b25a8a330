"""What is to be seen of a picture before it is coded, for `nvc_cli.cuts`."""

import numpy as np

from models.arrays import Array
from models.kernels import kernel


@kernel("void(i8, i8, u1[:,::1], i8[::1])")
def steps(first: int, last: int, luma: Array, sums: Array) -> None:
    """Of some rows of samples (H, W), added to two sums: the absolute differences to the sample beside, and to that below, where there is one."""
    height, width = luma.shape
    for y in range(first, last):
        line, across, down = luma[y], np.int32(0), np.int32(0)
        for x in range(width - 1):
            across += abs(np.int32(line[x + 1]) - np.int32(line[x]))
        if y + 1 < height:
            below = luma[y + 1]
            for x in range(width):
                down += abs(np.int32(below[x]) - np.int32(line[x]))
        sums[0] += across
        sums[1] += down


@kernel("void(i8, i8, u1[:,::1], i8, f4[:,::1])")
def reduced(first: int, last: int, luma: Array, side: int, out: Array) -> None:
    """Some rows of a picture (H/side, W/side) of the means of squares of samples (H, W), as many as fit."""
    sums, part = np.empty(out.shape[1] * side, np.int32), np.float32(1 / side**2)
    for r in range(first, last):
        sums[:] = 0
        for y in range(r * side, (r + 1) * side):
            line = luma[y]
            for x in range(len(sums)):
                sums[x] += np.int32(line[x])
        for c in range(out.shape[1]):
            total = np.int32(0)
            for x in range(c * side, (c + 1) * side):
                total += sums[x]
            out[r, c] = np.float32(total) * part


@kernel("void(f4[:,::1], f4[:,::1], i8, i8, f4[:,::1])")
def match(picture: Array, past: Array, down: int, block: int, least: Array) -> None:
    """Lower the least errors (H/block, W/block) of the blocks of a picture (H, W) to those that they have against the past (H + 2·radius, W + 2·radius), so many rows down and at any column."""
    width = picture.shape[1]
    sums = np.empty(width, np.float32)
    part = np.float32(1 / block**2)
    for i in range(least.shape[0]):
        for right in range(past.shape[1] - width + 1):
            sums[:] = 0
            for y in range(i * block, (i + 1) * block):
                line, moved = picture[y], past[y + down, right : right + width]
                for x in range(width):
                    sums[x] += abs(moved[x] - line[x])
            for j in range(least.shape[1]):
                total = np.float32(0)
                for x in range(j * block, (j + 1) * block):
                    total += sums[x]
                least[i, j] = min(least[i, j], total * part)
