"""The encoder: frames in, packets out. All choices are made here; the networks only carry them out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.codec import State, Unfiltered
from models.cycle import rate_point
from models.entropy import SymbolEncoder
from models.picture import Planes
from models.quality import distortion
from models.search import Search
from models.vectors import REFERENCES
from models.weights import Model
from nvc_cli.frame import Frame
from nvc_cli.stream import Packet, picture_checksum
from nvc_cli.tensors import to_frame, to_picture


@dataclass(frozen=True)
class Encoded:
    """One frame: what goes into the stream, and what every decoder makes of it."""

    packet: Packet
    picture: Frame


class Encoder:
    """Turns frames into packets one at a time.

    Args:
        model: from `models.weights.load`.
        qp: 0 (best picture) to 7 (smallest file), in steps of 1/8.
        keyint: distance of keyframes; 0: only the first frame is one.
        filtering: "on", "off", or "auto": per frame, whatever brings the picture closer to the source.
        device: where the model is.
        references: how many earlier pictures are searched, 1 to 8.
    """

    def __init__(self, model: Model, qp: float, keyint: int, filtering: str, device: torch.device, references: int = REFERENCES):
        self.codec, self.device = model.codec, device
        self.base, self.keyint, self.filtering = round(qp * 8), keyint, filtering
        self.search = Search(reach=64, references=references)
        self.since = 0  # frames since the keyframe
        self.state: State | None = None

    @torch.inference_mode()
    def encode(self, frame: Frame) -> Encoded:
        """Encode the next frame in order of display."""
        source = to_picture(frame, self.device)
        keyframe = self.state is None or (self.keyint and self.since >= self.keyint)
        if keyframe:
            self.since = 0
        rate = rate_point(self.base, self.since)
        rates = torch.tensor([rate], device=self.device)
        coder = SymbolEncoder()
        if keyframe:
            filtered = False
            self.state = self.codec.encode_keyframe(source, rates, coder)
        else:
            vectors = self.codec.search(self.search, source, self.state, rates)
            unfiltered = self.codec.encode_frame(source, self.state, rates, vectors, False, coder)
            self.state, filtered = self._decide(source, unfiltered)
        self.since += 1
        picture = to_frame(self.state.picture, frame.y.shape[1], frame.y.shape[0])
        packet = Packet(
            keyframe=bool(keyframe),
            rate=rate,
            filtered=filtered,
            refresh=False,
            enhance=self._enhancer_helps(source, rates),
            payload=coder.finish(),
            checksum=picture_checksum(picture),
        )
        return Encoded(packet, picture)

    def _decide(self, source: Planes, unfiltered: Unfiltered) -> tuple[State, bool]:
        """The in-loop filter: on or off."""
        if self.filtering != "auto":
            return unfiltered.finish(self.filtering == "on"), self.filtering == "on"
        states = [unfiltered.finish(filtered) for filtered in (False, True)]
        off, on = (_error(state.picture, source) for state in states)
        return states[on < off], bool(on < off)

    def _enhancer_helps(self, source: Planes, rate: Tensor) -> bool:
        """Whether the out-of-loop filter brings this picture closer to the source."""
        better = self.codec.enhance(self.state.picture, self.state.context, rate).rounded()
        return bool(_error(better, source) < _error(self.state.picture, source))


def _error(picture: Planes, source: Planes) -> float:
    return float(distortion(picture, source))
