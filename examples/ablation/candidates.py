"""In-loop filters of four families, in three sizes each, with the interface of `models.filters.ContextFilter`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import Block
from models.exact import Narrow, RateGain


class Candidate(nn.Module):
    """Residual blocks in a row between gains by channel and rate, as in `models.blocks.Stack`, which the shipped filter is."""

    def __init__(self, channels: int, *blocks: nn.Module):
        super().__init__()
        self.gain = RateGain(channels)
        self.body = nn.Sequential(*blocks)
        self.strength = RateGain(channels, -2.5, 0.0)

    def forward(self, context: Tensor, rate: Tensor) -> Tensor:
        """What is added to the context: (B, C, H/8, W/8) and rate points (B,) -> (B, C, H/8, W/8)."""
        x = self.gain(context, rate)
        return self.strength(self.body(x) - x, rate)


class Residual(nn.Module):
    """x + leave(inside(x)), the identity at first; all (B, C, H, W)."""

    def __init__(self, inside: nn.Module, leave: Narrow):
        super().__init__()
        self.inside, self.leave = inside, leave
        nn.init.zeros_(leave.weight)
        nn.init.zeros_(leave.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.leave(self.inside(x))


class Gated(nn.Module):
    """A 7×7 depth-wise convolution of one half, times SiLU of the other: (B, C, H, W) -> (B, width, H, W)."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.enter = Narrow(channels, 2 * width)
        self.spatial = Narrow(width, width, 7, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.enter(x).chunk(2, 1)
        return self.spatial(value) * F.silu(gate)


class LinearAttention(nn.Module):
    """Attention over the whole picture with features elu + 1, and a 3×3 depth-wise convolution that knows positions: (B, C, H, W) -> (B, width, H, W)."""

    def __init__(self, channels: int, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.enter = Narrow(channels, 3 * width)
        self.spatial = Narrow(width, width, 3, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.enter(x).float().chunk(3, 1)
        q, k, v = (part.unflatten(1, (self.heads, -1)).flatten(3) for part in (query, key, value))  # (B, heads, d, H·W)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        k = k / k.shape[-1]  # so that sums are means, whatever the size of the picture
        found = (v @ k.transpose(2, 3)) @ q / (k.sum(3, keepdim=True).transpose(2, 3) @ q)
        return found.flatten(1, 2).view_as(value) + self.spatial(value)


def plain(channels: int, width: int) -> nn.Module:
    """Two full 3×3 convolutions through `width` channels."""
    return Residual(Narrow(channels, width, 3), Narrow(width, channels, 3, relu=True))


def depthwise(channels: int, width: int) -> nn.Module:
    """The codec's own block, between 1×1 convolutions if it is narrower than the context."""
    if width == channels:
        return Block(channels)
    return Residual(nn.Sequential(Narrow(channels, width), Block(width)), Narrow(width, channels))


def gated(channels: int, width: int) -> nn.Module:
    return Residual(Gated(channels, width), Narrow(width, channels))


def attention(channels: int, width: int) -> nn.Module:
    """Heads of 20 channels."""
    return Residual(LinearAttention(channels, width, width // 20), Narrow(width, channels))


FAMILIES: dict[str, tuple[Callable[[int, int], nn.Module], tuple[tuple[int, int], ...]]] = {
    "plain 3×3": (plain, ((15, 1), (30, 1), (30, 2))),
    "depth-wise 3×3": (depthwise, ((56, 1), (96, 1), (96, 2))),
    "gated 7×7": (gated, ((76, 1), (76, 2), (76, 4))),
    "linear attention": (attention, ((60, 1), (60, 2), (60, 4))),
}
"""What makes a block from the channels of the context and a width, and (width, blocks) of the three sizes: about 0.4, 0.8 and 1.6 kMAC/pixel at 96 channels."""


def build(family: str, size: int, channels: int) -> Candidate:
    """An untrained filter, always with the same first values."""
    make, sizes = FAMILIES[family]
    width, blocks = sizes[size]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return Candidate(channels, *(make(channels, width) for _ in range(blocks)))
