"""PSNR and BD-rate against values that can be checked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nvc_cli.metrics import MAX_PSNR, bd_rate, efficient_points, frame_psnr, plane_psnr, sequence_psnr, shared_range
from nvc_cli.video import Frame

RATES = [100.0, 200.0, 400.0, 800.0]
PSNRS = [30.0, 33.0, 36.0, 39.0]


def flat(y: int, u: int = 128, v: int = 128, size: tuple[int, int] = (9, 7)) -> Frame:
    rows, columns = size
    chroma = ((rows + 1) // 2, (columns + 1) // 2)
    return Frame(np.full(size, y, np.uint8), np.full(chroma, u, np.uint8), np.full(chroma, v, np.uint8))


def test_plane_psnr_of_a_known_error():
    expected = 20 * math.log10(255 / 5)
    assert plane_psnr(np.full((4, 6), 100, np.uint8), np.full((4, 6), 105, np.uint8)) == pytest.approx(expected)


def test_plane_psnr_does_not_wrap_around():
    black, white = np.zeros((4, 4), np.uint8), np.full((4, 4), 255, np.uint8)
    assert plane_psnr(black, white) == plane_psnr(white, black) == 0.0


def test_identical_planes_are_capped():
    plane = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert plane_psnr(plane, plane) == MAX_PSNR


def test_frame_psnr_weighs_luma_six_times():
    psnr = frame_psnr(flat(100), flat(110, u=129, v=126))
    y, u, v = (20 * math.log10(255 / error) for error in (10, 1, 2))
    assert (psnr.y, psnr.u, psnr.v) == pytest.approx((y, u, v))
    assert psnr.yuv == pytest.approx((6 * y + u + v) / 8)


def test_sequence_psnr_averages_decibels_not_errors():
    psnr = sequence_psnr([flat(100), flat(100)], [flat(101), flat(110)])
    assert psnr.y == pytest.approx((20 * math.log10(255 / 1) + 20 * math.log10(255 / 10)) / 2)


@pytest.mark.parametrize("decoded", [[], [flat(1)], [flat(1)] * 3], ids=["none", "short", "long"])
def test_sequences_must_have_the_same_length(decoded):
    with pytest.raises(ValueError, match="different lengths"):
        sequence_psnr([flat(1)] * 2, decoded)


def test_empty_sequences_have_no_psnr():
    with pytest.raises(ValueError, match="no frames"):
        sequence_psnr([], [])


def test_frames_must_have_the_same_size():
    with pytest.raises(ValueError, match="different shapes"):
        frame_psnr(flat(1), flat(1, size=(9, 8)))


def test_the_same_curve_has_a_bd_rate_of_zero():
    assert bd_rate(RATES, PSNRS, RATES, PSNRS) == pytest.approx(0)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.25, 3.0])
def test_a_constant_factor_in_rate_is_the_bd_rate(factor):
    assert bd_rate(RATES, PSNRS, [factor * r for r in RATES], PSNRS) == pytest.approx(100 * (factor - 1))


def test_bd_rate_averages_over_the_shared_range_only():
    # On straight lines of 3 dB per doubling, 1 dB better at equal rate is 2 ** (-1 / 3) of the bits everywhere.
    better = [p + 1 for p in PSNRS]
    assert shared_range(RATES, PSNRS, RATES, better) == (31.0, 39.0)
    assert bd_rate(RATES, PSNRS, RATES, better) == pytest.approx(100 * (2 ** (-1 / 3) - 1))


def test_bd_rate_of_curved_lines():
    rate_a, psnr_a = [100, 180, 400, 1000], [30.0, 32.5, 35.0, 38.0]
    rate_b, psnr_b = [90, 170, 350, 950], [30.5, 33.0, 35.6, 38.9]
    assert bd_rate(rate_a, psnr_a, rate_b, psnr_b) == pytest.approx(by_sampling(rate_a, psnr_a, rate_b, psnr_b), abs=1e-3)


def by_sampling(rate_a, psnr_a, rate_b, psnr_b) -> float:
    """BD-rate by the trapezoidal rule on densely sampled curves, with Fritsch-Carlson slopes written out."""
    grid = np.linspace(max(psnr_a[0], psnr_b[0]), min(psnr_a[-1], psnr_b[-1]), 20001)
    gap = hermite(psnr_b, np.log(rate_b), grid) - hermite(psnr_a, np.log(rate_a), grid)
    return 100 * math.expm1(float(np.mean((gap[1:] + gap[:-1]) / 2)))


def hermite(x, y, grid):
    x, y = np.array(x, float), np.array(y, float)
    h, slope = np.diff(x), np.diff(y) / np.diff(x)
    inner_weights = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    inner = sum(inner_weights) / (inner_weights[0] / slope[:-1] + inner_weights[1] / slope[1:])
    first = ((2 * h[0] + h[1]) * slope[0] - h[0] * slope[1]) / (h[0] + h[1])
    last = ((2 * h[-1] + h[-2]) * slope[-1] - h[-1] * slope[-2]) / (h[-1] + h[-2])
    d = np.array([first, *inner, last])
    i = np.clip(np.searchsorted(x, grid, side="right") - 1, 0, len(h) - 1)
    t = (grid - x[i]) / h[i]
    return (
        (2 * t**3 - 3 * t**2 + 1) * y[i]
        + (t**3 - 2 * t**2 + t) * h[i] * d[i]
        + (3 * t**2 - 2 * t**3) * y[i + 1]
        + (t**3 - t**2) * h[i] * d[i + 1]
    )


def test_the_order_of_points_does_not_matter():
    rates = [1.1 * r for r in RATES]
    assert bd_rate(RATES[::-1], PSNRS[::-1], rates[1:] + rates[:1], PSNRS[1:] + PSNRS[:1]) == pytest.approx(10)


def test_points_that_cost_more_for_nothing_are_left_out():
    rates, psnrs = [*RATES, 500.0, 400.0], [*PSNRS, 34.0, 35.0]
    assert efficient_points(rates, psnrs) == [0, 1, 2, 3]
    assert bd_rate(RATES, PSNRS, rates, psnrs) == pytest.approx(0)


def test_disjoint_ranges_are_refused_with_their_figures():
    with pytest.raises(ValueError, match=r"do not overlap: 30\.00 to 39\.00 dB and 40\.00 to 49\.00 dB"):
        bd_rate(RATES, PSNRS, RATES, [p + 10 for p in PSNRS])


def test_ranges_that_only_touch_do_not_overlap():
    with pytest.raises(ValueError, match="do not overlap"):
        bd_rate(RATES, PSNRS, RATES, [p + 9 for p in PSNRS])


@pytest.mark.parametrize(
    ("rates", "psnrs"), [([], []), ([100.0], [30.0]), ([100.0, 200.0], [33.0, 30.0])], ids=["none", "one", "falling"]
)
def test_too_few_points_are_refused(rates, psnrs):
    with pytest.raises(ValueError, match="at least 2 points"):
        bd_rate(RATES, PSNRS, rates, psnrs)


@pytest.mark.parametrize(
    ("rates", "psnrs"),
    [([0.0, 1.0], [30.0, 31.0]), ([-1.0, 1.0], [30.0, 31.0]), ([1.0, 2.0], [30.0, math.nan]), ([1.0, math.inf], [30.0, 31.0])],
)
def test_unusable_numbers_are_refused(rates, psnrs):
    with pytest.raises(ValueError, match="positive"):
        bd_rate(RATES, PSNRS, rates, psnrs)


def test_rates_and_psnrs_must_pair_up():
    with pytest.raises(ValueError, match="4 rates but 3 PSNR values"):
        bd_rate(RATES, PSNRS[:3], RATES, PSNRS)
