"""The P-frame network: conditional coding of a picture given the motion-compensated past."""

import torch
from torch import Tensor, nn

from models.blocks import Stack, down, up
from models.filters import ContextFilter
from models.latent import Latent
from models.presets import PICTURE, Preset


class Inter(nn.Module):
    """Temporal context p, analysis to y, synthesis to c, in-loop filter to c̃, head to the picture."""

    def __init__(self, preset: Preset):
        super().__init__()
        c, n = preset.context, preset.latent
        self.refresh = nn.Conv2d(PICTURE, c, 1)
        self.enter = nn.Conv2d(PICTURE + c, c, 1)
        self.context = Stack(c, preset.context_blocks)

        self.join = nn.Conv2d(2 * PICTURE + c, c, 1)
        self.encoder = Stack(c, preset.encoder_blocks)
        self.to_latent = down(c, n)
        self.latent = Latent(preset, c)

        self.from_latent = up(n, c)
        self.merge = nn.Conv2d(2 * c, c, 1)
        self.decoder = Stack(c, preset.decoder_blocks)

        self.filter = ContextFilter(preset)
        self.head = Stack(c, 1)
        self.residual = nn.Conv2d(c, PICTURE, 1)
        self.release = nn.Conv2d(c, PICTURE, 1)
        nn.init.constant_(self.release.bias, 0.05)

    def predict(self, reference: Tensor, memory: Tensor, rate: Tensor) -> Tensor:
        """Warped picture (B, 96, H/8, W/8) and warped context (B, C, H/8, W/8) -> temporal context p (B, C, H/8, W/8)."""
        x = self.enter(torch.cat([reference.to(memory.dtype), memory], 1))
        return self.context(x, rate)

    def analyse(self, picture: Tensor, reference: Tensor, context: Tensor, rate: Tensor) -> Tensor:
        """The picture given its prediction -> y (B, N, H/16, W/16)."""
        x = self.join(torch.cat([picture.to(context.dtype), reference.to(context.dtype), context], 1))
        return self.to_latent(self.encoder(x, rate))

    def synthesise(self, latent: Tensor, context: Tensor, rate: Tensor) -> Tensor:
        """ŷ and p -> c (B, C, H/8, W/8), before the in-loop filter."""
        x = self.merge(torch.cat([self.from_latent(latent), context], 1))
        return self.decoder(x, rate)

    def reconstruct(self, context: Tensor, reference: Tensor, rate: Tensor) -> Tensor:
        """c̃ and the warped picture -> picture features (B, 96, H/8, W/8), float32.

        The warped picture is kept except where the network lets go of it, in parts from 0 to 1.
        """
        x = self.head(context, rate)
        release = self.release(x).float().clamp(0, 1)
        return reference - release * reference + self.residual(x).float()
