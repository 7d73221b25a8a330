"""Frames of the application <-> pictures of the networks."""

from __future__ import annotations

import numpy as np
import torch

from models.picture import Planes, crop, pad
from models.stages import staged
from nvc_cli.frame import Frame


@staged("pictures in")
def to_picture(frame: Frame, device: torch.device) -> Planes:
    """8-bit planes -> float tensors (1, 1, H, W), padded to a multiple of 16."""
    return pad(Planes(*(torch.from_numpy(np.ascontiguousarray(p)).to(device).float()[None, None] for p in frame.planes)))


@staged("pictures out")
def to_frame(picture: Planes, width: int, height: int) -> Frame:
    """Rounded planes -> 8-bit planes of the visible size."""
    cut = crop(picture, height, width)
    y, u, v = (plane[0, 0].to(torch.uint8).cpu().numpy() for plane in (cut.y, cut.u, cut.v))
    return Frame(y, u, v)
