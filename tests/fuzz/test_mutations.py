"""Damaged and malicious streams: right pictures, or a sentence."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from models.weights import DecoderModel, load_decoder
from tests.fuzz.mutations import SEEDS, VECTORS, Part, Pictures, decoded, mutated, outcome, parts, salvaged
from tests.fuzz.paths import entered, joined, listed, written

COUNT = 240


@pytest.fixture(scope="module")
def tiny() -> DecoderModel:
    torch.set_num_threads(1)  # pictures are so small that several threads only wait for each other
    return load_decoder("tiny")


@pytest.fixture(scope="module")
def streams() -> dict[str, list[Part]]:
    return {name: parts((VECTORS / f"{name}.nvc").read_bytes()) for name in SEEDS}


@pytest.fixture(scope="module")
def truths(tiny: DecoderModel) -> dict[str, Pictures]:
    return {name: decoded((VECTORS / f"{name}.nvc").read_bytes(), tiny) for name in SEEDS}


def test_streams_are_taken_apart(streams: dict[str, list[Part]]) -> None:
    for name, units in streams.items():
        assert b"".join(unit.data for unit in units) == (VECTORS / f"{name}.nvc").read_bytes()
        assert any(unit.kind == "packet" for unit in units)


@pytest.mark.parametrize("path", [outcome, salvaged, entered, listed, joined, written])
def test_mutated_streams(path, tiny: DecoderModel, streams: dict[str, list[Part]], truths: dict[str, Pictures]) -> None:
    seen: Counter[str] = Counter()
    for seed in range(COUNT):
        name, change, data = mutated(seed, streams)
        try:
            seen[path(data, truths[name], tiny)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {change} of {name}: {type(error).__name__}: {error}") from error
    assert seen["refused"] > COUNT / 10 and seen["right"] > 0  # some mutations change nothing that pictures depend on
