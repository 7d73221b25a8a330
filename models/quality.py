"""How far a decoded picture is from its source: the distortion of the loss, and the PSNR that people read."""

import torch
from torch import Tensor

from models.picture import Planes


def distortion(decoded: Planes, picture: Planes) -> Tensor:
    """Squared error of the planes weighted 6:2:2, for each sample: (B,).

    Chroma weighs more than in (6Y + U + V)/8 because that is a mean of decibels, and chroma errors are the smaller.
    """

    def mse(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean((1, 2, 3))

    return (6 * mse(decoded.y, picture.y) + 2 * mse(decoded.u, picture.u) + 2 * mse(decoded.v, picture.v)) / 8


def psnr(decoded: Planes, picture: Planes) -> Tensor:
    """(6Y + U + V)/8 in dB of rounded pictures, for each sample: (B,)."""

    def one(a: Tensor, b: Tensor) -> Tensor:
        return 10 * torch.log10(255**2 / (a.detach().round().clamp(0, 255) - b).square().mean((1, 2, 3)).clamp(min=1e-4))

    return (6 * one(decoded.y, picture.y) + one(decoded.u, picture.u) + one(decoded.v, picture.v)) / 8
