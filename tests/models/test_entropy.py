"""The entropy coder is exactly invertible, costs what training believes it costs, and survives any payload."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.bits import flag_bits, flag_index, laplace_bits, scale_index
from models.entropy import SymbolDecoder, SymbolEncoder
from models.tables import BYTES, FIRST, FLAG_STEP, FLAGS, PRECISION, SCALES, STEP, load

Group = tuple[Tensor, Tensor]  # symbols and table indexes


def write(groups: list[Group]) -> bytes:
    coder = SymbolEncoder()
    for symbols, indexes in groups:
        coder.write(symbols, indexes)
    return coder.finish()


def assert_round_trip(groups: list[Group]) -> bytes:
    payload = write(groups)
    coder = SymbolDecoder(payload, sum(symbols.numel() for symbols, _ in groups))
    for symbols, indexes in groups:
        read = torch.from_numpy(coder.take(indexes.numpy()))
        assert read.dtype == torch.int32
        assert torch.equal(read, symbols.int())
    coder.finish()
    return payload


def laplace(shape: tuple[int, ...], seed: int = 0) -> Group:
    """Symbols that are distributed as their tables say, of all tables."""
    random = np.random.default_rng(seed)
    index = random.integers(0, SCALES, shape)
    symbols = np.rint(random.laplace(0, np.exp(FIRST + STEP * index)))
    return torch.from_numpy(symbols).int(), torch.from_numpy(index).int()


def code_length(symbol: int, index: int) -> float:
    table, place = load().cumulative[index], symbol - load().offsets[index]
    return PRECISION - math.log2(table[place + 1] - table[place])


def test_symbols_of_every_table() -> None:
    flags = torch.randint(0, 2, (4, FLAGS), generator=torch.Generator().manual_seed(0))
    index = SCALES + torch.arange(FLAGS).expand(4, FLAGS)
    assert_round_trip([laplace((1, 48, 2, 3)), (flags, index), laplace((3000,), 1)])


def test_symbols_far_out_of_range_are_escaped() -> None:
    extremes = torch.tensor([0, 1, -1, 2, 3, -3, 10, 255, 256, -257, 511, 512, 513, -513, 32767, -32767, -32768])
    groups = [(extremes, torch.full_like(extremes, index)) for index in (0, 2, 20, SCALES - 1)]
    assert_round_trip([laplace((50,)), *groups, laplace((50,), 1)])


def test_groups_may_be_empty() -> None:
    nothing = (torch.zeros(0), torch.zeros(0, dtype=torch.int32))
    assert assert_round_trip([nothing, laplace((8,)), nothing, laplace((5,), 1), nothing]) == write([laplace((8,)), laplace((5,), 1)])


def test_the_likeliest_symbols_cost_next_to_nothing() -> None:
    zeros = torch.zeros(20000, dtype=torch.int32)
    assert len(write([(zeros, zeros + 2)])) < 100


def test_the_coder_reaches_the_code_lengths() -> None:
    symbols, indexes = laplace((5000,))
    reach = torch.from_numpy(load().reaches[indexes.numpy()])
    symbols = torch.minimum(torch.maximum(symbols, -reach), reach)
    expected = sum(code_length(s, i) for s, i in zip(symbols.tolist(), indexes.tolist()))
    assert 8 * len(write([(symbols, indexes)])) == pytest.approx(expected, abs=80)


@pytest.mark.parametrize("index", [0, 2, 10, 22, 35])
def test_laplace_bits_are_the_tables_code_lengths(index: int) -> None:
    raw = torch.tensor(FIRST + STEP * index)
    assert int(scale_index(raw)) == index
    for symbol in range(load().offsets[index], -load().offsets[index] + 1):
        length = code_length(symbol, index)
        if length < 8:
            assert float(laplace_bits(torch.tensor(symbol), raw)) == pytest.approx(length, abs=0.05)
        else:  # rare symbols get a little more room in the table than their share
            assert float(laplace_bits(torch.tensor(symbol), raw)) == pytest.approx(length, rel=0.1)


@pytest.mark.parametrize("index", range(SCALES))
def test_tables_lose_next_to_nothing_against_laplace_bits(index: int) -> None:
    symbols = torch.arange(load().offsets[index], -load().offsets[index] + 1)
    expected = laplace_bits(symbols, torch.tensor(FIRST + STEP * index)).double()
    share = torch.exp2(-expected)
    lengths = torch.tensor([code_length(int(symbol), index) for symbol in symbols])
    assert -0.01 < float((share * (lengths - expected)).sum()) < 0.03


@pytest.mark.parametrize("x", [0.0, 0.3, 0.4999, 0.5, 0.7, 3.2, 1000.0, -1000.0])
@pytest.mark.parametrize("raw", [-100.0, -1.0, 0.0, 3.0, 100.0])
def test_laplace_bits_are_finite_with_finite_gradients(x: float, raw: float) -> None:
    noisy, scale = torch.tensor(x, requires_grad=True), torch.tensor(raw, requires_grad=True)
    bits = laplace_bits(noisy, scale)
    bits.backward()
    assert 0 <= float(bits.detach()) <= PRECISION + 1e-3
    assert torch.isfinite(noisy.grad) and torch.isfinite(scale.grad)


@pytest.mark.parametrize("index", [0, 5, 20, 31, 32, 50, FLAGS - 1])
@pytest.mark.parametrize("flag", [0, 1])
def test_flag_bits_are_the_tables_code_lengths(index: int, flag: int) -> None:
    logit = torch.tensor((index + 0.5 - FLAGS / 2) * FLAG_STEP)
    assert int(flag_index(logit)) == SCALES + index
    assert float(flag_bits(torch.tensor(flag), logit)) == pytest.approx(code_length(flag, SCALES + index), abs=0.1)


def test_indexes_stay_in_range() -> None:
    extreme = torch.tensor([-1e9, -50.0, 0.0, 50.0, 1e9])
    assert scale_index(extreme).tolist()[0] == 0 and scale_index(extreme).tolist()[-1] == SCALES - 1
    assert flag_index(extreme).tolist()[0] == SCALES and flag_index(extreme).tolist()[-1] == BYTES - 1


@pytest.mark.parametrize("symbol", [1 << 15, -(1 << 15) - 1, -(1 << 31)])
def test_symbols_of_more_than_16_bits_are_refused(symbol: int) -> None:
    with pytest.raises(ValueError, match="16 bits"):
        SymbolEncoder().write(torch.tensor([0, symbol]), torch.tensor([5, 5]))


@pytest.mark.parametrize("index", [-1, -(1 << 31), BYTES + 1])
def test_indexes_without_a_table_are_refused(index: int) -> None:
    with pytest.raises(ValueError, match="no table"):
        SymbolEncoder().write(torch.tensor([0, 0]), torch.tensor([5, index]))
    with pytest.raises(ValueError, match="no table"):
        SymbolDecoder(write([laplace((9,))]), 9).take(np.array([5, index]))


def test_what_is_not_a_number_is_refused() -> None:
    nothing = torch.tensor([float("nan")])
    for index in (scale_index(nothing), flag_index(nothing)):
        with pytest.raises(ValueError, match="no table"):
            SymbolDecoder(write([laplace((9,))]), 9).take(index.numpy())


@pytest.mark.parametrize("length", range(8))
def test_a_payload_without_a_state_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="payload"):
        SymbolDecoder(b"\x01" * length, 100)


@pytest.mark.parametrize("start", [bytes(8), b"\xff" * 8])
def test_an_impossible_state_is_refused(start: bytes) -> None:
    with pytest.raises(ValueError, match="payload"):
        SymbolDecoder(start + bytes(100), 100)


def test_no_more_symbols_than_allowed() -> None:
    zeros = torch.zeros(200, dtype=torch.int32)
    payload = write([(zeros, zeros)])
    coder = SymbolDecoder(payload, 199 - len(payload))
    with pytest.raises(ValueError, match="more symbols"):
        coder.take(zeros.numpy())


def test_damage_gives_an_error_or_wrong_symbols_never_a_crash() -> None:
    symbols, indexes = laplace((2000,))
    payload = write([(symbols, indexes)])
    random = np.random.default_rng(0)
    damaged = [payload[: int(cut)] for cut in random.integers(8, len(payload), 40)]
    for place in random.integers(0, len(payload), 60):
        damaged.append(payload[:place] + bytes([payload[place] ^ int(random.integers(1, 256))]) + payload[place + 1 :])
    damaged += [random.bytes(int(length)) for length in random.integers(8, 300, 40)]
    wrong = unnoticed = 0
    for data in damaged:
        try:
            coder = SymbolDecoder(data, 2000)
            read = torch.from_numpy(coder.take(indexes.numpy()))
        except ValueError:
            continue
        assert read.shape == symbols.shape and read.abs().max() <= 32768
        if not torch.equal(read, symbols):
            wrong += 1
            try:
                coder.finish()
                unnoticed += 1
            except ValueError:
                pass
    assert wrong > 50 and unnoticed < wrong / 10
