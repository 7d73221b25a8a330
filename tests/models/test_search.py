"""The search finds what there is to find."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.picture import Planes
from models.plan import QUICK, THOROUGH, Plan
from models.search import Search, median, neighbours
from models.warp import compensate

RATE = torch.tensor([8])


def still(plane: Tensor) -> Tensor:
    height, width = plane.shape[2:]
    return torch.zeros(plane.shape[0], 3, height // 8, width // 8, dtype=torch.int32)


def error(current: Tensor, reference: Tensor, vectors: Tensor) -> float:
    """Mean absolute error of the prediction."""
    half = reference[..., ::2, ::2]
    return float((compensate([Planes(reference, half, half)], vectors).y - current).abs().mean())


@pytest.mark.parametrize("plan", [THOROUGH, QUICK])
@pytest.mark.parametrize("down, right", [(0, 5), (-7, 3), (12, -18)])
def test_a_global_shift_is_found(texture: Callable[..., Tensor], down: int, right: int, plan: Plan) -> None:
    wide = texture(64 + 48, 96 + 48)
    reference = wide[..., 24 : 24 + 64, 24 : 24 + 96]
    current = wide[..., 24 + down : 24 + down + 64, 24 + right : 24 + right + 96]
    vectors = Search(32, plan)(current, [reference], still(current), RATE)
    inner = vectors[..., 3:-3, 3:-3]
    expected = torch.tensor([4 * down, 4 * right, 0])[None, :, None, None]
    assert ((inner - expected).abs() <= (0 if plan is THOROUGH else 1)).all(1).float().mean() > 0.8
    assert error(current, reference, vectors) < error(current, reference, still(current)) / 3


def test_a_quarter_sample_shift_lowers_the_error(texture: Callable[..., Tensor]) -> None:
    reference = texture(64, 64)
    half = reference[..., ::2, ::2]
    shift = torch.tensor([5, -2, 0], dtype=torch.int32)[None, :, None, None].expand(1, 3, 8, 8)
    current = compensate([Planes(reference, half, half)], shift).y
    vectors = Search(16)(current, [reference], still(current), RATE)
    whole = (shift / 4).round().int() * 4
    assert error(current, reference, vectors) < error(current, reference, whole) / 3
    assert (vectors[..., 1:-1, 1:-1] == shift[..., 1:-1, 1:-1]).all(1).float().mean() > 0.8


@pytest.mark.parametrize("rate", [0, 63])
def test_equal_pictures_do_not_move(texture: Callable[..., Tensor], rate: int) -> None:
    picture = texture(48, 64)
    assert not Search()(picture, [picture], still(picture), torch.tensor([rate])).any()
    flat = torch.full_like(picture, 77)
    assert not Search()(flat, [flat], still(flat), torch.tensor([rate])).any()


@pytest.mark.parametrize("height, width", [(16, 16), (16, 48), (48, 16), (32, 80)])
def test_a_vector_for_every_block(texture: Callable[..., Tensor], height: int, width: int) -> None:
    current, reference = (torch.cat([texture(height, width, s), texture(height, width, s + 2)]) for s in (0, 1))
    vectors = Search(64)(current, [reference], still(current), torch.tensor([0, 63]))
    assert vectors.shape == (2, 3, height // 8, width // 8) and vectors.dtype == torch.int32


def test_low_qualities_pay_more_for_motion(texture: Callable[..., Tensor]) -> None:
    current, reference = (torch.cat([texture(64, 64, seed + k) for seed in (0, 2, 4, 6)]) for k in (0, 1))  # nothing in common
    turns = [Search(16)(current, [reference], still(current), torch.tensor(4 * [r])).diff(dim=3).abs().sum() for r in (0, 63)]
    assert turns[1] < turns[0]


def test_neighbours_and_their_median() -> None:
    field = torch.arange(6, dtype=torch.int32).view(1, 1, 2, 3).expand(1, 3, 2, 3).contiguous()
    around = neighbours(field)
    assert around.dtype == torch.int32 and around.shape == (4, 1, 3, 2, 3)
    assert around[:, 0, 0, 0, 1].tolist() == [1, 4, 0, 2]
    assert median(torch.tensor([7, -5, 2, 3])).item() == 2
    assert median(torch.tensor([-1, -2, -2, -9])).item() == -2


@pytest.mark.parametrize("plan", [THOROUGH, QUICK])
@pytest.mark.parametrize("age", [0, 1, 3])
def test_the_picture_with_the_content_is_found(texture: Callable[..., Tensor], age: int, plan: Plan) -> None:
    wide = texture(48 + 16, 64 + 16)
    current = wide[..., 8:-8, 8:-8]
    pictures = [texture(48, 64, seed) for seed in range(3, 7)]
    pictures[age] = wide[..., 6 : 6 + 48, 9 : 9 + 64]
    vectors = Search(32, plan)(current, pictures, still(current), RATE)
    assert (vectors[..., 1:-1, 1:-1] == torch.tensor([8, -4, age])[None, :, None, None]).all(1).float().mean() > 0.8
    others = Search(32, plan, references=age)(current, pictures, still(current), RATE) if age else vectors
    assert others[:, 2].max() == (age - 1 if age else 0)


def test_pictures_that_are_known_are_found_again(texture: Callable[..., Tensor]) -> None:
    """One search over a growing past finds what a new one finds."""
    frames = [texture(32, 48, seed) for seed in range(6)]
    search = Search(16, references=3)
    for t in range(1, 6):
        past = frames[:t][::-1]
        assert torch.equal(search(frames[t], past, still(frames[t]), RATE), Search(16, references=3)(frames[t], past, still(frames[t]), RATE))


def test_pictures_of_another_size_are_not_mixed_up(texture: Callable[..., Tensor]) -> None:
    search = Search(16)
    for size in ((32, 48), (48, 32)):
        picture = texture(*size)
        assert not search(picture, [picture], still(picture), RATE).any()
