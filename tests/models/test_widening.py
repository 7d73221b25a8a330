"""A larger preset begins by doing what the smaller one does."""

from __future__ import annotations

import pytest
import torch

from models.codec import Codec
from models.picture import Planes
from models.presets import PRESETS
from models.plan import QUICK
from models.search import Search
from models.weights import locate, read
from models.widening import widen


def picture(seed: int) -> Planes:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand((1, 1, 9, 9), generator=generator) * 255
    y = torch.nn.functional.interpolate(coarse, (64, 64), mode="bilinear").round()
    return Planes(y, y[..., ::2, ::2], 255 - y[..., ::2, ::2])


def test_pictures_and_contexts_of_the_smaller_preset_are_kept() -> None:
    trained = read(locate("tiny"))
    small, large = Codec(PRESETS["tiny"]), Codec(PRESETS["base"])
    small.load_state_dict({**small.state_dict(), **trained.parameters})
    torch.manual_seed(1)
    widen(trained.parameters, PRESETS["tiny"], large)
    rate, search = torch.tensor([20.0]), Search(8, QUICK)
    states = []
    with torch.no_grad():
        for codec in (small, large):
            key = codec.train_keyframe(picture(1), rate)
            frame = codec.train_frame(picture(2), key.state, rate, torch.ones(1), False, search)
            states.append((key, frame))
    for one, other in zip(*states):
        torch.testing.assert_close(other.reconstruction.y, one.reconstruction.y, rtol=0, atol=1.0)  # z is rounded, with new channels beside it
        channels = one.state.context.shape[1]
        torch.testing.assert_close(other.state.context[:, :channels], one.state.context, rtol=0, atol=0.01)
        assert other.state.context[:, channels:].abs().sum() > 0  # or they could not learn
        assert other.bits < 1.1 * one.bits


def test_a_larger_preset_does_not_shrink() -> None:
    with pytest.raises(ValueError, match="not smaller than tiny"):
        widen({}, PRESETS["base"], Codec(PRESETS["tiny"]))
