"""Segments of a video: from one keyframe up to the next. Nothing of other segments is needed to code one.

They are found as the frames arrive, and kept on disk until they are encoded.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from nvc_cli.cuts import Lookout
from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.planar import read_raw, write_planes
from nvc_cli.workers import disk_errors


@dataclass(frozen=True)
class Segment:
    """Frames `first` to `first + frames - 1` of a video. The file at `path` holds their planes and, but for the last segment, also
    those of the frame after them, which is the next keyframe. `times` are those of these frames."""

    first: int
    frames: int
    path: Path
    times: tuple[int | None, ...]

    def read(self, file: BinaryIO, info: VideoInfo) -> Iterator[Frame]:
        """The frames, out of the opened file or its content."""
        for frame, time in zip(read_raw(file, self.path.name, info), self.times):
            yield replace(frame, time=time)


class Borders:
    """Tells of each frame in order whether a segment begins with it: where `Encoder`, given the same, puts a keyframe.

    Args:
        keyint: most frames from border to border; 0: no limit.
        scenecut: borders at scene cuts, too.
    """

    def __init__(self, keyint: int, scenecut: bool) -> None:
        self.keyint = keyint
        self.lookout = Lookout() if scenecut else None
        self.since: int | None = None  # frames since the border

    def __call__(self, frame: Frame) -> bool:
        cut = self.lookout is not None and self.lookout(frame.y).cut
        if self.since is None or cut or 0 < self.keyint <= self.since:
            self.since = 0
        self.since += 1
        return self.since == 1


def spool(frames: Iterable[Frame], borders: Borders, folder: Path) -> Generator[Segment, None, None]:
    """Write each segment to a file of its own, and give it out when it is whole. Whoever takes it removes the file.

    Raises NvcError when the disk is full, and what comes from `frames`.
    """
    file: BinaryIO | None = None
    first = number = 0
    times: list[int | None] = []
    try:
        for number, frame in enumerate(frames):
            begins = borders(frame)
            if file and begins:
                with disk_errors():
                    write_planes(file, frame)
                    file.close()
                yield Segment(first, number - first, Path(file.name), (*times, frame.time))
            with disk_errors():
                if begins:
                    first, file, times = number, (folder / str(number)).open("wb"), []
                assert file  # the first frame is a border
                write_planes(file, frame)
            times.append(frame.time)
        if file:
            with disk_errors():
                file.close()
            yield Segment(first, number + 1 - first, Path(file.name), tuple(times))
    finally:
        if file:
            with suppress(OSError):
                file.close()
