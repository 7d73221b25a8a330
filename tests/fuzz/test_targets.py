"""Mutated inputs of every kind: they are read, or refused in a sentence."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.targets import TARGETS, attempt, seeds

COUNTS = {"stream": 400, "damaged": 400, "raw": 60, "y4m": 400, "container": 60}


def mutated(random: Random, data: bytes) -> bytes:
    """Flips, runs of bytes that are overwritten, cut out, put in or doubled, and a cut."""
    out = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 5))):
        place, size = random.randrange(len(out)), random.choice((1, 2, 8, 100))
        match random.randrange(5):
            case 0:
                out[place] ^= 1 << random.randrange(8)
            case 1:
                out[place : place + size] = random.choice((bytes(size), b"\xff" * size, random.randbytes(size), b"9" * size))
            case 2:
                del out[place : place + size]
            case 3:
                out[place:place] = out[place : place + size]
            case 4:
                del out[max(place, 1) :]
        out = out or bytearray(b"\0")
    return bytes(out)


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_inputs(target: str) -> None:
    whole, taken = seeds(target), 0
    assert all(attempt(target, data) for data in whole)
    for seed in range(COUNTS[target]):
        random = Random(seed)
        data = mutated(random, random.choice(whole))
        try:
            taken += attempt(target, data)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
    assert 0 < taken < COUNTS[target] or target in ("stream", "damaged", "raw")
