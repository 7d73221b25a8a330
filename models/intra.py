"""The keyframe network: a picture coded from nothing, and the first context of the frames that follow."""

from torch import Tensor, nn

from models.blocks import RateGain, blocks, down, gain, up
from models.latent import Latent
from models.presets import PICTURE, Preset


class Intra(nn.Module):
    """Analysis to y, synthesis to the context c, head from c to the picture."""

    def __init__(self, preset: Preset):
        super().__init__()
        width, n = preset.intra_context, preset.latent
        self.enter = nn.Conv2d(PICTURE, width, 1)
        self.encoder_gain = RateGain(width)
        self.encoder = blocks(width, preset.intra_blocks)
        self.to_latent = down(width, n)
        self.latent = Latent(preset, 0)
        self.from_latent = up(n, width)
        self.decoder_gain = RateGain(width)
        self.decoder = blocks(width, preset.intra_blocks)
        self.to_context = nn.Conv2d(width, preset.context, 1)
        self.head = nn.Sequential(*blocks(preset.context, 1), nn.Conv2d(preset.context, PICTURE, 1))

    def analyse(self, picture: Tensor, rate: Tensor) -> Tensor:
        """(B, 96, H/8, W/8) -> y (B, N, H/16, W/16)."""
        x = gain(self.enter(picture), self.encoder_gain(rate))
        return self.to_latent(self.encoder(x))

    def synthesise(self, latent: Tensor, rate: Tensor) -> Tensor:
        """ŷ (B, N, H/16, W/16) -> c (B, C, H/8, W/8)."""
        x = gain(self.from_latent(latent), self.decoder_gain(rate))
        return self.to_context(self.decoder(x))

    def reconstruct(self, context: Tensor) -> Tensor:
        """c -> picture features (B, 96, H/8, W/8), float32."""
        return self.head(context).float()
