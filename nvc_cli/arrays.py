"""Decoding and encoding on a processor, in compiled loops, without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.compiled.codec import Codec, State, Unfiltered
from models.compiled.pictures import Picture, distortion, padded
from models.entropy import SymbolDecoder, SymbolEncoder
from models.stages import staged
from nvc_cli.frame import Frame
from nvc_cli.stream import Packet

if TYPE_CHECKING:
    from models.compiled.encoder import EncoderCodec
    from models.compiled.enhancer import Enhancer
    from models.compiled.search import Search
    from models.refinement import Refinement
    from nvc_cli.effort import Effort

NO_KEYFRAME = "no keyframe comes before it"


class InLoops:
    """The networks of a decoder; `nvc_cli.tensors.InTorch` is the same in PyTorch."""

    def __init__(self, codec: Codec, enhancer: Enhancer | None = None) -> None:
        self.codec, self.enhancer = codec, enhancer

    def decode(self, packet: Packet, last: State | None, height: int, width: int, coder: SymbolDecoder) -> State:
        """The state after a packet of a stream whose pictures have this aligned size. `last` is the one before; a keyframe needs none.

        Raises:
            ValueError: the payload is no good, or there is no `last`.
        """
        if packet.keyframe:
            return self.codec.decode_keyframe(height, width, packet.rate, coder)
        if last is None:
            raise ValueError(NO_KEYFRAME)
        return self.codec.decode_frame(last, packet.rate, packet.refresh, coder).finish(packet.filtered)

    @staged("pictures out")
    def shown(self, state: State, width: int, height: int) -> Frame:
        """The picture of a state, of the visible size."""
        return _frame(state.picture, width, height)

    def enhanced(self, last: State, rate: int, following: State, following_rate: int, width: int, height: int) -> Frame:
        """A picture with the out-of-loop filter, which sees the next one and the rate points of both."""
        return _frame(self._better(last, rate, following, following_rate), width, height)

    def _better(self, last: State, rate: int, following: State, following_rate: int) -> Picture:
        if self.enhancer is None:
            raise RuntimeError("the model was loaded without its out-of-loop filter")
        return self.enhancer(last.picture, last.context, following.picture, rate, following_rate).clipped()


class EncodingInLoops(InLoops):
    """The networks of an encoder; `nvc_cli.tensors.EncodingInTorch` is the same in PyTorch."""

    codec: EncoderCodec
    enhancer: Enhancer

    def __init__(self, codec: EncoderCodec) -> None:
        super().__init__(codec, codec.enhancer)

    def search(self, effort: Effort) -> Search:
        """What finds the vectors of the frames of one video."""
        from models.compiled.search import Search

        return Search(effort.reach, effort.plan, effort.references)

    @staged("pictures in")
    def source(self, frame: Frame) -> Picture:
        """A picture to be encoded, padded to an aligned size."""
        return padded(frame.planes)

    def keyframe(self, source: Picture, rate: int, coder: SymbolEncoder, refinement: Refinement | None) -> State:
        """Write a keyframe; returns the decoder's state after it."""
        return self.codec.encode_keyframe(source, rate, coder, refinement)

    def frame(
        self, search: Search, source: Picture, state: State, rate: int, older: list[int], coder: SymbolEncoder, refinement: Refinement | None
    ) -> Unfiltered:  # fmt: skip
        """Write a P-frame, whose vectors are searched in pictures of the ages `older`, too. What remains to decide is the filter."""
        vectors, steps = self.codec.search(search, source, state, rate, older)
        return self.codec.encode_frame(source, state, rate, vectors, False, coder, steps, refinement)

    def finish(self, unfiltered: Unfiltered, filtered: bool) -> State:
        """The state after a P-frame with the filter on or off."""
        return unfiltered.finish(filtered)

    def error(self, state: State, source: Picture) -> float:
        """How far the picture of a state is from its source."""
        return distortion(state.picture, source)

    def enhanced_error(self, last: State, rate: int, following: State, following_rate: int, source: Picture) -> float:
        """The same with the out-of-loop filter."""
        return distortion(self._better(last, rate, following, following_rate), source)


def _frame(picture: Picture, width: int, height: int) -> Frame:
    """Rounded planes -> 8-bit planes of the visible size."""
    rows, columns = (height + 1) // 2, (width + 1) // 2
    y, u, v = picture.planes
    return Frame(y[:height, :width].astype(np.uint8), u[:rows, :columns].astype(np.uint8), v[:rows, :columns].astype(np.uint8))
