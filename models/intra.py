"""The keyframe network: a picture coded from nothing, and the first context of the frames that follow."""

from torch import Tensor, nn

from models.blocks import Stack, down, up
from models.exact import Grid, Narrow, Wide
from models.integers import CONTEXT_LIMIT
from models.latent import Latent
from models.picture import Planes, to_planes
from models.presets import PICTURE, Preset
from models.replay import recorded
from models.stages import staged


class Intra(nn.Module):
    """Analysis to y, synthesis to the context c, head from c to the picture."""

    def __init__(self, preset: Preset):
        super().__init__()
        width, n = preset.intra_context, preset.latent
        self.enter = Narrow(PICTURE, width)
        self.encoder = Stack(width, preset.intra_blocks)
        self.to_latent = down(width + PICTURE, n)
        self.latent = Latent(preset, 0)
        self.from_latent, self.detail = up(n, width), up(n, PICTURE)
        self.decoder = Stack(width, preset.intra_blocks)
        self.to_context = Wide(width, preset.context)
        self.hold = Grid(limit=CONTEXT_LIMIT)
        self.head = Stack(preset.context, 1)
        self.leave, self.grid = Wide(preset.context, PICTURE), Grid()

    @staged("keyframe network")
    @recorded
    def analyse(self, picture: Tensor, rate: Tensor) -> Tensor:
        """(B, 96, H/8, W/8) -> y (B, N, H/16, W/16)."""
        x = self.encoder(self.enter(picture), rate)
        return self.to_latent(x, picture.to(x.dtype))

    @staged("keyframe network")
    @recorded
    def synthesise(self, latent: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """ŷ (B, N, H/16, W/16) -> c (B, C, H/8, W/8), and detail that passes it by (B, 96, H/8, W/8)."""
        return self.hold(self.to_context(self.decoder(self.from_latent(latent), rate))), self.detail(latent)

    @staged("keyframe network")
    def reconstruct(self, context: Tensor, detail: Tensor, rate: Tensor) -> Tensor:
        """c and detail -> picture features (B, 96, H/8, W/8), float32."""
        return self.grid(self.leave(self.head(context, rate)).float() + detail.float())

    def picture(self, context: Tensor, detail: Tensor, rate: Tensor) -> Planes:
        """`reconstruct` as a picture of 8 bits."""
        return Planes(*self._planes(context, detail, rate))

    @staged("keyframe network")
    @recorded
    def _planes(self, context: Tensor, detail: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        picture = to_planes(self.reconstruct(context, detail, rate)).rounded()
        return picture.y, picture.u, picture.v

    def decoded(self, values: Tensor, rate: Tensor) -> Tensor:
        """Values of y in quantisation steps (B, N, H/16, W/16) -> picture features (B, 96, H/8, W/8)."""
        context, detail = self.synthesise(self.latent.unstep(values, rate), rate)
        return self.reconstruct(context, detail, rate)
