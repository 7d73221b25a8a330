"""Frames of the application <-> pictures of the networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from models.bridge import hosts, on_device
from models.codec import Codec, State
from models.entropy import SymbolDecoder
from models.picture import Planes, crop, pad
from models.quality import distortion
from models.stages import staged
from nvc_cli.arrays import NO_KEYFRAME
from nvc_cli.frame import Frame

if TYPE_CHECKING:
    from models.codec import Unfiltered
    from models.entropy import SymbolEncoder
    from models.refinement import Refinement
    from models.search import Search
    from nvc_cli.effort import Effort
    from nvc_cli.stream import Packet


@staged("pictures in")
def to_picture(frame: Frame, device: torch.device) -> Planes:
    """8-bit planes -> float tensors (1, 1, H, W), padded to a multiple of 16."""
    return pad(Planes(*(on_device(np.ascontiguousarray(p), device).float()[None, None] for p in frame.planes)))


@staged("pictures out")
def to_frame(picture: Planes, width: int, height: int) -> Frame:
    """Rounded planes -> 8-bit planes of the visible size."""
    cut = crop(picture, height, width)
    y, u, v = map(np.array, hosts([plane[0, 0].to(torch.uint8) for plane in (cut.y, cut.u, cut.v)]))  # pinned memory is not for keeping
    return Frame(y, u, v)


class InTorch:
    """The networks of a decoder in PyTorch; `nvc_cli.arrays.InLoops` is the same without it."""

    def __init__(self, codec: Codec, device: torch.device) -> None:
        self.codec, self.device = codec, device

    @torch.inference_mode()
    def decode(self, packet: Packet, last: State | None, height: int, width: int, coder: SymbolDecoder) -> State:
        """As of InLoops."""
        rate = self._tensor(packet.rate)
        if packet.keyframe:
            return self.codec.decode_keyframe(height, width, rate, coder)
        if last is None:
            raise ValueError(NO_KEYFRAME)
        return self.codec.decode_frame(last, rate, packet.refresh, coder).finish(packet.filtered)

    @torch.inference_mode()
    def shown(self, state: State, width: int, height: int) -> Frame:
        """The picture of a state, of the visible size."""
        return to_frame(state.picture, width, height)

    @torch.inference_mode()
    def enhanced(self, last: State, rate: int, following: State, following_rate: int, width: int, height: int) -> Frame:
        """A picture with the out-of-loop filter, which sees the next one and the rate points of both."""
        return to_frame(self._better(last, rate, following, following_rate), width, height)

    def _better(self, last: State, rate: int, following: State, following_rate: int) -> Planes:
        return self.codec.enhance(last, self._tensor(rate), following.picture, self._tensor(following_rate)).rounded()

    def _tensor(self, rate: int) -> torch.Tensor:
        return torch.tensor([rate], device=self.device)


class EncodingInTorch(InTorch):
    """The networks of an encoder; as `nvc_cli.arrays.EncodingInLoops`, whose methods these are."""

    def search(self, effort: Effort) -> Search:
        from models.search import Search

        return Search(effort.reach, effort.plan, effort.references)

    @torch.inference_mode()
    def source(self, frame: Frame) -> Planes:
        return to_picture(frame, self.device)

    @torch.inference_mode()
    def keyframe(self, source: Planes, rate: int, coder: SymbolEncoder, refinement: Refinement | None) -> State:
        return self.codec.encode_keyframe(source, self._tensor(rate), coder, refinement)

    @torch.inference_mode()
    def frame(
        self, search: Search, source: Planes, state: State, rate: int, older: list[int], coder: SymbolEncoder, refinement: Refinement | None
    ) -> Unfiltered:  # fmt: skip
        rates = self._tensor(rate)
        vectors, steps = self.codec.search(search, source, state, rates, older)
        return self.codec.encode_frame(source, state, rates, vectors, False, coder, steps, refinement)

    @torch.inference_mode()
    def finish(self, unfiltered: Unfiltered, filtered: bool) -> State:
        return unfiltered.finish(filtered)

    @torch.inference_mode()
    def error(self, state: State, source: Planes) -> float:
        return float(distortion(state.picture, source))

    @torch.inference_mode()
    def enhanced_error(self, last: State, rate: int, following: State, following_rate: int, source: Planes) -> float:
        return float(distortion(self._better(last, rate, following, following_rate), source))
