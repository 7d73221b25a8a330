"""Scene cuts: found where pictures have nothing to do with each other, and only there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from nvc_cli.cuts import Lookout, _reduced

SIZES = [(96, 64), (160, 128), (416, 240)]


def scene(seed: int, width: int, height: int, frames: int) -> Iterator[np.ndarray]:
    """A texture, coarse and fine, that moves by (2, -3) samples a frame."""
    rng = np.random.default_rng(seed)
    canvas = np.full((height + 64, width + 64), 128.0)
    for cell, strength in ((32, 25), (12, 25), (5, 15), (1, 3)):
        rows, columns = (-(-size // cell) for size in canvas.shape)
        canvas += np.kron(rng.normal(0, strength, (rows, columns)), np.ones((cell, cell)))[: canvas.shape[0], : canvas.shape[1]]
    for t in range(frames):
        yield canvas[2 * t : 2 * t + height, 60 - 3 * t : 60 - 3 * t + width]


def cuts(pictures: Iterable[np.ndarray]) -> list[int]:
    look = Lookout()
    glances = [look(p.round().clip(0, 255).astype(np.uint8)) for p in pictures]
    return [t for t, glance in enumerate(glances) if glance.cut]


@pytest.mark.parametrize("width, height", SIZES)
def test_cuts_are_found_and_motion_is_none(width: int, height: int) -> None:
    pictures = [picture for seed, frames in ((1, 7), (2, 2), (3, 5)) for picture in scene(seed, width, height, frames)]
    assert cuts(pictures) == [0, 7, 9]


def test_fades_are_no_cuts() -> None:
    pictures = list(scene(1, 160, 128, 12))
    assert cuts(picture * t / 12 for t, picture in enumerate(pictures)) == [0]
    assert cuts(picture / 2 + 8 * t for t, picture in enumerate(pictures)) == [0]


@pytest.mark.parametrize("strength", [0.6, 4, 40])
def test_noise_is_no_cut(strength: float) -> None:
    rng = np.random.default_rng(0)
    assert cuts(128 + rng.normal(0, strength, (64, 96)) for _ in range(6)) == [0]


def test_flat_pictures_are_no_cut() -> None:
    assert cuts(np.full((32, 48), level) for level in (16, 16, 17, 16, 235, 16)) == [0]


def test_a_flash_is_one_cut_at_most() -> None:
    pictures = list(scene(1, 160, 128, 8))
    pictures[4] = np.full_like(pictures[4], 235) + pictures[0] / 10
    assert len(cuts(pictures)) <= 2


def test_activity_is_that_of_neighbouring_samples() -> None:
    """In rows and in columns, and in the parts that several threads count."""
    columns = np.tile(np.array([100, 106], np.uint8), (32, 24))
    assert Lookout()(columns).activity == pytest.approx(6) == Lookout()(columns.T).activity
    large = np.random.default_rng(0).integers(0, 256, (1040, 560), np.uint8)
    wide = large.astype(int)
    assert Lookout()(large).activity == pytest.approx(np.abs(np.diff(wide, axis=0)).mean() + np.abs(np.diff(wide)).mean())


@pytest.mark.parametrize("height, width, side", [(3120, 4160, 64), (48, 64, 1), (208, 400, 4)])
def test_pictures_are_reduced_to_means_of_squares(height: int, width: int, side: int) -> None:
    """Rows and columns that are left over do not count."""
    luma = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    rows, columns = height // side, width // side
    means = luma[: rows * side, : columns * side].reshape(rows, side, columns, side).mean((1, 3))
    assert _reduced(luma) == pytest.approx(means, rel=1e-5)


@pytest.mark.parametrize("width, height", [(3, 5), (17, 40)])
def test_pictures_of_any_size_can_be_looked_at(width: int, height: int) -> None:
    flat = np.full((height, width), 90, np.uint8)
    look = Lookout()
    assert [look(picture).cut for picture in (flat, flat)] == [True, False]
