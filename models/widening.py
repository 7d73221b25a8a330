"""Larger networks from trained smaller ones: they begin by doing what the smaller ones do (Net2Net, Chen et al., ICLR 2016).

Old channels come first in every layer. They do not see the new ones at first, which begin at random and see all; blocks that are
added are the identity at first. So training goes on where the smaller networks have stopped.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.codec import Codec
from models.exact import Convolution, RateTable
from models.presets import PICTURE, Preset

JOINED: dict[str, Callable[[Preset], tuple[int, ...]]] = {
    "intra.to_latent": lambda p: (p.intra_context, PICTURE),
    "inter.enter": lambda p: (PICTURE, p.context),
    "inter.join": lambda p: (2 * PICTURE, p.context),
    "inter.to_latent": lambda p: (p.context, PICTURE),
    "inter.merge": lambda p: (p.context, p.context),
    "inter.latent.fuse": lambda p: (p.side, p.side),
    "enhancer.enter": lambda p: (3 * PICTURE, p.context),
}
"""Layers whose inputs are several tensors behind one another, and how many channels these have."""

QUIET = ("hyper_encoder.2",)
"""Layers whose new outputs begin small: symbols, which cost bits."""


def widen(parameters: dict[str, Tensor], small: Preset, codec: Codec) -> None:
    """Set the parameters of a new codec from those of a smaller preset.

    Raises:
        ValueError: the codec is not larger in every way.
    """
    large = codec.preset
    if any(getattr(small, name) > getattr(large, name) for name in vars(small) if name != "name") or small.latent != large.latent:
        raise ValueError(f"the weights to begin with are of {small.name}, which is not smaller than {large.name}; choose others, or --model {small.name}")
    for name, layer in codec.named_modules():
        if f"{name}.weight" in parameters and isinstance(layer, Convolution):
            _widen_convolution(name, layer, parameters[f"{name}.weight"], parameters[f"{name}.bias"], small, large)
        elif f"{name}.knots" in parameters and isinstance(layer, RateTable):
            knots = parameters[f"{name}.knots"]
            layer.knots.data[:, : knots.shape[1]] = knots


@torch.no_grad()
def _widen_convolution(name: str, layer: Convolution, weight: Tensor, bias: Tensor, small: Preset, large: Preset) -> None:
    rows = len(weight)
    _, inputs, size, _ = layer.weight.shape
    fresh = nn.Conv2d(inputs * layer.groups, len(layer.weight), size, groups=layer.groups)
    start = 0.1 if name.endswith(QUIET) else 1.0
    layer.weight[rows:] = start * fresh.weight[rows:].to(layer.weight.device)
    layer.bias[rows:] = 0.0
    layer.weight[:rows] = 0.0
    columns = _columns(JOINED.get(name), small, large, weight.shape[1])
    layer.weight[:rows, columns] = weight.to(layer.weight.device)
    layer.bias[:rows] = bias


def _columns(joined: Callable[[Preset], tuple[int, ...]] | None, small: Preset, large: Preset, count: int) -> list[int]:
    """Where the inputs of a small layer are among those of the large one."""
    if joined is None:
        return list(range(count))
    places: list[int] = []
    first = 0
    for old, new in zip(joined(small), joined(large)):
        places += range(first, first + old)
        first += new
    return places
