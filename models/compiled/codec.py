"""The decoder: what a frame's payload turns into, and what is remembered of it for the next. `models/codec.py` has the same in PyTorch, with the encoder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from models.arrays import Array
from models.compiled import pictures
from models.compiled.layers import Integers, Narrow
from models.compiled.networks import Inter, Intra, Motion
from models.compiled.pictures import Picture
from models.entropy import SymbolDecoder
from models.integers import Misfit
from models.presets import Preset
from models.steps import MOST_SYMBOLS
from models.vectors import REFERENCES

BACKENDS = ("int8", "float32")
"""What exact layers can be computed by: the loops of this package, or PyTorch."""


def is_compiled() -> bool:
    """Whether processors are to code by the networks of this package; NVC_BACKEND in the environment overrides it.

    Raises:
        ValueError: NVC_BACKEND names something else, or what is not exact here.
    """
    forced = os.environ.get("NVC_BACKEND")
    if forced and forced not in BACKENDS:
        raise ValueError(f"NVC_BACKEND is {forced!r}, which is none of {', '.join(BACKENDS)}; correct or unset it")
    if forced == "int8" and not is_exact():
        raise ValueError("NVC_BACKEND is 'int8', which this processor does not compute exactly; unset it")
    return forced != "float32" and is_exact()


@lru_cache(maxsize=1)
def is_exact() -> bool:
    """Whether products of bytes sum up the largest integers without error, as they should."""
    random = np.random.default_rng(1)
    weight = random.choice(np.array([-127, 127], np.int8), (40, 96, 1, 1))  # 16-bit sums cannot hold two of these products
    a = random.choice(np.array([-128, 127], np.float32), (3, 11, 96))
    zeros = np.zeros(96, np.int8)
    layer = Narrow(Integers({"x.weight": weight, "x.bias": np.full(40, 1000, np.int32), "x.reads": zeros, "x.fraction": zeros[:40] + np.int8(6)}), "x", 96, 40)
    return np.array_equal(layer(a).astype(np.float64), (a.astype(np.float64) @ weight[:, :, 0, 0].T + 1000) / 64)


@dataclass(frozen=True)
class State:
    """What the decoder keeps from one frame to the next."""

    pictures: tuple[Picture, ...]  # decoded, aligned; the newest first, at most REFERENCES since the keyframe
    context: Array  # c̃ (H/8, W/8, C)
    vectors: Array  # (3, H/8, W/8) int32

    @property
    def picture(self) -> Picture:
        """The newest."""
        return self.pictures[0]


def most_symbols(preset: Preset, height: int, width: int) -> int:
    """The most symbols that a frame of an aligned size can have: y, z, and those of every vector."""
    y = preset.latent * (height // 16) * (width // 16)
    z = preset.hyper * -(-height // 64) * -(-width // 64)
    return y + z + MOST_SYMBOLS * (height // 8) * (width // 8)


class Codec:
    """All networks of a decoder.

    Args:
        preset: their sizes.
        integers: all that they compute with, by layer and name.

    Raises:
        Misfit: these are not what such networks have.
        RangeError: sums of a layer could leave the range in which they are exact.
    """

    def __init__(self, preset: Preset, integers: Mapping[str, Array]):
        given = Integers(integers)
        self.preset = preset
        self.intra, self.inter, self.motion = Intra(given, preset), Inter(given, preset), Motion(given, preset.context)
        if given.left:
            raise Misfit(f"{min(given.left)} is of no layer")

    def decode_keyframe(self, height: int, width: int, rate: int, coder: SymbolDecoder) -> State:
        """Read a keyframe of an aligned size in luma samples.

        Raises:
            ValueError: there are more symbols than a frame can have.
        """
        return self.keyframe(self.intra.latent.decode(None, rate, height // 16, width // 16, coder), rate)

    def decode_frame(self, state: State, rate: int, refresh: bool, coder: SymbolDecoder) -> "Unfiltered":
        """Read a P-frame, up to the filter.

        Raises:
            ValueError: as of a keyframe.
        """
        vectors = self.motion.decode(state.vectors, state.context, rate, coder)
        reference, context = self.predict(state, rate, vectors, refresh)
        latent = self.inter.latent.decode(context, rate, vectors.shape[1] // 2, vectors.shape[2] // 2, coder)
        return self.unfiltered(state, latent, reference, context, vectors, rate)

    # Encoder and decoder run the same functions on the same numbers.

    def keyframe(self, latent: Array, rate: int) -> State:
        """What a keyframe's ŷ (H/16, W/16, N) leads to."""
        context, detail = self.intra.synthesise(latent, rate)
        return State((self.intra.picture(context, detail, rate),), context, np.zeros((3, *context.shape[:2]), np.int32))

    def predict(self, state: State, rate: int, vectors: Array, refresh: bool) -> tuple[Array, Array]:
        """Features of the warped picture (H/8, W/8, 96), and the temporal context p (H/8, W/8, C), on a refresh made from these alone."""
        used = state.pictures[: 1 + int(vectors[2].max())]
        reference = pictures.features(pictures.compensate([picture.bordered for picture in used], vectors))
        memory = self.inter.refresh(reference) if refresh else pictures.warp(state.context, vectors)
        return reference, self.inter.predict(reference, memory, rate)

    def unfiltered(self, state: State, latent: Array, reference: Array, context: Array, vectors: Array, rate: int) -> "Unfiltered":
        """What a P-frame's ŷ leads to, by the state before, what was predicted, and the vectors that it was predicted by."""
        return Unfiltered(self.inter, state, reference, *self.inter.synthesise(latent, context, rate), vectors, rate)


@dataclass(frozen=True)
class Unfiltered:
    """A decoded P-frame of which only the in-loop filter is undecided."""

    inter: Inter
    before: State
    reference: Array
    context: Array
    detail: Array
    vectors: Array
    rate: int

    def finish(self, filtered: bool) -> State:
        """The state with the filter on or off."""
        context = self.inter.filtered(self.context, filtered, self.rate)
        picture = self.inter.picture(context, self.detail, self.reference, self.rate)
        return State((picture, *self.before.pictures[: REFERENCES - 1]), context, self.vectors)
