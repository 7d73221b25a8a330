"""Many frames through `nvc encode - | nvc decode -`: does memory stay as it is, and is every picture right?

    python examples/benchmark/longrun.py --frames 20000

Frames of 64x48 are made as they are needed. Both processes verify what they always do; the decoder checks the checksum of each picture.
Prints the memory of both (resident, MiB) along the way; exit code 1 if a frame is missing, or if memory grew by more than a tenth and
20 MiB after the first tenth of the frames.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from time import monotonic

import click
import numpy as np
from tqdm import tqdm

from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.planar import write_y4m_frame, write_y4m_header

WIDTH, HEIGHT = 64, 48
NVC = [sys.executable, "-m", "nvc_cli"]
FRAME = len(b"FRAME\n") + WIDTH * HEIGHT * 3 // 2


def frame(t: int) -> Frame:
    """A texture that moves, with a cut every 500 frames."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    scene, place = divmod(t, 500)
    y = 128 + 50 * np.sin((rows + 2 * place) / (4 + scene % 5)) + 40 * np.cos((columns - place) / (6 + scene % 3))
    y = y.clip(0, 255).astype(np.uint8)
    return Frame(y, y[::2, ::2] // 2 + 60, 200 - y[::2, ::2] // 2)


def memory(process: subprocess.Popen) -> float:
    """Resident memory in MiB, as Linux tells it."""
    fields = Path(f"/proc/{process.pid}/statm").read_text().split()
    return int(fields[1]) * 4096 / 2**20


@click.command()
@click.option("--frames", type=click.IntRange(20), default=20000, show_default=True)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each process.")
def command(frames: int, threads: int) -> None:
    words = ["--threads", str(threads)]
    encoder = subprocess.Popen([*NVC, "encode", "-", "-o", "-", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    decoder = subprocess.Popen([*NVC, "decode", "-", "-o", "-", *words], stdin=encoder.stdout, stdout=subprocess.PIPE)
    assert encoder.stdin and encoder.stdout and decoder.stdout
    encoder.stdout.close()
    source = encoder.stdin

    def feed() -> None:
        with source:
            write_y4m_header(source, VideoInfo(WIDTH, HEIGHT, Fraction(25)))
            for t in range(frames):
                write_y4m_frame(source, frame(t))

    threading.Thread(target=feed, daemon=True).start()
    begin, seen = monotonic(), 0
    samples: list[tuple[int, float, float]] = []
    decoder.stdout.readline()
    with tqdm(total=frames, unit="frame", disable=None) as bar:
        while len(decoder.stdout.read(FRAME)) == FRAME:
            seen += 1
            bar.update()
            if seen % (frames // 20) == 0 and seen < frames:
                samples.append((seen, memory(encoder), memory(decoder)))
    codes = encoder.wait(), decoder.wait()
    print(f"{'frames':>8} {'encoder':>8} {'decoder':>8}  MiB")
    for count, *sizes in samples:
        print(f"{count:>8}" + "".join(f"{size:>9.1f}" for size in sizes))
    print(f"{seen} of {frames} frames in {monotonic() - begin:.0f} s, exit codes {codes}")
    first, last = samples[1], samples[-1]
    grown = any(b > 1.1 * a and b > a + 20 for a, b in zip(first[1:], last[1:]))
    sys.exit(seen != frames or any(codes) or grown)


command()
