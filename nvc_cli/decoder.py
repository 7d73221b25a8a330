"""The decoder: packets in, frames out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models.compiled.codec import most_symbols
from models.entropy import SymbolDecoder
from models.presets import aligned
from models.weights import DecoderModel, Model, in_loops
from nvc_cli.arrays import InLoops
from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame
from nvc_cli.limits import MAX_PIXELS
from nvc_cli.runtime import device_name, load_decoder, stream_model
from nvc_cli.stream import Header, Packet, check_pixels, picture_checksum

if TYPE_CHECKING:
    import torch


class Undecodable(NvcError):
    """A packet that is whole, and yet no good. `reason` is the part of the message that says why."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class _Decoded:
    """The state after a frame, which the networks know, the frame's rate point and its time."""

    state: Any
    rate: int
    time: int | None


class Decoder:
    """Turns packets into frames one at a time.

    Args:
        header: of the stream.
        model: the one that the stream was written with: what `models.weights.load`, `load_decoder` or `load_encoder` returns, a .safetensors file, or by
            default the model of the package that the header names.
        enhance: apply the out-of-loop filter to the frames that are given out (never to what later frames are predicted from); each
            then waits for the next one.
        device: where a model that is given by name is to be, cpu or cuda; by default on a CUDA device if there is one.
        name: of the stream, for messages.
        max_pixels: luma samples of a picture at most.

    Raises:
        NvcError: the model is unknown, its weights are not those of the stream, or pictures are too large.
    """

    def __init__(
        self, header: Header, model: Model | DecoderModel | str | None = None, enhance: bool = False, device: torch.device | str | None = None, name: str = "the stream",
        max_pixels: int = MAX_PIXELS,
    ):  # fmt: skip
        check_pixels(header, max_pixels, name)
        if model is None or isinstance(model, str):
            model = load_decoder(model or stream_model(header.model, None), device_name(device), None, enhance)
        if header.weights_hash != model.hash:
            raise NvcError(
                f"{name}: written with weights {header.weights_hash.hex()} of the model {header.model}, but this is "
                f"{model.name} with weights {model.hash.hex()}; decode it with the version of nvc or the --model file that wrote it"
            )
        self.header, self.enhance, self.name = header, enhance, name
        self.height, self.width = aligned(header.height), aligned(header.width)
        self.networks = _networks(model, enhance)
        self.most_symbols = most_symbols(model.codec.preset, self.height, self.width)
        self._newest: _Decoded | None = None
        self.frames = 0  # number of the next one

    def restart(self, frame: int) -> list[Frame]:
        """Forget all: what comes next is a keyframe, of this number. Returns the frame that still waits, if one does."""
        ready = self.finish()
        self._newest, self.frames = None, frame
        return ready

    @property
    def begun(self) -> bool:
        """Whether there is a picture since the start, or the restart."""
        return self._newest is not None

    def decode(self, packet: Packet) -> list[Frame]:
        """Decode the next packet of the stream; returns the frames that are ready: one, or with `enhance` none at first.

        Raises:
            Undecodable: the packet cannot be decoded, or its picture is not the one that the encoder saw. The state is then what it was.
        """
        last = self._newest
        try:
            coder = SymbolDecoder(packet.payload, self.most_symbols)
            state = self.networks.decode(packet, last and last.state, self.height, self.width, coder)
        except ValueError as error:
            message = f"{self.name}: frame {self.frames} cannot be decoded, {error}; get a fresh copy of the file"
            raise Undecodable(message, str(error)) from error
        newest = _Decoded(state, packet.rate, packet.time)
        frame = self._frame(newest)
        if picture_checksum(frame) != packet.checksum:
            raise Undecodable(
                f"{self.name}: the picture of frame {self.frames} is not the one that was encoded, though its packet is intact: either this "
                "machine does not compute exactly, or the one that wrote the stream did not; try --device cpu with NVC_BACKEND=float32 in the environment",
                "its picture is not the one that was encoded",
            )
        self._newest = newest
        self.frames += 1
        if not self.enhance:
            return [frame]
        return [self._enhanced(last, newest) if packet.enhance_last else self._frame(last)] if last else []

    def finish(self) -> list[Frame]:
        """The frame that still waits, if one does."""
        return [self._frame(self._newest)] if self.enhance and self._newest else []

    def _enhanced(self, last: _Decoded, newest: _Decoded) -> Frame:
        frame: Frame = self.networks.enhanced(last.state, last.rate, newest.state, newest.rate, self.header.width, self.header.height)
        return replace(frame, time=last.time)

    def _frame(self, decoded: _Decoded) -> Frame:
        return replace(self.networks.shown(decoded.state, self.header.width, self.header.height), time=decoded.time)


def _networks(model: Model | DecoderModel, enhance: bool) -> Any:
    """What decodes with a model; states are for that to know."""
    if isinstance(model, Model):
        model = in_loops(model)
    if isinstance(model, DecoderModel):
        if enhance and model.enhancer is None:
            raise NvcError(f"the model {model.name} was loaded without its out-of-loop filter; load it with enhance=True")
        return InLoops(model.codec, model.enhancer)
    from nvc_cli.tensors import InTorch

    return InTorch(model.codec, next(model.codec.parameters()).device)
