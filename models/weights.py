"""Trained weights: files, and the hash by which a stream names the weights that it was written with."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from models.codec import Codec
from models.files import replacing
from models.presets import PRESETS

FOLDER = Path(__file__).parent / "weights"

ENCODER_ONLY = ("enter.", "encoder.", "to_latent.", "join.", "hyper_encoder.", "hyper_gain.")
"""Parts that a decoder does not have; together with the enhancer they are not in the hash."""


class WeightsError(ValueError):
    """One sentence: which weights, what is wrong, the way out."""


@dataclass(frozen=True)
class Model:
    """A codec with trained weights."""

    codec: Codec
    name: str
    hash: bytes  # 8 bytes


def shipped() -> list[str]:
    """Names of the models in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def is_normative(name: str) -> bool:
    """Whether a decoder needs the tensor of this name to get the right pictures."""
    if name.startswith("enhancer."):
        return False
    network, _, rest = name.partition(".")
    rest = rest.removeprefix("latent.")
    # The P-frame network's `enter` makes the temporal context, on both sides.
    encoder_only = rest.startswith(ENCODER_ONLY) and not (network == "inter" and rest.startswith("enter."))
    return not encoder_only


def weights_hash(state: dict[str, Tensor]) -> bytes:
    """The first 8 bytes of SHA-256 over the normative tensors, by name, as float32."""
    digest = hashlib.sha256()
    for name in sorted(filter(is_normative, state)):
        digest.update(f"{name}{tuple(state[name].shape)}".encode())
        digest.update(state[name].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.digest()[:8]


def save(state: dict[str, Tensor], preset: str, path: Path) -> None:
    """Write float16 weights as safetensors, beside the target and then renamed."""
    from safetensors.torch import save as serialise

    content = serialise({name: t.detach().half().cpu().contiguous() for name, t in state.items()}, {"preset": preset})
    with replacing(path) as part:
        part.write_bytes(content)  # safetensors' own save_file makes files that only their owner can read


def read(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a weights file as float32, and its preset.

    Raises:
        WeightsError: the file is missing or is no weights file of nvc.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            preset = (file.metadata() or {}).get("preset", "")
            state = {name: file.get_tensor(name).float() for name in file.keys()}
    except FileNotFoundError:
        raise WeightsError(f"{path}: no such weights file; models in the package are {', '.join(shipped()) or 'none'}") from None
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a weights file ({error}); give a .safetensors file that nvc train wrote") from None
    if preset not in PRESETS:
        raise WeightsError(f"{path}: the weights do not say which preset they are for; give a file that nvc train wrote")
    return state, preset


def load(model: str, device: torch.device | str = "cpu") -> Model:
    """A model by name, or from a weights file.

    Args:
        model: the name of a shipped model, or the path of a .safetensors file.

    Raises:
        WeightsError: there is no such model.
    """
    given = model.endswith(".safetensors")
    if not given and model not in shipped():
        raise WeightsError(
            f"the model {model} is not in this package, which has {', '.join(shipped()) or 'none'}; "
            "choose one of these with --model, or give the path of a .safetensors file"
        )
    path = Path(model) if given else FOLDER / f"{model}.safetensors"
    state, preset = read(path)
    codec = Codec(PRESETS[preset])
    try:
        codec.load_state_dict(state)
    except RuntimeError:
        raise WeightsError(f"{path}: the weights do not fit the preset {preset} of this version; train or fetch new ones") from None
    if not all(torch.isfinite(tensor).all() for tensor in state.values()):
        raise WeightsError(f"{path}: the weights are not all finite numbers; train or fetch new ones")
    codec = codec.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return Model(codec, path.stem, weights_hash(state))
