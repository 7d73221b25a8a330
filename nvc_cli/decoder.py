"""The decoder: packets in, frames out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from models.codec import State
from models.entropy import SymbolDecoder
from models.picture import Planes, aligned
from models.weights import Model
from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame
from nvc_cli.limits import MAX_PIXELS
from nvc_cli.runtime import ready_model, stream_model
from nvc_cli.stream import Header, Packet, check_pixels, picture_checksum
from nvc_cli.tensors import to_frame


class Undecodable(NvcError):
    """A packet that is whole, and yet no good. `reason` is the part of the message that says why."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Decoded:
    """A picture, its rate point and its time."""

    state: State
    rate: torch.Tensor
    time: int | None


class Decoder:
    """Turns packets into frames one at a time.

    Args:
        header: of the stream.
        model: the one that the stream was written with: what `models.weights.load` returns, a .safetensors file, or by default the
            model of the package that the header names.
        enhance: apply the out-of-loop filter to the frames that are given out (never to what later frames are predicted from); each
            then waits for the next one.
        device: where the model is, or is to be; by default on a CUDA device if there is one.
        name: of the stream, for messages.
        max_pixels: luma samples of a picture at most.

    Raises:
        NvcError: the model is unknown, its weights are not those of the stream, or pictures are too large.
    """

    def __init__(
        self, header: Header, model: Model | str | None = None, enhance: bool = False, device: torch.device | None = None, name: str = "the stream",
        max_pixels: int = MAX_PIXELS,
    ):  # fmt: skip
        check_pixels(header, max_pixels, name)
        model, device = ready_model(stream_model(header.model, None) if model is None else model, device)
        if header.weights_hash != model.hash:
            raise NvcError(
                f"{name}: written with weights {header.weights_hash.hex()} of the model {header.model}, but this is "
                f"{model.name} with weights {model.hash.hex()}; decode it with the version of nvc or the --model file that wrote it"
            )
        self.header, self.codec, self.enhance, self.device, self.name = header, model.codec, enhance, device, name
        self.height, self.width = aligned(header.height), aligned(header.width)
        self._newest: _Decoded | None = None
        self.frames = 0  # number of the next one

    def restart(self, frame: int) -> list[Frame]:
        """Forget all: what comes next is a keyframe, of this number. Returns the frame that still waits, if one does."""
        ready = self.finish()
        self._newest, self.frames = None, frame
        return ready

    @property
    def state(self) -> State | None:
        """After the newest picture; None before the first."""
        return self._newest.state if self._newest else None

    @torch.inference_mode()
    def decode(self, packet: Packet) -> list[Frame]:
        """Decode the next packet of the stream; returns the frames that are ready: one, or with `enhance` none at first.

        Raises:
            Undecodable: the packet cannot be decoded, or its picture is not the one that the encoder saw. The state is then what it was.
        """
        rate, last = torch.tensor([packet.rate], device=self.device), self._newest
        try:
            coder = SymbolDecoder(packet.payload, self.codec.symbols(self.height, self.width))
            if packet.keyframe:
                state = self.codec.decode_keyframe(self.height, self.width, rate, coder)
            elif last is None:
                raise ValueError("no keyframe comes before it")
            else:
                state = self.codec.decode_frame(last.state, rate, packet.refresh, coder).finish(packet.filtered)
        except ValueError as error:
            message = f"{self.name}: frame {self.frames} cannot be decoded, {error}; get a fresh copy of the file"
            raise Undecodable(message, str(error)) from error
        frame = self._frame(state.picture, packet.time)
        if picture_checksum(frame) != packet.checksum:
            raise Undecodable(
                f"{self.name}: the picture of frame {self.frames} is not the one that was encoded, though its packet is intact: either this "
                "machine does not compute exactly, or the one that wrote the stream did not; try --device cpu with NVC_BACKEND=float32 in the environment",
                "its picture is not the one that was encoded",
            )
        self._newest = newest = _Decoded(state, rate, packet.time)
        self.frames += 1
        if not self.enhance:
            return [frame]
        return [self._enhanced(last, newest) if packet.enhance_last else self._frame(last.state.picture, last.time)] if last else []

    def finish(self) -> list[Frame]:
        """The frame that still waits, if one does."""
        return [self._frame(self._newest.state.picture, self._newest.time)] if self.enhance and self._newest else []

    def _enhanced(self, last: _Decoded, newest: _Decoded) -> Frame:
        return self._frame(self.codec.enhance(last.state, last.rate, newest.state.picture, newest.rate).rounded(), last.time)

    def _frame(self, picture: Planes, time: int | None) -> Frame:
        return replace(to_frame(picture, self.header.width, self.header.height), time=time)
