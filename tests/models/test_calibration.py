"""Calibration: exponents that fit what a decoder reads, and integers that mean the same when they come back."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch

from models.calibration import calibrate, integers, settle_weights
from models.codec import Codec, is_normative
from models.exact import ACTIVATION, WEIGHT, WIDE_WEIGHT, Convolution, Narrow, RangeError, Wide
from models.picture import Planes
from models.presets import PRESETS
from models.quality import psnr
from models.search import Search
from models.weights import restore

Moving = Callable[[int, int, int], list[Planes]]


@pytest.fixture(scope="module")
def fresh(moving: Moving) -> Codec:
    """A codec as training begins, which codes pictures well, calibrated; in its float form."""
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        codec = Codec(PRESETS["tiny"]).requires_grad_(False).eval()
    calibrate(codec, [doubled(moving(64, 64, 3))])
    return codec


def doubled(pictures: list[Planes]) -> list[Planes]:
    """Batches of two."""
    return [Planes(*(torch.cat([p, p.flip(3)]) for p in (picture.y, picture.u, picture.v))) for picture in pictures]


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]), name


@torch.inference_mode()
def test_both_forms_make_nearly_the_same_pictures(fresh: Codec, moving: Moving) -> None:
    exact = deepcopy(fresh)
    exact.exact = True
    pictures, rate, on = moving(64, 64, 3), torch.tensor([4]), torch.tensor([1.0])
    chains = []
    for form in (fresh, exact):
        frames = [form.train_keyframe(pictures[0], rate)]
        for refresh, picture in zip((False, True), pictures[1:]):
            frames.append(form.train_frame(picture, frames[-1].state, rate, on, refresh, Search(16)))
        chains.append([frame.state.picture for frame in frames])
    for picture, plain, close in zip(pictures, *chains):
        assert psnr(plain, picture) > 35
        assert psnr(close, picture) == pytest.approx(float(psnr(plain, picture)), abs=0.3)


@pytest.mark.parametrize("exact", [False, True])
def test_the_form_is_kept(fresh: Codec, moving: Moving, exact: bool) -> None:
    codec = deepcopy(fresh)
    codec.exact = exact
    calibrate(codec, [doubled(moving(32, 32, 2))])
    assert codec.exact is exact
    assert all(layer.seen is None for _, layer in codec.normative(Narrow))


def test_the_same_pictures_give_the_same_integers(fresh: Codec, moving: Moving) -> None:
    again = deepcopy(fresh)
    again.exact = True  # the form that it has does not matter
    calibrate(again, [doubled(moving(64, 64, 3))])
    again.exact = False
    assert_equal(integers(again), integers(fresh))


@pytest.mark.parametrize("relu", [False, True])
def test_what_a_layer_has_read_fits_its_range(relu: bool) -> None:
    layer = Narrow(3, 4, relu=relu)
    layer.observe()
    layer(torch.tensor([100.0, 3.0, 1e-3])[None, :, None, None] * (1 if relu else -1))
    layer.settle()
    largest = torch.tensor([100.0, 100 / 8, 100 / 8])  # no channel gets less than an eighth of the range
    room = torch.exp2(layer.reads.float()) * max(layer.low + ACTIVATION, -layer.low) / largest
    assert layer.seen is None and (room >= 1.25).all() and (room < 2.5).all()


def test_weights_get_the_finest_steps(codec: Codec) -> None:
    for name, layer in codec.normative(Convolution):
        limit = WEIGHT if isinstance(layer, Narrow) else WIDE_WEIGHT
        values = layer.integers()
        largest = values["weight"].int().abs().flatten(1).amax(1)
        assert (largest <= limit).all(), name
        assert ((2 * largest >= limit - 1) | (values["fraction"] == 16)).all(), name


def test_weights_that_grew_are_settled_again(codec: Codec) -> None:
    grown = deepcopy(codec)
    grown.inter.merge.weight[0] *= 4
    settle_weights(grown)
    moved = codec.inter.merge.fraction - grown.inter.merge.fraction
    assert moved[0] == 2 and not moved[1:].any()


def test_integers_are_of_the_decoder_only(codec: Codec) -> None:
    values = integers(codec)
    assert values and all(is_normative(name) for name in values)
    assert not any(value.is_floating_point() for value in values.values())
    layers = {name.rpartition(".")[0] for name in values}
    assert {name.rpartition(".")[0] for name, _ in codec.named_parameters() if is_normative(name)} == layers


def test_integers_do_not_depend_on_the_form(codec: Codec) -> None:
    exact = deepcopy(codec)
    exact.exact = True
    assert_equal(integers(exact), integers(codec))


def test_restoring_is_the_inverse_of_integers(codec: Codec) -> None:
    values = integers(codec)
    other = Codec(PRESETS["tiny"]).requires_grad_(False)
    restore(other, values)
    assert_equal(integers(other), values)
    other.exact = True
    assert_equal(integers(other), values)


def test_training_steps_do_not_move_restored_integers_by_themselves(codec: Codec) -> None:
    """Settling again what came from integers finds the same integers, or the same values in finer steps."""
    values = integers(codec)
    other = Codec(PRESETS["tiny"]).requires_grad_(False)
    restore(other, values)
    settle_weights(other)
    layer = "inter.merge"
    finer = torch.exp2((other.inter.merge.fraction - values[f"{layer}.fraction"]).float())[:, None, None, None]
    assert torch.equal(integers(other)[f"{layer}.weight"].float(), values[f"{layer}.weight"] * finer)


@pytest.mark.parametrize(
    "name, change",
    [
        ("inter.release.bias", lambda value: value.fill_(1 << 24)),
        ("inter.release.bias", lambda value: value.fill_(-(1 << 24) + 1)),
        ("inter.release.weight", lambda value: value.fill_(-128)),
        ("inter.release.fraction", lambda value: value.fill_(23)),
    ],
)
def test_sums_that_would_not_be_exact_are_refused(codec: Codec, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    values = integers(codec)
    change(values[name])
    with pytest.raises(RangeError):
        restore(deepcopy(codec), values)


def test_the_largest_sum_that_is_exact_is_accepted() -> None:
    layer = Narrow(2, 1)
    limits = {"reads": torch.zeros(2, dtype=torch.int8), "fraction": torch.zeros(1, dtype=torch.int8)}
    weight = torch.full((1, 2, 1, 1), 127, dtype=torch.int8)
    most = (1 << 24) - 1 - 2 * 127 * 255
    layer.restore({"weight": weight, "bias": torch.tensor([most], dtype=torch.int32), **limits})
    with pytest.raises(RangeError):
        layer.restore({"weight": weight, "bias": torch.tensor([-most - 1], dtype=torch.int32), **limits})


@pytest.mark.parametrize("inputs, value", [(8, WIDE_WEIGHT + 1), (8, -WIDE_WEIGHT - 1), (600, WIDE_WEIGHT)])
def test_wide_sums_that_would_not_be_exact_are_refused(inputs: int, value: int) -> None:
    layer = Wide(inputs, 1)
    values = {"bias": torch.zeros(1, dtype=torch.int32), "fraction": torch.zeros(1, dtype=torch.int8)}
    layer.restore({"weight": torch.full((1, inputs, 1, 1), 1000), **values})
    with pytest.raises(RangeError):
        layer.restore({"weight": torch.full((1, inputs, 1, 1), value), **values})
