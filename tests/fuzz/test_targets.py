"""The targets of atheris take what is valid, and mutations of it."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.mutations import Part, delete, flip, insert, overwrite, truncate
from tests.fuzz.targets import TARGETS, attempt, seeds

COUNT = 400


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_are_taken(target: str) -> None:
    assert seeds(target)
    for data in seeds(target):
        TARGETS[target](data)


@pytest.mark.parametrize("target", ["stream", "damaged"])
def test_mutated_streams(target: str) -> None:
    """Those of source videos are in test_sources.py."""
    whole = seeds(target)
    for seed in range(COUNT):
        random = Random(seed)
        change = random.choice((flip, overwrite, truncate, insert, delete))
        try:
            attempt(target, change(random, [Part("stream", random.choice(whole))]))
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
