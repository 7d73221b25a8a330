"""The P-frame network: conditional coding of a picture given the motion-compensated past.

The context has as many channels as the picture has samples, and holds more than the picture. So what it has no room for
passes it by: `detail` goes straight from y to the picture, as the difference to the reference goes straight to y.
"""

from torch import Tensor, nn

from models.blocks import Stack, down, up
from models.exact import Grid, Narrow, Wide
from models.filters import ContextFilter
from models.integers import CONTEXT_LIMIT
from models.latent import Latent
from models.picture import Planes, to_planes
from models.presets import PICTURE, Preset
from models.replay import recorded
from models.stages import staged


class Inter(nn.Module):
    """Temporal context p, analysis to y, synthesis to c, in-loop filter to c̃, head to the picture."""

    def __init__(self, preset: Preset):
        super().__init__()
        c, n = preset.context, preset.latent
        self.refresh = Wide(PICTURE, c)
        self.enter = Wide(PICTURE + c, c)
        self.context = Stack(c, preset.context_blocks)

        self.join = Narrow(2 * PICTURE + c, c)
        self.encoder = Stack(c, preset.encoder_blocks)
        self.to_latent = down(c + PICTURE, n)
        self.latent = Latent(preset, c)

        self.from_latent, self.detail = up(n, c), up(n, PICTURE)
        self.merge = Wide(2 * c, c)
        self.decoder = Stack(c, preset.decoder_blocks)

        self.filter = ContextFilter(preset)
        self.hold = Grid(limit=CONTEXT_LIMIT)
        self.head = Stack(c, 1)
        self.residual = Wide(c, PICTURE)
        self.release = Narrow(c, PICTURE)
        self.part, self.grid = Grid(8, 256), Grid()
        nn.init.constant_(self.release.bias, 0.05)

    @staged("context")
    @recorded
    def predict(self, reference: Tensor, memory: Tensor, rate: Tensor) -> Tensor:
        """Warped picture (B, 96, H/8, W/8) and warped context (B, C, H/8, W/8) -> temporal context p (B, C, H/8, W/8)."""
        x = self.enter(reference, memory)
        return self.context(x, rate)

    @staged("analysis")
    @recorded
    def analyse(self, picture: Tensor, reference: Tensor, context: Tensor, rate: Tensor) -> Tensor:
        """The picture given its prediction -> y (B, N, H/16, W/16)."""
        x = self.join(picture.to(context.dtype), reference.to(context.dtype), context)
        return self.to_latent(self.encoder(x, rate), (picture - reference).to(x.dtype))

    @staged("synthesis")
    @recorded
    def synthesise(self, latent: Tensor, context: Tensor, rate: Tensor) -> tuple[Tensor, Tensor]:
        """ŷ and p -> c (B, C, H/8, W/8), before the in-loop filter, and detail that passes it by (B, 96, H/8, W/8)."""
        x = self.merge(self.from_latent(latent), context)
        return self.decoder(x, rate), self.detail(latent)

    @staged("in-loop filter")
    @recorded
    def filtered(self, context: Tensor, switch: Tensor | bool, rate: Tensor) -> Tensor:
        """c -> c̃: the in-loop filter applied where `switch` is 1; a tensor (B,), or a bool for all."""
        if isinstance(switch, Tensor):
            context = context + switch[:, None, None, None].to(context.dtype) * self.filter(context, rate)
        elif switch:
            return self.filter.stack(context, rate, self.hold)
        return self.hold.clamp(context)

    @staged("reconstruction")
    def reconstruct(self, context: Tensor, detail: Tensor, reference: Tensor, rate: Tensor) -> Tensor:
        """c̃, detail and the warped picture -> picture features (B, 96, H/8, W/8), float32.

        The warped picture is kept except where the network lets go of it, in parts from 0 to 1.
        """
        x = self.head(context, rate)
        release = self.part(self.release(x).float().clamp(0, 1))
        return self.grid.clamp(self.residual(x).float() + detail.float() + reference - self.grid(release * reference))

    def picture(self, context: Tensor, detail: Tensor, reference: Tensor, rate: Tensor) -> Planes:
        """`reconstruct` as a picture of 8 bits."""
        return Planes(*self._planes(context, detail, reference, rate))

    @staged("reconstruction")
    @recorded
    def _planes(self, context: Tensor, detail: Tensor, reference: Tensor, rate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        picture = to_planes(self.reconstruct(context, detail, reference, rate)).rounded()
        return picture.y, picture.u, picture.v

    def decoded(self, values: Tensor, context: Tensor, reference: Tensor, rate: Tensor) -> Tensor:
        """Values of y in quantisation steps (B, N, H/16, W/16), p and the warped picture -> picture features (B, 96, H/8, W/8), the in-loop filter on."""
        context, detail = self.synthesise(self.latent.unstep(values, rate), context, rate)
        return self.reconstruct(self.filtered(context, True, rate), detail, reference, rate)
