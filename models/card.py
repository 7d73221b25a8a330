"""The model card: what a file of weights is, how large and costly its networks are, and how it was trained."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from models.codec import Codec
from models.entropy import SymbolDecoder, SymbolEncoder
from models.exact import Narrow, layers
from models.files import replacing
from models.picture import Planes
from models.presets import PRESETS
from models.schedule import Stage
from models.training import Progress, Report
from models.warp import BLOCK

SIDE = 128
"""Complexity is measured on a picture of 128×128 luma samples; a fully convolutional network costs the same per pixel on any."""

ROWS = 4
"""Rows of the loss table for each stage."""


@dataclass(frozen=True)
class Complexity:
    """Multiply-accumulate operations of convolutions, in thousands per luma sample, at batch 1 with the in-loop filter on.

    Element-wise work, motion search, motion compensation and entropy coding are not in it.
    """

    keyframe_encoder: float
    keyframe_decoder: float
    encoder: float  # of a P-frame, with the reconstruction that it needs for the next one
    decoder: float  # of a P-frame
    enhancer: float  # what --enhance adds to the decoder


@dataclass(frozen=True)
class History:
    """How weights came about."""

    folder: str  # name of the folder of videos
    clips: int
    frames: int  # in the clips
    stages: tuple[Stage, ...]
    progress: Progress
    minutes: float  # length of the whole schedule
    device: str
    began: str | None = None  # the weights that training began with; None: a block transform


@torch.no_grad()
def complexity(preset: str) -> Complexity:
    """Count the multiplications of a preset's convolutions while they code a small grey picture, on the CPU."""
    with torch.random.fork_rng([]):
        codec = Codec(PRESETS[preset]).eval()
    grey = Planes(*(torch.full((1, 1, side, side), 128.0) for side in (SIDE, SIDE // 2, SIDE // 2)))
    rate = torch.tensor([32])
    first, second = SymbolEncoder(), SymbolEncoder()
    state = codec.encode_keyframe(grey, rate, first)
    codec.encode_frame(grey, state, rate, state.vectors, False, second)
    keyframe, frame = (SymbolDecoder(coder.finish(), codec.symbols(SIDE, SIDE)) for coder in (first, second))
    vectors = sum(layer.weight.numel() for _, layer in layers(codec.motion.estimators[0], Narrow)) / BLOCK**2 / 1000  # in loops of their own

    def kmac(run: Callable[[], object]) -> float:
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_flop_counts()["Global"][torch.ops.aten.convolution] / 2 / SIDE**2 / 1000

    return Complexity(
        keyframe_encoder=kmac(lambda: codec.encode_keyframe(grey, rate, SymbolEncoder())),
        keyframe_decoder=kmac(lambda: codec.decode_keyframe(SIDE, SIDE, rate, keyframe)),
        encoder=vectors + kmac(lambda: codec.encode_frame(grey, state, rate, state.vectors, False, SymbolEncoder()).finish(True)),
        decoder=vectors + kmac(lambda: codec.decode_frame(state, rate, False, frame).finish(True)),
        enhancer=kmac(lambda: codec.enhancer(state.picture, state.context, state.picture, rate, rate)),
    )


def parameters(preset: str) -> dict[str, int]:
    """Parameters of each network of a preset."""
    with torch.device("meta"):
        codec = Codec(PRESETS[preset])
    return {name: sum(p.numel() for p in network.parameters()) for name, network in codec.named_children()}


def write_card(path: Path, preset: str, costs: Complexity, history: History) -> None:
    """Write the card as Markdown, whole or not at all."""
    with replacing(path) as part:
        part.write_text(card(path.stem, preset, costs, history), encoding="utf-8")


def card(name: str, preset: str, costs: Complexity, history: History) -> str:
    """The card's text."""
    sections = (f"# {name}", _architecture(preset), _size(preset, costs), _training(history), _curve(history.progress.reports))
    return "\n\n".join(section for section in sections if section) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _architecture(preset: str) -> str:
    sizes = PRESETS[preset]
    rows = [(field.name.replace("_", " "), getattr(sizes, field.name)) for field in fields(sizes) if field.name != "name"]
    return f"Preset {preset}: channels and blocks of its networks (`models/presets.py`).\n\n" + _table(("size", "value"), rows)


def _size(preset: str, costs: Complexity) -> str:
    counts = parameters(preset)
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    work = [(field.name.replace("_", " "), f"{getattr(costs, field.name):.1f}") for field in fields(costs)]
    return (
        "## Size\n\n"
        + _table(("network", "parameters"), [*rows, ("all", f"{sum(counts.values()):,}")])
        + "\n\nOperations of the convolutions, in-loop filter on; encoders include the reconstruction, "
        "motion search and compensation are not counted.\n\n" + _table(("part", "kMAC/pixel"), work)
    )


def _training(history: History) -> str:
    progress = history.progress
    rows = [
        (s.name, s.length, s.batch, f"{s.crop}×{s.crop}", f"{s.rate:g}", f"{progress.stages.get(s.name, 0):,}")
        for s in history.stages
    ]
    return "\n".join(
        (
            "## Training",
            "",
            f"- data: {history.folder}, {history.clips:,} clips, {history.frames:,} frames",
            f"- began with: {history.began or 'a block transform (models/initial.py)'}",
            f"- time: {progress.seconds / 60:.1f} of {history.minutes:g} minutes, {progress.steps:,} steps, {progress.frames:,} frames seen",
            f"- device: {history.device}",
            f"- date: {date.today().isoformat()}",
            "- weights: a running average over the last fiftieth of the steps",
            "",
            _table(("stage", "frames in a chain", "batch", "crop", "relative rate", "frames seen"), rows),
        )
    )


def _curve(reports: list[Report]) -> str:
    """A few rows for every stage, each the mean over a part of it; the losses of two stages do not compare."""
    if not reports:
        return ""
    rows = []
    for stage in dict.fromkeys(report.stage for report in reports):
        of_stage = [report for report in reports if report.stage == stage]
        count = min(ROWS, len(of_stage))
        for k in range(count):
            rows.append(_row(of_stage[k * len(of_stage) // count : (k + 1) * len(of_stage) // count]))
    head = ("frames seen", "stage", "loss", "bits/pixel", "PSNR dB", "enhancer dB")
    return "Means over training samples, at all rates together; compare rows of one stage only.\n\n" + _table(head, rows)


def _row(part: list[Report]) -> tuple:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    gains = [report.enhancer for report in part if report.enhancer is not None]
    return (
        f"{part[-1].frames:,}",
        part[-1].stage,
        f"{mean([r.loss for r in part]):.3f}",
        f"{bits:.4f}" if (bits := mean([r.bpp for r in part])) else "",
        f"{mean([r.psnr for r in part]):.2f}",
        f"{mean(gains):+.2f}" if gains else "",
    )
