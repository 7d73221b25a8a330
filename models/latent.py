"""The latent y of a frame: quantisation, hyperprior, temporal prior and entropy coding.

Scale hyperprior after Ballé et al. (ICLR 2018), means after Minnen et al. (NeurIPS 2018), joined with a prior from the
temporal context as in conditional coding. Scales depend on nothing that is decoded with them, so all of y is decoded in
one go; symbols whose scale is tiny are not coded at all.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import Block, RateGain, RateTable, down, gain, up
from models.entropy import SKIP, SymbolDecoder, SymbolEncoder, laplace_bits, scale_index
from models.presets import LAMBDA_RATIO, Preset

LIMIT = 32767
"""Largest symbol that can be coded."""

DEAD_ZONE = 0.0
"""The encoder rounds toward zero by this much more than to the nearest: what costs many bits for little quality goes."""

HYPER_ALIGN = 4
"""z lies on a grid four times coarser than y's."""


@dataclass(frozen=True)
class Prior:
    """What is known of y before it is decoded, in units of the quantisation step."""

    mean: Tensor  # (B, N, H/16, W/16)
    scale: Tensor  # (B, N, H/16, W/16), logarithm


def through(x: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return x + (x.round() - x).detach()


class Latent(nn.Module):
    """y at 1/16 with its hyperprior z at 1/64.

    Args:
        preset: widths.
        context: channels of the temporal context at 1/8, or 0 for keyframes.
    """

    def __init__(self, preset: Preset, context: int):
        super().__init__()
        n, z, width, side = preset.latent, preset.hyper, preset.prior, preset.side
        fine = math.log(64.0)  # steps of four grey levels, for an orthonormal transform
        coarse = fine - 8 * 0.5 * math.log(LAMBDA_RATIO)
        self.step = RateGain(n, fine, coarse)
        self.unstep = RateGain(n, -fine, -coarse)
        self.hyper_gain = RateGain(n, fine / 2, coarse / 2)
        self.hyper_encoder = nn.Sequential(nn.Conv2d(n, 64, 1), nn.ReLU(), down(64, 64), nn.ReLU(), down(64, z))
        self.hyper_scale = RateTable(z, -0.3, -0.3)
        self.hyper_decoder = nn.Sequential(up(z, 64), nn.ReLU(), up(64, side), nn.ReLU())
        self.temporal = down(context, side) if context else None
        self.fuse = nn.Conv2d(2 * side if context else side, width, 1)
        self.fuse_gain = RateGain(width)
        self.refine = Block(width)
        self.parameters_out = nn.Conv2d(width, 2 * n, 1)
        self.scale_offset = RateTable(n)

    def hyper(self, y: Tensor, rate: Tensor) -> Tensor:
        """z before quantisation: (B, N, H/16, W/16) -> (B, Z, H/64, W/64), sizes rounded up."""
        height, width = y.shape[-2:]
        y = F.pad(y, (0, -width % HYPER_ALIGN, 0, -height % HYPER_ALIGN), mode="replicate")
        return self.hyper_encoder(gain(y, self.hyper_gain(rate))).float()

    def hyper_scales(self, rate: Tensor) -> Tensor:
        """Logarithms of the scales of z's channels: (B, Z, 1, 1). Five times faster to learn than other parameters."""
        return 5 * self.hyper_scale(rate)

    def prior(self, z: Tensor, context: Tensor | None, rate: Tensor, height: int, width: int) -> Prior:
        """Means and scales of y (N, height, width) from decoded z and the temporal context."""
        x = self.hyper_decoder(z)[..., :height, :width]
        if self.temporal is not None:
            x = torch.cat([x, F.relu(self.temporal(context))], 1)
        x = self.refine(gain(F.relu(self.fuse(x)), self.fuse_gain(rate)))
        mean, scale = self.parameters_out(x).float().chunk(2, 1)
        return Prior(mean * self.step(rate), scale + self.scale_offset(rate))

    def forward(self, y: Tensor, context: Tensor | None, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Training: y -> (quantised ŷ, bits of y and z for each sample (B,))."""
        z = self.hyper(y, rate)
        z_bits = laplace_bits(z + torch.rand_like(z) - 0.5, self.hyper_scales(rate))
        prior = self.prior(through(z), context, rate, *y.shape[-2:])
        residual = y.float() * self.step(rate) - prior.mean
        y_bits = laplace_bits(residual + torch.rand_like(residual) - 0.5, prior.scale)
        decoded = (through(residual) + prior.mean) * self.unstep(rate)
        return decoded.to(y.dtype), y_bits.sum((1, 2, 3)) + z_bits.sum((1, 2, 3))

    def encode(self, y: Tensor, context: Tensor | None, rate: Tensor, coder: SymbolEncoder) -> Tensor:
        """Write z and y of one frame; returns the ŷ that `decode` will return."""
        z = self.hyper(y, rate).round().clamp(-LIMIT, LIMIT)
        coder.write(z, self._hyper_index(z.shape, rate))
        prior = self.prior(z, context, rate, *y.shape[-2:])
        residual = y * self.step(rate) - prior.mean
        symbols = residual.sign() * (residual.abs() + 0.5 - DEAD_ZONE).floor().clamp(0, LIMIT)
        index = scale_index(prior.scale)
        coded = index >= SKIP
        coder.write(symbols[coded], index[coded])
        return self._decoded(symbols * coded, prior, rate)

    def decode(self, context: Tensor | None, rate: Tensor, height: int, width: int, coder: SymbolDecoder) -> Tensor:
        """Read z and y (N, height, width) of one frame; returns ŷ."""
        channels = self.hyper_scale.knots.shape[1]
        index = self._hyper_index((1, channels, -(-height // HYPER_ALIGN), -(-width // HYPER_ALIGN)), rate)
        prior = self.prior(coder.read(index).float(), context, rate, height, width)
        index = scale_index(prior.scale)
        coded = index >= SKIP
        symbols = torch.zeros_like(prior.mean)
        symbols[coded] = coder.read(index[coded]).float()
        return self._decoded(symbols, prior, rate)

    def _hyper_index(self, shape: tuple[int, ...], rate: Tensor) -> Tensor:
        return scale_index(self.hyper_scales(rate)).expand(shape)

    def _decoded(self, symbols: Tensor, prior: Prior, rate: Tensor) -> Tensor:
        return (symbols + prior.mean) * self.unstep(rate)
