"""What the in-loop filter could be instead: four families of networks in three sizes, gain in PSNR against operations.

    python examples/ablation/architectures.py VIDEOS --out ablation

Crops of a folder of videos are coded once with the filter off. Every candidate then learns for an equal time of the processor,
through the codec's head as it is, to better the pictures of these crops, and is measured on crops of clips that it has not seen;
so is the shipped filter, which was trained together with the codec, and on these clips too if VIDEOS is what the codec was trained
on. All gains are within single frames, not what later frames gain from them. OUT gets architectures.md, architectures.json and architectures.png, for which matplotlib is needed
(`pip install '.[study]'`). What OUT already holds is not coded or trained again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import click
import torch
from candidates import FAMILIES, build
from crops import Shelf, shelves
from learning import Gain, gain, in_float, train
from report import table
from study import kept
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from models.codec import Codec
from models.presets import RATES
from models.weights import load

SHIPPED = "shipped"
SIZES = ("small", "medium", "large")
ROWS, COLUMNS = 36, 44
"""Blocks of a CIF picture, on which costs are measured."""


@dataclass(frozen=True)
class Costs:
    """By name of the filter."""

    operations: dict[str, float]  # kMAC/pixel
    parameters: dict[str, int]
    milliseconds: dict[str, float]  # of the processor for CIF in float32, one thread, medians


@torch.inference_mode()
def measure(networks: dict[str, nn.Module], channels: int) -> Costs:
    """Costs of filters, all timed in turn, so that what else the machine does meets all of them."""
    context = torch.randn(1, channels, ROWS, COLUMNS).to(memory_format=torch.channels_last)
    rate, operations, times = torch.tensor([32]), {}, {name: [] for name in networks}
    for name, network in networks.items():
        network.eval().to(memory_format=torch.channels_last)
        with FlopCounterMode(display=False) as counter:
            network(context, rate)
        operations[name] = counter.get_total_flops() / 2 / (64 * ROWS * COLUMNS) / 1000
    for _ in range(20):
        for name, network in networks.items():
            begin = time.process_time()
            network(context, rate)
            times[name].append(1000 * (time.process_time() - begin))
    parameters = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    return Costs(operations, parameters, {name: median(values) for name, values in times.items()})


def learn(family: str, size: int, codec: Codec, training: Shelf, held: Shelf, minutes: float) -> Gain:
    network = build(family, size, codec.preset.context)
    return gain(network, codec, held, train(network, codec, training, minutes, f"{family}, {SIZES[size]}"))


def markdown(gains: dict[str, Gain], costs: Costs) -> str:
    rows = [
        (
            name,
            f"{costs.operations[name]:.2f}",
            f"{costs.parameters[name]:,}",
            f"{costs.milliseconds[name]:.1f}",
            f"{found.steps}" if found.steps else "with the codec",
            *(f"{value:+.4f}" for value in found.quarters),
            f"{found.mean:+.4f} ± {found.error:.4f}",
            f"{found.switched:+.4f}",
        )
        for name, found in gains.items()
    ]
    last = [(k + 1) * RATES // 4 / 8 for k in range(4)]
    quarters = [f"dB, qp {high - last[0]:g} to {high:g}" for high in last]
    return table(("filter", "kMAC/pixel", "parameters", "ms, CIF", "steps", *quarters, "dB, all", "dB, off where it harms"), rows)


def plot(gains: dict[str, Gain], costs: Costs, path: Path) -> None:
    """Gain against operations, a line for each family."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for family in FAMILIES:
        names = [f"{family}, {size}" for size in SIZES]
        axes.plot([costs.operations[name] for name in names], [gains[name].mean for name in names], marker="o", label=family)
    axes.axhline(0, color="black", linewidth=0.5)
    axes.plot(costs.operations[SHIPPED], gains[SHIPPED].mean, "k*", markersize=10, label="shipped, trained with the codec")
    axes.set_xlabel("kMAC/pixel")
    axes.set_ylabel("gain on crops held out, dB")
    axes.set_xlim(left=0)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


@click.command(help=__doc__)
@click.argument("videos", type=click.Path(exists=True, path_type=Path, file_okay=False))
@click.option("--out", default="ablation", show_default=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of results.")
@click.option("--minutes", default=1.5, show_default=True, type=click.FloatRange(0, min_open=True), help="Training of each candidate, of processor time.")
@click.option("--clips", default=160, show_default=True, type=click.IntRange(10), help="Videos that crops are taken from, at most.")
@click.option("--model", default="tiny", show_default=True, help="Model of nvc.")
def main(videos: Path, out: Path, minutes: float, clips: int, model: str) -> None:
    torch.set_num_threads(1)
    exact, codec = load(model), in_float(model)
    channels, folder = codec.preset.context, out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        training, held = shelves(exact.codec, videos, out / f"crops-{exact.name}-{exact.hash.hex()}", clips)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    names = {f"{family}, {SIZES[size]}": (family, size) for family in FAMILIES for size in range(len(SIZES))}

    def run(name: str, minutes: float, work: Callable[..., Gain], *arguments: object) -> Gain:
        path = folder / f"{exact.name}-{exact.hash.hex()}-{name.replace(', ', '-').replace(' ', '-').replace('×', 'x')}-{clips}-{minutes:g}.json"
        return kept(path, Gain, work, *arguments)

    gains = {SHIPPED: run(SHIPPED, 0, gain, codec.inter.filter, codec, held, 0)}
    for name, which in tqdm(names.items(), unit="filter", disable=None):
        gains[name] = run(name, minutes, learn, *which, codec, training, held, minutes)
    costs = measure({SHIPPED: codec.inter.filter} | {name: build(*which, channels) for name, which in names.items()}, channels)
    results = {name: {**found.summary(), **{key: values[name] for key, values in asdict(costs).items()}} for name, found in gains.items()}
    (out / "architectures.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "architectures.md").write_text(markdown(gains, costs) + "\n", encoding="utf-8")
    plot(gains, costs, out / "architectures.png")
    click.echo(markdown(gains, costs))


if __name__ == "__main__":
    main()
