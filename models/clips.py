"""Training video: every clip decoded once into memory, crops and augmentation on the device."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.media import open_media
from models.parallel import neighbours
from models.picture import Planes

if TYPE_CHECKING:
    import av

SUFFIXES = {".mkv", ".mp4", ".mov", ".webm", ".avi", ".y4m", ".m4v", ".mpg", ".ts"}
LONGEST = 600
"""Frames that are used of one video, from its beginning."""
SMALLEST = 16
"""Videos with a side of fewer luma samples are left out."""


@dataclass(frozen=True)
class Clip:
    """One shot, uint8."""

    y: Tensor  # (T, H, W)
    u: Tensor  # (T, H/2, W/2)
    v: Tensor  # (T, H/2, W/2)


def _planes(frame: "av.VideoFrame") -> list[np.ndarray]:
    """The even-sized 4:2:0 planes of a PyAV frame."""
    frame = frame if frame.format.name in ("yuv420p", "yuvj420p") else frame.reformat(format="yuv420p")
    height, width = frame.height // 2 * 2, frame.width // 2 * 2
    out = []
    for plane, scale in zip(frame.planes, (1, 2, 2)):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        out.append(rows[: height // scale, : width // scale].copy())
    return out


def read_clip(path: Path, limit: int = LONGEST) -> Clip | None:
    """Decode the first `limit` frames of a video, up to the first that is damaged or of another size.

    None if fewer than two frames of at least 16×16 decode.
    """
    import av

    frames: list[list[np.ndarray]] = []
    try:
        with open_media(str(path)) as container:
            for frame in container.decode(video=0):
                planes = _planes(frame)
                if min(planes[0].shape) < SMALLEST or (frames and planes[0].shape != frames[0][0].shape):
                    break
                frames.append(planes)
                if len(frames) == limit:
                    break
    except (av.FFmpegError, IndexError, OSError):
        pass  # no video, or cut short: what was decoded before is good
    if len(frames) < 2:
        return None
    return Clip(*(torch.from_numpy(np.stack(planes)) for planes in zip(*frames)))


def _extent(path: Path) -> tuple[int, int]:
    """What a video's header promises: frames, at most LONGEST, and bytes of a decoded frame; (0, 0) if it has none."""
    import av

    try:
        with open_media(str(path)) as container:
            stream = container.streams.video[0]
            return min(stream.frames or LONGEST, LONGEST), stream.width * stream.height * 3 // 2
    except (av.FFmpegError, IndexError, OSError):
        return 0, 0


