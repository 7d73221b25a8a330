"""What a coding command tells people and scripts: a progress bar while it runs, a summary at its end."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import click
from tqdm import tqdm

from models.stages import Profile, start, stop
from nvc_cli.frame import VideoInfo


@dataclass(frozen=True)
class Summary:
    """Of a whole clip. `seconds` and `fps` count the time in the codec and in reading and writing, not the start. `lost` counts
    frames that were damaged: `frames` has them too, shown as the ones before, but for those whose number was not known in time."""

    frames: int
    bytes: int
    kbps: float
    bpp: float
    seconds: float
    fps: float
    codec_fps: float  # median over frames of the codec's own time
    lost: int = 0


class Meter:
    """Counts frames and bytes, and shows them on a terminal. Time counts from `begin` of the monotonic clock, or from now."""

    def __init__(self, info: VideoInfo, total: int | None, verb: str, begin: float | None = None):
        self.info, self.frames, self.bytes = info, 0, 0
        self.begin = time.monotonic() if begin is None else begin
        self.times: list[float] = []
        self.bar = tqdm(total=total, desc=verb, unit="frame", file=sys.stderr, disable=None if sys.stderr.isatty() else True)

    @contextmanager
    def frame(self) -> Iterator[None]:
        """Times the codec's work on one frame."""
        begin = time.monotonic()
        yield
        self.times.append(time.monotonic() - begin)

    def count(self, size: int) -> None:
        """One more frame, of `size` bytes in the stream."""
        self.frames += 1
        self.bytes += size
        self.bar.set_postfix_str(f"{8 * self.bytes * float(self.info.fps) / self.frames / 1000:.1f} kbit/s", refresh=False)
        self.bar.update()

    def note(self, sentence: str) -> None:
        """Tell people something while the bar is there."""
        self.bar.write(f"nvc: {sentence}", file=sys.stderr)

    def summary(self, size: int, lost: int = 0) -> Summary:
        """Close the bar and sum up; `size` is the whole stream's, `lost` counts frames."""
        self.bar.close()
        seconds = time.monotonic() - self.begin
        frames = max(self.frames, 1)
        bits = 8 * size
        middle = sorted(self.times)[len(self.times) // 2] if self.times else 0.0
        return Summary(
            frames=self.frames,
            bytes=size,
            kbps=bits * float(self.info.fps) / frames / 1000,
            bpp=bits / frames / (self.info.width * self.info.height),
            seconds=seconds,
            fps=self.frames / seconds if seconds else 0.0,
            codec_fps=1 / middle if middle else 0.0,
            lost=lost,
        )


@contextmanager
def profiled(wanted: bool) -> Iterator[Profile | None]:
    """Time the stages of what is done inside, if that is wanted."""
    profile = start() if wanted else None
    try:
        yield profile
    finally:
        stop()


def tell_profile(profile: Profile, summary: Summary) -> None:
    """A table of the stages on stderr: what a frame took in each of them, and its share of the whole time."""
    frames, whole = max(summary.frames, 1), summary.seconds
    stages = sorted(profile.stages.items(), key=lambda item: -item[1].seconds)
    rest = whole - sum(stage.seconds for _, stage in stages)
    rows = [(name, stage.calls / frames, stage.seconds) for name, stage in stages] + [("the rest", 1.0, max(rest, 0.0)), ("all", 1.0, whole)]
    click.echo(f"{'stage':<20} {'ms/frame':>9} {'share':>6} {'calls/frame':>12}", err=True)
    for name, calls, seconds in rows:
        click.echo(f"{name:<20} {1000 * seconds / frames:>9.2f} {seconds / whole if whole else 0:>6.1%} {calls:>12.1f}", err=True)


def tell(summary: Summary, verb: str, target: str, as_json: bool) -> None:
    """The summary for people on stderr, for scripts on stdout."""
    lost = f" ({summary.lost} lost)" if summary.lost else ""
    click.echo(
        f"{verb} {summary.frames} frames{lost} to {target}: {summary.bytes} bytes, {summary.kbps:.1f} kbit/s, "
        f"{summary.bpp:.4f} bits/pixel, {summary.fps:.1f} frames/s",
        err=True,
    )
    if as_json:
        click.echo(json.dumps(asdict(summary)))
