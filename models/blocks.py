"""Building blocks: convolutions at 1/8 and 1/16 of the picture, no normalisation, no attention.

Every operation here is one that exact integer arithmetic can do: convolutions, clamps, per-channel scaling, additions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.presets import RATES


class Block(nn.Module):
    """Depth-wise convolution block: 1×1, 3×3 depth-wise, 1×1 at half width, then a twofold feed-forward; both residual."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.narrow = nn.Conv2d(channels, half, 1)
        self.spatial = nn.Conv2d(half, half, 3, padding=1, groups=half)
        self.widen = nn.Conv2d(half, channels, 1)
        self.expand = nn.Conv2d(channels, 2 * channels, 1)
        self.contract = nn.Conv2d(2 * channels, channels, 1)
        for branch in (self.widen, self.contract):  # the identity at first
            nn.init.zeros_(branch.weight)
            nn.init.zeros_(branch.bias)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = x + self.widen(self.spatial(F.relu(self.narrow(x))))
        return x + self.contract(F.relu(self.expand(x)))


def down(inputs: int, outputs: int) -> nn.Conv2d:
    """Halve the resolution: (B, inputs, H, W) -> (B, outputs, H/2, W/2)."""
    return nn.Conv2d(inputs, outputs, 2, stride=2)


def up(inputs: int, outputs: int) -> nn.Sequential:
    """Double the resolution: (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""
    return nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))


class RateTable(nn.Module):
    """A learned vector for every rate point: eight steps of --qp as knots, linear in between.

    Args:
        channels: length of the vector.
        first, last: initial value at rate 0 and at rate 64.
    """

    KNOTS = RATES // 8 + 1

    def __init__(self, channels: int, first: float = 0.0, last: float = 0.0):
        super().__init__()
        line = torch.linspace(first, last, self.KNOTS)
        self.knots = nn.Parameter(line[:, None].repeat(1, channels))

    def forward(self, rate: Tensor) -> Tensor:  # (B,) -> (B, C, 1, 1)
        place = rate.float() / 8
        low = place.floor().clamp(0, self.KNOTS - 2).long()
        part = (place - low)[:, None]
        vector = self.knots[low] * (1 - part) + self.knots[low + 1] * part
        return vector[:, :, None, None]


class RateGain(RateTable):
    """A learned positive gain per channel for every rate point, stored as its logarithm."""

    def forward(self, rate: Tensor) -> Tensor:  # (B,) -> (B, C, 1, 1)
        return super().forward(rate).exp()


def gain(x: Tensor, vector: Tensor) -> Tensor:
    """Scale channels without promoting a bfloat16 activation to float32."""
    return x * vector.to(x.dtype)


class Stack(nn.Module):
    """Blocks in a row around which the input passes unchanged: x + strength · (blocks(x) - x), strength by channel and rate.

    At high rates the path around the blocks carries a picture almost untouched; at low rates the blocks do the work.
    """

    def __init__(self, channels: int, count: int):
        super().__init__()
        self.gain = RateGain(channels)
        self.body = nn.Sequential(*(Block(channels) for _ in range(count)))
        self.strength = RateGain(channels, -2.5, 0.0)

    def change(self, x: Tensor, rate: Tensor) -> Tensor:
        """What the blocks add: (B, C, H, W) -> (B, C, H, W)."""
        x = gain(x, self.gain(rate))
        return gain(self.body(x) - x, self.strength(rate))

    def forward(self, x: Tensor, rate: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        return x + self.change(x, rate)
