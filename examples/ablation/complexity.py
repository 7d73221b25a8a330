"""What every part of encoder and decoder costs: parameters, operations, milliseconds."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, replace
from operator import attrgetter
from statistics import median
from typing import Any

PARTS = {
    "motion search": ("", "search"),
    "coding of vectors, encoder": ("motion", "encode"),
    "coding of vectors, decoder": ("motion", "decode"),
    "motion compensation and temporal context": ("", "predict"),
    "analysis": ("", "analyse"),
    "analysis of the latent": ("", "hyper"),
    "coding of the latent, encoder": ("inter.latent", "encode"),
    "coding of the latent, decoder": ("inter.latent", "decode"),
    "synthesis": ("inter", "synthesise"),
    "in-loop filter": ("inter", "filtered"),
    "reconstruction of the picture": ("inter", "picture"),
    "enhancement, with its motion search": ("", "enhancer"),
}
"""Names of parts, and the methods of the codec that do their work on a P-frame."""


@dataclass(frozen=True)
class Costs:
    """Of one model on one clip, on one thread."""

    clip: str
    parameters: dict[str, int]  # of each network
    operations: dict[str, float]  # kMAC/pixel
    milliseconds: dict[str, float]  # medians


class Stopwatch:
    """Times methods of an object as they are called."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = defaultdict(list)

    def watch(self, owner: Any, method: str, name: str) -> None:
        work = getattr(owner, method)

        def call(*args: Any) -> Any:
            begin = time.perf_counter()
            result = work(*args)
            self.times[name].append(1000 * (time.perf_counter() - begin))
            return result

        setattr(owner, method, call)


def measure(clip: str, name: str, qp: float, frames: int, model: str) -> Costs:
    """Code a few frames with the filter on, and time the parts."""
    from coding import opened

    from models import card
    from models.filters import ContextFilter
    from models.kernels.threads import use_threads
    from models.weights import load_encoder
    from nvc_cli.decoder import Decoder
    from nvc_cli.encoder import Encoder

    use_threads(1)
    weights, watch = load_encoder(model), Stopwatch()
    preset = weights.codec.preset
    counts, work = card.parameters(preset.name), vars(card.complexity(preset.name))
    filters = {"in-loop filter (part of inter)": sum(p.numel() for p in ContextFilter(preset).parameters())}
    for part, (path, method) in PARTS.items():
        watch.watch(attrgetter(path)(weights.codec) if path else weights.codec, method, part)
    header, source = opened(clip, frames, weights)
    encoder, decoder = Encoder(weights, qp, 0, True), Decoder(header, replace(weights, enhancer=weights.codec.enhancer), True, name=name)
    for encoded in encoder.encode_all(source):
        decoder.decode(encoded.packet)
    milliseconds = {part: median(watch.times[part]) for part in PARTS if watch.times[part]}
    return Costs(f"{name}, {header.width}x{header.height}, qp {qp:g}", counts | filters, dict(work), milliseconds)
