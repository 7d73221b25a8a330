"""Errors of vectors are those of the prediction that overlapped compensation makes with them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from models.compiled import search
from models.overlap import HALF, WINDOW, Overlap
from models.picture import Planes
from models.plan import DEEP, OVERLAPS_BELOW, THOROUGH
from models.search import References, Search
from models.vectors import still
from models.warp import BLOCK, compensate


def squares(current: Tensor, picture: Tensor, field: Tensor, row: int, column: int) -> float:
    """The squared error of the prediction in the window of one block."""
    half = picture[..., ::2, ::2]
    error = (current - compensate([Planes(picture, half, half)], field).y)[0, 0]
    top, left = row * BLOCK - HALF, column * BLOCK - HALF
    return float(error[max(0, top) : top + WINDOW, max(0, left) : left + WINDOW].square().sum())


def test_they_are_those_of_the_whole_prediction(texture: Callable[..., Tensor]) -> None:
    """Of vectors in whole samples, in the middle and at the border; the other vectors stay what they are."""
    wide = texture(56, 72)
    picture, current = wide[..., :48, :64].contiguous().round(), wide[..., 3:51, 5:69].contiguous().round()
    generator = torch.Generator().manual_seed(3)
    field = torch.cat([4 * torch.randint(-3, 4, (1, 2, 6, 8), generator=generator), torch.zeros(1, 1, 6, 8)], 1).int()
    references = References(1)
    references.update([picture])
    overlap = Overlap(current, [picture], references)
    overlap.update(field)
    rows, columns = torch.tensor([0, 2, 5]), torch.tensor([0, 3, 7])
    fields = torch.stack([field[..., rows, columns][:, :, None], torch.tensor([12, 20, 0]).int().view(1, 3, 1, 1).expand(1, 3, 1, 3)])
    variances, count = overlap.variances(fields, fields[0], rows.int(), columns.int())
    assert count.tolist() == [[144.0, 256.0, 144.0]]
    for k in range(2):
        for n, (row, column) in enumerate(zip(rows.tolist(), columns.tolist())):
            changed = field.clone()
            changed[0, :, row, column] = fields[k, 0, :, 0, n]
            expected = squares(current, picture, changed, row, column)
            assert abs(float(variances[k, 0, 0, n] * count[0, n]) - expected) < 1e-3 * expected + 0.1


def test_the_deep_search_leaves_less_error(texture: Callable[..., Tensor]) -> None:
    """Where two halves of a picture move apart."""
    wide = texture(96, 160)
    picture = wide[..., 16:80, 16:144].contiguous()
    current = torch.cat([wide[..., 18:82, 10:71], wide[..., 14:78, 84:151]], 3)
    rate = torch.tensor([8])
    half = picture[..., ::2, ::2]
    errors = [
        float((compensate([Planes(picture, half, half)], Search(16, plan)(current, [picture], still(picture[..., ::8, ::8]), rate)).y - current).square().mean())
        for plan in (THOROUGH, DEEP)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("rate, looked", [(OVERLAPS_BELOW - 1, True), (OVERLAPS_BELOW, False)])
def test_overlap_is_looked_at_where_quality_is_good(monkeypatch: pytest.MonkeyPatch, texture: Callable[..., Tensor], rate: int, looked: bool) -> None:
    turns, errors = [], search.overlapped_errors
    monkeypatch.setattr(search, "overlapped_errors", lambda *given: turns.append(0) or errors(*given))
    picture = texture(32, 48).round()
    Search(16, DEEP)(picture, [picture], still(picture[..., ::8, ::8]), torch.tensor([rate]))
    assert bool(turns) == looked
