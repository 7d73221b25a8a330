"""The long run: `python -m tests.fuzz --count 100000`, from the top of a checkout, prints what became of so many mutated streams."""

from __future__ import annotations

import resource
import sys
import traceback
from collections import Counter
from time import monotonic

import click
import torch
from tqdm import tqdm

from models.weights import load
from tests.fuzz.mutations import (
    SEEDS,
    VECTORS,
    decoded,
    mutated,
    outcome,
    parts,
    salvaged,
)

SLOW, LARGE = 10.0, 2 << 20
"""Seconds for one stream and KiB for all that are a failure."""


@click.command()
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="How many streams.")
@click.option("--first", type=int, default=1, show_default=True, help="Seed of the first one.")
@click.option("--resilient", is_flag=True, help="Decode as with --resilient.")
def command(count: int, first: int, resilient: bool) -> None:
    """Mutate small streams and decode them. Exit code 1 if one is decoded wrongly, crashes, takes over 10 s, or all take over 2 GB."""
    torch.set_num_threads(1)
    model, path = load("tiny"), salvaged if resilient else outcome
    whole = {name: (VECTORS / f"{name}.nvc").read_bytes() for name in SEEDS}
    streams, truths = {name: parts(data) for name, data in whole.items()}, {name: decoded(data, model) for name, data in whole.items()}
    seen: Counter[tuple[str, str]] = Counter()
    failures, slowest = 0, (0.0, 0)
    for seed in tqdm(range(first, first + count), unit="stream", disable=None):
        name, change, data = mutated(seed, streams)
        begin = monotonic()
        try:
            result = path(data, truths[name], model)
        except Exception:
            failures += 1
            result = "FAILED"
            print(f"seed {seed}: {change} of {name}", file=sys.stderr)
            traceback.print_exc(limit=-3)
        seen[change, result] += 1
        slowest = max(slowest, (monotonic() - begin, seed))
    results = sorted({result for _, result in seen})
    print(f"{'mutation':<16}" + "".join(f"{result:>10}" for result in results))
    for change in sorted({change for change, _ in seen}):
        print(f"{change:<16}" + "".join(f"{seen[change, result]:>10}" for result in results))
    print(f"{'all':<16}" + "".join(f"{sum(n for (_, r), n in seen.items() if r == result):>10}" for result in results))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"slowest {slowest[0]:.2f} s (seed {slowest[1]}), peak memory {peak / 1024:.0f} MiB")
    sys.exit(failures > 0 or slowest[0] > SLOW or peak > LARGE)


command()
