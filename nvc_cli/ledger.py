"""The measured points of a run of `nvc compare`: kept in a folder as soon as they are there, so that an interrupted run goes on.

points.json holds the conditions of the run and all points; streams/CLIP/ the coded files. Points of other conditions are never
added to it. What another sitting of the same run has measured counts, but each point names its sitting, since speeds depend
on what else the machine was doing.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nvc_cli.conditions import Conditions, differences
from nvc_cli.errors import NvcError
from nvc_cli.files import check_target, publish
from nvc_cli.measure import Clip, Job
from nvc_cli.results import ClipResult, Delta, Mean, Point

POINTS = "points.json"
SHOWN_DIFFERENCES = 3


@dataclass(frozen=True)
class Sitting:
    """One start of the program. `date` is UTC; `load` the processes that wanted to run in the minute before, None if unknown."""

    date: str
    load: float | None


class Ledger:
    """The points of one run, in a folder or, without one, in memory only. `clips` are the results so far, by name."""

    def __init__(self, folder: Path | None, conditions: Conditions, outputs: Sequence[str] = (), overwrite: bool = False) -> None:
        """Go on with what `folder` holds, or begin; `outputs` are the names of other files that will be written there.

        NvcError if it holds a run under other conditions or files that are not of a run, and `overwrite` is not set.
        """
        self.folder, self.conditions = folder, conditions
        self.sittings: list[Sitting] = []
        self.clips: dict[str, ClipResult] = {}
        self._sitting: int | None = None  # of this process, once it has measured something
        if folder is None:
            return
        if (folder / POINTS).exists():
            if overwrite:
                _remove_run(folder)
            else:
                self._load(folder / POINTS)
        elif not overwrite:
            for name in outputs:
                check_target(folder / name, overwrite)
        _make(folder)

    @property
    def points(self) -> int:
        """How many points there are."""
        return sum(len(c.points) for c in self.clips.values())

    def begin(self, clip: Clip) -> None:
        """Say that the points of this clip come next. NvcError if those that are there are of another content."""
        now = ClipResult(clip.name, clip.width, clip.height, str(clip.fps), clip.frames, clip.sha256, [], [])
        known = self.clips.setdefault(clip.name, now)
        if replace(known, points=[], bd_rate=[]) != now:
            raise NvcError(f"{self.folder} holds points of another clip {clip.name}, whose frames differ; {_way_out()}")

    def find(self, clip: Clip, job: Job) -> list[Point]:
        """The points of a job, if all of them are there, and the stream too; else none."""
        if self.folder is None:
            return []
        points = [p for p in self.clips[clip.name].points if p.codec in job.codecs and p.quality == float(job.quality)]
        whole = all(self.stream(p).is_file() and self.stream(p).stat().st_size == p.bytes for p in points)
        return points if len(points) == len(job.codecs) and whole else []

    def keep(self, clip: Clip, job: Job, points: list[Point], coded: Path) -> list[Point]:
        """Add the points of a job and its stream; returns them as they were kept. NvcError if the folder cannot be written."""
        if self._sitting is None:
            self._sitting = len(self.sittings)
            self.sittings.append(Sitting(datetime.now(timezone.utc).isoformat(timespec="seconds"), _load_average()))
        stream = None
        if self.folder is not None:
            stream = f"streams/{clip.name}/{job.name}{coded.suffix}"
            _make((self.folder / stream).parent)
            with publish(self.folder / stream, overwrite=True) as file, open(coded, "rb") as source:
                shutil.copyfileobj(source, file)
        points = [replace(p, sitting=self._sitting, stream=stream) for p in points]
        known = self.clips[clip.name]
        others = [p for p in known.points if (p.codec, p.quality) not in {(q.codec, q.quality) for q in points}]
        self.clips[clip.name] = replace(known, points=others + points)
        self._write()
        return points

    def conclude(self, clip: Clip, points: list[Point], deltas: list[Delta]) -> ClipResult:
        """Note the BD-rates of a clip, and its points in their order."""
        self.clips[clip.name] = replace(self.clips[clip.name], points=points, bd_rate=deltas)
        self._write()
        return self.clips[clip.name]

    def stream(self, point: Point) -> Path:
        """The coded file of a point that is kept in a folder."""
        assert self.folder is not None and point.stream is not None
        return self.folder / point.stream

    def finish(self, means: list[Mean]) -> None:
        """Note the means over all clips."""
        self._write(means)

    def report(self, means: list[Mean] | None = None) -> dict[str, Any]:
        """All that is known, as JSON can hold it. Without `means` it is marked as incomplete."""
        return {
            **self.conditions,
            "complete": means is not None,
            "sittings": [asdict(s) for s in self.sittings],
            "clips": [asdict(c) for c in self.clips.values()],
            "mean": [asdict(m) for m in means or []],
        }

    def _write(self, means: list[Mean] | None = None) -> None:
        if self.folder is not None:
            with publish(self.folder / POINTS, overwrite=True) as file:
                file.write(json.dumps(self.report(means)).encode())

    def _load(self, path: Path) -> None:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
            before = {key: report.get(key) for key in dict.fromkeys([*self.conditions, *report]) if key not in ("complete", "sittings", "clips", "mean")}
            sittings = [Sitting(**s) for s in report["sittings"]]
            clips = [_clip_result(**c) for c in report["clips"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise NvcError(f"{path} is not what nvc compare of this version writes; {_way_out()}") from None
        different = list(differences(before, self.conditions))
        if different:
            shown = "; ".join(different[:SHOWN_DIFFERENCES]) + (f"; and {len(different) - SHOWN_DIFFERENCES} more" if len(different) > SHOWN_DIFFERENCES else "")
            raise NvcError(f"{path.parent} holds points that were measured under other conditions ({shown}); {_way_out()}")
        self.sittings, self.clips = sittings, {c.clip: c for c in clips}


def _way_out() -> str:
    return "give another folder, or -y to begin anew"


def _clip_result(points: list[dict[str, Any]], bd_rate: list[dict[str, Any]], **others: Any) -> ClipResult:
    return ClipResult(**others, points=[Point(**p) for p in points], bd_rate=[])  # BD-rates are computed anew


def _remove_run(folder: Path) -> None:
    """Remove the points and streams of an earlier run, and nothing else that may lie there."""
    streams: set[Path] = set()
    with suppress(OSError, ValueError, KeyError, TypeError):  # a file that is not ours to understand names no streams
        clips = json.loads((folder / POINTS).read_text(encoding="utf-8"))["clips"]
        streams = {folder / p["stream"] for c in clips for p in c["points"]}
    (folder / POINTS).unlink()
    for stream in streams:
        if stream.resolve().is_relative_to((folder / "streams").resolve()):
            stream.unlink(missing_ok=True)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NvcError(f"cannot make the folder {folder}: {(error.strerror or str(error)).lower()}; choose another place") from None


def _load_average() -> float | None:
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):  # not on every system
        return None
