"""The latent y of a frame: quantisation, hyperprior, temporal prior and entropy coding.

Scale hyperprior after Ballé et al. (ICLR 2018), means after Minnen et al. (NeurIPS 2018), joined with a prior from the
temporal context as in conditional coding. Scales depend on nothing that is decoded with them, so all of y is decoded in
one go; symbols whose scale is tiny are not coded at all.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.bits import laplace_bits, scale_index
from models.blocks import Block, down, up
from models.bridge import arrays, host, hosts, on_device
from models.compiled.networks import HYPER_ALIGN, LIMIT, Refine
from models.entropy import SymbolDecoder, SymbolSink, integers
from models.exact import Grid, Narrow, RateGain, RateTable
from models.integers import VALUE_BITS, VALUE_LIMIT
from models.presets import BEST_LAMBDA, LAMBDA_RATIO, Preset
from models.replay import recorded
from models.stages import staged
from models.tables import SKIP

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
        # For an orthonormal transform: where a sample's λ is 3/4 of a luma sample's, MSE 1 / (2·ln 2·3/4·λ) is worth its bits, which steps have of √12 times its root.
        fine = math.log(256 / math.sqrt(12 / (1.5 * math.log(2) * BEST_LAMBDA)))
        coarse = fine - 8 * 0.5 * math.log(LAMBDA_RATIO)
        self.step = RateGain(n, fine, coarse)
        self.unstep = RateGain(n, -fine, -coarse)
        self.hyper_gain = RateGain(n, fine / 2, coarse / 2)
        self.hyper_encoder = nn.Sequential(Narrow(n, 64), down(64, 64, relu=True), down(64, z, relu=True))
        self.hyper_scale = RateTable(z, -0.3, -0.3)
        self.hyper_decoder = nn.Sequential(up(z, 64, Narrow), up(64, side, Narrow, relu=True))
        self.temporal = down(context, side) if context else None
        self.fuse = Narrow(2 * side if context else side, width, relu=True)
        self.fuse_gain = RateGain(width)
        self.refine = Block(width)
        self.parameters_out = Narrow(width, 2 * n)
        self.scale_offset = RateTable(n)
        self.grid, self.value = Grid(), Grid(VALUE_BITS, VALUE_LIMIT)

    @staged("prior")
    @recorded
    def hyper(self, y: Tensor, rate: Tensor) -> Tensor:
        """z before quantisation: (B, N, H/16, W/16) -> (B, Z, H/64, W/64), sizes rounded up."""
        height, width = y.shape[-2:]
        y = F.pad(y, (0, -width % HYPER_ALIGN, 0, -height % HYPER_ALIGN), mode="replicate")
        return self.hyper_encoder(self.hyper_gain(y, rate)).float()

    def hyper_scales(self, rate: Tensor) -> Tensor:
        """Logarithms of the scales of z's channels: (B, Z, 1, 1). Five times faster to learn than other parameters."""
        return 5 * self.hyper_scale.vector(rate)

    @staged("prior")
    def prior(self, z: Tensor, context: Tensor | None, rate: Tensor, height: int, width: int) -> Prior:
        """Means and scales of y (N, height, width) from decoded z and the temporal context."""
        return Prior(*self._prior(z, context, rate, height, width))

    @recorded
    def _prior(self, z: Tensor, context: Tensor | None, rate: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Means and scales, in PyTorch."""
        x = self.hyper_decoder(z)[..., :height, :width]
        if self.temporal is not None:
            x = torch.cat([x, self.temporal(context)], 1)
        x = self.refine(self.fuse_gain(F.relu(self.grid(self.fuse(x))), rate))
        mean, scale = self.grid(self.parameters_out(x).float()).chunk(2, 1)
        return self.value(mean * self.step.vector(rate)), scale + self.scale_offset.vector(rate)

    def forward(self, y: Tensor, context: Tensor | None, rate: Tensor) -> tuple[Tensor, Tensor]:
        """Training: y -> (quantised ŷ, bits of y and z for each sample (B,))."""
        z = self.hyper(y, rate)
        z_bits = laplace_bits(z + torch.rand_like(z) - 0.5, self.hyper_scales(rate))
        prior = self.prior(through(z), context, rate, *y.shape[-2:])
        residual = y.float() * self.step.vector(rate) - prior.mean
        y_bits = laplace_bits(residual + torch.rand_like(residual) - 0.5, prior.scale)
        decoded = self._decoded(through(residual), prior.mean, rate)
        return decoded if self.grid.exact else decoded.to(y.dtype), y_bits.sum((1, 2, 3)) + z_bits.sum((1, 2, 3))

    @staged("latent")
    def encode(self, y: Tensor, context: Tensor | None, rate: Tensor, coder: SymbolSink, refine: Refine | None = None) -> Tensor:
        """Write z and y of one frame, its symbols refined if need be; returns the ŷ that `decode` will return."""
        z = self.hyper(y, rate).round().clamp(-LIMIT, LIMIT)
        coder.write(z, self._hyper_index(z.shape, rate))
        prior = self.prior(z, context, rate, *y.shape[-2:])
        index = scale_index(prior.scale)
        symbols = (y * self.step.vector(rate) - prior.mean).round_().clamp_(-LIMIT, LIMIT) * (index >= SKIP)
        if refine:
            better = refine(arrays(symbols)[0], arrays(prior.mean)[0], arrays(index)[0].astype(np.int32))
            symbols = on_device(better.astype(np.float32)[None], y.device).permute(0, 3, 1, 2).clamp(-LIMIT, LIMIT)
        indexes, values = (integers(array) for array in hosts([index, symbols]))
        coded = np.flatnonzero(indexes >= SKIP)
        coder.write(values[coded], indexes[coded])
        return self._decoded(symbols, prior.mean, rate)

    @staged("latent")
    def decode(self, context: Tensor | None, rate: Tensor, height: int, width: int, coder: SymbolDecoder) -> Tensor:
        """Read z and y (N, height, width) of one frame, its last symbols; returns ŷ."""
        channels = self.hyper_scale.knots.shape[1]
        index = self._hyper_index((1, channels, -(-height // HYPER_ALIGN), -(-width // HYPER_ALIGN)), rate)
        z = on_device(coder.take(host(index)).astype(np.float32), index.device)
        prior = self.prior(z, context, rate, height, width)
        indexes = integers(host(scale_index(prior.scale)))
        coded = np.flatnonzero(indexes >= SKIP)
        symbols = np.zeros(len(indexes), np.float32)
        symbols[coded] = coder.take(indexes[coded])
        coder.finish()
        found = on_device(symbols, z.device).view(prior.mean.shape)
        return self._decoded(found.contiguous(memory_format=torch.channels_last), prior.mean, rate)

    def _hyper_index(self, shape: tuple[int, ...], rate: Tensor) -> Tensor:
        return scale_index(self.hyper_scales(rate)).expand(shape)

    @recorded
    def _decoded(self, symbols: Tensor, mean: Tensor, rate: Tensor) -> Tensor:
        return self.unstep(self.value(symbols + mean), rate)
