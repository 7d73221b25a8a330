"""Exact layers equal the plainest computation in integers, on any hardware type, for any input."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from models.compiled import codec as compiled
from models.compiled import layers
from models.compiled.layers import Integers
from models.exact import Grid, Narrow, RateGain, RateTable, Wide, link, rounded, shifted_sums
from models.integers import CONTEXT_LIMIT, MANTISSAS, STREAM_LIMIT, WIDE_WEIGHT, Misfit, RangeError
from models.presets import RATES

KINDS = {  # inputs, outputs, size, stride, groups
    "1x1": (12, 7, 1, 1, 1),
    "1x1 wide": (384, 5, 1, 1, 1),
    "3x3": (6, 6, 3, 1, 6),
    "2x2": (10, 8, 2, 2, 1),
}


def draw(low: int, high: int, shape: tuple[int, ...], kind: torch.dtype, seed: int) -> Tensor:
    """Integers from low to high, both ends often."""
    random = np.random.default_rng(seed)
    values = random.integers(low, high + 1, shape)
    values = np.where(random.random(shape) < 0.2, random.choice((low, high), shape), values)
    return torch.from_numpy(values).to(kind)


def narrow(kind: str, relu: bool, exact: bool = True) -> tuple[Narrow, dict[str, np.ndarray]]:
    """A layer with any integers, and these."""
    inputs, outputs, size, stride, groups = KINDS[kind]
    layer = Narrow(inputs, outputs, size, stride, groups, relu).requires_grad_(False)
    integers = {
        "weight": draw(-127, 127, (outputs, inputs // groups, size, size), torch.int8, 1),
        "bias": draw(-40000, 40000, (outputs,), torch.int32, 2),
        "reads": draw(-9, -3, (inputs,), torch.int8, 3),
        "fraction": draw(2, 16, (outputs,), torch.int8, 4),
    }
    layer.restore(integers)
    layer.exact = exact
    return layer, {name: value.numpy().astype(np.int64) for name, value in integers.items()}


def stream(shape: tuple[int, ...], seed: int = 5) -> Tensor:
    """A stream tensor."""
    return draw(-STREAM_LIMIT, STREAM_LIMIT, shape, torch.float32, seed) * 2.0**-12


def sums(a: np.ndarray, kind: str, weight: np.ndarray) -> np.ndarray:
    """The convolution of one picture, tap by tap, in int64."""
    _, outputs, size, stride, groups = KINDS[kind]
    if size == 3:
        a = np.pad(a, ((0, 0), (1, 1), (1, 1)))
    height, width = ((side - size) // stride + 1 for side in a.shape[1:])
    total = np.zeros((outputs, height, width), np.int64)
    for i in range(size):
        for j in range(size):
            part = a[:, i : i + stride * height : stride, j : j + stride * width : stride]
            tap = weight[:, :, i, j]
            total += tap[:, 0, None, None] * part if groups > 1 else np.einsum("oc,chw->ohw", tap, part)
    return total


def expected(x: Tensor, kind: str, relu: bool, integers: dict[str, np.ndarray]) -> np.ndarray:
    """What `nvc_cli/stream.md` says of Narrow."""
    a = np.rint(x[0].numpy().astype(np.float64) * 2.0 ** -integers["reads"][:, None, None])
    low = 0 if relu else -128
    a = a.clip(low, low + 255).astype(np.int64)
    total = sums(a, kind, integers["weight"]) + integers["bias"][:, None, None]
    return total * 2.0 ** -integers["fraction"][:, None, None]


def named(integers: dict[str, Tensor] | dict[str, np.ndarray], kinds: dict[str, torch.dtype]) -> Integers:
    """For compiled loops, as a file has them."""
    return Integers({f"x.{name}": torch.as_tensor(value).to(kinds[name]).numpy() for name, value in integers.items()})


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_narrow_is_integer_arithmetic(kind: str, relu: bool) -> None:
    layer, integers = narrow(kind, relu)
    x = stream((1, KINDS[kind][0], 6, 8)) / 16
    out = layer(x)
    layer.prepare()
    assert torch.equal(layer(x), out)
    assert np.array_equal(out[0].numpy(), expected(x, kind, relu, integers))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("kind", ["1x1", "1x1 wide", "2x2"])
def test_narrow_in_loops(kind: str, relu: bool) -> None:
    """Inputs in one part, and in two."""
    inputs, outputs, size, *_ = KINDS[kind]
    _, integers = narrow(kind, relu)
    layer = layers.Narrow(named(integers, Narrow.kinds), "x", inputs, outputs, size, relu=relu)
    x = stream((1, inputs, 6, 8)) / 16
    given = np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
    assert np.array_equal(layer(given).transpose(2, 0, 1), expected(x, kind, relu, integers))
    if inputs % 32 == 0:
        one, other = (np.ascontiguousarray(part) for part in np.split(given, 2, 2))
        assert np.array_equal(layer(one, other), layer(given))


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
@torch.no_grad()
def test_narrow_at_the_limits_of_its_range(sign: int, relu: bool) -> None:
    """The largest inputs and weights, whose sums are the largest."""
    layer, integers = narrow("1x1 wide", relu)
    integers["weight"] = np.full((5, 384, 1, 1), sign * 127)
    integers["weight"][0, ::2] *= -1
    layer.restore({name: torch.from_numpy(value) for name, value in integers.items()})
    for value in (8.0, -8.0, 1e30, -1e30):
        x = torch.full((1, 384, 2, 2), value)
        assert np.array_equal(layer(x)[0].numpy(), expected(x, "1x1 wide", relu, integers))


@torch.no_grad()
def test_inputs_of_narrow_round_to_even() -> None:
    layer = Narrow(1, 1)
    one = torch.ones(1, dtype=torch.int8)
    layer.restore({"weight": one[:, None, None, None], "bias": 0 * one, "reads": 0 * one, "fraction": 0 * one})
    layer.exact = True
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, -129])
    assert layer(x.view(1, 1, 1, -1)).flatten().tolist() == [0, 2, 2, 0, -2, 126, 127, -128]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("far", [False, True])
@torch.no_grad()
def test_linked_layers_give_what_they_give_alone(far: bool, relu: bool) -> None:
    """Whether they hand over integers, or cannot since sums with the reader's smallest integer in them would leave float32's range."""
    first, second = Narrow(8, 6), Narrow(6, 5, relu=relu)
    fraction = draw(18, 22, (6,), torch.int8, 3) if far else draw(3, 8, (6,), torch.int8, 3)
    weight = draw(-127, 127, (6, 8, 1, 1), torch.int8, 1)
    first.restore({"weight": weight, "bias": torch.zeros(6), "reads": draw(-6, -3, (8,), torch.int8, 2), "fraction": fraction})
    reads = 9 - fraction
    second.restore({"weight": weight.permute(1, 0, 2, 3)[:5], "bias": torch.arange(5), "reads": reads, "fraction": torch.full((5,), 7)})
    first.exact = second.exact = True
    x = stream((2, 8, 4, 6))
    alone = second(first(x))
    link(first, second)
    for layer in (first, second):
        layer.prepare()
    assert torch.equal(second(first(x)), alone)
    assert alone.unique().numel() > 100


@torch.no_grad()
def test_layers_that_cannot_hand_on_integers_hand_on_numbers() -> None:
    first, second = Narrow(1, 1), Narrow(1, 1)
    one = torch.ones(1, dtype=torch.int8)
    first.restore({"weight": one[:, None, None, None], "bias": 0 * one, "reads": -8 * one, "fraction": 20 * one})
    second.restore({"weight": one[:, None, None, None], "bias": 0 * one, "reads": 0 * one, "fraction": 0 * one})
    link(first, second)
    first.prepare()
    assert not second.fed
    second.reads -= 8
    first.prepare()
    assert second.fed


@torch.no_grad()
def test_the_float_form_of_narrow_is_close() -> None:
    layer, _ = narrow("1x1", True)
    x = stream((1, 12, 4, 4)) / 64
    exact = layer(x)
    layer.exact = False
    scale = float(layer(x).abs().max())
    assert (layer(x) - exact).abs().max() < scale / 20


@pytest.mark.parametrize("largest", [False, True])
@torch.no_grad()
def test_wide_is_integer_arithmetic(largest: bool) -> None:
    inputs, outputs = 128, 6
    layer = Wide(inputs, outputs)
    weight = draw(-WIDE_WEIGHT, WIDE_WEIGHT, (outputs, inputs, 1, 1), torch.int16, 1)
    integers = {"weight": weight, "bias": draw(-20000, 20000, (outputs,), torch.int32, 2), "fraction": draw(14, 16, (outputs,), torch.int8, 3)}
    x = stream((1, inputs, 5, 3)) / (1 if largest else 128)
    x = (x * 4096).round() / 4096
    layer.restore(integers)
    layer.exact = layer.grid.exact = True
    out = layer(x)
    layer.prepare()
    assert torch.equal(layer(x), out)
    w, x = weight[:, :, 0, 0].numpy().astype(np.int64), (x[0].numpy() * 4096).astype(np.int64)
    u = (w + 64) // 128
    total = np.einsum("oc,chw->ohw", u, x) + 2 * np.einsum("oc,chw->ohw", w - 128 * u, (x + 128) // 256)
    exponent = 7 - integers["fraction"].numpy().astype(np.float64)[:, None, None]
    value = np.rint(total.astype(np.float32) * 2.0**exponent) + integers["bias"].numpy()[:, None, None]
    assert np.array_equal(out[0].numpy() * 4096, value.clip(-STREAM_LIMIT, STREAM_LIMIT))
    assert (np.abs(out.numpy() * 4096) == STREAM_LIMIT).any() == largest


@pytest.mark.parametrize("largest", [False, True])
@torch.no_grad()
def test_wide_in_loops(largest: bool) -> None:
    inputs, outputs = 128, 8
    integers = {
        "weight": draw(-WIDE_WEIGHT, WIDE_WEIGHT, (outputs, inputs, 1, 1), torch.int16, 1), "bias": draw(-20000, 20000, (outputs,), torch.int32, 2),
        "fraction": draw(14, 16, (outputs,), torch.int8, 3),
    }  # fmt: skip
    x = stream((1, inputs, 5, 3)) / (1 if largest else 128)
    x = (x * 4096).round() / 4096
    plain = Wide(inputs, outputs)
    plain.restore(integers)
    plain.exact = plain.grid.exact = True
    given = np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
    one, other = (np.ascontiguousarray(part) for part in np.split(given, 2, 2))
    for shuffles, wanted in ((False, plain(x)), (True, torch.nn.functional.pixel_shuffle(plain(x), 2))):
        layer = layers.Wide(named(integers, Wide.kinds), "x", inputs, outputs, shuffles)
        for made in (layer(given), layer(one, other)):
            assert np.array_equal(made.transpose(2, 0, 1), wanted[0].numpy())


@torch.no_grad()
def test_wide_is_close_to_a_product_of_whole_numbers() -> None:
    """What it leaves out is less than what rounding its result does."""
    layer = Wide(96, 8)
    torch.nn.init.normal_(layer.weight, std=0.1)
    layer.settle_weights()
    layer.exact = layer.grid.exact = True
    x = layer.grid(torch.randn(1, 96, 9, 9, generator=torch.Generator().manual_seed(1)) / 4)
    out = layer(x)
    plain = layer.convolve(x.double(), layer.weight.double(), layer.bias.double())
    assert (out - plain).square().mean().sqrt() < 2.0**-12


@torch.no_grad()
def test_weights_of_wide_are_made_to_fit() -> None:
    """Many large weights need a coarser step than the largest alone would ask for."""
    layer = Wide(448, 2)
    layer.weight[0].fill_(0.99)
    layer.weight[1].zero_()[0] = 0.99
    layer.settle_weights()
    assert layer.fraction[0] < layer.fraction[1]
    layer.restore(layer.integers())


def test_training_wide_differs_in_rounding_only() -> None:
    """With gradients it sums in float32 and leaves out nothing, so it may round to a neighbour, and seldom to one further on."""
    layer = Wide(64, 8)
    layer.settle_weights()
    layer.exact = layer.grid.exact = True
    x = stream((1, 64, 6, 6)) / 8
    x = (x * 4096).round() / 4096
    trained = layer(x)
    with torch.no_grad():
        steps = (trained - layer(x)).abs() * 2.0**12
    assert steps.max() <= 2 and (steps == 2).float().mean() < 0.01


def knots(channels: int, reach: int) -> Tensor:
    return draw(-reach, reach, (9, channels), torch.int16, 7)


def between(values: np.ndarray, rate: int) -> np.ndarray:
    """The integer n of a table."""
    k = min(rate // 8, 7)
    f = rate - 8 * k
    return (values[k] * (8 - f) + values[k + 1] * f + 4) // 8


@torch.no_grad()
def test_rate_tables_are_integer_arithmetic() -> None:
    table, values = RateTable(5), knots(5, 300)
    table.restore({"knots": values})
    table.exact = True
    every = torch.arange(RATES)
    expected = np.stack([between(values.numpy().astype(np.int64), rate) for rate in range(RATES)]) / 64
    out = table.vector(every)
    assert out.shape == (RATES, 5, 1, 1) and np.array_equal(out[..., 0, 0].numpy(), expected)
    table.prepare()
    assert torch.equal(table.vector(every), out)
    assert np.array_equal(layers.Table(named({"knots": values}, RateTable.kinds), "x", 5).lines, expected)
    assert torch.equal(table.integers()["knots"], values)


@torch.no_grad()
def test_rate_gains_are_integer_arithmetic() -> None:
    gain, values = RateGain(5), knots(5, 900)
    gain.restore({"knots": values})
    gain.exact = gain.grid.exact = True
    n = np.stack([between(values.numpy().astype(np.int64), rate) for rate in range(RATES)])
    factors = np.array([round(128 * 2 ** (i / 128)) for i in range(128)])[n % 128] * 2.0 ** (n // 128 - 7)
    out = gain.vector(torch.arange(RATES))
    assert np.array_equal(out[..., 0, 0].numpy(), factors)
    x = stream((RATES, 5, 1, 2))
    scaled = np.rint(x.numpy().astype(np.float64) * factors[..., None, None] * 4096).clip(-STREAM_LIMIT, STREAM_LIMIT) / 4096
    assert np.array_equal(gain(x, torch.arange(RATES)).numpy(), scaled)
    assert np.array_equal(layers.Gain(named({"knots": values}, RateTable.kinds), "x", 5).lines, factors)
    gain.prepare()
    assert np.array_equal(gain(x, torch.arange(RATES)).numpy(), scaled)
    assert torch.equal(gain.integers()["knots"], values)


def test_mantissas_do_not_depend_on_the_machine() -> None:
    assert MANTISSAS[0] == 128 and MANTISSAS[-1] == 255 and len(MANTISSAS) == 128
    assert all(0 <= b - a <= 2 for a, b in zip(MANTISSAS, MANTISSAS[1:]))
    # In integers alone: the one m with (2m - 1)^128 < 2^(128·8 + i) < (2m + 1)^128.
    for i, m in enumerate(MANTISSAS):
        assert (2 * m - 1) ** 128 < 2 ** (128 * 8 + i) < (2 * m + 1) ** 128


def test_grids_round_ties_to_even_and_clamp() -> None:
    grid = Grid(1, 5)
    x = torch.tensor([0.25, 0.75, 1.25, -0.25, -0.75, 2.4, 3.0, -1e9, float("inf")])
    assert torch.equal(grid(x), x)
    grid.exact = True
    assert grid(x).tolist() == [0, 1, 1, 0, -1, 2.5, 2.5, -2.5, 2.5]


@pytest.mark.parametrize("limit", [STREAM_LIMIT, CONTEXT_LIMIT])
def test_grids_leave_what_is_on_them(limit: int) -> None:
    grid = Grid(limit=limit)
    grid.exact = True
    x = torch.arange(-limit, limit + 1) * 2.0**-12
    assert torch.equal(grid(x), x)


def test_gradients_pass_straight_through_rounding_and_not_where_clamped() -> None:
    x = torch.tensor([-9.0, -2.8, -2.7, 0.3, 2.7, 2.8, 9.0], requires_grad=True)
    rounded(x, 2.0, -5, 5).backward(torch.tensor([1.0, 1, 1, 10, 1, 1, 1]))
    assert x.grad.tolist() == [0, 0, 2, 20, 2, 0, 0]


@pytest.mark.parametrize("relu", [False, True])
def test_gradients_of_narrow(relu: bool) -> None:
    """Those of the float form, but none to inputs that are clamped."""
    layer, _ = narrow("1x1", relu)
    layer.requires_grad_(True)
    reads = torch.exp2(layer.reads.float())[:, None, None]
    inside = draw(1, 126, (1, 12, 3, 3), torch.float32, 8) * reads
    x = inside.clone().requires_grad_(True)
    layer(x).sum().backward()
    assert layer.weight.grad.any() and layer.bias.grad.any()
    layer.exact = False
    plain = inside.clone().requires_grad_(True)
    layer(plain).sum().backward()
    assert torch.allclose(x.grad, plain.grad, rtol=0.02, atol=0.02 * float(plain.grad.abs().max()))
    layer.exact = True
    outside = (300 * reads + 0 * inside).requires_grad_(True)
    layer(outside).sum().backward()
    assert not outside.grad.any()


def test_the_backend_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for exact in (True, False):
        monkeypatch.setattr(compiled, "is_exact", lambda exact=exact: exact)
        monkeypatch.delenv("NVC_BACKEND", raising=False)
        assert compiled.is_compiled() == exact
        monkeypatch.setenv("NVC_BACKEND", "float32")
        assert not compiled.is_compiled()
        monkeypatch.setenv("NVC_BACKEND", "int8")
        if exact:
            assert compiled.is_compiled()
        else:
            with pytest.raises(ValueError, match="which this processor does not compute exactly; unset it"):
                compiled.is_compiled()
        monkeypatch.setenv("NVC_BACKEND", "abacus")
        with pytest.raises(ValueError, match="NVC_BACKEND is 'abacus', .*int8, float32"):
            compiled.is_compiled()


def test_inexact_products_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of processors whose 8-bit products are summed in 16 bits."""
    real = layers.Narrow.__call__
    monkeypatch.setattr(layers.Narrow, "__call__", lambda self, *parts: real(self, *parts).clip(max=511.0))
    assert not compiled.is_exact.__wrapped__()


