"""The sizes of the networks. Presets differ in width and depth only; the code is the same."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

Number = TypeVar("Number", float, "Tensor")

RATES = 64
"""Rate points of every preset: 0 is the best picture, 63 the smallest file; eight of them are one step of --qp."""

PICTURE = 96
"""Channels of a picture at 1/8 resolution: luma un-shuffled by 8 (64) and each chroma plane by 4 (16 + 16)."""

ALIGN = 16
"""Pictures are padded at the right and bottom to a multiple of this many luma samples."""

BEST_LAMBDA, LAMBDA_RATIO = 0.45, 2.8
"""Lagrangian at qp 0 and its ratio from one whole qp to the next."""


@dataclass(frozen=True)
class Preset:
    """Widths (channels) and depths (blocks) of one model."""

    name: str
    context: int  # channels of the context c at 1/8
    latent: int  # channels of y at 1/16
    hyper: int  # channels of z at 1/64
    side: int  # channels at 1/16 that each of hyperprior and temporal context contribute to the prior
    prior: int  # channels of the entropy parameter network at 1/16
    encoder_blocks: int
    context_blocks: int
    decoder_blocks: int
    filter_blocks: int
    enhancer: int  # channels of the enhancer at 1/8
    enhancer_blocks: int
    intra_context: int  # channels inside the keyframe network at 1/8
    intra_blocks: int


PRESETS = {
    "tiny": Preset("tiny", 96, 384, 48, 96, 160, 2, 2, 3, 1, 128, 4, 128, 3),
    "base": Preset("base", 224, 384, 96, 192, 288, 3, 4, 5, 2, 160, 6, 256, 5),
}


def lagrangian(rate: Number) -> Number:
    """The λ of the loss `bits/pixel + λ·MSE` (8-bit samples) at a rate point from 0 to 63."""
    return BEST_LAMBDA * LAMBDA_RATIO ** (-rate / 8)


def aligned(size: int) -> int:
    """The padded size in luma samples."""
    return -(-size // ALIGN) * ALIGN
