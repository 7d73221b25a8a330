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
    """F_out: a correction of the decoded picture from itself and its context. Not normative."""

    def __init__(self, preset: Preset):
        super().__init__()
        width = preset.enhancer
        self.enter = Narrow(PICTURE + preset.context, width)
        self.stack = Stack(width, preset.enhancer_blocks)
        self.leave = Narrow(width, PICTURE)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, picture: Tensor, context: Tensor, rate: Tensor) -> Tensor:
        """(B, 96, H/8, W/8), (B, C, H/8, W/8) -> correction (B, 96, H/8, W/8)."""
        x = self.stack(self.enter(torch.cat([picture, context], 1)), rate)
        # Corrections are as large as the errors: their scale is given, so that one rate does not learn at another's cost.
        size = LAMBDA_RATIO ** ((rate - RATES) / 32)
        return self.leave(x).float() * size[:, None, None, None]