def fitting_limit(extents: list[tuple[int, int]], room: int) -> int:
    """How many frames of every video can be kept in `room` bytes; extents are frames and bytes a frame."""
    limit = LONGEST
    while limit > 2 and sum(min(frames, limit) * size for frames, size in extents) > room:
        limit = max(2, limit * 3 // 4)
    return limit


def _room(device: torch.device) -> int:
    """Bytes that clips may take: half of the memory, which the processes on a machine share."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (2 * neighbours())
    except (AttributeError, ValueError, OSError):
        return (8 << 30) // neighbours()


@dataclass(frozen=True)
class _Look:
    """How the pictures of a chain are altered, so that fine texture and strong colours occur more often than in the clips.

    What never occurs in training is lost: Muon's steps are as large in directions without a gradient as in others.
    """

    sharpness: float = 0.0  # how much of the detail is added once more
    saturation: float = 1.0  # colour differences are multiplied by this
    tint_u: float = 0.0  # how much of the luma is added to the colour differences, so that they have detail
    tint_v: float = 0.0
    grain: float = 0.0  # standard deviation of noise, as cameras and film have it and compressed clips do not

    @classmethod
    def draw(cls, random: Random) -> "_Look":
        """Half of the chains stay as they are; a quarter get colour differences with the detail of luma, a quarter grain."""
        if random.random() < 0.5:
            return cls()
        sharpness, saturation = random.choice((0.0, 2 * random.random())), 0.7 + 1.3 * random.random()
        tints = (random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6)) if random.random() < 0.5 else (0.0, 0.0)
        return cls(sharpness, saturation, *tints, random.choice((0.0, 4 * random.random())))


def _sharpened(plane: Tensor, amount: Tensor) -> Tensor:
    """A plane (B, 1, H, W) with what 3×3 means take away added `amount` (B, 1, 1, 1) times."""
    return plane + amount * (plane - F.avg_pool2d(plane, 3, 1, 1, count_include_pad=False))


def _line(size: int, first: int, step: int, extent: int, reverse: bool) -> np.ndarray:
    """Where `size` samples are read from a line of `step` · `extent`, every `step`-th from `first` on; beyond the last they run back and forth."""
    place = (np.arange(size) + first) % (2 * extent)
    place = step * np.minimum(place, 2 * extent - 1 - place)
    return place[::-1] if reverse else place


@dataclass(frozen=True)
class _Cut:
    """Which samples of a clip a chain consists of."""

    clip: Clip
    frames: list[int]
    step: int  # from one luma sample to the next
    corner: tuple[int, int]  # in chroma samples that are `step` apart
    flips: tuple[bool, bool]
    swap: bool  # rows become columns

    def places(self, plane: Tensor, size: int) -> np.ndarray:
        """Into the samples of a plane: what frames, rows and columns of the chain add, one after another, (T + 2·size,) int64."""
        _, height, width = plane.shape
        scale = self.clip.y.shape[1] // height
        rows, columns = (
            _line(size, 2 * first // scale, self.step, extent // (2 * self.step) * 2 // scale, flip)
            for first, extent, flip in zip(self.corner, self.clip.y.shape[1:], self.flips)
        )
        lines = [columns, rows * width] if self.swap else [rows * width, columns]
        return np.concatenate([np.array(self.frames, np.int64) * (height * width), *lines])


class Clips:
    """Random chains of frames from all videos below a folder.

    Args:
        folder: searched recursively for videos, without hidden files.
        device: where the frames are kept and cropped.
        watch: wraps the loop over clips that are read, and is told how many there are; for a progress bar.

    Raises:
        ValueError: the folder is missing, or there is no video in it.
    """

    def __init__(self, folder: Path, device: torch.device, watch: Callable[[Iterable, int], Iterable] | None = None):
        if not folder.is_dir():
            raise ValueError(f"{folder}: there is no such folder; give a folder of videos")
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.name[0] != "." and p.is_file())
        self.limit = fitting_limit([_extent(path) for path in paths], _room(device))
        loaded = _read_all(paths, self.limit)
        self.clips: list[Clip] = []
        for clip in watch(loaded, len(paths)) if watch else loaded:
            if clip is not None:
                self.clips.append(Clip(*(plane.to(device) for plane in (clip.y, clip.u, clip.v))))
        if not self.clips:
            raise ValueError(f"{folder}: no video with two frames or more was found; give a folder of videos")
        self.skipped = len(paths) - len(self.clips)
        self.weights = [len(clip.y) for clip in self.clips]

    @property
    def frames(self) -> int:
        return sum(self.weights)

    @property
    def summary(self) -> str:
        """One line: what there is, and what of the folder is not used."""
        parts = [f"{len(self.clips)} clips, {self.frames} frames"]
        cut = sum(weight == self.limit for weight in self.weights)
        if cut:
            why = "" if self.limit == LONGEST else ", as more would not fit into memory"
            parts.append(f"of {cut} only the first {self.limit} frames are used{why}")
        if self.skipped:
            parts.append(f"{self.skipped} files that do not decode or are too small are left out")
        return "; ".join(parts)

    def sample(self, random: Random, batch: int, length: int, size: int) -> list[Planes]:
        """`length` consecutive pictures of `batch` random crops of `size` × `size` luma samples; `size` is even.

        Augmented by frame skipping, time reversal, flips, transposition, taking every second to fourth sample only,
        sharpening, grain, stronger colours and colour differences with the detail of luma.
        """
        cuts = [self._cut(random, length, size) for _ in range(batch)]
        chains = [_gather(cuts, kind, size // scale) for kind, scale in (("y", 1), ("u", 2), ("v", 2))]  # each (B, T, size, size)
        looks = [_Look.draw(random) for _ in range(batch)]
        sharpness, saturation, *tints, grain = (
            sent(torch.tensor([getattr(look, field.name) for look in looks]), chains[0].device)[:, None, None, None]
            for field in fields(_Look)
        )
        noise = torch.Generator(sharpness.device).manual_seed(random.getrandbits(32))
        pictures = []
        for t in range(length):
            y, *colours = (chain[:, t, None].float() for chain in chains)
            detail = y[..., ::2, ::2] - 128
            u, v = ((plane - 128) * saturation + tint * detail + 128 for plane, tint in zip(colours, tints))
            planes = (_sharpened(plane, sharpness) for plane in (y, u, v))
            noisy = (plane + grain * torch.randn(plane.shape, generator=noise, device=plane.device) for plane in planes)
            pictures.append(Planes(*noisy).rounded())
        return pictures

    def _cut(self, random: Random, length: int, size: int) -> _Cut:
        """Where a chain is cut from. A clip that is too short stands still at its end; one that is too small is mirrored at its border."""
        clip = random.choices(self.clips, self.weights)[0]
        count, height, width = clip.y.shape
        stride = random.choice((1, 1, 1, 1, 2, 3))
        while stride > 1 and (length - 1) * stride >= count:
            stride -= 1
        span = min((length - 1) * stride + 1, count)
        start = random.randint(0, count - span)
        order = [min(start + t * stride, start + span - 1) for t in range(length)]
        if random.random() < 0.5:
            order.reverse()
        step = random.choice((1, 1, 1, 1, 2, 2, 3, 4))  # leaving samples out, without a filter, makes texture finer
        top, left = (random.randint(0, max(0, extent // (2 * step) - size // 2)) for extent in (height, width))
        down, across = random.random() < 0.5, random.random() < 0.5
        return _Cut(clip, order, step, (top, left), (down, across), random.random() < 0.5)


def _gather(cuts: list[_Cut], kind: str, size: int) -> Tensor:
    """The samples of one plane of all chains, (B, T, size, size) uint8. One copy to the device says which these are."""
    planes = [getattr(cut.clip, kind) for cut in cuts]
    places = torch.from_numpy(np.stack([cut.places(plane, size) for cut, plane in zip(cuts, planes)]))
    frames, rows, columns = sent(places, planes[0].device).split((len(cuts[0].frames), size, size), 1)
    index = frames[:, :, None, None] + rows[:, None, :, None] + columns[:, None, None, :]
    return torch.stack([plane.flatten().take(where) for plane, where in zip(planes, index)])


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device that nobody waits for."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def _read_all(paths: list[Path], limit: int) -> Iterator[Clip | None]:
    """Clips in the order of their paths, decoded by a few threads; whoever stops listening stops the threads."""
    pool = ThreadPoolExecutor(4)
    try:
        yield from pool.map(partial(read_clip, limit=limit), paths)
    finally:
        pool.shutdown(cancel_futures=True)
