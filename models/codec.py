"""The codec in PyTorch, for training and for GPUs: what one frame turns into, and what is remembered of it for the next. `models/compiled` has the same for processors."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from threading import Lock
from typing import overload

import torch
from torch import Tensor, nn

from models import replay
from models.arrays import Array
from models.blocks import Block
from models.bridge import arrays, on_device
from models.compiled import networks
from models.compiled.codec import is_compiled, most_symbols
from models.compiled.encoder import EncoderCodec
from models.compiled.enhancer import REACH
from models.compiled.networks import Refine
from models.compiled.synthesis import Judge
from models.entropy import SymbolDecoder, SymbolSink
from models.exact import Exact, ExactLayer, RateTable, integers, layers
from models.filters import Enhancer
from models.initial import initialise_inter, initialise_intra
from models.inter import Inter
from models.intra import Intra
from models.motion import Estimator, Motion
from models.picture import Planes, to_features, to_planes
from models.presets import Preset
from models.quality import distortion
from models.refinement import Refinement
from models.plan import QUICK
from models.search import Pricing, Search
from models.stages import staged
from models.steps import CodedStep
from models.vectors import REFERENCES, still
from models.warp import compensate, warp_context


_aligning = Lock()


@dataclass(frozen=True)
class State:
    """What the decoder keeps from one frame to the next."""

    pictures: tuple[Planes, ...]  # decoded, 8-bit, aligned; the newest first, at most REFERENCES since the keyframe
    context: Tensor  # c̃ (B, C, H/8, W/8)
    vectors: Tensor  # (B, 3, H/8, W/8) int32

    @property
    def picture(self) -> Planes:
        """The newest."""
        return self.pictures[0]

    def after(self, picture: Planes, context: Tensor, vectors: Tensor) -> "State":
        """The state one frame later."""
        return State((picture, *self.pictures[: REFERENCES - 1]), context, vectors)


@dataclass(frozen=True)
class Trained:
    """One frame of a training chain."""

    state: State
    reconstruction: Planes  # float, with gradient
    bits: Tensor  # (B,) of y, z
    motion_bits: Tensor  # (B,)


ENCODER_ONLY = ("enter.", "encoder.", "to_latent.", "join.", "hyper_encoder.", "hyper_gain.")
"""Parts of the networks that a decoder does not have."""


def is_normative(name: str) -> bool:
    """Whether a decoder needs the layer or tensor of this name to get the right pictures."""
    network, _, rest = f"{name}.".partition(".")
    rest = rest.removeprefix("latent.")
    # The P-frame network's `enter` makes the temporal context, on both sides.
    encoder_only = rest.startswith(ENCODER_ONLY) and not (network == "inter" and rest.startswith("enter."))
    return network != "enhancer" and not encoder_only


class Codec(nn.Module):
    """All networks of one preset."""

    def __init__(self, preset: Preset):
        super().__init__()
        self.preset = preset
        self.intra = Intra(preset)
        self.inter = Inter(preset)
        self.motion = Motion(preset.context)
        self.enhancer = Enhancer(preset)
        self.align = Search(REACH, QUICK, 1)  # from a decoded picture to the next one
        initialise_intra(self.intra)
        initialise_inter(self.inter)

    @property
    def exact(self) -> bool:
        """Whether what a decoder computes is computed exactly, in integers (`models/exact.py`)."""
        return self.inter.grid.exact

    @exact.setter
    def exact(self, exact: bool) -> None:
        replay.forget()
        for _, layer in self.normative():
            layer.exact = exact

    @overload
    def normative(self) -> Iterator[tuple[str, Exact]]: ...

    @overload
    def normative(self, kind: type[ExactLayer]) -> Iterator[tuple[str, ExactLayer]]: ...

    def normative(self, kind: type[Exact] = Exact) -> Iterator[tuple[str, Exact]]:
        """The layers of a decoder, by name."""
        return ((name, layer) for name, layer in layers(self, kind) if is_normative(name))

    def prepare(self, coder: networks.Motion | None = None) -> None:
        """Make ready for coding, when all weights are in place: weights as integers, in the machine's fastest exact form.

        Args:
            coder: of vectors, with these weights, where it is known.
        """
        replay.forget()
        self.__dict__.pop("floating", None)  # of the weights before
        self.motion.coder = coder or self.motion.in_loops()
        for module in self.modules():
            if isinstance(module, Block | Estimator):
                module.link()
        for name, layer in layers(self):
            if isinstance(layer, RateTable) or is_normative(name):
                layer.prepare()

    @property
    def has_loops(self) -> bool:
        """Whether it is on a processor that codes by compiled loops."""
        return next(self.parameters()).device.type == "cpu" and is_compiled()

    def in_loops(self) -> EncoderCodec:
        """The same for a processor, in compiled loops."""
        found = {name: value.cpu().numpy() for name, value in integers(self.normative()).items()}
        return EncoderCodec(self.preset, found, {name: p.detach().cpu().numpy() for name, p in self.named_parameters()})

    # Training

    def train_keyframe(self, picture: Planes, rate: Tensor) -> Trained:
        """A keyframe with differentiable rate and quality. `rate` (B,) is the rate point of each sample."""
        features = to_features(picture)
        y = self.intra.analyse(features, rate)
        latent, bits = self.intra.latent(y, None, rate)
        context, detail = self.intra.synthesise(latent, rate)
        planes = to_planes(self.intra.reconstruct(context, detail, rate))
        state = State((planes.detach().rounded(),), context, still(context))
        return Trained(state, planes, bits, torch.zeros_like(bits))

    def train_frame(self, picture: Planes, state: State, rate: Tensor, filtered: Tensor, refresh: bool | Tensor, search: Search) -> Trained:
        """A P-frame with differentiable rate and quality; `filtered` (B,) is 1 where the in-loop filter is on, `refresh` is for all samples."""
        with torch.no_grad():
            vectors, _ = self.search(search, picture, state, rate)
            reference = self.inter.grid(to_features(compensate(state.pictures[: search.references.count], vectors)))
        motion_bits = self.motion.bits(vectors, state.vectors, state.context.detach(), rate)
        memory = self._memory(state, vectors, reference, refresh)
        context = self.inter.predict(reference, memory, rate)
        y = self.inter.analyse(to_features(picture), reference, context, rate)
        latent, bits = self.inter.latent(y, context, rate)
        context, detail = self.inter.synthesise(latent, context, rate)
        context = self.inter.filtered(context, filtered, rate)
        planes = to_planes(self.inter.reconstruct(context, detail, reference, rate))
        return Trained(state.after(planes.detach().rounded(), context, vectors), planes, bits, motion_bits)

    @staged("enhancement")
    def enhance(self, state: State, rate: Tensor, following: Planes, following_rate: Tensor) -> Planes:
        """The out-of-loop filter F_out on the newest picture, of which `following` is the next; float, not rounded."""
        return self.enhancer(state.picture, state.context, self.moved(following, state.picture, rate), rate, following_rate)

    @torch.no_grad()
    def moved(self, following: Planes, picture: Planes, rate: Tensor) -> Planes:
        """A decoded picture moved to where the content of the one before is, as a decoder can find out for itself; not rounded."""
        with _aligning:  # threads take turns with its memory
            vectors = self.align(picture.y, [following.y], still(picture.y[..., ::8, ::8]), rate)
        return compensate([following], vectors)

    # Coding. Encoder and decoder run the same functions on the same numbers.

    def symbols(self, height: int, width: int) -> int:
        """The most symbols that a frame of an aligned size can have: y, z, and those of every vector."""
        return most_symbols(self.preset, height, width)

    @cached_property
    def floating(self) -> "Codec":
        """The same in floating point, to find gradients through. A copy: others may need the exact form at the same time."""
        with torch.inference_mode(False):
            copy = deepcopy(self).requires_grad_(False)
            copy.exact = False
            return copy

    def encode_keyframe(self, picture: Planes, rate: Tensor, coder: SymbolSink, refinement: Refinement | None = None) -> State:
        """Write a keyframe; returns the decoder's state after it."""
        y = self.intra.analyse(self._features(picture), rate)
        refine = self._refine(refinement, picture, rate) if refinement else None
        return self._keyframe(self.intra.latent.encode(y, None, rate, coder, refine), rate)

    def decode_keyframe(self, height: int, width: int, rate: Tensor, coder: SymbolDecoder) -> State:
        """Read a keyframe of an aligned size in luma samples."""
        return self._keyframe(self.intra.latent.decode(None, rate, height // 16, width // 16, coder), rate)

    @staged("motion search")
    def search(self, search: Search, picture: Planes, state: State, rate: Tensor, older: Sequence[int] | None = None) -> tuple[Tensor, list[CodedStep]]:
        """Vectors for a P-frame, found by `search`, also in pictures of the ages `older`, by default in all; and the steps of coding them, where it has been through these."""
        past, pricing = [picture.y for picture in state.pictures], Pricing(self.motion, state.vectors, state.context, rate)
        return search(picture.y, past, state.vectors, rate, pricing, older), pricing.known

    def encode_frame(
        self, picture: Planes, state: State, rate: Tensor, vectors: Tensor, refresh: bool, coder: SymbolSink, steps: Sequence[CodedStep] = (),
        refinement: Refinement | None = None,
    ) -> "Unfiltered":  # fmt: skip
        """Write a P-frame with the given vectors, whose steps may be known; what remains to decide is the filter. Refinement takes it to be on."""
        self.motion.encode(vectors, state.vectors, state.context, rate, coder, steps)
        reference, context = self._predict(state, rate, vectors, refresh)
        y = self.inter.analyse(self._features(picture), reference, context, rate)
        refine = self._refine(refinement, picture, rate, context, reference) if refinement else None
        latent = self.inter.latent.encode(y, context, rate, coder, refine)
        return Unfiltered(self.inter, state, reference, *self.inter.synthesise(latent, context, rate), vectors, rate)

    def _refine(self, refinement: Refinement, picture: Planes, rate: Tensor, *known: Tensor) -> Refine:
        """What refines the symbols of a frame: a keyframe, or a P-frame of which the temporal context and the features of the warped picture are known."""
        judge = self._judge(picture, rate, *known)
        return lambda symbols, means, tables: refinement(symbols, means, tables, int(rate), picture.y.numel(), judge)

    def _judge(self, picture: Planes, rate: Tensor, *known: Tensor) -> Judge:
        """What finds errors and their gradients."""
        with torch.inference_mode(False):  # what comes from inference cannot take part in gradients
            source, place, given = Planes(*(plane.clone() for plane in (picture.y, picture.u, picture.v))), rate.clone(), [x.clone() for x in known]
        decoded: Callable[..., Tensor] = self.floating.inter.decoded if known else self.floating.intra.decoded

        def judge(values: Array, multiplier: float) -> tuple[float, Callable[[], Array]]:
            with torch.inference_mode(False), torch.enable_grad():
                x = on_device(values[None], rate.device).permute(0, 3, 1, 2).requires_grad_()
                with torch.autocast(rate.device.type, torch.bfloat16):
                    error = multiplier * distortion(to_planes(decoded(x, *given, place).float()), source).sum()

                def gradient() -> Array:
                    with torch.inference_mode(False):
                        (slopes,) = torch.autograd.grad(error, x)
                        found: Array = arrays(slopes)[0]
                    return found

                return float(error.detach()), gradient

        return judge

    def decode_frame(self, state: State, rate: Tensor, refresh: bool, coder: SymbolDecoder) -> "Unfiltered":
        """Read a P-frame, up to the filter."""
        vectors = self.motion.decode(state.vectors, state.context, rate, coder)
        reference, context = self._predict(state, rate, vectors, refresh)
        height, width = (size // 2 for size in vectors.shape[2:])
        latent = self.inter.latent.decode(context, rate, height, width, coder)
        return Unfiltered(self.inter, state, reference, *self.inter.synthesise(latent, context, rate), vectors, rate)

    def _keyframe(self, latent: Tensor, rate: Tensor) -> State:
        context, detail = self.intra.synthesise(latent, rate)
        return State((self.intra.picture(context, detail, rate),), context, still(context))

    def _predict(self, state: State, rate: Tensor, vectors: Tensor, refresh: bool) -> tuple[Tensor, Tensor]:
        if vectors.is_cuda:  # as many as there can be, so that work is the same for all frames, and nobody waits to know the oldest in use
            used = state.pictures + (REFERENCES - len(state.pictures)) * state.pictures[-1:]
        else:
            used = state.pictures[: 1 + int(vectors[:, 2].max())]
        reference = self._features(compensate(used, vectors))
        memory = self._memory(state, vectors, reference, refresh)
        return reference, self.inter.predict(reference, memory, rate)

    def _memory(self, state: State, vectors: Tensor, reference: Tensor, refresh: bool | Tensor) -> Tensor:
        """The warped context, or on a refresh one that is made anew from the picture alone. On a GPU nobody waits to know which."""
        if isinstance(refresh, Tensor) and refresh.is_cuda:
            fresh = self.inter.refresh(reference.to(state.context.dtype))
            return torch.where(refresh, fresh, self.inter.grid(warp_context(state.context, vectors)).to(fresh.dtype))
        if refresh:
            return self.inter.refresh(reference.to(state.context.dtype))
        return self.inter.grid(warp_context(state.context, vectors))

    def _features(self, moved: Planes) -> Tensor:
        """Of a picture of 8 bits, or one that is moved."""
        return self.inter.grid(to_features(moved))


@dataclass(frozen=True)
class Unfiltered:
    """A decoded P-frame of which only the in-loop filter is undecided."""

    inter: Inter
    before: State
    reference: Tensor
    context: Tensor
    detail: Tensor
    vectors: Tensor
    rate: Tensor

    def finish(self, filtered: Tensor | bool) -> State:
        """The state with the filter on or off; a tensor (B,) says so for each picture."""
        context = self.inter.filtered(self.context, filtered, self.rate)
        picture = self.inter.picture(context, self.detail, self.reference, self.rate)
        return self.before.after(picture, context, self.vectors)
