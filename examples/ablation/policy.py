"""Fits the learned decision on the in-loop filter to what the look-ahead chooses, and prints its weights for nvc_cli/decision.py.

    python examples/ablation/policy.py VIDEO...

Use videos that results are not judged on. Every other frame of a video's look-ahead teaches, the others test.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import click
from tqdm import tqdm

Sample = tuple[list[float], bool]
"""Features of a moment, and the flag that the look-ahead gave it."""


def choices(video: str, qp: float, frames: int, model: str) -> list[Sample]:
    """What the look-ahead chose for the P-frames of a video."""
    from models.kernels.threads import use_threads
    from models.weights import load_encoder
    from nvc_cli.decision import LookAhead
    from nvc_cli.encoder import Encoder
    from nvc_cli.video import open_reader

    use_threads(1)
    encoder = Encoder(load_encoder(model), qp, 0, LookAhead())
    with open_reader(video, frames=frames) as reader:
        coded = list(encoder.encode_all(reader))
    return [(encoded.moment.features, encoded.packet.filtered) for encoded in coded if encoded.moment]


def fit(samples: list[Sample]) -> tuple[float, ...]:
    """Weights of a logistic model, with a little decay, since some features follow from others."""
    import numpy as np
    from scipy.optimize import minimize

    features = np.array([features for features, _ in samples])
    signs = np.array([1.0 if flag else -1.0 for _, flag in samples])

    def loss(weights: np.ndarray) -> float:
        return float(np.logaddexp(0, -signs * (features @ weights)).mean() + 1e-3 * weights @ weights)

    return tuple(round(float(weight), 3) for weight in minimize(loss, np.zeros(features.shape[1])).x)


def agreement(weights: tuple[float, ...], samples: list[Sample]) -> float:
    """How often the model says what the look-ahead chose."""
    said = [(sum(w * f for w, f in zip(weights, features)) > 0) == flag for features, flag in samples]
    return sum(said) / len(said)


@click.command(help=__doc__)
@click.argument("videos", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--qps", default="2,3.5,5,6", show_default=True, help="Qualities, separated by commas.")
@click.option("--frames", default=17, show_default=True, type=click.IntRange(8), help="Frames of each video.")
@click.option("--model", default="tiny", show_default=True, help="Model of nvc.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="Runs side by side, each on one thread.")
def main(videos: tuple[str, ...], qps: str, frames: int, model: str, jobs: int) -> None:
    from nvc_cli.decision import Learned

    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(choices, video, float(qp), frames, model) for video in videos for qp in qps.split(",")]
        samples = [sample for run in tqdm(runs, unit="run", disable=None) for sample in run.result()]
    weights = fit(samples[::2])
    on = sum(flag for _, flag in samples) / len(samples)
    by_error = sum((features[1] > 0) == flag for features, flag in samples) / len(samples)
    click.echo(f"POLICY = {weights}")
    click.echo(
        f"{len(samples)} frames, {100 * on:.0f} % of them filtered; the model agrees on {100 * agreement(weights, samples[1::2]):.0f} % of those it was "
        f"not fitted to, the shipped one on {100 * agreement(Learned().weights, samples):.0f} %, the error alone on {100 * by_error:.0f} %"
    )


if __name__ == "__main__":
    main()
