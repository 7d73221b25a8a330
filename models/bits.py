"""The distributions of symbols in PyTorch: which table codes a symbol, and the bits that it takes, with gradients."""

import math

import torch
from torch import Tensor

from models.fusion import fused
from models.replay import recorded
from models.tables import FIRST, FLAG_STEP, FLAGS, LAST, PRECISION, SCALES, STEP


@recorded
def scale_index(raw: Tensor) -> Tensor:
    """Raw network output (logarithm of the scale) -> table index 0..SCALES-1."""
    return ((raw - FIRST) / STEP).round().clamp(0, SCALES - 1).int()


def flag_index(logit: Tensor) -> Tensor:
    """Log-odds -> table index SCALES..SCALES+FLAGS-1."""
    return (logit / FLAG_STEP + FLAGS / 2).floor().clamp(0, FLAGS - 1).int() + SCALES


@fused
def laplace_bits(x: Tensor, raw: Tensor) -> Tensor:
    """Bits of symbols `x` (integers, or integers plus uniform noise) under a zero-mean Laplace of log-scale `raw`."""
    scale = raw.float().clamp(FIRST, LAST).exp()
    x, half = x.float().abs(), 0.5 / scale
    tail = -x / scale + half + torch.log(-torch.expm1(-2 * half)) - math.log(2)
    centre = torch.log1p(-(torch.exp(-half) * torch.cosh(x.clamp(max=0.5) / scale)).clamp(max=1 - 1e-6))
    return torch.where(x < 0.5, centre, tail.clamp(min=-PRECISION * math.log(2))) / -math.log(2)


def flag_bits(flag: Tensor, logit: Tensor) -> Tensor:
    """Bits of binary symbols under log-odds `logit`."""
    bound = FLAGS / 2 * FLAG_STEP
    flags, logits = torch.broadcast_tensors(flag.float(), logit.float().clamp(-bound, bound))
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, flags, reduction="none") / math.log(2)
