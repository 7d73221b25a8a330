"""The two filters of ConFRE (arXiv 2509.04051): in the loop on the context, outside it on the decoded picture."""

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models import bridge
from models.blocks import Stack
from models.bridge import arrays
from models.exact import Narrow, RateGain
from models.fusion import fused
from models.compiled import pictures as loops
from models.picture import Planes, to_features, to_planes
from models.presets import LAMBDA_RATIO, PICTURE, RATES, Preset
from models.replay import recorded

LUMA_RING = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
CHROMA_RING = LUMA_RING[:4]
"""Neighbours of a sample that a kernel weighs, rows down and columns to the right; each stands for the one opposite as well."""

RINGS = tuple(np.array(ring) for ring in (LUMA_RING, CHROMA_RING, CHROMA_RING))

REACH = 2
"""The largest of them."""

CHANGE_LIMIT = 1 / 8
"""Of what the next picture differs by, no more than this is believed: 32 grey levels."""


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
        if self.enter.rough is not None and not torch.is_grad_enabled() and len(rate) == 1:
            return self._in_loops(picture, context, following, rate, following_rate)
        y, u, v = self._planes(picture.y, picture.u, picture.v, context, following.y, following.u, following.v, rate, following_rate)
        return Planes(y, u, v)

    def _in_loops(self, picture: Planes, context: Tensor, following: Planes, rate: Tensor, following_rate: Tensor) -> Planes:
        """`forward` of one sample, in compiled loops."""
        features, ahead = (bridge.tensor([loops.features(bridge.pictures(planes)[0])]) for planes in (picture, following))
        x, change = self._seen(features, ahead, context, rate, following_rate)
        limits = self.limit.line(rate).tolist()
        parts = [arrays(part)[0] for part in (features, self.leave(x), self.trust(x), change)]
        (given,), kernels = bridge.pictures(picture), arrays(self.kernels(x))[0]
        return bridge.to_planes([loops.enhanced(given, parts, kernels, RINGS, float(_size(rate)), CHANGE_LIMIT, (*limits, limits[1]))])

    def _seen(self, features: Tensor, ahead: Tensor, context: Tensor, rate: Tensor, following_rate: Tensor) -> tuple[Tensor, Tensor]:
        """What the network makes of both pictures' features and the context, and how the next picture differs."""
        change = ahead - features
        better = (following_rate - rate)[:, None, None, None] / 8
        inputs = (features, context, 4 * change, 4 * change * better)
        return self.stack(self.enter(*(tensor.to(context.dtype) for tensor in inputs)), rate), change

    @recorded
    def _planes(
        self, y: Tensor, u: Tensor, v: Tensor, context: Tensor, next_y: Tensor, next_u: Tensor, next_v: Tensor, rate: Tensor, following_rate: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` in PyTorch, plane by plane."""
        picture, following = Planes(y, u, v), Planes(next_y, next_u, next_v)
        features = to_features(picture)
        x, change = self._seen(features, to_features(following), context, rate, following_rate)
        believed = self.trust(x).float() / 4 * change.clamp(-CHANGE_LIMIT, CHANGE_LIMIT)
        moved = to_planes(features + self.leave(x).float() * _size(rate)[:, None, None, None] + believed)
        luma, *chroma = (self.kernels(x).float() / 8).split((len(LUMA_RING), len(CHROMA_RING), len(CHROMA_RING)), 1)
        limits = self.limit.vector(rate)
        y = moved.y + smoothing(picture.y, luma, limits[:, :1], LUMA_RING)
        u, v = (
            plane + smoothing(decoded, kernel, limits[:, 1:], CHROMA_RING)
            for plane, decoded, kernel in zip((moved.u, moved.v), (picture.u, picture.v), chroma)
        )
        return y, u, v


def _size(rate: Tensor) -> Tensor:
    """Corrections are as large as the errors: their scale is given, so that one rate does not learn at another's cost. (B,)."""
    return LAMBDA_RATIO ** ((rate - RATES) / 32)


@fused
def smoothing(plane: Tensor, kernels: Tensor, limit: Tensor, ring: tuple[tuple[int, int], ...]) -> Tensor:
    """What kernels (B, K, h, w), one for each block, add to a plane (B, 1, H, W): differences to neighbours in the ring, of at most `limit` (B, 1, 1, 1), weighted."""
    batch, _, rows, columns = kernels.shape
    height, width = plane.shape[2:]
    wide = F.pad(plane, (REACH, REACH, REACH, REACH), mode="replicate")
    total = torch.zeros_like(plane)
    for k, (down, right) in enumerate(ring):
        pair = torch.zeros_like(plane)
        for top, left in ((REACH + down, REACH + right), (REACH - down, REACH - right)):
            pair = pair + (wide[..., top : top + height, left : left + width] - plane).clamp(-limit, limit)
        blocks = pair.view(batch, rows, height // rows, columns, width // columns)
        total = total + (blocks * kernels[:, k, :, None, :, None]).view_as(plane)
    return total
