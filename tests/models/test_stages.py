"""The profile of a run."""

from __future__ import annotations

from itertools import count

import pytest

from models import stages
from models.stages import staged


@staged("outer")
def outer() -> int:
    return inner() + inner()


@staged("inner")
def inner() -> int:
    return 1


def test_stages_are_counted_and_do_not_count_those_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.stages.perf_counter", count().__next__)  # every look at the clock takes a second
    profile = stages.start()
    try:
        outer()
    finally:
        stages.stop()
    assert {name: stage.calls for name, stage in profile.stages.items()} == {"inner": 2, "outer": 1}
    assert {name: stage.seconds for name, stage in profile.stages.items()} == {"inner": 2, "outer": 3}


def test_nothing_is_measured_unless_asked_for() -> None:
    profile = stages.start()
    stages.stop()
    assert outer() == 2 * inner() and not profile.stages


def test_a_stage_that_fails_is_over() -> None:
    @staged("failing")
    def fail() -> None:
        raise ValueError

    profile = stages.start()
    try:
        for _ in range(2):
            try:
                fail()
            except ValueError:
                pass
        inner()
    finally:
        stages.stop()
    assert profile.stages["failing"].calls == 2 and profile.stages["inner"].calls == 1
