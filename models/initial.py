"""Where training starts: a block transform codec.

The first and last layers begin as the DCT of every 8×8 luma and 4×4 chroma block with a Haar step on top, and residual
blocks begin as the identity. So the untrained codec already codes pictures at all rates, and training goes on from there.
"""

import math

import torch
from torch import Tensor, nn

from models.exact import Convolution
from models.inter import Inter
from models.intra import Intra
from models.presets import PICTURE


def dct(size: int) -> Tensor:
    """The orthonormal two-dimensional DCT-II of a block, rows by vertical then horizontal frequency: (size², size²)."""
    place = torch.arange(size, dtype=torch.float64)
    line = torch.cos(math.pi * (2 * place + 1) * place[:, None] / (2 * size)) * math.sqrt(2 / size)
    line[0] /= math.sqrt(2)
    return torch.kron(line, line)


def transform() -> Tensor:
    """The DCT of the planes of picture features: (96, 96), orthonormal."""
    return torch.block_diag(dct(8), dct(4), dct(4)).float()


def frequencies() -> Tensor:
    """Horizontal plus vertical frequency of each coefficient, in cycles of 16 luma samples: (96,)."""

    def plane(size: int, step: int) -> Tensor:
        axis = torch.arange(size) * step
        return (axis[:, None] + axis).flatten()

    return torch.cat([plane(8, 2), plane(4, 4) // 2 + 3, plane(4, 4) // 2 + 3])


def haar() -> tuple[Tensor, Tensor]:
    """The 2×2 Haar transform of each of 96 coefficients: weights (384, 96, 2, 2), and the frequency of each output."""
    signs = torch.tensor([[[1, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]]) / 2
    weight = torch.zeros(4 * PICTURE, PICTURE, 2, 2)
    for channel in range(PICTURE):
        weight[4 * channel : 4 * channel + 4, channel] = signs
    extra = torch.tensor([0, 1, 1, 2])
    return weight, (frequencies()[:, None] + extra).flatten()


@torch.no_grad()
def _place(layer: Convolution, weight: Tensor, rest: float = 0.0) -> None:
    """Put a matrix into the layer's first outputs and inputs; all else is zero, or `rest` of its random start."""
    layer.weight.mul_(rest)
    layer.bias.zero_()
    rows, columns = weight.shape[:2]
    layer.weight[:rows, :columns] = weight.reshape(rows, columns, *layer.weight.shape[2:])


@torch.no_grad()
def _silence(layer: Convolution) -> None:
    """Let a layer give nothing at first."""
    layer.weight.zero_()
    layer.bias.zero_()


def _latent(to_latent: Convolution, from_latent: Convolution) -> None:
    """Haar down to the latent's channels of lowest frequency, and its transpose up again (before pixel shuffling)."""
    weight, frequency = haar()
    kept = frequency.argsort(stable=True)[: to_latent.out_channels]
    _place(to_latent, weight[kept])
    # PixelShuffle takes output (channel, row, column) from channel 4·channel + 2·row + column.
    _place(from_latent, weight[kept].flatten(1).T[:, :, None, None])


def _first(layers: nn.Sequential) -> Convolution:
    """The convolution that a row of layers begins with."""
    layer = layers[0]
    assert isinstance(layer, Convolution)
    return layer


def initialise_intra(intra: Intra) -> None:
    """Make the keyframe network a block transform codec."""
    matrix, identity = transform(), torch.eye(PICTURE)
    _place(intra.enter, matrix, rest=0.2)
    _latent(intra.to_latent, _first(intra.from_latent))
    _place(intra.to_context, identity)
    _place(intra.leave, matrix.T)
    _silence(_first(intra.detail))


def initialise_inter(inter: Inter) -> None:
    """Make the P-frame network a transform codec of the motion-compensated difference."""
    matrix, identity = transform(), torch.eye(PICTURE)
    _place(inter.join, torch.cat([matrix, -matrix], 1), rest=0.1)
    _latent(inter.to_latent, _first(inter.from_latent))
    _place(inter.merge, identity)
    _place(inter.residual, matrix.T)
    _silence(_first(inter.detail))
