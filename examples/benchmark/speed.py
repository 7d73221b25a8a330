"""How fast nvc is, beside other encoders on the same pictures in the same run.

    python examples/benchmark/speed.py --threads 2
    python examples/benchmark/speed.py --sizes cif,720p --models tiny,base --device cuda
    python examples/benchmark/speed.py --sizes cif --scaling

Pictures are those of the example clip, or of --video, scaled. Each command runs as people run it, in a process of its own; frames per second
are those of its summary, start-up not counted, medians of --runs runs that take turns. Other encoders run in ffmpeg (`pip install '.[compare]'`
brings one that has them all), which times itself. Memory is the largest resident set. `--scaling` asks how time grows with threads and frames, and
how long it takes from the command to the first decoded frame.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import monotonic

import click
from tqdm import tqdm

from nvc_cli.errors import NvcError
from nvc_cli.ffmpeg import find_program
from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.planar import write_y4m_frame, write_y4m_header

CLIP = Path(__file__).parent.parent / "clip" / "table_352x288_30.mkv"
NVC = [sys.executable, "-m", "nvc_cli"]
SIZES = {"cif": (352, 288), "480p": (848, 480), "720p": (1280, 720), "1080p": (1920, 1080)}
OTHERS = {
    "x264 medium": ("libx264", "-preset", "medium", "-crf", "26", "-x264-params", "threads={threads}"),
    "x265 medium": ("libx265", "-preset", "medium", "-crf", "28", "-x265-params", "pools={threads}:log-level=error"),
    "x265 veryslow": ("libx265", "-preset", "veryslow", "-crf", "28", "-x265-params", "pools={threads}:log-level=error"),
    "SVT-AV1 preset 6": ("libsvtav1", "-preset", "6", "-crf", "35", "-svtav1-params", "lp={threads}"),
    "vvenc faster": ("libvvenc", "-preset", "faster", "-qp", "32", "-threads", "{threads}"),
}


@dataclass(frozen=True)
class Run:
    """One run of one command."""

    fps: float
    memory: float  # MiB


def run(words: list[str], where: Path) -> tuple[str, float, float]:
    """Output and seconds of a command, and its largest memory in MiB."""
    out, told = where / "out", where / "told"
    begin = monotonic()
    with out.open("wb") as stdout, told.open("wb") as stderr:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        _, status, used = os.wait4(process.pid, 0)
    seconds = monotonic() - begin
    if status:
        raise NvcError(f"{' '.join(words)}: {told.read_text().strip().splitlines()[-1]}")
    return out.read_text(errors="replace"), seconds, used.ru_maxrss / 1024


def nvc(where: Path, *words: object) -> Run:
    out, _, memory = run([*NVC, *map(str, words), "--json", "-y"], where)
    return Run(json.loads(out)["fps"], memory)


def other(where: Path, name: str, source: Path, frames: int, threads: int) -> Run:
    encoder, *options = (word.format(threads=threads) for word in OTHERS[name])
    program = find_program("encoder", encoder, "leave it out of --others")
    words = [program, "-nostdin", "-v", "error", "-y", "-i", str(source), "-c:v", encoder, *options, "-f", "null", "-"]
    _, seconds, memory = run(words, where)
    return Run(frames / seconds, memory)


def scaled(video: Path, size: tuple[int, int], frames: int, target: Path) -> None:
    """The first frames of a video at this size, as y4m; a video that is shorter is played to and fro."""
    import av

    with av.open(str(video)) as source, target.open("wb") as file:
        write_y4m_header(file, VideoInfo(*size, Fraction(30)))
        pictures = [Frame.of(picture.reformat(*size, format="yuv420p")) for picture in islice(source.decode(video=0), frames)]
        for picture in islice(cycle(pictures + pictures[-2:0:-1]), frames):
            write_y4m_frame(file, picture)


def shown(rows: list[tuple[str, list[Run]]]) -> None:
    for name, runs in rows:
        print(f"{name:<34} {median(r.fps for r in runs):>9.2f} frames/s {max(r.memory for r in runs):>8.0f} MiB", flush=True)


@click.command()
@click.option("--video", type=click.Path(path_type=Path, exists=True), default=CLIP, help="[default: the example clip]")
@click.option("--sizes", default="cif,480p,720p,1080p", show_default=True)
@click.option("--models", default="tiny", show_default=True, help="Models of the package, or .safetensors files.")
@click.option("--efforts", default="fast,medium", show_default=True)
@click.option("--others", default=",".join(OTHERS), show_default=True, help="Other encoders; empty: none.")
@click.option("--frames", type=click.IntRange(2), default=128, show_default=True, help="A video that is shorter is played to and fro.")
@click.option("--runs", type=click.IntRange(1), default=3, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=os.cpu_count(), show_default=True)
@click.option("--device", default="auto", show_default=True)
@click.option("--qp", default=3.0, show_default=True)
@click.option("--scaling", is_flag=True, help="Also time threads, frames, and the start.")
def command(
    video: Path, sizes: str, models: str, efforts: str, others: str, frames: int, runs: int, threads: int, device: str, qp: float, scaling: bool
) -> None:  # fmt: skip
    """Time nvc and other encoders."""
    with tempfile.TemporaryDirectory(prefix="nvc-speed-") as folder:
        where = Path(folder)
        for name in sizes.split(","):
            source = where / f"{name}.y4m"
            scaled(video, SIZES[name], frames, source)
            print(f"{name}, {SIZES[name][0]}x{SIZES[name][1]}, {frames} frames, {threads} threads, median of {runs} runs")
            seen: dict[str, list[Run]] = {}
            for _ in tqdm(range(runs), unit="run", disable=None):
                for model in models.split(","):
                    stream = where / "a.nvc"
                    common = ("--threads", threads, "--device", device)
                    for effort in efforts.split(","):
                        words = ("encode", source, "-o", stream, "--model", model, "--qp", qp, "--effort", effort, *common)
                        seen.setdefault(f"{model} encode, {effort}", []).append(nvc(where, *words))
                    given = ("--model", model) if model.endswith(".safetensors") else ()
                    for options in ((), ("--enhance",)):
                        key = f"{model} decode {' '.join(options)}".strip()
                        seen.setdefault(key, []).append(nvc(where, "decode", stream, "-o", where / "a.yuv", *given, *options, *common))
                for rival in filter(None, others.split(",")):
                    seen.setdefault(f"{rival} encode", []).append(other(where, rival, source, frames, threads))
            shown(list(seen.items()))
        if scaling:
            _scaling(where, video, models.split(",")[0], threads, device)


def _scaling(where: Path, video: Path, model: str, threads: int, device: str) -> None:
    source, stream = where / "long.y4m", where / "long.nvc"
    count = 128
    scaled(video, SIZES["cif"], count, source)
    nvc(where, "encode", source, "-o", stream, "--model", model, "--device", device)
    print(f"{model}, cif: frames/s by threads")
    for some in sorted({1, 2, 4, threads} & set(range(1, threads + 1))):
        runs = nvc(where, "encode", source, "-o", where / "b.nvc", "--model", model, "--frames", 48, "--threads", some, "--device", device)
        back = nvc(where, "decode", stream, "-o", where / "b.yuv", "--frames", 96, "--threads", some, "--device", device)
        print(f"{some:>4} threads {runs.fps:>8.2f} encode {back.fps:>8.2f} decode")
    print(f"{model}, cif: decode by frames")
    for some in (count // 4, count // 2, count):
        back = nvc(where, "decode", stream, "-o", where / "b.yuv", "--frames", some, "--threads", threads, "--device", device)
        print(f"{some:>4} frames  {back.fps:>8.2f} frames/s {back.memory:>8.0f} MiB")
    for what, given, made in (("decode", stream, "b.yuv"), ("encode", source, "b.nvc")):
        words = [*NVC, what, str(given), "-o", str(where / made), "-y", "--frames", "1", "--threads", str(threads), "--device", device]
        print(f"{what}, from the command to the first frame: {median(run(words, where)[1] for _ in range(3)):.2f} s")


command()
