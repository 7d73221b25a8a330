"""Better symbols for a frame than those its analysis gives, the encoder's own business.

What is wanted is the least bits + λ·error of the frame (Campos et al., CVPR Workshops 2019, and Yang et al., NeurIPS 2020, refine the latents of
pictures by gradients). Symbols are integers, and few of them are wrong; so here they change by one at a time: the gradient of the error,
through the synthesis in floating point, and the exact prices of symbols tell what every change is worth by itself, the best ones are made
together, and fewer of them if that was for the worse.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from models.bits import scale_index
from models.bridge import arrays, tensor
from models.kernels import prices
from models.latent import Prior
from models.picture import Planes
from models.presets import lagrangian
from models.quality import distortion
from models.tables import load

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
        means, tables = arrays(prior.mean.cpu()), arrays(scale_index(prior.scale).cpu()).ravel().astype(np.int32)
        best = arrays(symbols.cpu()).ravel().astype(np.int32)
        costs, price = load().costs, (load().begins, load().reaches)
        multiplier = self.weight * lagrangian(float(rate)) * picture.y.numel()
        least, part, trial = float("inf"), AT_ONCE, best
        gains, moves = np.zeros(len(best), np.float32), np.zeros_like(best)
        with torch.inference_mode(False), torch.enable_grad():  # what comes from inference cannot take part in gradients
            source = Planes(picture.y.clone(), picture.u.clone(), picture.v.clone())
            for _ in range(self.tries):
                values = tensor(list(trial.reshape(means.shape).astype(np.float32) + means)).to(symbols.device).requires_grad_()
                with torch.autocast(values.device.type, torch.bfloat16):
                    error = multiplier * distortion(synthesise(values), source).sum()
                cost = float(error.detach()) + prices.total(trial, tables, costs, *price)
                if cost < least:
                    (gradient,) = torch.autograd.grad(error, values)
                    least, best = cost, trial
                    slopes = arrays(gradient.cpu()).ravel()
                    prices.changes(best, tables, slopes, np.float32(CURVATURE * self.weight), costs, *price, gains, moves)
                else:
                    part /= 2
                better = gains[gains > 0]
                count = int(part * len(better))
                if not count:
                    break
                trial = best + moves * (gains >= np.partition(better, -count)[-count])
        return tensor(list(best.reshape(means.shape).astype(np.float32))).to(symbols.device)
