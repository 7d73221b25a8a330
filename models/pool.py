"""Pictures that a finished codec has coded once, for the enhancer to learn from many times.

Coding takes longer than a step of the enhancer, which depends on the codec, while nothing in the codec depends on it.
"""

from collections import deque
from copy import deepcopy
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from torch import Tensor

from models.codec import Codec
from models.picture import Planes
from models.plan import QUICK
from models.search import Search

CAPACITY = 3072
"""Pictures that are kept, in all processes together; the oldest make room. One of 256×256 takes 0.8 MB."""


@dataclass(frozen=True)
class Coded:
    """Decoded pictures with all that the enhancer sees, and their sources."""

    source: Planes
    picture: Planes
    context: Tensor  # c̃ (B, C, H/8, W/8)
    following: Planes  # the next pictures, moved to where the content of these is
    rate: Tensor  # (B,) rate points
    following_rate: Tensor  # (B,)


class _Unwritten:
    """In place of an entropy encoder, where nobody will read the stream."""

    def write(self, symbols: Tensor | np.ndarray, indexes: Tensor | np.ndarray) -> None:
        pass


class Pool:
    """Keeps the last pictures that were coded.

    Args:
        codec: with finished weights, calibrated; a copy of it codes.
        capacity: pictures that are kept.
    """

    def __init__(self, codec: Codec, capacity: int = CAPACITY):
        self.codec = deepcopy(codec).eval().requires_grad_(False)
        self.codec.exact = True
        self.codec.prepare()
        self.search = Search(32, QUICK)
        self.items: deque[list[Tensor]] = deque(maxlen=capacity)

    @torch.inference_mode()
    def grow(self, pictures: list[Planes], rates: Tensor, filtered: Tensor) -> None:
        """Code a batch of B chains of T pictures, and keep all but the last, of which no next one is known.

        Args:
            rates: (T, B) rate points.
            filtered: (T, B) 1 where the in-loop filter is on.
        """
        codec, last = self.codec, None
        for t, (picture, rate) in enumerate(zip(pictures, rates)):
            if last is None:
                state = codec.encode_keyframe(picture, rate, _Unwritten())
            else:
                vectors, _ = codec.search(self.search, picture, last, rate)
                state = codec.encode_frame(picture, last, rate, vectors, False, _Unwritten()).finish(filtered[t])
                following = codec.moved(state.picture, last.picture, rates[t - 1])
                self._keep(pictures[t - 1], last.picture, last.context, following, rates[t - 1], rate)
            last = state

    def sample(self, random: Random, count: int) -> Coded:
        """Some of the pictures."""
        *tensors, rate, following_rate = (torch.stack(parts) for parts in zip(*random.choices(self.items, k=count)))
        source, picture, following = (Planes(*(plane.float() for plane in tensors[k : k + 3])) for k in (0, 3, 6))
        return Coded(source, picture, tensors[9].float(), following, rate, following_rate)

    def _keep(self, source: Planes, picture: Planes, context: Tensor, following: Planes, rate: Tensor, following_rate: Tensor) -> None:
        """Split a batch; decoded samples take a byte, the others two."""
        small = [plane.to(torch.uint8) for planes in (source, picture) for plane in (planes.y, planes.u, planes.v)]
        wide = [tensor.half() for tensor in (following.y, following.u, following.v, context)]
        for item in zip(*small, *wide, rate, following_rate):
            self.items.append([part.clone() for part in item])
