"""Parts of pictures side by side, where nvc is worst: the source and what each codec makes of it at about the same rate."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.metrics import plane_psnr
from nvc_cli.results import NVC, Point

SIDES = (96, 320)  # bounds on the width of a part in luma samples, which is a third of the picture's if they allow


@dataclass(frozen=True)
class Panel:
    """One codec's picture of the part; no point is the source's. `psnr_y` is of the luma of this part alone, in dB."""

    label: str
    png: bytes
    point: Point | None = None
    psnr_y: float | None = None


@dataclass(frozen=True)
class Crop:
    """The same part of the same frame, of the source and of all codecs. `box` is left, top, right, bottom."""

    frame: int
    reason: str
    box: tuple[int, int, int, int]
    panels: list[Panel]


def worst_frames(points: Sequence[Point]) -> dict[int, str]:
    """Numbers of one or two frames and why they are shown: nvc's lowest PSNR, and where it falls most behind the best anchor."""
    own = worst_of(points)
    quality = np.array(own.frame_psnr)
    frames = {int(quality.argmin()): f"the frame of the lowest PSNR of {own.codec}"}
    others = [p.frame_psnr for p in points if not p.codec.startswith(NVC)]
    if others and own.codec == NVC:
        behind = int((quality - np.max(others, axis=0)).argmin())
        frames[behind] = f"{frames[behind]}, and where" if behind in frames else "the frame where"
        frames[behind] += f" {own.codec}'s PSNR compares worst with that of the best anchor"
    return frames


def worst_of(points: Sequence[Point]) -> Point:
    """The point whose worst frames are shown: nvc's, or the first."""
    return next((p for p in points if p.codec == NVC), points[0])


def make_crop(number: int, reason: str, source: Frame, decoded: Mapping[str, Frame], points: Sequence[Point], info: VideoInfo) -> Crop:
    """The part of frame `number` where the luma's squared error is largest; `decoded` holds the codecs' pictures of that frame."""
    box = worst_box(source.y, decoded[worst_of(points).codec].y)
    left, top, right, bottom = box
    part = np.s_[top:bottom, left:right]
    panels = [Panel("source", _png(source, info, box))]
    for p in points:
        picture = decoded[p.codec]
        panels.append(Panel(p.codec, _png(picture, info, box), p, plane_psnr(source.y[part], picture.y[part])))
    return Crop(number, reason, box, panels)


def worst_box(source: np.ndarray, decoded: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part, 4:3 if the picture allows, in which two planes (H, W) differ most."""
    height, width = source.shape
    columns = min(width, max(SIDES[0], min(width // 3, SIDES[1])))
    rows = min(height, 3 * columns // 4)
    error = (source.astype(np.int64) - decoded) ** 2
    total = np.zeros((height + 1, width + 1), np.int64)
    total[1:, 1:] = error.cumsum(0).cumsum(1)
    sums = total[rows:, columns:] - total[:-rows, columns:] - total[rows:, :-columns] + total[:-rows, :-columns]
    top, left = map(int, np.unravel_index(sums.argmax(), sums.shape))
    return left, top, left + columns, top + rows


def read_frames(path: Path, numbers: Sequence[int]) -> dict[int, Frame]:
    """Some frames of a raw clip, whose name tells its size."""
    from nvc_cli.video import open_reader

    with open_reader(str(path), frames=max(numbers) + 1) as reader:
        return {i: frame for i, frame in enumerate(reader) if i in numbers}


def _png(frame: Frame, info: VideoInfo, box: tuple[int, int, int, int]) -> bytes:
    from PIL import Image


    buffer = io.BytesIO()
    Image.fromarray(frame.rgb(info.color)).crop(box).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
