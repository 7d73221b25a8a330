"""Rate control in two passes: the first one, a draft, measures all frames; the second knows what is to come."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from models.cycle import rate_point
from models.presets import RATES
from nvc_cli.errors import NvcError
from nvc_cli.rate import KEY_SLOPE, SLOPE
from nvc_cli.stream import Header, StreamWriter

if TYPE_CHECKING:
    from nvc_cli.cuts import Glance
    from nvc_cli.encoder import Encoder
    from nvc_cli.frame import Frame
    from nvc_cli.report import Meter

TRUST = 8, 1
"""How many P-frames, and keyframes, must be known until what they took counts as much as the draft."""


@dataclass(frozen=True)
class Drafted:
    """A frame of the first pass."""

    since: int  # frames since its keyframe
    rate: int  # its rate point
    bits: int


def draft(frames: Iterable[Frame], encoder: Encoder, header: Header, meter: Meter) -> list[Drafted]:
    """The first pass. The encoder must not look ahead."""
    drafted: list[Drafted] = []
    with open(os.devnull, "wb") as file, StreamWriter(file, header) as stream:
        for frame in frames:
            for encoded in encoder.encode(frame):
                size = stream.write(encoded.packet)
                encoder.took(size)
                since = 0 if encoded.packet.keyframe else drafted[-1].since + 1
                drafted.append(Drafted(since, encoded.packet.rate, 8 * size))
                meter.count(size)
    meter.bar.close()
    return drafted


class TwoPass:
    """Spends a budget on frames that a first pass has measured, all around the same base rate point.

    That point moves by one at a time, and only as far as frames turn out to take more or less than the draft tells.

    Args:
        frames: of the first pass, at least one.
        budget: bits of all frames together.
    """

    def __init__(self, frames: Sequence[Drafted], budget: float):
        since, drafted, bits = np.array([(frame.since, frame.rate, frame.bits) for frame in frames]).T
        points = np.array([[rate_point(base, frame.since) for frame in frames] for base in range(RATES)])
        self.key = since == 0
        self.expected = bits * np.exp(np.where(self.key, KEY_SLOPE, SLOPE) * (drafted - points))  # by base and frame
        parts = [np.where(self.key == kind, self.expected, 0.0) for kind in (False, True)]
        self.rest = [part[:, ::-1].cumsum(1)[:, ::-1] for part in parts]  # of all frames from each on, by kind
        self.budget = budget  # of the frames whose size is not known
        self.point = _finest(self.rest[0][:, 0] + self.rest[1][:, 0], budget)
        means = [rest[self.point, 0] / max((self.key == kind).sum(), 1) for kind, rest in enumerate(self.rest)]
        self.truth, self.draft = ([1 + trust * mean for trust, mean in zip(TRUST, means)] for _ in range(2))  # sums, by kind
        self.open: deque[tuple[int, int]] = deque()  # frames that have a base but no size yet, with it
        self.frame = 0  # the next

    def base(self, since: int, glance: Glance) -> int:
        if self.frame == len(self.key):
            raise NvcError("the source has more frames than in the first pass; encode it when nothing writes to it any more")
        ratios = [truth / draft for truth, draft in zip(self.truth, self.draft)]
        rest = ratios[0] * self.rest[0][:, self.frame] + ratios[1] * self.rest[1][:, self.frame]
        spent = sum(ratios[int(self.key[frame])] * self.expected[base, frame] for frame, base in self.open)
        point = _finest(rest, self.budget - spent)
        self.point = min(max(point, self.point - 1), self.point + 1)
        self.open.append((self.frame, self.point))
        self.frame += 1
        return self.point

    def took(self, bits: int) -> None:
        frame, base = self.open.popleft()
        kind = int(self.key[frame])
        self.truth[kind] += bits
        self.draft[kind] += self.expected[base, frame]
        self.budget -= bits


def _finest(bits: np.ndarray, budget: float) -> int:
    """The smallest base rate point whose bits keep the budget; the largest where none does."""
    fitting = np.flatnonzero(bits <= budget)
    return int(fitting[0]) if len(fitting) else RATES - 1
