"""What `nvc compare` measures: points, the BD-rates between curves of them, and which points of several codecs are comparable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

NVC = "nvc"
NVC_ENHANCED = "nvc enhanced"


@dataclass(frozen=True)
class Point:
    """One codec at one quality setting on one clip. `bytes` is the whole file; speeds are in frames a second."""

    codec: str
    quality: float  # qp of nvc and of VVenC, crf of the other anchors
    bytes: int
    kbps: float
    psnr: float
    psnr_y: float
    psnr_u: float
    psnr_v: float
    encode_fps: float
    decode_fps: float
    frame_bytes: list[int]  # of each packet; what the file holds besides is not in them
    frame_psnr: list[float]
    vmaf: float | None = None
    vmaf_neg: float | None = None
    sitting: int = 0  # when it was measured: speeds of different sittings are not comparable
    stream: str | None = None  # the coded file, in the output folder


@dataclass(frozen=True)
class Delta:
    """BD-rate of `codec` against `anchor` on one clip: `percent` over the `psnr_range` in dB, or `reason` for none."""

    codec: str
    anchor: str
    percent: float | None
    psnr_range: tuple[float, float] | None
    reason: str | None


@dataclass(frozen=True)
class ClipResult:
    """All that is known about one clip. `sha256` is of its raw frames; `bd_rate` is empty until all points are measured."""

    clip: str
    width: int
    height: int
    fps: str
    frames: int
    sha256: str
    points: list[Point]
    bd_rate: list[Delta]

    @property
    def sittings(self) -> list[int]:
        """The sittings that its points were measured in."""
        return sorted({p.sitting for p in self.points})


@dataclass(frozen=True)
class Mean:
    """Mean BD-rate over the clips that have one; `left_out` names the others. `percent` is None if all are left out."""

    codec: str
    anchor: str
    percent: float | None
    clips: int
    left_out: list[str]


def clip_deltas(points: Sequence[Point], codecs: Sequence[str]) -> list[Delta]:
    """BD-rates on one clip: each codec against each that comes after it in `codecs`."""
    return [_delta(points, codec, anchor) for i, codec in enumerate(codecs) for anchor in codecs[i + 1 :]]


def _delta(points: Sequence[Point], codec: str, anchor: str) -> Delta:
    from nvc_cli.metrics import bd_rate, shared_range

    curves = [[getattr(p, axis) for p in points if p.codec == name] for name in (anchor, codec) for axis in ("kbps", "psnr")]
    try:
        return Delta(codec, anchor, bd_rate(*curves), shared_range(*curves), None)
    except ValueError as error:
        return Delta(codec, anchor, None, None, str(error))


def mean_deltas(results: Sequence[ClipResult]) -> list[Mean]:
    """The mean BD-rate of every pair of codecs over clips, in the order of the clips' own lists."""
    means = []
    for deltas in zip(*(r.bd_rate for r in results), strict=True):
        known = [d.percent for d in deltas if d.percent is not None]
        left_out = [r.clip for r, d in zip(results, deltas, strict=True) if d.percent is None]
        mean = sum(known) / len(known) if known else None
        means.append(Mean(deltas[0].codec, deltas[0].anchor, mean, len(known), left_out))
    return means


def used_points(points: Iterable[Point]) -> list[Point]:
    """The points that BD-rates are computed from: of each codec, those that no other point of it beats, by rising rate."""
    from nvc_cli.metrics import efficient_points

    curves: dict[str, list[Point]] = {}
    for p in points:
        curves.setdefault(p.codec, []).append(p)
    return [own[i] for own in curves.values() for i in efficient_points([p.kbps for p in own], [p.psnr for p in own])]


def comparable(points: Sequence[Point]) -> list[Point]:
    """One point of each codec, at rates as near to each other as the measured ones allow.

    Around each point of the first codec gather the nearest ones of the others; the group is taken whose farthest is the nearest.
    """
    codecs = list(dict.fromkeys(p.codec for p in points))
    groups = [[_nearest(p, [q for q in points if q.codec == codec]) for codec in codecs] for p in points if p.codec == codecs[0]]
    return min(groups, key=lambda group: max(_distance(group[0], p) for p in group))


def _nearest(point: Point, others: Sequence[Point]) -> Point:
    return min(others, key=lambda p: _distance(point, p))


def _distance(a: Point, b: Point) -> float:
    """Between rates, as a logarithm of their ratio."""
    return abs(log(a.kbps / b.kbps))
