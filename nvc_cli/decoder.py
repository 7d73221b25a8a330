"""The decoder: packets in, frames out."""

from __future__ import annotations

import torch

from models.codec import State
from models.entropy import SymbolDecoder
from models.picture import aligned
from models.weights import Model
from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame
from nvc_cli.stream import Header, Packet, picture_checksum
from nvc_cli.tensors import to_frame


class Decoder:
    """Turns packets into frames one at a time.

    Args:
        header: of the stream.
        model: from `models.weights.load`; must be the one that the stream was written with.
        enhance: apply the out-of-loop filter to the frames that are given out (never to what later frames are predicted from).
        device: where the model is.
        name: of the stream, for messages.

    Raises:
        NvcError: the model's weights are not those of the stream.
    """

    def __init__(self, header: Header, model: Model, enhance: bool, device: torch.device, name: str):
        if header.weights_hash != model.hash:
            raise NvcError(
                f"{name}: written with weights {header.weights_hash.hex()} of the model {header.model}, but this is "
                f"{model.name} with weights {model.hash.hex()}; decode it with the version of nvc or the --model file that wrote it"
            )
        self.header, self.codec, self.enhance, self.device, self.name = header, model.codec, enhance, device, name
        self.height, self.width = aligned(header.height), aligned(header.width)
        self.state: State | None = None
        self.frames = 0

    @torch.inference_mode()
    def decode(self, packet: Packet) -> Frame:
        """Decode the next packet of the stream.

        Raises:
            NvcError: the packet cannot be decoded, or its picture is not the one that the encoder saw.
        """
        rate = torch.tensor([packet.rate], device=self.device)
        try:
            coder = SymbolDecoder(packet.payload, self.codec.symbols(self.height, self.width))
            if packet.keyframe:
                self.state = self.codec.decode_keyframe(self.height, self.width, rate, coder)
            else:
                unfiltered = self.codec.decode_frame(self.state, rate, packet.refresh, coder)
                self.state = unfiltered.finish(packet.filtered)
        except ValueError as error:
            raise NvcError(f"{self.name}: frame {self.frames} cannot be decoded, {error}; get a fresh copy of the file") from error
        frame = to_frame(self.state.picture, self.header.width, self.header.height)
        if picture_checksum(frame) != packet.checksum:
            raise NvcError(
                f"{self.name}: the picture of frame {self.frames} is not the one that was encoded, though its packet is intact: either this "
                "machine does not compute exactly, or the one that wrote the stream did not; try --device cpu with NVC_BACKEND=float32 in the environment"
            )
        self.frames += 1
        if self.enhance and packet.enhance:
            better = self.codec.enhance(self.state.picture, self.state.context, rate).rounded()
            return to_frame(better, self.header.width, self.header.height)
        return frame
