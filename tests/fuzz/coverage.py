"""Coverage-guided fuzzing, for as long as one likes: `pip install '.[fuzz]'`, then from the top of a checkout

    python -m tests.fuzz.coverage stream -max_total_time=600

Targets are stream, damaged, raw, y4m and container. Options after the target are libFuzzer's; a folder among them is the corpus, which grows.
An input that makes trouble is kept as crash-..., and goes into `tests/fuzz/test_targets.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["nvc_cli"]):
    from tests.fuzz.targets import TARGETS, attempt, seeds


def main() -> None:
    target = sys.argv[1] if len(sys.argv) > 1 else ""
    if target not in TARGETS:
        sys.exit(f"give a target: {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory() as folder:
        for number, data in enumerate(seeds(target)):
            (Path(folder) / str(number)).write_bytes(data)
        atheris.Setup([sys.argv[0], *sys.argv[2:], folder], lambda data: attempt(target, data))
        atheris.Fuzz()


main()
