"""The keyframe network: a picture coded from nothing, and the first context of the frames that follow."""

from torch import Tensor, nn

from models.blocks import Stack, down, up
from models.exact import CONTEXT_LIMIT, Grid, Narrow, Wide
from models.latent import Latent
from models.presets import PICTURE, Preset


class Intra(nn.Module):
    """Analysis to y, synthesis to the context c, head from c to the picture."""

    def __init__(self, preset: Preset):
        super().__init__()
        width, n = preset.intra_context, preset.latent
        self.enter = Narrow(PICTURE, width)
        self.encoder = Stack(width, preset.intra_blocks)
        self.to_latent = down(width, n)
        self.latent = Latent(preset, 0)
        self.from_latent = up(n, width)
        self.decoder = Stack(width, preset.intra_blocks)
        self.to_context = Wide(width, preset.context)
        self.hold = Grid(limit=CONTEXT_LIMIT)
        self.head = Stack(preset.context, 1)
        self.leave = Wide(preset.context, PICTURE)

    def analyse(self, picture: Tensor, rate: Tensor) -> Tensor:
        """(B, 96, H/8, W/8) -> y (B, N, H/16, W/16)."""
        return self.to_latent(self.encoder(self.enter(picture), rate))

    def synthesise(self, latent: Tensor, rate: Tensor) -> Tensor:
        """ŷ (B, N, H/16, W/16) -> c (B, C, H/8, W/8)."""
        return self.hold(self.to_context(self.decoder(self.from_latent(latent), rate)))

    def reconstruct(self, context: Tensor, rate: Tensor) -> Tensor:
        """c -> picture features (B, 96, H/8, W/8), float32."""
        return self.leave(self.head(context, rate)).float()
