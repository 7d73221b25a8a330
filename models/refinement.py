"""Better symbols for a frame than those its analysis gives, the encoder's own business.

What is wanted is the least bits + λ·error of the frame (Campos et al., CVPR Workshops 2019, and Yang et al., NeurIPS 2020, refine the latents of
pictures by gradients). Symbols are integers, and few of them are wrong; so here they change by one at a time: the gradient of the error,
through the synthesis in floating point, and the exact prices of symbols tell what every change is worth by itself, the best ones are made
together, and fewer of them if that was for the worse.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from models.bits import laplace_bits, scale_index
from models.entropy import SKIP
from models.latent import Prior
from models.picture import Planes
from models.presets import lagrangian
from models.quality import distortion

CURVATURE = 7.5
"""What a change of a symbol by one adds to λ·error in the middle, beside what the gradient tells."""

AT_ONCE = 0.4
"""The part of all changes for the better that is made together at first."""


@dataclass(frozen=True)
class Refinement:
    """How symbols are refined.

    Args:
        tries: how often changes are made and judged.
        weight: what the error counts beside λ, since frames that follow inherit it.
    """

    tries: int
    weight: float = 1.25

    def __call__(self, symbols: Tensor, prior: Prior, rate: Tensor, picture: Planes, synthesise: Callable[[Tensor], Planes]) -> Tensor:
        """Better symbols (1, N, H/16, W/16).

        Args:
            symbols: integers to begin with.
            prior: what both sides know of them.
            rate: rate point, (1,).
            picture: source.
            synthesise: the picture that values in units of quantisation steps, which are the symbols and their means, decode to, in floating point.
        """
        with torch.inference_mode(False), torch.enable_grad():  # what comes from inference cannot take part in gradients
            means, scales, best = prior.mean.clone(), prior.scale.clone(), symbols.clone()
            source = Planes(picture.y.clone(), picture.u.clone(), picture.v.clone())
            multiplier = self.weight * lagrangian(float(rate)) * source.y.numel()
            curvature, coded = CURVATURE * self.weight, scale_index(scales) >= SKIP
            least, part, trial = float("inf"), AT_ONCE, best
            gains, moves = torch.zeros_like(best), torch.zeros_like(best)
            for _ in range(self.tries):
                values = (trial + means).requires_grad_()
                with torch.autocast(values.device.type, torch.bfloat16):
                    error = multiplier * distortion(synthesise(values), source).sum()
                bits = laplace_bits(trial, scales)
                cost = float(error.detach() + (bits * coded).sum())
                if cost < least:
                    (gradient,) = torch.autograd.grad(error, values)
                    least, best = cost, trial
                    both = torch.stack([bits - laplace_bits(best + move, scales) - (gradient * move + curvature) for move in (-1, 1)])
                    gains, up = (both * coded).max(0)
                    moves = 2.0 * up - 1
                else:
                    part /= 2
                count = int(part * int((gains > 0).sum()))
                if not count:
                    break
                threshold = gains.flatten().topk(count).values[-1]
                trial = best + moves * (gains >= threshold)
            return best.detach()
