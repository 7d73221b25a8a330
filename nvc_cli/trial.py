"""How good a keyframe is to be, found out by trial.

What follows a keyframe profits from its quality for as long as its content is to be seen. A picture that stands still is worth several times
the bits of one that soon has left the scene, so a few frames are encoded with keyframes of different quality, and what all of them cost decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from models.cycle import CYCLE, KEYFRAME, rate_point
from models.presets import lagrangian

if TYPE_CHECKING:
    from nvc_cli.encoder import Encoded
    from nvc_cli.frame import Frame


HORIZON = 3 * len(CYCLE)
"""P-frames that a trial judges a keyframe by: where it ends before, its last turn of the cycle stands for the others."""


class Candidate(Protocol):
    """An encoder that does not look ahead."""

    def encode(self, picture: Frame) -> list[Encoded]: ...

    def error(self, source: Any) -> float: ...


@dataclass(frozen=True)
class Trial:
    """Which keyframes are tried, and on what.

    Args:
        offsets: of keyframes in the quality cycle, the usual one first; the first other one that is better is the last one tried, as there is one minimum.
        frames: that are encoded each time: the keyframe and whole turns of the cycle.
    """

    offsets: tuple[int, ...] = (KEYFRAME, -18, -6)
    frames: int = 1 + 2 * len(CYCLE)

    def open(self, base: int) -> tuple[int, ...]:
        """Offsets that differ around this base rate point: none is finer than the finest."""
        return tuple({rate_point(base, 0, keyframe=offset): offset for offset in self.offsets}.values())

    def __call__(self, frames: Sequence[tuple[Frame, Any]], base: int, ended: bool, encoder: Callable[[int], Candidate]) -> int:
        """The best offset.

        Args:
            frames: the first ones with their sources.
            base: rate point that the cycle goes around.
            ended: no others follow them before the next keyframe.
            encoder: a new one whose keyframe has this offset.
        """
        usual, *others = self.open(base)
        first = self._outcome(frames, encoder(usual))
        mean = sum(error for _, error in first) / len(frames)
        turns = (HORIZON - (self.frames - 1)) // len(CYCLE)  # that are left
        weight = lagrangian(float(base)) * frames[0][0].coded_samples * mean

        def cost(outcome: list[tuple[int, float]]) -> float:
            # Quality is judged by mean PSNR, so errors count by their logarithms.
            each = [bits + weight * math.log(max(error, 1e-3)) for bits, error in outcome]
            return sum(each) + (0.0 if ended else turns * sum(each[-len(CYCLE) :]))

        least = cost(first)
        return next((offset for offset in others if cost(self._outcome(frames, encoder(offset))) < least), usual)

    def _outcome(self, frames: Sequence[tuple[Frame, Any]], encoder: Candidate) -> list[tuple[int, float]]:
        """Bits and errors of all frames."""
        return [(sum(8 * len(e.packet.payload) for e in encoder.encode(frame)), encoder.error(source)) for frame, source in frames]
