"""How much of a machine's convolution rate the networks of a decoder reach, with all that is between their layers.

    python examples/benchmark/networks.py CLIP --threads 1

Times the stages of decoding P-frames that are networks (context, prior, synthesis, in-loop filter, reconstruction), and, one by one,
plain bfloat16 convolutions of the same shapes. Both are the best of some rounds.
"""

from __future__ import annotations

import os
from pathlib import Path
from time import perf_counter
from typing import Any

import click

STAGES = ("context", "prior", "synthesis", "in-loop filter", "reconstruction")
Shape = tuple[tuple[int, ...], int, int, int, tuple[int, ...]]


def packets(clip: Path, model: Any, frames: int, qp: float) -> tuple[Any, list[Any]]:
    """The header and the packets of a clip's first frames."""
    from nvc_cli.encoder import Encoder
    from nvc_cli.stream import Header
    from nvc_cli.video import open_reader

    with open_reader(str(clip), None, None, frames) as reader:
        encoder = Encoder(model, qp, effort="fast")
        return Header.of(reader.info, model), [encoded.packet for encoded in encoder.encode_all(reader)]


def shapes(header: Any, made: list[Any], name: str) -> list[Shape]:
    """Of the convolutions of one P-frame's networks: weights, stride, padding, groups, inputs."""
    import torch

    from models.exact import Narrow, Wide
    from models.weights import load
    from nvc_cli.decoder import Decoder

    os.environ["NVC_BACKEND"] = "float32"  # where each layer is called by itself
    model = load(name)
    found: list[Shape] = []

    def note(layer: Any, given: tuple[torch.Tensor, ...], _: torch.Tensor) -> None:
        channels = sum(part.shape[1] for part in given)
        found.append((tuple(layer.weight.shape), layer.stride, layer.padding, layer.groups, (1, channels, *given[0].shape[2:])))

    decoder = Decoder(header, model)
    del os.environ["NVC_BACKEND"]
    decoder.decode(made[0])
    for layer_name, layer in model.codec.named_modules():
        if isinstance(layer, Narrow | Wide) and not layer_name.startswith("motion."):
            layer.register_forward_hook(note)
    decoder.decode(made[1])
    return found


def network_seconds(header: Any, made: list[Any], model: Any, rounds: int) -> float:
    """What the networks of a P-frame take."""
    from models import stages
    from nvc_cli.decoder import Decoder

    best = float("inf")
    for _ in range(rounds):
        decoder = Decoder(header, model)
        decoder.decode(made[0])
        profile = stages.start()
        for packet in made[1:]:
            decoder.decode(packet)
        best = min(best, sum(profile.stages[stage].seconds for stage in STAGES) / (len(made) - 1))
        stages.stop()
    return best


def plain_seconds(shape: Shape, rounds: int) -> float:
    """What one plain convolution takes."""
    import torch

    weight, stride, padding, groups, inputs = shape
    w, x = (torch.randn(size).bfloat16().contiguous(memory_format=torch.channels_last) for size in (weight, inputs))
    times = []
    for _ in range(rounds + 3):
        begin = perf_counter()
        torch.nn.functional.conv2d(x, w, None, stride, padding, 1, groups)
        times.append(perf_counter() - begin)
    return min(times[3:])


@click.command()
@click.argument("clip", type=click.Path(path_type=Path, exists=True))
@click.option("--model", "name", default="tiny", show_default=True)
@click.option("--frames", type=click.IntRange(2), default=24, show_default=True)
@click.option("--qp", type=float, default=3.0, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(1), default=8, show_default=True)
def command(clip: Path, name: str, frames: int, qp: float, threads: int, rounds: int) -> None:
    import torch

    from models.weights import load_encoder

    torch.set_num_threads(threads)
    model = load_encoder(name)
    header, made = packets(clip, model, frames, qp)
    with torch.inference_mode():
        found = shapes(header, made, name)
        plain = sum(plain_seconds(shape, rounds) for shape in found)
        seconds = network_seconds(header, made, model, rounds)
    products = sum(w[0] * w[1] * w[2] * w[3] * (x[2] // stride) * (x[3] // stride) for w, stride, _, _, x in found)
    for what, time in (("plain convolutions", plain), ("networks", seconds)):
        click.echo(f"{what:20} {1e3 * time:6.2f} ms {2 * products / time / 1e9:6.0f} GFLOP/s")
    click.echo(f"{len(found)} convolutions, {products / 1e6:.0f} million products: {100 * plain / seconds:.0f} %")


if __name__ == "__main__":
    command()
