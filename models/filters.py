"""The two filters of ConFRE (arXiv 2509.04051): in the loop on the context, outside it on the decoded picture."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.blocks import Stack
from models.compiled.enhancer import CHANGE_LIMIT, CHROMA_RING, LUMA_RING
from models.exact import Narrow, RateGain
from models.fusion import fused
from models.picture import Planes, to_features, to_planes
from models.presets import LAMBDA_RATIO, PICTURE, RATES, Preset
from models.replay import recorded

FARTHEST = 2
"""The largest distance of a sample that a kernel weighs."""


class ContextFilter(nn.Module):
    """F_in: what is added to the context c when a frame's filter flag is set. Normative."""

    def __init__(self, preset: Preset):
        super().__init__()
        self.stack = Stack(preset.context, preset.filter_blocks)

    def forward(self, context: Tensor, rate: Tensor) -> Tensor:  # (B, C, H/8, W/8) -> the same
        return self.stack.change(context, rate)


class Enhancer(nn.Module):
    """F_out: a better picture from the decoded one, its context, and what the next picture shows of it. Not normative.

    The context holds what the past tells. The next picture often has the better quality, as quality goes through a cycle. A network
    at 1/8 of the resolution corrects what it sees, and tells three things to those who see single samples: how much to believe the next
    picture, and kernels for the luma and chroma of every block. Kernels are symmetric, and large differences to the middle are
    clamped, as in the adaptive loop filter of ITU-T H.266 (8.8.5), whose kernels are sent; these follow from what was decoded.
    """

    def __init__(self, preset: Preset):
        super().__init__()
        width = preset.enhancer
        self.enter = Narrow(3 * PICTURE + preset.context, width)
        self.stack = Stack(width, preset.enhancer_blocks)
        self.leave = Narrow(width, PICTURE)
        self.trust = Narrow(width, PICTURE)
        self.kernels = Narrow(width, len(LUMA_RING) + 2 * len(CHROMA_RING))
        self.limit = RateGain(2, math.log(3.0), math.log(22.0))  # grey levels, luma and chroma
        for layer in (self.leave, self.trust, self.kernels):  # the identity at first
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, picture: Planes, context: Tensor, following: Planes, rate: Tensor, following_rate: Tensor) -> Planes:
        """The picture enhanced, neither clamped nor rounded.

        Args:
            picture: decoded.
            context: c̃ (B, C, H/8, W/8).
            following: the next picture, moved to where this one's content is.
            rate, following_rate: rate points of the picture and of the next one, (B,): which of them is the better.
        """
        y, u, v = self._planes(picture.y, picture.u, picture.v, context, following.y, following.u, following.v, rate, following_rate)
        return Planes(y, u, v)

    @recorded
    def _planes(
        self, y: Tensor, u: Tensor, v: Tensor, context: Tensor, next_y: Tensor, next_u: Tensor, next_v: Tensor, rate: Tensor, following_rate: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`forward`, plane by plane, to be recorded."""
        picture, following = Planes(y, u, v), Planes(next_y, next_u, next_v)
        features = to_features(picture)
        change = to_features(following) - features
        better = (following_rate - rate)[:, None, None, None] / 8
        inputs = (features, context, 4 * change, 4 * change * better)
        x = self.stack(self.enter(*(tensor.to(context.dtype) for tensor in inputs)), rate)
        size = LAMBDA_RATIO ** ((rate - RATES) / 32)  # corrections are as large as the errors: it is given, so that one rate does not learn at another's cost
        believed = self.trust(x).float() / 4 * change.clamp(-CHANGE_LIMIT, CHANGE_LIMIT)
        moved = to_planes(features + self.leave(x).float() * size[:, None, None, None] + believed)
        luma, *chroma = (self.kernels(x).float() / 8).split((len(LUMA_RING), len(CHROMA_RING), len(CHROMA_RING)), 1)
        limits = self.limit.vector(rate)
        y = moved.y + smoothing(picture.y, luma, limits[:, :1], LUMA_RING)
        u, v = (
            plane + smoothing(decoded, kernel, limits[:, 1:], CHROMA_RING)
            for plane, decoded, kernel in zip((moved.u, moved.v), (picture.u, picture.v), chroma)
        )
        return y, u, v


@fused
def smoothing(plane: Tensor, kernels: Tensor, limit: Tensor, ring: tuple[tuple[int, int], ...]) -> Tensor:
    """What kernels (B, K, h, w), one for each block, add to a plane (B, 1, H, W): differences to neighbours in the ring, of at most `limit` (B, 1, 1, 1), weighted."""
    batch, _, rows, columns = kernels.shape
    height, width = plane.shape[2:]
    wide = F.pad(plane, (FARTHEST, FARTHEST, FARTHEST, FARTHEST), mode="replicate")
    total = torch.zeros_like(plane)
    for k, (down, right) in enumerate(ring):
        pair = torch.zeros_like(plane)
        for top, left in ((FARTHEST + down, FARTHEST + right), (FARTHEST - down, FARTHEST - right)):
            pair = pair + (wide[..., top : top + height, left : left + width] - plane).clamp(-limit, limit)
        blocks = pair.view(batch, rows, height // rows, columns, width // columns)
        total = total + (blocks * kernels[:, k, :, None, :, None]).view_as(plane)
    return total
