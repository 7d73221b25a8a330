"""Pictures, and what moves in them, by kernels (`models/kernels/pictures.py`, `compensation.py`), which take rows of blocks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from models.arrays import Array
from models.kernels import compensation, pictures
from models.kernels.threads import spread
from models.presets import PICTURE, aligned
from models.stages import staged
from models.taps import BORDER, CHROMA_TAPS, LUMA_TAPS
from models.vectors import REFERENCES

LUMA, CHROMA = (np.array(taps, np.float32) for taps in (LUMA_TAPS, CHROMA_TAPS))

BLOCKS = 1 << 10
"""Blocks of a picture that are worth a thread of their own."""


@dataclass(frozen=True, eq=False)
class Luma:
    """Luma of a picture of 8 bits, held in float32."""

    samples: Array  # (H, W)

    @cached_property
    def bordered(self) -> Array:
        """With its border repeated, as bytes: (1, H + 2·BORDER, W + 2·BORDER)."""
        return bordered(self.samples[None], BORDER)


@dataclass(frozen=True)
class Picture:
    """Luma and chroma in 8-bit sample values, held in float32."""

    y: Array  # (H, W)
    u: Array  # (H/2, W/2)
    v: Array  # (H/2, W/2)

    @staticmethod
    def empty(height: int, width: int) -> "Picture":
        """One of a size in blocks, whose samples are undefined."""
        return Picture(*(np.empty((size * height, size * width), np.float32) for size in (8, 4, 4)))

    @property
    def planes(self) -> tuple[Array, Array, Array]:
        return self.y, self.u, self.v

    @cached_property
    def luma(self) -> Luma:
        """Of an 8-bit picture."""
        return Luma(self.y)

    @cached_property
    def bordered(self) -> tuple[Array, Array]:
        """Of an 8-bit picture, with its border repeated: luma as of `luma`, and chroma (2, H/2 + BORDER, W/2 + BORDER), as bytes."""
        return self.luma.bordered, bordered(np.stack([self.u, self.v]), BORDER // 2)

    def clipped(self) -> "Picture":
        """Rounded to 8 bits."""
        return Picture(*(plane.round().clip(0, 255) for plane in self.planes))


def bordered(planes: Array, border: int) -> Array:
    """Planes of 8 bits as bytes, with their border repeated: (N, H, W) -> (N, H + 2·border, W + 2·border)."""
    count, height, width = planes.shape
    out = np.empty((count, height + 2 * border, width + 2 * border), np.uint8)
    for given, wide in zip(planes, out):
        pictures.bordered(given, border, wide)
    return out


def padded(planes: Sequence[Array]) -> Picture:
    """Luma and chroma of any type, as a picture of an aligned size whose last rows and columns repeat."""
    tall, wide = map(aligned, planes[0].shape)
    sizes = (tall, wide), (tall // 2, wide // 2), (tall // 2, wide // 2)
    return Picture(*(grown(plane, height, width, np.float32) for plane, (height, width) in zip(planes, sizes)))


def grown(plane: Array, height: int, width: int, kind: type[np.generic]) -> Array:
    """A plane of another type whose last row and column repeat, up to a size."""
    (rows, columns), out = plane.shape, np.empty((height, width), kind)
    out[:rows, :columns] = plane
    out[:rows, columns:] = plane[:, -1:]
    out[rows:] = out[rows - 1]
    return out


def distortion(decoded: Picture, picture: Picture) -> float:
    """`models.quality.distortion`."""
    errors = []
    for a, b in zip(decoded.planes, picture.planes):
        difference = (a - b).ravel()
        errors.append(float(difference @ difference) / difference.size)
    return (6 * errors[0] + 2 * errors[1] + 2 * errors[2]) / 8


def _by_rows(kernel: Callable[..., None], shape: tuple[int, ...], *arguments: Any) -> None:
    """Give a kernel the rows of blocks of a picture (H, W, C), in as many threads as are worth it."""
    spread(shape[0], lambda first, last: kernel(first, last, *arguments), BLOCKS // shape[1] + 1)


def features(picture: Picture) -> Array:
    """`models.picture.to_features`, rounded to a stream: (H/8, W/8, 96)."""
    height, width = picture.y.shape
    out = np.empty((height // 8, width // 8, PICTURE), np.float32)
    _by_rows(pictures.features, out.shape, *picture.planes, out)
    return out


def released(residual: Array, detail: Array, reference: Array, release: Array) -> Picture:
    """`models.kernels.pictures.released` as a picture."""
    made = Picture.empty(*residual.shape[:2])
    _by_rows(pictures.released, residual.shape, residual, detail, reference, release, *made.planes)
    return made


def rounded(samples: Array) -> Picture:
    """`models.picture.to_planes`, rounded."""
    made = Picture.empty(*samples.shape[:2])
    pictures.planes(samples, *made.planes)
    return made


def enhanced(
    picture: Picture, parts: Sequence[Array], kernels: Array, rings: Sequence[Array], size: float, limit: float, limits: Sequence[float]
) -> Picture:
    """The end of `models.filters.Enhancer`: what `parts` make of a picture (`models.kernels.pictures.corrected`), and smoothing by kernels of luma, u and v, with their rings and limits."""
    made = Picture.empty(*parts[0].shape[:2])
    pictures.corrected(*parts, size, limit, *made.planes)
    first = 0
    for given, plane, ring, most in zip(picture.planes, made.planes, rings, limits):
        pictures.smooth(given, kernels, first, ring, most, plane)
        first += len(ring)
    return made


@staged("context")
def warp(context: Array, vectors: Array) -> Array:
    """`models.warp.warp_context`, rounded to a stream: by vectors (3, H/8, W/8)."""
    out = np.empty_like(context)
    _by_rows(pictures.warp, out.shape, context, vectors, out)
    return out


@staged("motion compensation")
def compensate(references: Sequence[tuple[Array, Array]], vectors: Array) -> Picture:
    """`models.warp.compensate` from luma and chroma with their borders (`Picture.bordered`), the newest picture first, by vectors (3, H/8, W/8)."""
    rows, columns = vectors.shape[1:]
    y, uv = (np.empty((count, side * rows, side * columns), np.float32) for count, side in ((1, 8), (2, 4)))
    luma, chroma = zip(*references)
    one, two = (_of_all_ages(luma), vectors, LUMA, BORDER, y), (_of_all_ages(chroma), vectors, CHROMA, BORDER // 2, uv)

    def some(first: int, last: int) -> None:
        compensation.luma(first, last, *one)
        compensation.chroma(first, last, *two)

    spread(rows + 2, some, BLOCKS // columns + 1)
    return Picture(y[0], *uv)


def compensate_luma(references: Sequence[Array], vectors: Array) -> Array:
    """The same of luma alone: (H, W)."""
    rows, columns = vectors.shape[1:]
    y = np.empty((1, 8 * rows, 8 * columns), np.float32)
    rest = _of_all_ages(references), vectors, LUMA, BORDER, y
    spread(rows + 2, lambda first, last: compensation.luma(first, last, *rest), BLOCKS // columns + 1)
    luma: Array = y[0]
    return luma


def _of_all_ages(references: Sequence[Array]) -> tuple[Array, ...]:
    """Planes of all ages; beyond the oldest picture it stands for the others."""
    known = tuple(references[:REFERENCES])
    return known + known[-1:] * (REFERENCES - len(known))
