"""The long run: `python -m tests.fuzz --count 100000`, from the top of a checkout, prints what became of so many mutated streams or videos."""

from __future__ import annotations

import resource
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import process_time

import click
import torch
from tqdm import tqdm

from models.weights import load_decoder
from tests.fuzz import sources
from tests.fuzz.mutations import SEEDS, VECTORS, decoded, mutated, outcome, parts, salvaged
from tests.fuzz.paths import entered, joined, listed, written

SLOW, LARGE = 10.0, 2 << 20
"""Seconds of computing for one of them and KiB for all that are a failure."""

PATHS = {"decode": outcome, "resilient": salvaged, "start": entered, "info": listed, "concat": joined, "write": written}
"""What a mutated stream goes through."""

Case = tuple[str, str, Callable[[], str]]
"""The name of what was mutated, how, and what becomes of it."""


@click.command()
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True, help="How many streams, or videos.")
@click.option("--first", type=int, default=1, show_default=True, help="Seed of the first one.")
@click.option("--path", type=click.Choice([*PATHS, "encode"]), default="decode", show_default=True, help="What they go through; encode: source videos, up to the networks.")
def command(count: int, first: int, path: str) -> None:
    """Mutate small streams and decode them. Exit code 1 if one is decoded wrongly, crashes, takes over 10 s, or all take over 2 GB."""
    torch.set_num_threads(1)
    seen: Counter[tuple[str, str]] = Counter()
    failures, slowest = 0, (0.0, 0)
    with tempfile.TemporaryDirectory() as folder:
        case = _videos(Path(folder)) if path == "encode" else _streams(path)
        for seed in tqdm(range(first, first + count), unit="stream", disable=None):
            name, change, run = case(seed)
            begin = process_time()
            try:
                result = run()
            except Exception:
                failures += 1
                result = "FAILED"
                print(f"seed {seed}: {change} of {name}", file=sys.stderr)
                traceback.print_exc(limit=-3)
            seen[change, result] += 1
            slowest = max(slowest, (process_time() - begin, seed))
    results = sorted({result for _, result in seen})
    print(f"{'mutation':<16}" + "".join(f"{result:>10}" for result in results))
    for change in sorted({change for change, _ in seen}):
        print(f"{change:<16}" + "".join(f"{seen[change, result]:>10}" for result in results))
    print(f"{'all':<16}" + "".join(f"{sum(n for (_, r), n in seen.items() if r == result):>10}" for result in results))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"slowest {slowest[0]:.2f} s (seed {slowest[1]}), peak memory {peak / 1024:.0f} MiB")
    sys.exit(failures > 0 or slowest[0] > SLOW or peak > LARGE)


def _streams(path: str) -> Callable[[int], Case]:
    """The cases of mutated streams, by their seeds."""
    model, way = load_decoder("tiny"), PATHS[path]
    whole = {name: (VECTORS / f"{name}.nvc").read_bytes() for name in SEEDS}
    streams, truths = {name: parts(data) for name, data in whole.items()}, {name: decoded(data, model) for name, data in whole.items()}

    def case(seed: int) -> Case:
        name, change, data = mutated(seed, streams)
        return name, change, lambda: way(data, truths[name], model)

    return case


def _videos(folder: Path) -> Callable[[int], Case]:
    """The cases of mutated source videos, by their seeds."""
    whole = sources.sources()

    def case(seed: int) -> Case:
        name, change, data = sources.mutated(seed, whole)
        (folder / name).write_bytes(data)
        return name, change, lambda: sources.outcome(folder / name)

    return case


command()
