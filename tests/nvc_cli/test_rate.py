"""Rate control against an encoder that is only simulated: its frames have sizes, and no pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

from models.cycle import rate_point
from nvc_cli.cuts import Glance
from nvc_cli.errors import NvcError
from nvc_cli.rate import OnePass, RateControl, Target
from nvc_cli.twopass import Drafted, TwoPass

PIXELS = 416 * 240


@dataclass(frozen=True)
class Scene:
    """Frames whose sizes follow another law than the one that rate control expects."""

    frames: int
    activity: float = 12.0
    key: float = 11.8  # logarithm of bits at rate point 0
    level: float = 11.3  # the same of P-frames
    slope: float = 0.092
    places: Sequence[float] = (0.35, -0.2, 0.0, -0.2)

    def bits(self, since: int, rate: int, noise: float) -> int:
        if since == 0:
            return round(math.exp(self.key - 0.06 * rate + noise))
        return round(math.exp(self.level + self.places[(since - 1) % 4] - self.slope * rate + noise)) + 80


STILL = Scene(60, activity=9.0, key=12.0, level=10.6)
BUSY = Scene(70, activity=24.0, key=12.7, level=12.0, slope=0.1)
PLAIN = Scene(80)


@dataclass(frozen=True)
class Run:
    """What a control made of scenes: per frame."""

    bits: np.ndarray
    bases: np.ndarray
    drafted: list[Drafted]

    def deviation(self, share: float, first: int = 0) -> float:
        """From `share` bits a frame, of all frames from the `first` on, as a part."""
        return self.bits[first:].mean() / share - 1


def simulate(control: RateControl, scenes: Sequence[Scene], delay: int = 0, factor: float = 1.0, seed: int = 0, keyint: int = 1000) -> Run:
    """Encode scenes, with keyframes in between; sizes become known `delay` frames later."""
    rng, bits, bases, drafted = np.random.default_rng(seed), [], [], []
    for scene in scenes:
        for place in range(scene.frames):
            since = place % keyint
            base = control.base(since, Glance(scene.activity, place == 0))
            assert 0 <= base <= 63
            rate = rate_point(base, since)
            bits.append(round(factor * scene.bits(since, rate, rng.normal(0, 0.1))))
            bases.append(base)
            drafted.append(Drafted(since, rate, bits[-1]))
            if len(bits) > delay:
                control.took(bits[-1 - delay])
    return Run(np.array(bits), np.array(bases), drafted)


CUTS = {"one scene": [Scene(200)], "still to busy": [STILL, BUSY, PLAIN], "busy to still": [BUSY, STILL, BUSY], "short": [PLAIN, STILL] * 3}


@pytest.mark.parametrize("known", [False, True], ids=["open end", "known end"])
@pytest.mark.parametrize("kbps", [150, 400, 1000])
@pytest.mark.parametrize("name", CUTS)
def test_one_pass_holds_the_rate(name: str, kbps: int, known: bool) -> None:
    scenes, share = CUTS[name], kbps * 1000 / 25
    run = simulate(OnePass(PIXELS, share, sum(s.frames for s in scenes) if known else None), scenes)
    assert abs(run.deviation(share)) < 0.03
    assert abs(run.deviation(share, 32)) < 0.03


@pytest.mark.parametrize("frames", [33, 49, 200])
def test_keyframes_to_come_are_planned_for(frames: int) -> None:
    """Where the last frame is a keyframe, the frames before it have to save for it."""
    planned, surprised = (simulate(OnePass(PIXELS, 16000, frames, keyint), [Scene(frames)], keyint=16).deviation(16000) for keyint in (16, 0))
    assert abs(planned) < 0.1 and abs(planned) < abs(surprised)


def test_sizes_that_are_told_late() -> None:
    run = simulate(OnePass(PIXELS, 16000), CUTS["still to busy"], delay=8)
    assert abs(run.deviation(16000)) < 0.03


def test_quality_does_not_oscillate_within_a_scene() -> None:
    run = simulate(OnePass(PIXELS, 16000), [Scene(200)])
    settled = run.bases[80:]
    assert np.ptp(settled) <= 3 and np.abs(np.diff(settled)).mean() < 0.5


def test_a_known_end_is_met_more_closely() -> None:
    scenes = CUTS["still to busy"]
    run = simulate(OnePass(PIXELS, 16000, sum(s.frames for s in scenes)), scenes)
    assert abs(run.deviation(16000)) < 0.01


@pytest.mark.parametrize("share, end", [(100, 63), (10**7, 0)])
def test_rates_out_of_reach_end_at_the_last_rate_point(share: float, end: int) -> None:
    assert simulate(OnePass(PIXELS, share), [PLAIN]).bases[-1] == end
    draft = simulate(OnePass(PIXELS, 16000), [PLAIN]).drafted
    assert simulate(TwoPass(draft, share * len(draft)), [PLAIN]).bases[-1] == end


@pytest.mark.parametrize("delay", [0, 8])
@pytest.mark.parametrize("kbps", [150, 400, 1000])
@pytest.mark.parametrize("name", CUTS)
def test_two_passes_hold_the_size_at_one_quality(name: str, kbps: int, delay: int) -> None:
    """The draft was made at another rate, and its frames are a tenth too large."""
    scenes, share = CUTS[name], kbps * 1000 / 25
    draft = simulate(OnePass(PIXELS, 1.5 * share), scenes, factor=1.1, seed=1).drafted
    run = simulate(TwoPass(draft, share * len(draft)), scenes, delay)
    assert abs(run.deviation(share)) < 0.01
    assert np.ptp(run.bases[:-16]) <= 6 and np.abs(np.diff(run.bases)).max() == 1


def test_a_source_that_grew_between_passes() -> None:
    control = TwoPass([Drafted(0, 20, 9000)], 8000)
    control.base(0, Glance(10.0, True))
    with pytest.raises(NvcError, match="more frames than in the first pass"):
        control.base(1, Glance(10.0, False))


def test_targets_in_bits() -> None:
    assert Target(500_000, None).bits(50, Fraction(25)) == 1_000_000
    assert Target(None, 1000).bits(50, Fraction(25)) == 8000
