"""Keyframes as good as what follows them is worth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.cycle import rate_point
from models.weights import EncoderModel, load_encoder
from nvc_cli.effort import Effort
from nvc_cli.encoder import Encoded, Encoder
from nvc_cli.frame import Frame
from nvc_cli.rate import OnePass
from nvc_cli.trial import Trial


@pytest.fixture(scope="module")
def tiny() -> EncoderModel:
    return load_encoder("tiny")


@dataclass
class Pretender:
    """Takes `first` bits for its first frame and 80 for others, and is everywhere wrong by `wrong`."""

    first: int
    wrong: float
    frames: int = 0

    def encode(self, picture: Frame) -> list[Any]:
        self.frames += 1
        return [SimpleNamespace(packet=SimpleNamespace(payload=bytes((self.first if self.frames == 1 else 80) // 8)))]

    def error(self, source: float) -> float:
        return (self.wrong - source) ** 2


def grey(level: int) -> Frame:
    return Frame(np.full((16, 16), level, np.uint8), *(np.full((8, 8), 128, np.uint8) for _ in range(2)))


def noise(frames: int, still: bool) -> Iterator[Frame]:
    """Pictures of 96×64 that are all the same, or have nothing in common."""
    for t in range(frames):
        random = np.random.default_rng(0 if still else t)
        y, u, v = (np.kron(random.integers(60, 200, (size, 3 * size // 2)), np.ones((4, 4))).astype(np.uint8) for size in (16, 8, 8))
        yield Frame(y, u, v)


@pytest.mark.parametrize("ended, best", [(False, -18), (True, -6)])
def test_a_better_keyframe_must_pay_in_what_follows(ended: bool, best: int) -> None:
    """It takes 500 bits more, and all pictures get better by a tenth. That is worth it for thirteen pictures, not for five."""
    made: list[int] = []

    def encoder(offset: int) -> Pretender:
        made.append(offset)
        return Pretender(800 + {-6: 0, -12: 500, -18: 1000}[offset], {-6: 5.0, -12: 4.5, -18: 4.0}[offset])

    assert Trial(frames=5)([(grey(100), 0.0)] * 5, 16, ended, encoder) == best
    assert made == ([-12, -18] if best == -18 else [-12, -18, -6])


def test_only_offsets_that_differ_are_tried() -> None:
    trial = Trial()
    assert [len(trial.open(base)) for base in (0, 6, 7, 12, 13, 40)] == [1, 1, 2, 2, 3, 3]


def test_keyframes_are_the_better_the_longer_their_content_stays(tiny: EncoderModel) -> None:
    """On the mean of some qualities: on noise a single one is a matter of chance."""

    def offset(qp: int, still: bool) -> int:
        encoder = Encoder(tiny, qp, effort=Effort(references=1, trial=Trial()))
        return [e for frame in noise(9, still) for e in encoder.encode(frame)][0].packet.rate - 8 * qp

    stays, leaves = (sum(offset(qp, still) for qp in (2, 3, 4, 5)) for still in (True, False))
    assert stays == -16 - 3 * 18 < leaves


@pytest.mark.parametrize("keyint, frames", [(0, 12), (0, 3), (3, 7), (5, 12)])
def test_frames_that_wait_come_out_once_and_in_order(tiny: EncoderModel, keyint: int, frames: int) -> None:
    """Those of intervals that end while frames wait, too; and nothing but the keyframes' quality differs from an encoder without a trial."""
    source = list(noise(frames, False))

    def coded(trial: Trial | None) -> list[Encoded]:
        encoder = Encoder(tiny, 4, keyint, True, effort=Effort(references=1, trial=trial))
        counts = [encoder.encode(frame) for frame in source]
        assert all(len(ready) == 1 for ready in counts) or trial
        return [e for ready in counts for e in ready] + encoder.finish()

    plain, tried = coded(None), coded(Trial((-6, -18), 5))
    assert [e.packet.keyframe for e in tried] == [e.packet.keyframe for e in plain]
    assert all(e.packet.rate == p.packet.rate for e, p in zip(tried, plain, strict=True) if not p.packet.keyframe)
    assert all(e.packet.rate - 32 in (-6, -18) for e in tried if e.packet.keyframe)


def test_there_is_no_trial_where_nothing_can_come_of_it(tiny: EncoderModel) -> None:
    """At the best quality, and where a rate is asked for."""
    for quality in (0, OnePass(48 * 32, 1000.0)):
        encoder = Encoder(tiny, quality, effort=Effort(references=1, trial=Trial()))
        (frame,) = noise(1, True)
        (encoded,) = encoder.encode(frame)
        assert isinstance(quality, OnePass) or encoded.packet.rate == rate_point(0, 0)
