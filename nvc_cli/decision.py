"""When the in-loop filter is on.

After ConFRE's adaptive decision (arXiv 2509.04051, algorithm 1), whose text leaves the exact steps open; these are nvc's. The
filter changes no bits of its own frame, so a frame's rate-distortion costs with and without it differ by the error alone. But it
changes what all later frames are predicted from.
"""

from __future__ import annotations

from dataclasses import dataclass

from models.cycle import CYCLE


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

    def __call__(self, off: float, on: float, since: int) -> bool:
        """Whether the filter is on, given the picture's error without and with it, `since` frames after the keyframe."""
        return off - on > off * self.thresholds[(since - 1) % len(CYCLE)] * self.progress ** (since - 1)


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


Decision = bool | Heuristic | LookAhead
"""A fixed flag, or how to find one."""
