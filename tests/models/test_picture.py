"""Pictures and features."""

from __future__ import annotations

import pytest
import torch

from models.picture import Planes, aligned, crop, pad, to_features, to_planes


def noise(height: int, width: int) -> Planes:
    generator = torch.Generator().manual_seed(0)
    rows, columns = (height + 1) // 2, (width + 1) // 2
    sizes = ((height, width), (rows, columns), (rows, columns))
    return Planes(*(torch.randint(0, 256, (2, 1, *size), generator=generator).float() for size in sizes))


def equal(a: Planes, b: Planes) -> bool:
    return all(torch.equal(x, y) for x, y in ((a.y, b.y), (a.u, b.u), (a.v, b.v)))


def test_features_hold_every_sample() -> None:
    planes = noise(32, 48)
    features = to_features(planes)
    assert features.shape == (2, 96, 4, 6)
    assert features.min() >= -0.5 and features.max() <= 0.5
    assert equal(to_planes(features).rounded(), planes)


def test_a_channel_is_one_position_of_a_block() -> None:
    planes = noise(16, 16)
    features = to_features(planes)
    assert torch.equal(features[:, 8 * 3 + 5], (planes.y[:, 0, 3::8, 5::8] - 128) / 256)
    assert torch.equal(features[:, 64 + 4 * 1 + 2], (planes.u[:, 0, 1::4, 2::4] - 128) / 256)
    assert torch.equal(features[:, 80 + 4 * 3 + 0], (planes.v[:, 0, 3::4, 0::4] - 128) / 256)


@pytest.mark.parametrize(("size", "padded"), [(1, 16), (16, 16), (17, 32), (288, 288), (1080, 1088)])
def test_aligned(size: int, padded: int) -> None:
    assert aligned(size) == padded


@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 33), (33, 17), (15, 1), (1, 2), (48, 47)])
def test_padding_repeats_the_border_and_is_undone(height: int, width: int) -> None:
    planes = noise(height, width)
    wide = pad(planes)
    assert wide.y.shape[2:] == (aligned(height), aligned(width))
    assert wide.u.shape == wide.v.shape == (2, 1, aligned(height) // 2, aligned(width) // 2)
    assert torch.equal(wide.y[..., height - 1 :, : width], planes.y[..., -1:, :].expand(-1, -1, aligned(height) - height + 1, -1))
    assert (wide.y[..., width - 1 :] == wide.y[..., width - 1 : width]).all()
    assert equal(crop(wide, height, width), planes)


def test_rounding_gives_8_bits() -> None:
    plane = torch.tensor([[[[-3.0, 0.4], [254.6, 300.0]]]])
    assert Planes(plane, plane, plane).rounded().y.flatten().tolist() == [0, 0, 255, 255]