@pytest.mark.parametrize(
    "name, change, error",
    [
        ("weight", lambda values: values[:, :3], Misfit),
        ("weight", lambda values: values.astype(np.int16), Misfit),
        ("weight", lambda values: np.full_like(values, -128), RangeError),
        ("bias", lambda values: values.astype(np.float32), Misfit),
        ("bias", lambda values: values + (1 << 24), RangeError),
        ("reads", lambda values: values + np.int8(60), RangeError),
        ("fraction", lambda values: values + np.int8(23), RangeError),
    ],
)
def test_integers_that_do_not_fit(name: str, change: Callable[[np.ndarray], np.ndarray], error: type[ValueError]) -> None:
    _, integers = narrow("1x1", False)
    given = named(integers, Narrow.kinds)
    layers.Narrow(given, "x", 12, 7)
    assert not given.left
    with pytest.raises(error):
        layers.Narrow(Integers({**given.values, f"x.{name}": change(given.values[f"x.{name}"])}), "x", 12, 7)
    with pytest.raises(Misfit):
        layers.Narrow(Integers({key: value for key, value in given.values.items() if key != f"x.{name}"}), "x", 12, 7)


@pytest.mark.parametrize("bias", [True, False])
def test_shifted_sums_are_the_depth_wise_convolution(bias: bool) -> None:
    generator = torch.Generator().manual_seed(3)
    x, weight, offset = (torch.randn(shape, generator=generator) for shape in ((2, 5, 7, 6), (5, 1, 3, 3), (5,)))
    expected = torch.nn.functional.conv2d(x, weight, offset if bias else None, padding=1, groups=5)
    torch.testing.assert_close(shifted_sums(x, weight, offset if bias else None), expected)
