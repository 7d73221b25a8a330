"""Decoding on a processor, in compiled loops, without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from models.compiled.codec import Codec, State
from models.compiled.pictures import Picture
from models.entropy import SymbolDecoder
from models.stages import staged
from nvc_cli.frame import Frame
from nvc_cli.stream import Packet

if TYPE_CHECKING:
    from models.compiled.enhancer import Enhancer

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
        return self.codec.decode_frame(last, packet.rate, packet.refresh, packet.filtered, coder)

    @staged("pictures out")
    def shown(self, state: State, width: int, height: int) -> Frame:
        """The picture of a state, of the visible size."""
        return _frame(state.picture, width, height)

    def enhanced(self, last: State, rate: int, following: State, following_rate: int, width: int, height: int) -> Frame:
        """A picture with the out-of-loop filter, which sees the next one and the rate points of both."""
        if self.enhancer is None:
            raise RuntimeError("the model was loaded without its out-of-loop filter")
        better = self.enhancer(last.picture, last.context, following.picture, rate, following_rate)
        return _frame(Picture(*(plane.round().clip(0, 255) for plane in better.planes)), width, height)


def _frame(picture: Picture, width: int, height: int) -> Frame:
    """Rounded planes -> 8-bit planes of the visible size."""
    rows, columns = (height + 1) // 2, (width + 1) // 2
    y, u, v = picture.planes
    return Frame(y[:height, :width].astype(np.uint8), u[:rows, :columns].astype(np.uint8), v[:rows, :columns].astype(np.uint8))
