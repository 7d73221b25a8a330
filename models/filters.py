"""The two filters of ConFRE (arXiv 2509.04051): in the loop on the context, outside it on the decoded picture."""

import torch
from torch import Tensor, nn

from models.blocks import Stack
from models.exact import Narrow
from models.presets import LAMBDA_RATIO, PICTURE, RATES, Preset


class ContextFilter(nn.Module):
    """F_in: what is added to the context c when a frame's filter flag is set. Normative."""

    def __init__(self, preset: Preset):
        super().__init__()
        self.stack = Stack(preset.context, preset.filter_blocks)

    def forward(self, context: Tensor, rate: Tensor) -> Tensor:  # (B, C, H/8, W/8) -> the same
        return self.stack.change(context, rate)


class Enhancer(nn.Module):
    """F_out: a correction of the decoded picture from itself, its context, and what the next picture shows of it. Not normative.

    The context holds what the past tells. The next picture often has the better quality, as quality goes through a cycle.
    """

    def __init__(self, preset: Preset):
        super().__init__()
        width = preset.enhancer
        self.enter = Narrow(3 * PICTURE + preset.context, width)
        self.stack = Stack(width, preset.enhancer_blocks)
        self.leave = Narrow(width, PICTURE)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, picture: Tensor, context: Tensor, change: Tensor, rate: Tensor, following: Tensor) -> Tensor:
        """A correction (B, 96, H/8, W/8).

        Args:
            picture: features, (B, 96, H/8, W/8).
            context: c̃ (B, C, H/8, W/8).
            change: from the picture to the next one, after motion, (B, 96, H/8, W/8).
            rate, following: rate points of the picture and of the next one, (B,): which of them is the better.
        """
        change = 4 * change
        trust = (following - rate)[:, None, None, None] / 8
        x = self.stack(self.enter(torch.cat([picture, context, change, change * trust], 1)), rate)
        # Corrections are as large as the errors: their scale is given, so that one rate does not learn at another's cost.
        size = LAMBDA_RATIO ** ((rate - RATES) / 32)
        return self.leave(x).float() * size[:, None, None, None]
