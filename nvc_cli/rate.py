"""Rate control: which rate point frames are coded around, so that a stream takes the bits that were asked for.

The bits of a frame fall about exponentially with its rate point: their logarithm is a line, whose slope is much the same for all
frames of a kind. What differs from scene to scene is its level, which is learned while encoding.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from models.cycle import CYCLE, rate_point
from models.presets import RATES

if TYPE_CHECKING:
    from nvc_cli.cuts import Glance

WINDOW = 24
"""Frames over which bits too many or too few are made up for."""

THRIFT, WASTE = 1 / 3, 2.0
"""The least and the most that a window is planned to take, in parts of what is due to it."""

APPROACH = 2
"""Within a scene, the base rate point goes one part in so many of the way to where it should be, but one step at least."""

GAIN, ODD = 0.2, 1.0
"""How much a frame of a known scene changes what is known, and the error of a logarithm beyond which that stays the same."""

KEY_SLOPE, SLOPE = 0.066, 0.085
"""What the logarithm of a keyframe's and a P-frame's bits falls by from one rate point to the next."""

KEY_LEVEL, KEY_ACTIVITY = -1.15, 0.84
"""Logarithm of a keyframe's bits per pixel at rate point 0 and activity 1, and its growth with the logarithm of activity."""

GAP = 0.5
"""How far the logarithm of a P-frame's bits is below that of a keyframe at rate point 0, until one is seen."""

PLACES = (0.31, -0.25, 0.055, -0.2)
"""What the place in the quality cycle adds to the logarithm of a P-frame's bits, beside what its rate point does."""

FIRST = -0.3
"""What being the first after a keyframe adds."""


@dataclass(frozen=True)
class Target:
    """What a stream may take: `bitrate` in bits a second, or `size` in bytes, and the other is None."""

    bitrate: int | None
    size: int | None

    def bits(self, frames: int, fps: Fraction) -> float:
        """Of a stream of so many frames."""
        return float(self.bitrate * frames / fps) if self.bitrate is not None else 8.0 * (self.size or 0)


class RateControl(Protocol):
    """Chooses the base rate point of every frame, and is told what frames took: later, but in the same order."""

    def base(self, since: int, glance: Glance) -> int:
        """Of the next frame, `since` frames after its keyframe: the rate point that the quality cycle goes around, 0 to 63."""

    def took(self, bits: int) -> None:
        """The size in the stream of the first frame that was not told yet."""


class Scene:
    """What frames of a scene take, learned from those that are known.

    Args:
        key: logarithm of the bits of its keyframe at rate point 0, as far as that can be told before.
    """

    def __init__(self, key: float):
        self.key, self.level = key, key - GAP  # logarithms of bits at rate point 0, of a keyframe and of a P-frame
        self.seen = 0  # P-frames that are known

    def bits(self, since: int, rate: int) -> float:
        """Of a frame at this rate point, `since` frames after its keyframe."""
        if since == 0:
            return math.exp(self.key - KEY_SLOPE * rate)
        place = PLACES[(since - 1) % len(CYCLE)] + (FIRST if since == 1 else 0.0)
        return math.exp(self.level + place - SLOPE * rate)

    def learn(self, since: int, rate: int, bits: int) -> float:
        """What such a frame really took; returns the logarithm of its ratio to what was expected."""
        error = math.log(bits / self.bits(since, rate))
        if since == 0:
            self.key += error
            self.level += 0.0 if self.seen else error
        else:
            self.level += max(GAIN, 1 / (self.seen + 1)) * (min(max(error, -ODD), ODD) if self.seen else error)
            self.seen += 1
        return error


@dataclass(frozen=True)
class _Open:
    """A frame whose size is not known yet."""

    scene: Scene
    since: int
    rate: int

    @property
    def bits(self) -> float:
        return self.scene.bits(self.since, self.rate)


class OnePass:
    """Holds a mean rate without knowing what comes: the next frames are planned to take what is due when they are done.

    Args:
        pixels: of a picture.
        share: bits of a frame.
        frames: of the clip; None where nobody knows.
        keyint: largest distance of keyframes; 0: no limit.
    """

    def __init__(self, pixels: int, share: float, frames: int | None = None, keyint: int = 0):
        self.pixels, self.share, self.left, self.keyint = pixels, share, frames, keyint
        self.scene = Scene(0.0)
        self.surprise = 0.0  # how far logarithms of keyframes' bits were above what their activity told
        self.debt = 0.0  # bits more than were due, of frames whose size is known
        self.open: deque[_Open] = deque()  # the other frames
        self.point: int | None = None

    def anew(self, frames: int) -> OnePass:
        """The same for a clip of so many frames, which nothing is known of yet."""
        return OnePass(self.pixels, self.share, frames, self.keyint)

    def base(self, since: int, glance: Glance) -> int:
        if glance.cut:
            self.scene = Scene(math.log(self.pixels * (glance.activity + 0.1) ** KEY_ACTIVITY) + KEY_LEVEL + self.surprise)
        window = WINDOW if self.left is None else max(len(CYCLE), min(WINDOW, self.left))
        due = window * self.share
        debt = self.debt + sum(frame.bits - self.share for frame in self.open)
        budget = min(max(due - debt, THRIFT * due), WASTE * due)
        coming = [s % self.keyint if self.keyint else s for s in range(since, since + window)]
        point = _finest(lambda base: sum(self.scene.bits(s, rate_point(base, s)) for s in coming), budget)
        if self.point is not None and not glance.cut:
            step = max(1, abs(point - self.point) // APPROACH)
            point = min(max(point, self.point - step), self.point + step)
        self.open.append(_Open(self.scene, since, rate_point(point, since)))
        self.point, self.left = point, None if self.left is None else self.left - 1
        return point

    def took(self, bits: int) -> None:
        frame = self.open.popleft()
        self.debt += bits - self.share
        error = frame.scene.learn(frame.since, frame.rate, bits)
        if frame.since == 0:
            self.surprise += error / 2


def _finest(bits: Callable[[int], float], budget: float) -> int:
    """The smallest base rate point whose bits keep the budget; the largest where none does."""
    low, high = 0, RATES - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if bits(middle) <= budget else (middle + 1, high)
    return low
