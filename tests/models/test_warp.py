"""Motion compensation is exact: equal, not close, to the plainest implementation in integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from models.picture import Planes
from models.taps import CHROMA_TAPS, LUMA_TAPS
from models.warp import BLOCK, compensate, warp_context

Taps = tuple[tuple[int, ...], ...]


def interpolate(plane: np.ndarray, y: int, x: int, taps: Taps) -> int:
    """The sample at (y, x), in units of 1/P, of a plane that repeats its border; in 1/64."""
    count, before = len(taps), len(taps[0]) // 2 - 1
    rows = np.clip(y // count - before + np.arange(len(taps[0])), 0, plane.shape[0] - 1)
    columns = np.clip(x // count - before + np.arange(len(taps[0])), 0, plane.shape[1] - 1)
    total = np.array(taps[y % count]) @ plane[np.ix_(rows, columns)] @ np.array(taps[x % count])
    return int(np.rint(total / 64))


def blocks_of(place: int, block: int, count: int) -> list[tuple[int, int]]:
    """Along one axis: the blocks that a sample is predicted from, and their weights, of 2·block in all."""
    own, offset = divmod(place, block)
    weight = 2 * block - abs(2 * offset + 1 - block)  # 1 less, 3 less ... with the distance from the middle
    other = own - 1 if 2 * offset < block else own + 1
    return [(own, weight), (min(max(other, 0), count - 1), 2 * block - weight)]


def slow(planes: list[Tensor], vectors: np.ndarray, taps: Taps, block: int) -> np.ndarray:
    """Overlapped block compensation of a plane from those of earlier pictures, sample by sample; vectors in 1/P samples."""
    past = [plane[0, 0].numpy().astype(np.int64) for plane in planes]
    height, width = past[0].shape
    unit = len(taps)
    out = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            total = 0
            for i, down in blocks_of(row, block, height // block):
                for j, across in blocks_of(column, block, width // block):
                    dy, dx, age = (int(component[i, j]) for component in vectors)
                    total += down * across * interpolate(past[min(age, len(past) - 1)], unit * row + dy, unit * column + dx, taps)
            out[row, column] = total / (64 * 4 * block * block)
    return out


def noise(height: int, width: int, seed: int = 0) -> Planes:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return Planes(*(torch.randint(0, 256, (1, 1, *size), generator=generator).float() for size in sizes))


def inside(height: int, width: int) -> Tensor:
    """Random quarter-sample vectors that never lead out of the picture, overlap included."""
    random = np.random.default_rng(0)

    def along(size: int) -> tuple[np.ndarray, np.ndarray]:
        first = np.arange(size // BLOCK) * BLOCK
        low = np.maximum(first - BLOCK // 2, 0)
        high = np.minimum(first + BLOCK + BLOCK // 2, size)
        return -4 * low, 4 * (size - 1 - (high - 1) - 1)

    (top, bottom), (left, right) = along(height), along(width)
    dy = random.integers(np.minimum(top, bottom)[:, None], np.maximum(top, bottom)[:, None] + 1, (height // BLOCK, width // BLOCK))
    dx = random.integers(np.minimum(left, right), np.maximum(left, right) + 1, (height // BLOCK, width // BLOCK))
    dy, dx = (np.maximum(dy, top[:, None]), np.maximum(dx, left))
    dy, dx = (np.where(bottom[:, None] < 0, top[:, None], dy), np.where(right < 0, left, dx))
    return torch.from_numpy(np.stack([dy, dx, np.zeros_like(dy)])[None]).int()


def at_age(vectors: Tensor, age: int = 0) -> Tensor:
    """Displacements (B, 2, h, w) with an age."""
    return torch.cat([vectors, torch.full_like(vectors[:, :1], age)], 1)


def assert_equals_the_slow_one(pictures: list[Planes], vectors: Tensor) -> None:
    out, field = compensate(pictures, vectors), vectors[0].numpy()
    for name, taps, block in (("y", LUMA_TAPS, BLOCK), ("u", CHROMA_TAPS, BLOCK // 2), ("v", CHROMA_TAPS, BLOCK // 2)):
        assert np.array_equal(getattr(out, name)[0, 0], slow([getattr(picture, name) for picture in pictures], field, taps, block))


def test_taps_keep_the_level() -> None:
    assert all(sum(taps) == 64 for taps in (*LUMA_TAPS, *CHROMA_TAPS))
    assert LUMA_TAPS[3] == LUMA_TAPS[1][::-1] or LUMA_TAPS[3][1:] == LUMA_TAPS[1][:-1][::-1]
    assert all(CHROMA_TAPS[8 - k] == CHROMA_TAPS[k][::-1] for k in range(1, 8))


def test_zero_vectors_are_the_identity() -> None:
    planes = noise(48, 32)
    out = compensate([planes], torch.zeros(1, 3, 6, 4, dtype=torch.int32))
    assert all(torch.equal(a, b) for a, b in ((out.y, planes.y), (out.u, planes.u), (out.v, planes.v)))


@pytest.mark.parametrize("down, right", [(2, 0), (0, -4), (-6, 2), (100, -100)])
def test_whole_samples_move_the_picture_and_repeat_its_border(down: int, right: int) -> None:
    planes = noise(32, 48)
    vectors = torch.tensor([4 * down, 4 * right, 0], dtype=torch.int32)[None, :, None, None].expand(1, 3, 4, 6)
    out = compensate([planes], vectors)
    for plane, moved, step in ((planes.y, out.y, 1), (planes.u, out.u, 2), (planes.v, out.v, 2)):
        height, width = plane.shape[2:]
        rows = (torch.arange(height) + down // step).clamp(0, height - 1)
        columns = (torch.arange(width) + right // step).clamp(0, width - 1)
        assert torch.equal(moved, plane[..., rows[:, None], columns])


@pytest.mark.parametrize("dy, dx", [(1, 0), (0, 2), (3, 3), (-1, -2)])
def test_a_flat_picture_stays_flat(dy: int, dx: int) -> None:
    flat = Planes(*(torch.full((1, 1, *size), 255.0) for size in ((16, 32), (8, 16), (8, 16))))
    out = compensate([flat], torch.tensor([dy, dx, 0], dtype=torch.int32)[None, :, None, None].expand(1, 3, 2, 4))
    assert all((plane == 255).all() for plane in (out.y, out.u, out.v))


def test_quarter_samples_equal_the_slow_implementation() -> None:
    assert_equals_the_slow_one([noise(32, 48)], inside(32, 48))


def test_extreme_pictures_equal_the_slow_implementation() -> None:
    """Black and white, where intermediate sums are largest."""
    planes = noise(16, 32, 3)
    hard = Planes(*(255.0 * (plane > 127) for plane in (planes.y, planes.u, planes.v)))
    assert_equals_the_slow_one([hard], inside(16, 32))


def test_whole_vectors_out_of_the_picture_equal_the_slow_implementation() -> None:
    vectors = at_age(8 * torch.randint(-20, 20, (1, 2, 2, 4), generator=torch.Generator().manual_seed(0), dtype=torch.int32))
    assert_equals_the_slow_one([noise(16, 32, 1)], vectors)


@pytest.mark.parametrize("reach", [60, 600])
def test_vectors_out_of_the_picture_equal_the_slow_implementation(reach: int) -> None:
    """Where windows lie outside in part, and wholly, at fractional positions too."""
    vectors = at_age(torch.randint(-reach, reach, (1, 2, 2, 4), generator=torch.Generator().manual_seed(reach), dtype=torch.int32))
    assert_equals_the_slow_one([noise(16, 32, 4)], vectors)


def test_training_in_bfloat16_compensates_exactly() -> None:
    planes, vectors = noise(16, 32), inside(16, 32)
    expected = compensate([planes], vectors)
    with torch.autocast("cpu", torch.bfloat16):
        out = compensate([planes], vectors)
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in ((out.y, expected.y), (out.u, expected.u), (out.v, expected.v)))


def test_vectors_of_any_size_are_safe() -> None:
    planes = noise(16, 16)
    for value in (32767, -32768, 10**6, -(10**6) - 3):
        out = compensate([planes], at_age(torch.full((1, 2, 2, 2), value, dtype=torch.int32)))
        assert torch.isfinite(out.y).all() and out.y.abs().max() < 1000


def test_samples_of_a_batch_do_not_mix() -> None:
    a, b = noise(16, 32, 1), noise(16, 32, 2)
    fields = inside(16, 32), at_age(torch.randint(-30, 30, (1, 2, 2, 4), generator=torch.Generator().manual_seed(1), dtype=torch.int32))
    both = compensate([Planes(*(torch.cat(pair) for pair in ((a.y, b.y), (a.u, b.u), (a.v, b.v))))], torch.cat(fields))
    assert torch.equal(both.y, torch.cat([compensate([a], fields[0]).y, compensate([b], fields[1]).y]))


def bilinear(context: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """The context warped in 1/32 of its samples; integers in, multiples of 1/1024 out."""
    channels, height, width = context.shape
    out = np.zeros(context.shape)
    for row in range(height):
        for column in range(width):
            (y, down), (x, across) = divmod(32 * row + vectors[0, row, column], 32), divmod(32 * column + vectors[1, row, column], 32)
            for i, wy in ((y, 32 - down), (y + 1, down)):
                for j, wx in ((x, 32 - across), (x + 1, across)):
                    out[:, row, column] += wy * wx * context[:, min(max(i, 0), height - 1), min(max(j, 0), width - 1)]
    return out / 1024


@pytest.mark.parametrize("reach", [20, 200])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_context_warp_is_bilinear(reach: int, layout: torch.memory_format) -> None:
    generator = torch.Generator().manual_seed(0)
    context = torch.randint(-100, 100, (2, 5, 4, 6), generator=generator).float().to(memory_format=layout)
    vectors = torch.randint(-reach, reach, (2, 2, 4, 6), generator=generator, dtype=torch.int32)
    out = warp_context(context, at_age(vectors))
    assert out.shape == context.shape
    for k in range(2):
        assert np.array_equal(out[k], bilinear(context[k].numpy(), vectors[k].numpy()))


def test_zero_vectors_leave_the_context(texture: Callable[..., Tensor]) -> None:
    context = texture(32, 32).view(1, 16, 8, 8)
    assert torch.equal(warp_context(context, torch.zeros(1, 3, 8, 8, dtype=torch.int32)), context)


def test_blocks_are_read_from_the_picture_of_their_age() -> None:
    """Overlapping windows blend what the pictures give; ages beyond the oldest picture are that one."""
    age = torch.randint(0, 5, (1, 1, 4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.int32)
    assert_equals_the_slow_one([noise(32, 48, seed) for seed in range(3)], torch.cat([inside(32, 48)[:, :2], age], 1))


@pytest.mark.parametrize("age", [1, 2, 6])
def test_the_context_moves_as_far_as_in_one_frame(age: int) -> None:
    context = torch.randint(-100, 100, (1, 5, 4, 6), generator=torch.Generator().manual_seed(0)).float()
    step = torch.tensor([9, -14], dtype=torch.int32)[None, :, None, None].expand(1, 2, 4, 6)
    assert torch.equal(warp_context(context, at_age(step * (age + 1), age)), warp_context(context, at_age(step)))
