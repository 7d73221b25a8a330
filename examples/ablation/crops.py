"""Crops of training videos, coded up to the in-loop filter by a finished codec and kept in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from tqdm import tqdm

from models.clips import SUFFIXES, Clip, Clips, read_clip
from models.codec import Codec
from models.cycle import CYCLE, rate_point
from models.entropy import SymbolEncoder
from models.exact import STREAM_BITS
from models.files import replacing
from models.picture import Planes
from models.presets import RATES
from models.plan import QUICK
from models.search import Search

BATCH, LENGTH, SIDE = 4, 6, 256
"""Crops of one clip, one in each quarter of the rates; frames of each, the first a keyframe; luma samples."""


@dataclass(frozen=True)
class Crops:
    """P-frames of which only the in-loop filter is undecided (`models.codec.Unfiltered`), with their sources."""

    source: Planes
    context: Tensor  # c (B, C, H/8, W/8)
    detail: Tensor  # (B, 96, H/8, W/8)
    reference: Tensor  # (B, 96, H/8, W/8)
    rate: Tensor  # (B,)


class Shelf:
    """The crops of some clips, in files that are read as far as they are needed."""

    def __init__(self, files: list[Path]):
        self.clips: list[list[Tensor]] = [torch.load(file, weights_only=True, mmap=True) for file in files]
        self.places = [(clip, k) for clip, parts in enumerate(self.clips) for k in range(len(parts[0]))]

    def take(self, places: list[tuple[int, int]]) -> Crops:
        *planes, context, detail, reference, rate = (torch.stack(parts) for parts in zip(*([part[k] for part in self.clips[clip]] for clip, k in places)))
        exact = (tensor.float() / 2**STREAM_BITS for tensor in (context, detail, reference))
        return Crops(Planes(*(plane.float() for plane in planes)), *exact, rate)


class _Shot(Clips):
    """Chains from one clip, with all the augmentation of training."""

    def __init__(self, clip: Clip):
        self.clips, self.weights = [clip], [len(clip.y)]


def shelves(codec: Codec, videos: Path, folder: Path, count: int) -> tuple[Shelf, Shelf]:
    """Code crops of `count` random clips, unless the folder has them: those to train on, and those of the last tenth of the clips.

    Shots of one video, which are named NAME_0, NAME_1 and so on, are never on both.

    Args:
        codec: ready for exact coding.
    """
    random = Random(0)
    paths = sorted(path for path in videos.rglob("*") if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    sources = {path: path.stem.rsplit("_", 1)[0] for path in paths}
    order = sorted(set(sources.values()))
    random.shuffle(order)
    chosen = sorted(random.sample(paths, min(count, len(paths))), key=lambda path: order.index(sources[path]))
    files = {path: folder / f"{path.stem}.pt" for path in chosen}
    for place, path in enumerate(tqdm(chosen, unit="clip", disable=None)):
        if not files[path].exists():
            clip = read_clip(path)
            if clip is None:
                continue
            with replacing(files[path]) as part:
                torch.save(code(codec, _Shot(clip), Random(place)), part)
    first = chosen[: 9 * len(chosen) // 10]
    seen = {sources[path] for path in first}
    last = [path for path in chosen if sources[path] not in seen]
    if not last:
        raise ValueError(f"{videos}: too few videos to hold some of them out")
    return tuple(Shelf([files[path] for path in part if files[path].exists()]) for part in (first, last))


@torch.inference_mode()
def code(codec: Codec, clips: Clips, random: Random) -> list[Tensor]:
    """Code chains with the filter off: y, u, v as bytes; c, detail and reference as the integers that they are; rates. (BATCH·(LENGTH - 1), ...) each."""
    search, phase, rows = Search(32, QUICK), random.randrange(len(CYCLE)), []
    base = [(k + random.random()) * RATES / BATCH for k in range(BATCH)]
    for t, picture in enumerate(clips.sample(random, BATCH, LENGTH, SIDE)):
        rate = torch.tensor([rate_point(b, t + phase if t else 0) for b in base])
        if t == 0:
            state = codec.encode_keyframe(picture, rate, SymbolEncoder())
            continue
        vectors, _ = codec.search(search, picture, state, rate)
        frame = codec.encode_frame(picture, state, rate, vectors, False, SymbolEncoder())
        state = frame.finish(False)
        planes = [plane.to(torch.uint8) for plane in (picture.y, picture.u, picture.v)]
        rows.append([*planes, *((2**STREAM_BITS * x).to(torch.int16) for x in (frame.context, frame.detail, frame.reference)), rate])
    return [torch.cat(parts).contiguous() for parts in zip(*rows)]
