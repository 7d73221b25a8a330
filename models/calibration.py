"""Choosing the exponents of exact layers, by watching the float form code video."""

from collections.abc import Iterable

import torch
from torch import Tensor

from models import exact
from models.codec import Codec
from models.exact import Convolution, Narrow
from models.picture import Planes
from models.presets import RATES
from models.plan import QUICK
from models.search import Search


@torch.no_grad()
def calibrate(codec: Codec, chains: Iterable[list[Planes]]) -> None:
    """Set the exponents of all layers of a decoder from their weights and from what they read while coding.

    Args:
        codec: with trained weights; it keeps the form, float or exact, that it has.
        chains: batches (B) of successive pictures; samples are coded at rates spread over the whole range.
    """
    exact, codec.exact = codec.exact, False
    search = Search(32, QUICK)
    narrow = [layer for _, layer in codec.normative(Narrow)]
    for layer in narrow:
        layer.observe()
    for pictures in chains:
        batch, device = pictures[0].y.shape[0], pictures[0].y.device
        rate = torch.linspace(0, RATES - 1, batch, device=device).round()
        state = codec.train_keyframe(pictures[0], rate).state
        for place, picture in enumerate(pictures[1:]):
            filtered = (torch.arange(batch, device=device) + place) % 2
            refresh = place == 1
            state = codec.train_frame(picture, state, rate, filtered, refresh, search).state
    for layer in narrow:
        layer.settle()
    settle_weights(codec)
    codec.exact = exact


def settle_weights(codec: Codec) -> None:
    """Give the weights of a decoder the finest steps that their integers allow."""
    for _, layer in codec.normative(Convolution):
        layer.settle_weights()


def integers(codec: Codec) -> dict[str, Tensor]:
    """All integers that a decoder computes with, by layer and name: what the weights mean in the exact form."""
    return exact.integers(codec.normative())
