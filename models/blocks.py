"""Building blocks: convolutions at 1/8 and 1/16 of the picture, no normalisation, no attention."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from models.arrays import Array
from models.exact import Grid, Narrow, RateGain, Wide, link
from models.fusion import fused
from models.kernels import networks


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
        self.compiled: networks.BlockLayers | None = None
        self.rough: networks.RoughBlock | None = None
        for branch in (self.widen, self.contract):  # the identity at first
            nn.init.zeros_(branch.weight)
            nn.init.zeros_(branch.bias)

    @fused
    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        x = self.grid.add(x, self.widen(self.spatial(self.narrow(x))))
        return self.grid.add(x, self.contract(self.expand(x)))

    def compile(self) -> None:
        """Get the block ready for compiled loops, when its layers are prepared."""
        parts = self.narrow, self.spatial, self.widen, self.expand, self.contract
        rough = [layer.rough.layer for layer in parts if layer.rough]
        self.compiled, self.rough = None, networks.RoughBlock(*rough) if len(rough) == len(parts) and not self.narrow.exact else None
        if self.narrow.compiled:
            narrow, spatial, widen, expand, contract = (layer.on_bytes for layer in parts)
            self.compiled = networks.BlockLayers(
                narrow.from_steps, narrow.to_layer(spatial), spatial.to_layer(widen), widen.to_steps, expand.from_steps,
                expand.to_layer(contract), contract.to_steps,
            )  # fmt: skip

    def link(self) -> None:
        """Let prepared layers hand over integers without rescaling them in between."""
        link(self.narrow, self.spatial, self.widen)
        link(self.expand, self.contract)


def down(inputs: int, outputs: int, relu: bool = False) -> Narrow:
    """Halve the resolution: (B, inputs, H, W) -> (B, outputs, H/2, W/2)."""
    return Narrow(inputs, outputs, 2, stride=2, relu=relu)


def up(inputs: int, outputs: int, kind: type[Narrow] | type[Wide] = Wide, **options: bool) -> nn.Sequential:
    """Double the resolution: (B, inputs, H, W) -> (B, outputs, 2H, 2W)."""
    return Up(kind(inputs, 4 * outputs, **options), nn.PixelShuffle(2))


class Up(nn.Sequential):
    """A convolution whose every four channels become a square of 2×2."""

    def __init__(self, layer: Narrow | Wide, shuffle: nn.PixelShuffle):
        super().__init__(layer, shuffle)
        if isinstance(layer, Wide):
            layer.shuffles = True

    def forward(self, x: Tensor) -> Tensor:
        x = self[0](x)
        return x if isinstance(self[0], Wide) and self[0].compiled else self[1](x)


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

    @property
    def blocks(self) -> list[Block]:
        """In their order."""
        return [cast(Block, block) for block in self.body]

    def change(self, x: Tensor, rate: Tensor) -> Tensor:
        """What the blocks add: (B, C, H, W) -> (B, C, H, W)."""
        x = self.gain(x, rate)
        return self.strength(self.body(x) - x, rate)

    def forward(self, x: Tensor, rate: Tensor, limit: Grid | None = None) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        """The largest result is that of `limit`, or of any stream tensor."""
        limit = limit or self.grid
        if self.grid.exact and (compiled := [block.compiled for block in self.blocks if block.compiled]):
            return self._by_sample(x, rate, lambda x, gain, strength: networks.stack(x, gain, strength, compiled, limit.largest))
        if not self.grid.exact and not torch.is_grad_enabled() and (rough := [block.rough for block in self.blocks if block.rough]):
            return self._by_sample(x, rate, lambda x, gain, strength: networks.rough_stack(x, gain, strength, rough))
        return limit.clamp(x + self.change(x, rate))

    def _by_sample(self, x: Tensor, rate: Tensor, compiled: Callable[[Tensor, Array, Array], Tensor]) -> Tensor:
        """In compiled loops, which take one sample with its gains and strengths."""
        made = [compiled(x[k : k + 1], self.gain.line(rate[k : k + 1]), self.strength.line(rate[k : k + 1])) for k in range(len(x))]
        return made[0] if len(made) == 1 else torch.cat(made)
