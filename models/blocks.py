"""Building blocks: convolutions at 1/8 and 1/16 of the picture, no normalisation, no attention."""

from torch import Tensor, nn

from models.exact import Grid, Narrow, RateGain, Wide, link
from models.fusion import fused


class Block(nn.Module):
    """Depth-wise convolution block: 1×1, 3×3 depth-wise, 1×1 at half width, then a twofold feed-forward; both residual."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.narrow = Narrow(channels, half)
        self.spatial = Narrow(half, half, 3, groups=half, relu=True)
        self.widen = Narrow(half, channels)
        self.expand = Narrow(channels, 2 * channels)
        self.contract = Narrow(2 * channels, channels, relu=True)
        self.grid = Grid()
        for branch in (self.widen, self.contract):  # the identity at first
            nn.init.zeros_(branch.weight)
            nn.init.zeros_(branch.bias)

    @fused
    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = self.grid.add(x, self.widen(self.spatial(self.narrow(x))))
        return self.grid.add(x, self.contract(self.expand(x)))

    def link(self) -> None:
        """Let prepared layers hand over integers without rescaling them in between."""
        link(self.narrow, self.spatial, self.widen)
        link(self.expand, self.contract)


def down(inputs: int, outputs: int, relu: bool = False) -> Narrow:
    """Halve the resolution: (B, inputs, H, W) -> (B, outputs, H/2, W/2)."""
    return Narrow(inputs, outputs, 2, stride=2, relu=relu)


def up(inputs: int, outputs: int, kind: type[Narrow] | type[Wide] = Wide, **options: bool) -> nn.Sequential:
    """Double the resolution: (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""
    return nn.Sequential(kind(inputs, 4 * outputs, **options), nn.PixelShuffle(2))


class Stack(nn.Module):
    """Blocks in a row around which the input passes unchanged: x + strength · (blocks(x) - x), strength by channel and rate.

    At high rates the path around the blocks carries a picture almost untouched; at low rates the blocks do the work.
    """

    def __init__(self, channels: int, count: int):
        super().__init__()
        self.gain = RateGain(channels)
        self.body = nn.Sequential(*(Block(channels) for _ in range(count)))
        self.strength = RateGain(channels, -2.5, 0.0)
        self.grid = Grid()

    def change(self, x: Tensor, rate: Tensor) -> Tensor:
        """What the blocks add: (B, C, H, W) -> (B, C, H, W)."""
        x = self.gain(x, rate)
        return self.strength(self.body(x) - x, rate)

    def forward(self, x: Tensor, rate: Tensor, limit: Grid | None = None) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """The largest result is that of `limit`, or of any stream tensor."""
        limit = limit or self.grid
        return limit.clamp(x + self.change(x, rate))
