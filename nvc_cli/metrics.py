"""Objective quality (PSNR) and the Bjøntegaard delta rate between two rate-distortion curves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nvc_cli.video import Frame

MAX_PSNR = 100.0  # dB, given to identical planes so that means stay finite
MIN_POINTS = 2  # fewer points than this are no curve


@dataclass(frozen=True)
class Psnr:
    """PSNR in dB of the three planes of 4:2:0 pictures."""

    y: float
    u: float
    v: float

    @property
    def yuv(self) -> float:
        """The weighted figure that everything here is compared by: (6 Y + U + V) / 8."""
        return (6 * self.y + self.u + self.v) / 8


def plane_psnr(reference: np.ndarray, decoded: np.ndarray) -> float:
    """PSNR in dB between two uint8 planes (H, W), at most `MAX_PSNR`. ValueError if their shapes differ."""
    if reference.shape != decoded.shape:
        raise ValueError(f"planes of different shapes: {reference.shape} and {decoded.shape}")
    difference = reference.astype(np.int32) - decoded
    squared_error = float(np.mean(difference * difference))
    if squared_error == 0:
        return MAX_PSNR
    return min(MAX_PSNR, 10 * float(np.log10(255**2 / squared_error)))


def frame_psnr(reference: Frame, decoded: Frame) -> Psnr:
    """PSNR of one decoded frame. ValueError if the two differ in size."""
    return Psnr(*map(plane_psnr, reference.planes, decoded.planes))


def sequence_psnr(reference: Iterable[Frame], decoded: Iterable[Frame]) -> Psnr:
    """PSNR of a sequence: the mean of its frames' PSNR in dB. ValueError as from `frame_psnrs`."""
    return mean_psnr(frame_psnrs(reference, decoded))


def mean_psnr(frames: Sequence[Psnr]) -> Psnr:
    """The mean over one or more frames, in dB."""
    return Psnr(*(float(np.mean([getattr(frame, plane) for frame in frames])) for plane in "yuv"))


def frame_psnrs(reference: Iterable[Frame], decoded: Iterable[Frame]) -> list[Psnr]:
    """PSNR of every frame of a sequence. ValueError if the sequences differ in length or picture size, or are empty."""
    frames: list[Psnr] = []
    for a, b in zip_longest(reference, decoded):
        if a is None or b is None:
            raise ValueError(f"sequences of different lengths: one ends after {len(frames)} frames")
        frames.append(frame_psnr(a, b))
    if not frames:
        raise ValueError("no frames to compare")
    return frames


def efficient_points(rates: Sequence[float], psnrs: Sequence[float]) -> list[int]:
    """Indices, by rising rate, of the points that no other point beats: each has a higher PSNR than all cheaper ones.

    What is left is strictly monotonic, so it can be inverted to a rate as a function of quality.
    ValueError if the lists differ in length or hold a rate or PSNR that is not a usable number.
    """
    if len(rates) != len(psnrs):
        raise ValueError(f"{len(rates)} rates but {len(psnrs)} PSNR values")
    if not all(np.isfinite(r) and r > 0 for r in rates) or not all(np.isfinite(p) for p in psnrs):
        raise ValueError("rates must be positive and PSNR values finite")
    kept: list[int] = []
    for i in sorted(range(len(rates)), key=lambda i: (rates[i], -psnrs[i])):
        if not kept or psnrs[i] > psnrs[kept[-1]]:
            kept.append(i)
    return kept


@dataclass(frozen=True)
class Curve:
    """Log rate over PSNR, both strictly rising."""

    psnr: np.ndarray
    log_rate: np.ndarray

    def mean_log_rate(self, low: float, high: float) -> float:
        """Mean of the log rate between two PSNR values in dB."""
        from scipy.interpolate import PchipInterpolator

        integral = PchipInterpolator(self.psnr, self.log_rate).integrate(low, high)
        return float(integral) / (high - low)


def _curve(rates: Sequence[float], psnrs: Sequence[float]) -> Curve:
    kept = efficient_points(rates, psnrs)
    if len(kept) < MIN_POINTS:
        raise ValueError(f"a curve needs at least {MIN_POINTS} points of rising rate and PSNR, not {len(kept)}")
    return Curve(np.array([psnrs[i] for i in kept]), np.log([rates[i] for i in kept]))


def _overlap(a: Curve, b: Curve) -> tuple[float, float]:
    low, high = max(a.psnr[0], b.psnr[0]), min(a.psnr[-1], b.psnr[-1])
    if low >= high:
        raise ValueError(
            f"quality ranges do not overlap: {a.psnr[0]:.2f} to {a.psnr[-1]:.2f} dB "
            f"and {b.psnr[0]:.2f} to {b.psnr[-1]:.2f} dB"
        )
    return float(low), float(high)


def shared_range(
    rate_a: Sequence[float], psnr_a: Sequence[float], rate_b: Sequence[float], psnr_b: Sequence[float]
) -> tuple[float, float]:
    """The PSNR range in dB that `bd_rate` of the same arguments averages over. Raises what `bd_rate` raises."""
    return _overlap(_curve(rate_a, psnr_a), _curve(rate_b, psnr_b))


def bd_rate(
    rate_a: Sequence[float], psnr_a: Sequence[float], rate_b: Sequence[float], psnr_b: Sequence[float]
) -> float:
    """How many percent more bits codec B needs than anchor A at equal PSNR; negative where B saves bits.

    Piecewise cubic Hermite (PCHIP) interpolation of the log rate over PSNR, averaged over the PSNR range that both
    curves cover. Points may come in any order; those that cost more than another without being better are left out
    (see `efficient_points`). ValueError if a curve has fewer than `MIN_POINTS` usable points or the ranges do not overlap.
    """
    a, b = _curve(rate_a, psnr_a), _curve(rate_b, psnr_b)
    low, high = _overlap(a, b)
    return 100 * float(np.expm1(b.mean_log_rate(low, high) - a.mean_log_rate(low, high)))
