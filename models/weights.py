"""Trained weights: files, and the hash by which a stream names the weights that it was written with.

A file holds two things. Under `integers.` is what a decoder computes with; its hash names the weights in streams. All
other tensors are the float16 parameters of all networks: of those that only an encoder has, and for training to go on from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.compiled.codec import Codec as CompiledCodec
from models.files import replacing
from models.integers import Misfit, RangeError
from models.presets import PRESETS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from models.arrays import Array
    from models.compiled.encoder import EncoderCodec
    from models.codec import Codec
    from models.compiled.enhancer import Enhancer

FOLDER = Path(__file__).parent / "weights"

INTEGERS, ENHANCER = "integers.", "enhancer."


class WeightsError(ValueError):
    """One sentence: which weights, what is wrong, the way out."""


@dataclass(frozen=True)
class Model:
    """A codec with trained weights."""

    codec: Codec
    name: str
    hash: bytes  # 8 bytes


@dataclass(frozen=True)
class DecoderModel:
    """What decodes with trained weights, without PyTorch."""

    codec: CompiledCodec
    name: str
    hash: bytes  # 8 bytes
    enhancer: Enhancer | None = None  # the out-of-loop filter


@dataclass(frozen=True)
class EncoderModel(DecoderModel):
    """What encodes, and decodes, with trained weights, without PyTorch."""

    codec: EncoderCodec


@dataclass(frozen=True)
class Contents:
    """What a weights file holds."""

    preset: str
    parameters: dict[str, Tensor]  # float32
    integers: dict[str, Tensor]  # by layer and name


def shipped() -> list[str]:
    """Names of the models in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def weights_hash(integers: Mapping[str, Tensor | Array]) -> bytes:
    """The first 8 bytes of SHA-256 over a decoder's integers: in the order of names, each name in ASCII, a zero byte, and the values as int32, low byte first."""
    digest = hashlib.sha256()
    for name in sorted(integers):
        digest.update(name.encode() + b"\0")
        digest.update(np.asarray(integers[name]).astype("<i4").tobytes())
    return digest.digest()[:8]


def save(codec: Codec, path: Path, originals: dict[str, Tensor] | None = None) -> None:
    """Write the weights of a calibrated codec as safetensors, beside the target and then renamed.

    Args:
        originals: parameters to write in the place of the codec's, which may be no more than its integers.
    """
    from safetensors.torch import save as serialise

    from models.calibration import integers

    parameters = dict(codec.named_parameters()) | (originals or {})
    tensors = {name: p.detach().half() for name, p in parameters.items()}
    tensors |= {INTEGERS + name: value for name, value in integers(codec).items()}
    content = serialise({name: t.cpu().contiguous() for name, t in tensors.items()}, {"preset": codec.preset.name})
    with replacing(path) as part:
        part.write_bytes(content)  # safetensors' own save_file makes files that only their owner can read


def read(path: Path) -> Contents:
    """Read a weights file.

    Raises:
        WeightsError: the file is missing, damaged, or of something else.
    """
    preset, tensors = _read(path, "pt")
    return Contents(preset, {name: t.float() for name, t in tensors.items() if not name.startswith(INTEGERS)}, _integers(tensors))


