"""Better symbols for a frame than those its analysis gives, the encoder's own business.

What is wanted is the least bits + λ·error of the frame (Campos et al., CVPR Workshops 2019, and Yang et al., NeurIPS 2020, refine the latents of
pictures by gradients). Symbols are integers, and few of them are wrong; so here they change by one at a time: the gradient of the error,
through the synthesis in floating point, and the exact prices of symbols tell what every change is worth by itself, the best ones are made
together, and fewer of them if that was for the worse.
"""

from dataclasses import dataclass

import numpy as np

from models.arrays import Array
from models.compiled.synthesis import Judge
from models.kernels import prices
from models.presets import lagrangian
from models.tables import load

CURVATURE = 7.5
"""What a change of a symbol by one adds to λ·error in the middle, beside what the gradient tells."""

AT_ONCE = 0.4
"""The part of all changes for the better that is made together at first."""


@dataclass(frozen=True)
class Refinement:
    """How symbols are refined.

    Args:
        tries: how often they are judged.
        weight: what the error counts beside λ, since frames that follow inherit it.
        blind: the last changes are made without being judged.
    """

    tries: int
    weight: float = 1.25
    blind: bool = False

    def __call__(self, symbols: Array, means: Array, tables: Array, rate: int, samples: int, judge: Judge) -> Array:
        """Better symbols (H/16, W/16, N).

        Args:
            symbols: integers to begin with.
            means: what both sides know of them.
            tables: the tables that they are coded with, int32.
            rate: rate point.
            samples: of luma.
            judge: the error of what values in steps of quantisation, which are the symbols and their means, decode to.
        """
        best, tables = symbols.astype(np.int32).ravel(), tables.ravel()
        costs, price = load().costs, (load().begins, load().reaches)
        multiplier = self.weight * lagrangian(float(rate)) * samples
        least, part, trial = float("inf"), AT_ONCE, best
        gains, moves = np.zeros(len(best), np.float32), np.zeros_like(best)
        for more in reversed(range(self.tries)):
            error, gradient = judge(trial.reshape(means.shape).astype(np.float32) + means, multiplier)
            cost = error + prices.total(trial, tables, costs, *price)
            if cost < least:
                least, best = cost, trial
                if more or self.blind:
                    slopes = np.ascontiguousarray(gradient()).ravel()
                    prices.changes(best, tables, slopes, np.float32(CURVATURE * self.weight), costs, *price, gains, moves)
            else:
                part /= 2
            better = gains[gains > 0]
            count = int(part * len(better))
            if not count:
                trial = best
                break
            trial = best + moves * (gains >= np.partition(better, -count)[-count])
        return (trial if self.blind else best).reshape(means.shape)
