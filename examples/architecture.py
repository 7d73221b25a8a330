"""Which sizes of the networks are worth their cost? Short trainings from scratch, one change at a time, for equally long.

    python examples/architecture.py VIDEOS CLIP... --minutes 6 --out architecture

Every variant of `tiny` is trained on the videos below VIDEOS and then codes the CLIPs with exact arithmetic. The table, in
Markdown on standard output, tells its mean BD-rate against the first row. Variants that OUT already holds are not trained again.
Short trainings favour small networks, and the row of another seed tells how far apart two equal trainings come out.
"""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import click

from models.presets import PRESETS

VARIANTS: dict[str, dict[str, int]] = {
    "as it is": {},
    "as it is, with another seed": {},
    "context of 128 channels": {"context": 128},
    "one block fewer in encoder, context and decoder": {"encoder_blocks": 1, "context_blocks": 1, "decoder_blocks": 2},
    "one block more in encoder, context and decoder": {"encoder_blocks": 3, "context_blocks": 3, "decoder_blocks": 4},
    "two blocks in the in-loop filter": {"filter_blocks": 2},
    "192 latent channels": {"latent": 192},
    "entropy model of half the width": {"hyper": 24, "side": 48, "prior": 80},
    "entropy model of one and a half times the width": {"hyper": 72, "side": 144, "prior": 240},
    "keyframe network of 96 channels and 2 blocks": {"intra_context": 96, "intra_blocks": 2},
}
STAGES = ("intra", "pairs", "short", "medium")
QPS = (1, 3, 5)


def slug(name: str) -> str:
    return "-".join(name.replace(",", "").split())


def measure(name: str, videos: Path, clips: tuple[str, ...], minutes: float, frames: int, out: Path) -> None:
    """In a process of its own: train a variant, code the clips with it, write OUT/NAME.json."""
    import torch

    from models import card, weights
    from models.clips import Clips
    from models.schedule import SCHEDULES
    from models.training import Settings, Trainer
    from nvc_cli.decision import Heuristic
    from nvc_cli.encoder import Encoder
    from nvc_cli.metrics import frame_psnr
    from nvc_cli.stream import pack_packet
    from nvc_cli.switches import Switches
    from nvc_cli.video import open_reader

    device, preset = torch.device("cpu"), slug(name)
    torch.set_num_threads(1)
    PRESETS[preset] = replace(PRESETS["tiny"], name=preset, **VARIANTS[name])
    SCHEDULES[preset] = SCHEDULES["tiny"]
    settings = Settings(preset, minutes, None, out / f"{preset}.ckpt", device, STAGES, seed=2 if "seed" in name else 1)
    trainer = Trainer(settings, Clips(videos, device), lambda line: click.echo(f"{name}: {line}", err=True))
    trainer.run()
    path = out / f"{preset}.safetensors"
    weights.save(trainer.finished_codec(), path)
    model, points = weights.load_encoder(str(path)), {}
    for clip in clips:
        points[Path(clip).stem] = curve = []
        for qp in QPS:
            encoder, switches, size, quality = Encoder(model, qp, 0, Heuristic()), Switches(), 0, []
            with open_reader(clip, frames=frames) as reader:
                source = list(reader)
            for frame, encoded in zip(source, encoder.encode_all(source)):
                size += len(pack_packet(encoded.packet, switches))
                quality.append(frame_psnr(frame, encoded.picture).yuv)
            curve.append((size, sum(quality) / len(quality)))
    result = {
        "name": name,
        "parameters": sum(p.numel() for p in trainer.codec.parameters()),
        "frames": trainer.progress.frames,
        "loss": trainer.progress.reports[-1].loss,
        "complexity": asdict(card.complexity(preset)),
        "points": points,
    }
    (out / f"{preset}.json").write_text(json.dumps(result))


def table(results: list[dict]) -> str:
    """Markdown, a row a variant, compared with the first."""
    from nvc_cli.metrics import bd_rate

    lines = ["| variant | parameters | encoder, decoder, kMAC/pixel | frames seen | BD-rate |", "| --- | --- | --- | --- | --- |"]
    anchor = results[0]["points"]
    for result in results:
        deltas = [bd_rate(*zip(*anchor[clip]), *zip(*points)) for clip, points in result["points"].items()]
        cost = result["complexity"]
        lines.append(
            f"| {result['name']} | {result['parameters']:,} | {cost['encoder']:.1f}, {cost['decoder']:.1f} | "
            f"{result['frames']:,} | {sum(deltas) / len(deltas):+.1f} % |"
        )
    return "\n".join(lines)


@click.command(help=__doc__)
@click.argument("videos", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("clips", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--minutes", default=6.0, show_default=True, help="Training of each variant, on one thread.")
@click.option("--frames", default=16, show_default=True, help="Frames of each clip.")
@click.option("--jobs", default=2, show_default=True, help="Variants trained side by side.")
@click.option("--out", default="architecture", show_default=True, type=click.Path(path_type=Path), help="Folder of weights and results.")
@click.option("--worker", default=None, hidden=True, type=click.Choice(list(VARIANTS)))
def main(videos: Path, clips: tuple[str, ...], minutes: float, frames: int, jobs: int, out: Path, worker: str | None) -> None:
    out.mkdir(parents=True, exist_ok=True)
    if worker:
        return measure(worker, videos, clips, minutes, frames, out)

    def run(name: str) -> dict:
        result = out / f"{slug(name)}.json"
        if not result.exists():
            options = ["--minutes", str(minutes), "--frames", str(frames), "--out", str(out), "--worker", name]
            subprocess.run([sys.executable, __file__, str(videos), *clips, *options], check=True)
        return json.loads(result.read_text())

    with ThreadPoolExecutor(jobs) as pool:
        click.echo(table(list(pool.map(run, VARIANTS))))


if __name__ == "__main__":
    main()
