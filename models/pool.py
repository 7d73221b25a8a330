"""Pictures that a finished codec has coded once, for the enhancer to learn from many times.

Coding takes longer than a step of the enhancer, which depends on the codec, while nothing in the codec depends on it.
"""

from collections import deque
from copy import deepcopy
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import bridge
from models.codec import Codec, State
from models.compiled import search as compiled
from models.compiled.codec import State as LoopState
from models.compiled.enhancer import moved
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


class _InTorch:
    """Codes batches."""

    def __init__(self, codec: Codec):
        self.codec, self.search = deepcopy(codec).eval().requires_grad_(False), Search(32, QUICK)
        self.codec.exact = True
        self.codec.prepare()

    def keyframe(self, picture: Planes, rate: Tensor) -> State:
        return self.codec.encode_keyframe(picture, rate, _Unwritten())

    def frame(self, picture: Planes, state: State, rate: Tensor, filtered: Tensor) -> State:
        vectors, _ = self.codec.search(self.search, picture, state, rate)
        return self.codec.encode_frame(picture, state, rate, vectors, False, _Unwritten()).finish(filtered)

    def shown(self, state: State) -> tuple[Planes, Tensor]:
        """Pictures, and contexts."""
        return state.picture, state.context

    def moved(self, following: State, state: State, rate: Tensor) -> Planes:
        """The next pictures, moved to where the content of these is."""
        return self.codec.moved(following.picture, state.picture, rate)


class _InLoops:
    """The same sample by sample, in compiled loops."""

    def __init__(self, codec: Codec):
        self.codec = codec.in_loops()
        self.searches: list[compiled.Search] = []

    def keyframe(self, picture: Planes, rate: Tensor) -> list[LoopState]:
        return [self.codec.encode_keyframe(*sample, _Unwritten()) for sample in zip(bridge.pictures(picture), bridge.rates(rate))]

    def frame(self, picture: Planes, states: list[LoopState], rate: Tensor, filtered: Tensor) -> list[LoopState]:
        self.searches += [compiled.Search(32, QUICK) for _ in range(len(states) - len(self.searches))]
        after = []
        for search, source, state, point, flag in zip(self.searches, bridge.pictures(picture), states, bridge.rates(rate), filtered.tolist()):
            vectors, _ = self.codec.search(search, source, state, point)
            after.append(self.codec.encode_frame(source, state, point, vectors, False, _Unwritten()).finish(bool(flag)))
        return after

    def shown(self, states: list[LoopState]) -> tuple[Planes, Tensor]:
        return bridge.to_planes([state.picture for state in states]), bridge.tensor([state.context for state in states])

    def moved(self, following: list[LoopState], states: list[LoopState], rate: Tensor) -> Planes:
        return bridge.to_planes([moved(after.picture, state.picture, point) for after, state, point in zip(following, states, bridge.rates(rate))])


class Pool:
    """Keeps the last pictures that were coded.

    Args:
        codec: with finished weights, calibrated.
        capacity: pictures that are kept.
    """

    def __init__(self, codec: Codec, capacity: int = CAPACITY):
        self.coding: Any = _InLoops(codec) if codec.has_loops else _InTorch(codec)  # whose states are its own
        self.items: deque[list[Tensor]] = deque(maxlen=capacity)

    @torch.inference_mode()
    def grow(self, pictures: list[Planes], rates: Tensor, filtered: Tensor) -> None:
        """Code a batch of B chains of T pictures, and keep all but the last, of which no next one is known.

        Args:
            rates: (T, B) rate points.
            filtered: (T, B) 1 where the in-loop filter is on.
        """
        coding = self.coding
        last = coding.keyframe(pictures[0], rates[0])
        for t in range(1, len(pictures)):
            state = coding.frame(pictures[t], last, rates[t], filtered[t])
            shown, context = coding.shown(last)
            self._keep(pictures[t - 1], shown, context, coding.moved(state, last, rates[t - 1]), rates[t - 1], rates[t])
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
