"""Weights files, and the hash that ties a stream to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.calibration import integers
from models.codec import Codec, is_normative
from models.exact import Convolution
from models.weights import INTEGERS, WeightsError, load, load_decoder, load_encoder, locate, read, save, shipped, weights_hash

METADATA = {"preset": "tiny"}

Loader = Callable[[str], Any]
EITHER = pytest.mark.parametrize("loader", [load, load_encoder])
"""In PyTorch, and for a processor."""


@pytest.fixture(scope="module")
def path(codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("weights") / "deeper" / "mine.safetensors"
    save(codec, target)
    return target


def test_files_hold_parameters_in_16_bits_and_integers(codec: Codec, path: Path) -> None:
    contents = read(path)
    assert contents.preset == "tiny"
    parameters = dict(codec.named_parameters())
    assert contents.parameters.keys() == parameters.keys()
    for name, tensor in parameters.items():
        assert torch.equal(contents.parameters[name], tensor.half().float()), name
    expected = integers(codec)
    assert contents.integers.keys() == expected.keys()
    for name, tensor in expected.items():
        assert contents.integers[name].dtype == tensor.dtype and torch.equal(contents.integers[name], tensor), name
    assert [entry.name for entry in path.parent.iterdir()] == ["mine.safetensors"]


def test_load_gives_a_model_that_is_ready(path: Path) -> None:
    model = load(str(path))
    assert model.name == "mine" and len(model.hash) == 8
    assert model.codec.exact and not model.codec.training and not any(p.requires_grad for p in model.codec.parameters())
    assert all(layer.prepared is not None for _, layer in model.codec.normative(Convolution))


def test_what_is_loaded_saves_as_the_same_integers(path: Path, tmp_path: Path) -> None:
    model = load(str(path))
    save(model.codec, tmp_path / "again.safetensors")
    again = read(tmp_path / "again.safetensors").integers
    for name, tensor in read(path).integers.items():
        assert torch.equal(again[name], tensor), name
    assert load(str(tmp_path / "again.safetensors")).hash == model.hash == weights_hash(again)


def test_the_hash_is_of_every_integer() -> None:
    values = {"a.weight": torch.arange(6, dtype=torch.int8).view(2, 3), "b.knots": torch.tensor([-300, 0], dtype=torch.int16)}
    original = weights_hash(values)
    assert weights_hash(dict(reversed(values.items()))) == original
    seen = {original}
    for name, tensor in values.items():
        for place in range(tensor.numel()):
            changed = tensor.flatten()
            changed = torch.where(torch.arange(len(changed)) == place, changed ^ 1, changed).view(tensor.shape)
            seen.add(weights_hash({**values, name: changed}))
    assert len(seen) == 1 + 6 + 2


def test_the_hash_is_of_no_float(codec: Codec, path: Path, tmp_path: Path) -> None:
    tensors = load_file(path)
    for name in tensors:
        if not name.startswith(INTEGERS):
            tensors[name] += 0.5
    save_file(tensors, tmp_path / "other.safetensors", METADATA)
    assert load(str(tmp_path / "other.safetensors")).hash == load(str(path)).hash


def test_the_hash_is_as_the_format_says() -> None:
    values = {"b.weight": torch.tensor([[-1, 2]], dtype=torch.int8), "a.bias": torch.tensor([300], dtype=torch.int32)}
    content = b"a.bias\0" + b"\x2c\x01\0\0" + b"b.weight\0" + b"\xff\xff\xff\xff" + b"\x02\0\0\0"
    assert weights_hash(values) == hashlib.sha256(content).digest()[:8]


def test_a_renamed_tensor_changes_the_hash(codec: Codec) -> None:
    values = integers(codec)
    a, b = "inter.latent.hyper_decoder.0.0.bias", "inter.latent.hyper_decoder.1.0.bias"
    assert weights_hash({**values, a: values[b], b: values[a]}) != weights_hash(values)


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


@EITHER
def test_a_missing_file(tmp_path: Path, loader: Loader) -> None:
    with pytest.raises(WeightsError, match="gone.safetensors: there is no such file"):
        loader(str(tmp_path / "gone.safetensors"))


@EITHER
@pytest.mark.parametrize("content", [b"", b"hello\n", bytes(100)])
def test_a_foreign_file(tmp_path: Path, content: bytes, loader: Loader) -> None:
    (tmp_path / "text.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match="text.safetensors: these weights cannot be read"):
        loader(str(tmp_path / "text.safetensors"))


@EITHER
def test_a_folder(tmp_path: Path, loader: Loader) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(WeightsError, match="folder.safetensors: these weights cannot be read"):
        loader(str(tmp_path / "folder.safetensors"))


@EITHER
@pytest.mark.parametrize("metadata", [None, {"preset": "huge"}])
def test_an_unknown_preset(tmp_path: Path, metadata: dict[str, str] | None, loader: Loader) -> None:
    save_file({"x": torch.zeros(1)}, str(tmp_path / "a.safetensors"), metadata)
    with pytest.raises(WeightsError, match="a.safetensors: the weights do not say which preset"):
        loader(str(tmp_path / "a.safetensors"))


@EITHER
@pytest.mark.parametrize(
    "name, change",
    [
        ("inter.join.bias", lambda tensor: None),
        ("inter.join.bias", lambda tensor: tensor[:3]),
        ("integers.inter.merge.bias", lambda tensor: None),
        ("integers.inter.merge.bias", lambda tensor: tensor[:3]),
        ("integers.inter.merge.bias", lambda tensor: tensor[:1]),
        ("integers.inter.merge.bias", lambda tensor: tensor.float()),
        ("integers.inter.merge.weight", lambda tensor: tensor[0, 0]),
        ("integers.inter.release.weight", lambda tensor: tensor.flatten()),
        ("integers.motion.side.reads", lambda tensor: None),
        ("integers.intra.latent.step.knots", lambda tensor: tensor[:8]),
        ("integers.inter.join.bias", lambda tensor: torch.zeros(3, dtype=torch.int32)),
        ("inter.more.bias", lambda tensor: torch.zeros(3)),
    ],
)
def test_weights_of_another_shape(path: Path, tmp_path: Path, name: str, change: Callable, loader: Loader) -> None:
    if name == "inter.more.bias" and loader is load_encoder:
        pytest.skip("what coding has no need of is not looked at")
    tensors = load_file(path)
    changed = change(tensors.pop(name, None))
    if changed is not None:
        tensors[name] = changed.contiguous()
    save_file(tensors, tmp_path / "odd.safetensors", METADATA)
    with pytest.raises(WeightsError, match="odd.safetensors: the weights do not fit the preset tiny"):
        loader(str(tmp_path / "odd.safetensors"))


@pytest.mark.parametrize(
    "change, told", [
        (lambda tensor: None, "do not fit the preset tiny"), (lambda tensor: tensor[:3], "do not fit the preset tiny"),
        (lambda tensor: tensor + float("nan"), "are not all finite"),
    ],
)  # fmt: skip
def test_a_decoder_looks_at_the_enhancer_only_where_it_is_asked_for(path: Path, tmp_path: Path, change: Callable, told: str) -> None:
    tensors = load_file(path)
    changed = change(tensors.pop("enhancer.enter.bias"))
    if changed is not None:
        tensors["enhancer.enter.bias"] = changed.contiguous()
    save_file(tensors, tmp_path / "odd.safetensors", METADATA)
    assert load_decoder(str(tmp_path / "odd.safetensors")).enhancer is None
    with pytest.raises(WeightsError, match=f"odd.safetensors: the weights {told}"):
        load_decoder(str(tmp_path / "odd.safetensors"), enhance=True)


@EITHER
def test_weights_without_integers(path: Path, tmp_path: Path, loader: Loader) -> None:
    """As version 1 had them."""
    tensors = {name: tensor for name, tensor in load_file(path).items() if not name.startswith(INTEGERS)}
    save_file(tensors, tmp_path / "old.safetensors", METADATA)
    with pytest.raises(WeightsError, match="old.safetensors: the weights do not fit"):
        loader(str(tmp_path / "old.safetensors"))


@EITHER
def test_integers_whose_sums_would_not_be_exact(path: Path, tmp_path: Path, loader: Loader) -> None:
    tensors = load_file(path)
    tensors["integers.inter.release.bias"][0] = 1 << 24
    save_file(tensors, tmp_path / "large.safetensors", METADATA)
    with pytest.raises(WeightsError, match=r"large.safetensors: sums of a layer could reach 2\^24"):
        loader(str(tmp_path / "large.safetensors"))


@EITHER
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_are_not_numbers(codec: Codec, tmp_path: Path, value: float, loader: Loader) -> None:
    target = tmp_path / "diverged.safetensors"
    diverged = deepcopy(codec)
    diverged.inter.join.bias[0] = value  # the last is not a number in 16 bits
    save(diverged, target)
    with pytest.raises(WeightsError, match="diverged.safetensors: the weights are not all finite"):
        loader(str(target))


def test_a_path_or_a_name(path: Path) -> None:
    assert locate(str(path)) == path
    assert [locate(name).stem for name in shipped()] == shipped()


@EITHER
def test_an_unknown_name(loader: Loader) -> None:
    with pytest.raises(WeightsError, match="the model gigantic is not in this package"):
        loader("gigantic")


@EITHER
@pytest.mark.parametrize("name", shipped())
def test_shipped_models_load(name: str, loader: Loader) -> None:
    assert loader(name).name == name
