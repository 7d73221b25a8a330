"""What the in-loop filter, the decision on it and the filter out of the loop are worth, measured on clips of yours.

    python examples/ablation/study.py CLIP... --out ablation

Every clip is coded at several qps with every decision, decoded with and without enhancement, and compared with neither filter.
OUT gets study.md, study.json and plots, for which matplotlib is needed (`pip install '.[study]'`). What OUT already holds is not
measured again. Architectures of the in-loop filter, which need a folder of videos to learn from, are compared by
`python examples/ablation/architectures.py VIDEOS --out ablation`; what it has found becomes a part of the study.
"""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import click
from coding import DECISIONS, Run, code
from complexity import Costs, measure
from content import describe
from reconstruction import Bound, solve
from tqdm import tqdm

Result = TypeVar("Result")


def name_of(clip: str) -> str:
    return Path(clip).stem


def kept(path: Path, kind: type[Result], work: Callable[..., Result], *arguments: object) -> Result:
    """The result in a file of JSON, worked out and written if it is not there."""
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(work(*arguments))))
        part.replace(path)
    return kind(**json.loads(path.read_text()))


def kind_of(clip: str) -> str:
    return describe(clip).kind


@click.command(help=__doc__)
@click.argument("clips", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--out", default="ablation", show_default=True, type=click.Path(path_type=Path, file_okay=False), help="Folder of results.")
@click.option("--frames", default=32, show_default=True, type=click.IntRange(8), help="Frames of each clip.")
@click.option("--long", "many", default=96, show_default=True, type=click.IntRange(8), help="Frames for the errors over time.")
@click.option("--qps", default="2,3.5,5,6", show_default=True, help="Qualities, separated by commas.")
@click.option("--decisions", default=",".join(DECISIONS), show_default=True, help="Decisions, separated by commas; off and heuristic are needed.")
@click.option("--bound/--no-bound", default=True, show_default=True, help="Also find a bound for filtering the reconstruction, the third part.")
@click.option("--model", default="tiny", show_default=True, help="Model of nvc.")
@click.option("--jobs", default=2, show_default=True, type=click.IntRange(1), help="Runs side by side, each on one thread.")
def main(clips: tuple[str, ...], out: Path, frames: int, many: int, qps: str, decisions: str, bound: bool, model: str, jobs: int) -> None:
    from report import Study

    names, points = decisions.split(","), [float(qp) for qp in qps.split(",")]
    if not {"off", "heuristic"} <= set(names) <= set(DECISIONS):
        raise click.UsageError(f"--decisions must hold off and heuristic, and nothing but {', '.join(DECISIONS)}")
    folder = out / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    middle = points[len(points) // 2]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:

        def run(clip: str, decision: str, qp: float, count: int):
            path = folder / f"{name_of(clip)}-{decision}-{qp:g}-{count}.json"
            return pool.submit(kept, path, Run, code, clip, name_of(clip), decision, qp, count, model)

        kinds = {name_of(clip): pool.submit(kind_of, clip) for clip in clips}
        runs = [run(clip, decision, qp, frames) for clip in clips for decision in names for qp in points]
        bounds = [
            pool.submit(kept, folder / f"{name_of(clip)}-reconstruction-{qp:g}-{frames}.json", Bound, solve, clip, name_of(clip), qp, frames, model)
            for clip in clips
            for qp in points
            if bound
        ]
        long = [run(clip, decision, middle, many) for clip in clips for decision in ("off", "heuristic")]
        for waiting in tqdm(runs + bounds + long, unit="run", disable=None):
            waiting.result()
        costs = pool.submit(kept, folder / "complexity.json", Costs, measure, clips[0], name_of(clips[0]), middle, 9, model).result()
        coded, solved, followed = ([waiting.result() for waiting in part] for part in (runs, bounds, long))
        study = Study(coded, {clip: kind.result() for clip, kind in kinds.items()}, solved, followed, costs)
    command = " ".join(["python", "examples/ablation/study.py", *(name_of(clip) for clip in clips), *options(sys.argv[1:], clips)])
    others = out / "architectures.md"
    text = study.markdown(command, others.read_text(encoding="utf-8").strip() if others.exists() else "Not compared: run examples/ablation/architectures.py.")
    (out / "study.md").write_text(text, encoding="utf-8")
    (out / "study.json").write_text(json.dumps(study.results(), indent=1) + "\n", encoding="utf-8")
    study.plot(out)
    click.echo(text)


def options(words: list[str], clips: tuple[str, ...]) -> list[str]:
    """The command line without the clips."""
    return [word for word in words if word not in clips]


if __name__ == "__main__":
    main()
