"""Vector fields of every shape come back as they were, at the price that training believes in."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.entropy import SymbolDecoder, SymbolEncoder
from models.exact import Narrow, layers
from models.motion import Motion
from models.steps import MOST_SYMBOLS
from models.vectors import LIMIT, REFERENCES

CHANNELS = 8
RATE = torch.tensor([20])


@pytest.fixture(scope="module")
def motion() -> Motion:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        motion = Motion(CHANNELS).requires_grad_(False)
    for _, layer in layers(motion, Narrow):
        layer.reads.fill_(-3)
        layer.settle_weights()
    for _, exact in layers(motion):
        exact.exact = True
    return motion


def field(kind: str, height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, height, width)
    if kind == "zero":
        return torch.zeros(shape, dtype=torch.int32)
    if kind == "pan":
        return torch.tensor([-5, 130, 0], dtype=torch.int32)[None, :, None, None].expand(shape).contiguous()
    if kind == "patches":  # of three vectors
        vectors = torch.tensor([[0, 0, 0], [3, -1, 0], [6, -2, 1]], dtype=torch.int32)
        return vectors[torch.randint(0, 3, (1, height, width), generator=generator)].permute(0, 3, 1, 2).contiguous()
    reach = {"small": 4, "wild": 4000, "old": 9}[kind]
    out = torch.randint(-reach, reach, shape, generator=generator, dtype=torch.int32)
    if kind == "small":
        out *= torch.rand(1, 1, height, width, generator=generator) < 0.3
    out[:, 2] = 0 if kind == "small" else out[:, 2] % REFERENCES
    return out


def memory(height: int, width: int) -> Tensor:
    return torch.randn(1, CHANNELS, height, width, generator=torch.Generator().manual_seed(2))


def coded(motion: Motion, vectors: Tensor, previous: Tensor) -> bytes:
    coder = SymbolEncoder()
    motion.encode(vectors, previous, memory(*vectors.shape[2:]), RATE, coder)
    return coder.finish()


@pytest.mark.parametrize("kind", ["zero", "pan", "patches", "small", "wild", "old"])
@pytest.mark.parametrize("height, width", [(2, 2), (2, 8), (8, 2), (2, 34), (4, 6), (10, 12), (8, 8), (16, 14), (18, 22)])
def test_round_trip(motion: Motion, kind: str, height: int, width: int) -> None:
    vectors, previous = field(kind, height, width), field("old" if kind == "small" else "small", height, width)
    coder = SymbolDecoder(coded(motion, vectors, previous), MOST_SYMBOLS * height * width)
    assert torch.equal(motion.decode(previous, memory(height, width), RATE, coder), vectors)


@pytest.mark.parametrize("height, width", [(2, 2), (2, 10), (18, 22)])
def test_every_vector_is_coded_once(motion: Motion, height: int, width: int) -> None:
    seen = torch.zeros(1, 1, height, width, dtype=torch.int32)
    zero = field("zero", height, width)
    for step in motion.steps(zero, zero, memory(height, width), RATE):
        step.place.put(seen, step.place.take(seen) + 1)
    assert (seen == 1).all()


@pytest.mark.parametrize("kind", ["small", "patches"])
def test_bits_are_the_real_size(motion: Motion, kind: str) -> None:
    vectors, previous = field(kind, 18, 22), field("zero", 18, 22)
    expected = float(motion.bits(vectors, previous, memory(18, 22), RATE))
    assert 8 * len(coded(motion, vectors, previous)) == pytest.approx(expected, rel=0.05, abs=80)


def test_bits_of_every_sample_of_a_batch(motion: Motion) -> None:
    a, b, zero = field("small", 6, 10), field("wild", 6, 10), field("zero", 6, 10)
    both = motion.bits(torch.cat([a, b]), torch.cat([zero, zero]), memory(6, 10).expand(2, -1, -1, -1), torch.tensor([20, 20]))
    alone = [float(motion.bits(x, zero, memory(6, 10), RATE)) for x in (a, b)]
    assert both.tolist() == pytest.approx(alone, rel=1e-4)


def test_smooth_fields_are_cheap(motion: Motion) -> None:
    height, width = 18, 22
    zero = field("zero", height, width)
    smooth = torch.arange(width, dtype=torch.int32).div(6, rounding_mode="floor").expand(1, 3, height, width) * torch.tensor([1, 1, 0], dtype=torch.int32)[:, None, None]
    pan, wild = field("pan", height, width), field("wild", height, width)
    bits = {name: float(motion.bits(x, zero, memory(height, width), RATE)) for name, x in (("pan", pan), ("smooth", smooth), ("wild", wild))}
    assert max(bits["pan"], bits["smooth"]) < bits["wild"] / 5


def test_what_repeats_the_frame_before_has_no_differences(motion: Motion) -> None:
    wild = field("pan", 10, 12)
    assert all((step.place.take(wild) == step.place.base).all() for step in motion.steps(wild, wild, memory(10, 12), RATE))


def test_blocks_that_move_alike_are_predicted_whatever_their_age(motion: Motion) -> None:
    """A pan of (2, -6) a frame, by vectors of all ages."""
    age = torch.randint(0, REFERENCES, (1, 1, 10, 12), generator=torch.Generator().manual_seed(1), dtype=torch.int32)
    pan = torch.cat([2 * (age + 1), -6 * (age + 1), age], 1)
    for step in motion.steps(pan, pan, memory(10, 12), RATE):
        assert not step.place.difference(step.place.take(pan))[:, :2].any()


def test_each_vector_near_is_asked_for_once(motion: Motion) -> None:
    patches = field("patches", 18, 22)
    asked = torch.zeros(3)
    for step in motion.steps(patches, field("zero", 18, 22), memory(18, 22), RATE):
        times = torch.zeros(3, *step.place.base.shape[2:])
        for choice, distinct in zip(step.place.near, step.place.distinct):
            for value in (0, 3, 6):
                times[value // 3] += (distinct & (choice[:, :1] == value))[0, 0]
        assert times.max() <= 1 and not (times * torch.stack([step.place.base[0, 0] == v for v in (0, 3, 6)])).any()
        asked += times.sum((1, 2))
    assert asked.min() > 20


def test_damage_gives_an_error_or_wrong_vectors_never_a_crash(motion: Motion) -> None:
    vectors, previous = field("small", 8, 8), field("zero", 8, 8)
    payload = coded(motion, vectors, previous)
    for place in range(0, len(payload), 2):
        damaged = payload[:place] + bytes([payload[place] ^ 0x5A]) + payload[place + 1 :]
        try:
            found = motion.decode(previous, memory(8, 8), RATE, SymbolDecoder(damaged, MOST_SYMBOLS * 64))
        except ValueError:
            continue
        assert found.shape == vectors.shape and found[:, :2].abs().max() <= LIMIT and 0 <= found[:, 2].min() and found[:, 2].max() < REFERENCES
