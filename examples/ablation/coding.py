"""One clip coded once: bytes, quality of every frame with and without enhancement, filter flags and times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from models.weights import Model
    from nvc_cli.encoder import Encoded, Encoder
    from nvc_cli.frame import Frame
    from nvc_cli.stream import Header

Result = TypeVar("Result")

DECISIONS = ("off", "on", "heuristic", "rd", "learned")
"""Ways to set the flag of the in-loop filter; the first is what all others are compared with."""


ENHANCED = ("off", "heuristic")
"""Those that are also decoded with the filter out of the loop."""


@dataclass(frozen=True)
class Run:
    """A clip at one qp with one decision. Lists have an entry a frame; seconds are of the processor, on one thread."""

    clip: str
    decision: str
    qp: float
    bytes: int  # of the whole stream
    psnr: list[float]  # of decoded pictures, dB
    enhanced: list[float]  # of enhanced ones, for the decisions in ENHANCED
    filtered: list[bool]
    improved: list[bool]  # frames that are enhanced
    encoding: float
    decoding: float
    enhancing: float  # decoding with the filter out of the loop, or zero


def opened(clip: str, frames: int, weights: Model) -> tuple[Header, list[Frame]]:
    """The first frames of a clip, and the header of its stream."""
    from nvc_cli.stream import Header
    from nvc_cli.video import open_reader

    with open_reader(clip, frames=frames) as reader:
        info, source = reader.info, list(reader)
    return Header.of(info, weights), source


def encode(encoder: Encoder, header: Header, source: list[Frame]) -> tuple[bytes, list[Encoded]]:
    """A stream, and its frames."""
    import io

    from nvc_cli.stream import StreamWriter

    file, coded = io.BytesIO(), []
    with StreamWriter(file, header) as writer:
        for encoded in encoder.encode_all(source):
            writer.write(encoded.packet)
            coded.append(encoded)
    return file.getvalue(), coded


def code(clip: str, name: str, decision: str, qp: float, frames: int, model: str) -> Run:
    """Encode the first frames of a clip, and decode them without and with enhancement.

    Raises:
        NvcError: a decoded picture is not the encoder's.
    """
    import io

    from models.kernels.threads import use_threads
    from models.weights import load_encoder
    from nvc_cli.decision import Heuristic, Learned, LookAhead
    from nvc_cli.decoder import Decoder
    from nvc_cli.encoder import Encoder
    from nvc_cli.metrics import frame_psnr
    from nvc_cli.stream import StreamReader

    use_threads(1)
    weights = load_encoder(model)
    rule = {"off": False, "on": True, "heuristic": Heuristic(), "rd": LookAhead(), "learned": Learned()}[decision]
    header, source = opened(clip, frames, weights)
    encoder = Encoder(weights, qp, 0, rule)
    encoding, (data, coded) = timed(lambda: encode(encoder, header, source))

    def decode(enhance: bool) -> list:
        stream = StreamReader(io.BytesIO(data), name)
        decoder = Decoder(stream.header, weights, enhance, name=name)
        return [frame for packet in stream for frame in decoder.decode(packet)] + decoder.finish()

    decoding, plain = timed(lambda: decode(False))
    enhancing, better = timed(lambda: decode(True)) if decision in ENHANCED else (0.0, [])
    return Run(
        clip=name,
        decision=decision,
        qp=qp,
        bytes=len(data),
        psnr=[frame_psnr(a, b).yuv for a, b in zip(source, plain, strict=True)],
        enhanced=[frame_psnr(a, b).yuv for a, b in zip(source if better else [], better, strict=True)],
        filtered=[encoded.packet.filtered for encoded in coded],
        improved=[encoded.packet.enhance_last for encoded in coded[1:]] + [False],
        encoding=encoding,
        decoding=decoding,
        enhancing=enhancing,
    )


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds of the processor, and the result."""
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result
