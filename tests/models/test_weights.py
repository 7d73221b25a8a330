"""Weights files, and the hash that ties a stream to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.codec import Codec
from models.weights import WeightsError, is_normative, load, read, save, shipped, weights_hash


@pytest.fixture(scope="module")
def path(codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("weights") / "deeper" / "mine.safetensors"
    save(codec.state_dict(), "tiny", target)
    return target


def test_files_hold_the_weights_in_16_bits(codec: Codec, path: Path) -> None:
    state, preset = read(path)
    assert preset == "tiny"
    assert state.keys() == codec.state_dict().keys()
    for name, tensor in codec.state_dict().items():
        assert torch.equal(state[name], tensor.half().float()), name
    assert [entry.name for entry in path.parent.iterdir()] == ["mine.safetensors"]


def test_load_gives_a_model_that_is_ready(path: Path) -> None:
    model = load(str(path))
    assert model.name == "mine" and len(model.hash) == 8
    assert not model.codec.training and not any(p.requires_grad for p in model.codec.parameters())
    assert model.hash == weights_hash(read(path)[0]) == weights_hash(model.codec.state_dict())


def test_the_hash_is_that_of_the_normative_tensors(path: Path) -> None:
    state, _ = read(path)
    original = weights_hash(state)
    assert weights_hash(dict(reversed(state.items()))) == original
    for name, tensor in state.items():
        changed = weights_hash({**state, name: tensor + 1})
        assert (changed != original) == is_normative(name), name


def test_a_renamed_tensor_changes_the_hash(path: Path) -> None:
    state, _ = read(path)
    a, b = "inter.latent.hyper_decoder.0.0.bias", "inter.latent.hyper_decoder.2.0.bias"
    assert weights_hash({**state, a: state[b], b: state[a]}) != weights_hash(state)


@pytest.mark.parametrize(
    "part, normative",
    [
        ("enhancer.", False),
        ("intra.enter.", False),
        ("inter.enter.", True),
        ("inter.join.", False),
        ("inter.encoder.", False),
        ("inter.decoder.", True),
        ("inter.filter.", True),
        ("inter.latent.hyper_encoder.", False),
        ("inter.latent.hyper_decoder.", True),
        ("intra.latent.unstep.", True),
        ("motion.", True),
    ],
)
def test_what_is_normative(codec: Codec, part: str, normative: bool) -> None:
    names = [name for name in codec.state_dict() if name.startswith(part)]
    assert names and all(is_normative(name) is normative for name in names)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="gone.safetensors: no such weights file"):
        load(str(tmp_path / "gone.safetensors"))


@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(100)])
def test_a_foreign_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "text.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="text.safetensors: not a weights file"):
        load(str(tmp_path / "text.safetensors"))


def test_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(WeightsError, match="folder.safetensors: not a weights file"):
        load(str(tmp_path / "folder.safetensors"))


@pytest.mark.parametrize("metadata", [None, {"preset": "huge"}])
def test_an_unknown_preset(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"x": torch.zeros(1)}, str(tmp_path / "a.safetensors"), metadata)
    with pytest.raises(WeightsError, match="a.safetensors: the weights do not say which preset"):
        load(str(tmp_path / "a.safetensors"))


def test_weights_of_another_shape(codec: Codec, tmp_path: Path) -> None:
    target = tmp_path / "odd.safetensors"
    save({**codec.state_dict(), "inter.join.bias": torch.zeros(3)}, "tiny", target)
    with pytest.raises(WeightsError, match="odd.safetensors: the weights do not fit the preset tiny"):
        load(str(target))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_are_not_numbers(codec: Codec, tmp_path: Path, value: float) -> None:
    target = tmp_path / "diverged.safetensors"
    bias = codec.inter.join.bias.clone()
    bias[0] = value  # the last is not a number in 16 bits
    save({**codec.state_dict(), "inter.join.bias": bias}, "tiny", target)
    with pytest.raises(WeightsError, match="diverged.safetensors: the weights are not all finite"):
        load(str(target))


def test_an_unknown_name() -> None:
    with pytest.raises(WeightsError, match="the model gigantic is not in this package"):
        load("gigantic")


@pytest.mark.parametrize("name", shipped())
def test_shipped_models_load(name: str) -> None:
    assert load(name).name == name
