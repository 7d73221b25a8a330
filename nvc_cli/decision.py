"""When the in-loop filter is on.

After ConFRE's adaptive decision (arXiv 2509.04051, algorithm 1), whose text leaves the exact steps open; these are nvc's. The
filter changes no bits of its own frame, so a frame's rate-distortion costs with and without it differ by the error alone. But it
changes what all later frames are predicted from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.cycle import CYCLE

POLICY = (3.908, 1.154, 0.858, 0.651, -0.274, -0.854, 0.0, -1.158, 0.0)
"""Weights of the learned policy."""


@dataclass(frozen=True)
class Moment:
    """What is known of a P-frame when its flag is decided on, without looking ahead."""

    off: float  # the picture's error without the filter
    on: float  # and with it
    since: int  # frames since the keyframe
    base: int  # rate point that was asked for
    last: bool  # the flag of the frame before; that of a keyframe is False

    @property
    def features(self) -> list[float]:
        """What the policy weighs: the gain in percent and its sign, the last flag, quality, age, and the place in the quality cycle."""
        gain = 100 * (self.off - self.on) / max(self.off, 1e-9)
        places = [float((self.since - 1) % len(CYCLE) == place) for place in range(len(CYCLE))]
        return [math.tanh(gain), math.copysign(1.0, gain), float(self.last), self.base / 32 - 1, math.log2(self.since) / 4, *places]


@dataclass(frozen=True)
class Heuristic:
    """On where the filter takes away more than the part θ(m_qc) · p_f^(since - 1) of the picture's error.

    The gain that is asked for depends on the place m_qc in the quality cycle and, through a progressive factor p_f, on the
    frames since the keyframe: a frame that many others follow has more to answer for.

    Args:
        thresholds: θ for each place in the quality cycle, the first after a keyframe first; negative ones accept a loss.
        progress: p_f.

    Raises:
        ValueError: not one threshold for each place.
    """

    thresholds: tuple[float, ...] = (0.0,) * len(CYCLE)
    progress: float = 1.0

    def __post_init__(self) -> None:
        if len(self.thresholds) != len(CYCLE):
            raise ValueError(f"the quality cycle has {len(CYCLE)} places, so there are as many thresholds, not {len(self.thresholds)}")

    def __call__(self, moment: Moment) -> bool:
        """Whether the filter is on."""
        place = moment.since - 1
        return moment.off - moment.on > moment.off * self.thresholds[place % len(CYCLE)] * self.progress**place


@dataclass(frozen=True)
class LookAhead:
    """On where that is the cheaper way to code this frame and the coming ones, in bits + λ·error.

    Both ways are followed: of all ways to have coded the frames so far, the encoder keeps the cheapest of those that end with
    the filter on, and of those that end with it off (the Viterbi algorithm with the last flag as state), and decides on a
    frame when both agree on it, or when `frames` more have come. That takes twice the time.

    Args:
        frames: how many are looked ahead.
    """

    frames: int = 8


@dataclass(frozen=True)
class Learned:
    """On where a logistic model says so, which was fitted to what `LookAhead` chose (`examples/ablation/policy.py`).

    The paper names a learned policy as future work.

    Args:
        weights: of `Moment.features`, in log-odds.
    """

    weights: tuple[float, ...] = POLICY

    def __call__(self, moment: Moment) -> bool:
        """Whether the filter is on."""
        return sum(weight * value for weight, value in zip(self.weights, moment.features, strict=True)) > 0


Decision = bool | Heuristic | LookAhead | Learned
"""A fixed flag, or how to find one."""
