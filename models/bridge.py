"""Between PyTorch's tensors, (B, C, H, W) and channels-last, and the arrays of compiled loops, (H, W, C), which have no batches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from models.arrays import Array
from models.compiled.pictures import Picture

if TYPE_CHECKING:
    from models.picture import Planes


def hosts(tensors: Sequence[Tensor]) -> list[Array]:
    """Arrays of the processor with the numbers of tensors; those on a GPU come through pinned memory, all at once."""
    if not any(x.is_cuda for x in tensors):
        return [x.detach().numpy() for x in tensors]
    there = [torch.empty(x.shape, dtype=x.dtype, pin_memory=True) for x in tensors]
    for out, x in zip(there, tensors):
        out.copy_(x, non_blocking=True)
    torch.cuda.current_stream(tensors[0].device).synchronize()
    return [out.numpy() for out in there]


def host(x: Tensor) -> Array:
    """The same of one."""
    return hosts([x])[0]


def on_device(x: Array, device: torch.device) -> Tensor:
    """An array as a tensor; on its way to a GPU nobody waits for it."""
    here = torch.from_numpy(x)
    return here.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else here


def arrays(x: Tensor) -> Array:
    """(B, C, H, W) -> (B, H, W, C)."""
    return np.ascontiguousarray(host(x.detach().float()).transpose(0, 2, 3, 1))


def tensor(samples: Sequence[Array]) -> Tensor:
    """B arrays (H, W, C) -> (B, C, H, W)."""
    return batch(samples).permute(0, 3, 1, 2)


def batch(samples: Sequence[Array]) -> Tensor:
    """B arrays of one shape -> (B, ...)."""
    return torch.from_numpy(samples[0][None] if len(samples) == 1 else np.stack(samples))


def rates(rate: Tensor) -> list[int]:
    """Rate points (B,) as integers."""
    points: list[int] = rate.long().tolist()
    return points


def pictures(planes: "Planes") -> list[Picture]:
    """One for each sample."""
    y, u, v = (plane.detach()[:, 0].float().contiguous().numpy() for plane in (planes.y, planes.u, planes.v))
    return [Picture(*sample) for sample in zip(y, u, v)]


def to_planes(made: Sequence[Picture]) -> "Planes":
    """The inverse."""
    from models.picture import Planes

    return Planes(*(batch(samples)[:, None] for samples in zip(*(picture.planes for picture in made))))