def _read(path: Path, framework: str, only: str | tuple[str, ...] = "") -> tuple[str, dict[str, Any]]:
    """The preset of a weights file, and its tensors whose names begin like this: PyTorch's ("pt") or NumPy's ("np")."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework) as file:
            preset = (file.metadata() or {}).get("preset")
            tensors = {name: file.get_tensor(name) for name in file.keys() if name.startswith(only)}
    except FileNotFoundError:
        raise WeightsError(f"{path}: there is no such file; give weights that nvc train wrote, or the name of a model") from None
    except (SafetensorError, OSError, TypeError) as error:
        raise WeightsError(f"{path}: these weights cannot be read ({error}); give a .safetensors file that nvc train wrote") from None
    if preset not in PRESETS:
        raise WeightsError(f"{path}: the weights do not say which preset they are for; give a file that nvc train wrote")
    return preset, tensors


def _integers(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix(INTEGERS): values for name, values in tensors.items() if name.startswith(INTEGERS)}


def locate(model: str) -> Path:
    """The weights file of a model by name, or of one given as a path that ends in .safetensors.

    Raises:
        WeightsError: there is no such model.
    """
    given = model.endswith(".safetensors")
    if not given and model not in shipped():
        raise WeightsError(
            f"the model {model} is not in this package, which has {', '.join(shipped()) or 'none'}; "
            "choose one of these, or give the path of a .safetensors file"
        )
    return Path(model) if given else FOLDER / f"{model}.safetensors"


def load_decoder(model: str, enhance: bool = False) -> DecoderModel:
    """What decodes with a model by name, or with one from a weights file, in compiled loops (`models.compiled.codec.is_compiled`); if need be with the out-of-loop filter.

    Raises:
        WeightsError: there is no such model, or its file is missing, damaged, or does not fit.
    """
    path = locate(model)
    preset, tensors = _read(path, "np", (INTEGERS, ENHANCER) if enhance else INTEGERS)
    integers = _integers(tensors)
    enhancer = _enhancer(path, preset, {name: values for name, values in tensors.items() if name.startswith(ENHANCER)}) if enhance else None
    with _fitting(path, preset):
        codec = CompiledCodec(PRESETS[preset], integers)
    return DecoderModel(codec, path.stem, weights_hash(integers), enhancer)


def load_encoder(model: str) -> EncoderModel:
    """What encodes with a model by name, or with one from a weights file, in compiled loops (`models.compiled.codec.is_compiled`). It decodes, too.

    Parameters that coding needs none of are not looked at.

    Raises:
        WeightsError: as of `load_decoder`.
    """
    from models.compiled.encoder import EncoderCodec

    path = locate(model)
    preset, tensors = _read(path, "np")
    integers, parameters = _integers(tensors), {name: values for name, values in tensors.items() if not name.startswith(INTEGERS)}
    _check_finite(path, parameters)
    with _fitting(path, preset):
        codec = EncoderCodec(PRESETS[preset], integers, parameters)
    return EncoderModel(codec, path.stem, weights_hash(integers), codec.enhancer)


def _enhancer(path: Path, preset: str, parameters: dict[str, Array]) -> Enhancer:
    from models.compiled.enhancer import Enhancer
    from models.compiled.rough import Parameters

    _check_finite(path, parameters)
    with _fitting(path, preset):
        return Enhancer(Parameters(parameters), PRESETS[preset])


def _check_finite(path: Path, parameters: Mapping[str, Tensor | Array]) -> None:
    if not all(np.isfinite(np.asarray(values)).all() for values in parameters.values()):
        raise WeightsError(f"{path}: the weights are not all finite numbers; train or fetch new ones")


@contextmanager
def _fitting(path: Path, preset: str) -> Iterator[None]:
    """Errors of networks whose weights are not theirs as a WeightsError."""
    try:
        yield
    except RangeError as error:
        raise WeightsError(f"{path}: {error}, so that they would not be exact; train or fetch new weights") from None
    except Misfit:
        raise _misfit(path, preset) from None


def _misfit(path: Path, preset: str) -> WeightsError:
    return WeightsError(f"{path}: the weights do not fit the preset {preset} of this version; train or fetch new ones")


def load(model: str, device: torch.device | str = "cpu") -> Model:
    """A model by name, or from a weights file, ready for exact coding in PyTorch: on a GPU, or in batches. A processor is faster with `load_encoder`.

    Raises:
        WeightsError: as of `load_decoder`.
    """
    import torch

    from models.codec import Codec

    path = locate(model)
    contents = read(path)
    _check_finite(path, contents.parameters)
    with _fitting(path, contents.preset):
        loops = CompiledCodec(PRESETS[contents.preset], {name: values.numpy() for name, values in contents.integers.items()})
    codec = Codec(PRESETS[contents.preset])
    try:
        codec.load_state_dict(contents.parameters, strict=False)
    except RuntimeError:
        raise _misfit(path, contents.preset) from None
    if {name for name, _ in codec.named_parameters()} != contents.parameters.keys():
        raise _misfit(path, contents.preset)
    restore(codec, contents.integers)
    codec = codec.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    codec.exact = True
    codec.prepare(loops.motion)
    return Model(codec, path.stem, weights_hash(contents.integers))


def in_loops(model: Model) -> Model | EncoderModel:
    """The same in compiled loops, where it is on a processor that codes by these."""
    if not model.codec.has_loops:
        return model
    codec = model.codec.in_loops()
    return EncoderModel(codec, model.name, model.hash, codec.enhancer)


def restore(codec: Codec, values: dict[str, Tensor]) -> None:
    """Set the layers of a decoder from their integers.

    Raises:
        KeyError, RuntimeError: integers are missing or of another shape.
        RangeError: sums of a layer could leave the range in which they are exact.
    """
    for name, layer in codec.normative():
        given = {key: values[f"{name}.{key}"] for key in layer.kinds}
        if any((given[key].shape, given[key].dtype) != (getattr(layer, key).shape, kind) for key, kind in layer.kinds.items()):
            raise RuntimeError(f"integers of {name} are of another shape or type")
        layer.restore(given)
