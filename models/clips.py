"""Training video: every clip decoded once into memory, crops and augmentation on the device."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from models.picture import Planes

SUFFIXES = {".mkv", ".mp4", ".mov", ".webm", ".avi", ".y4m", ".m4v", ".mpg", ".ts"}


@dataclass(frozen=True)
class Clip:
    """One shot, uint8."""

    y: Tensor  # (T, H, W)
    u: Tensor  # (T, H/2, W/2)
    v: Tensor  # (T, H/2, W/2)


def _planes(frame) -> list[np.ndarray]:
    """The even-sized 4:2:0 planes of a PyAV frame."""
    frame = frame if frame.format.name in ("yuv420p", "yuvj420p") else frame.reformat(format="yuv420p")
    height, width = frame.height // 2 * 2, frame.width // 2 * 2
    out = []
    for plane, scale in zip(frame.planes, (1, 2, 2)):
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        out.append(rows[: height // scale, : width // scale].copy())
    return out


def read_clip(path: Path, limit: int = 600) -> Clip | None:
    """Decode the first `limit` frames of a video; None if there are not two frames in it that decode."""
    import av

    frames = []
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                frames.append(_planes(frame))
                if len(frames) == limit:
                    break
    except (av.FFmpegError, IndexError, OSError):
        pass
    if len(frames) < 2:
        return None
    return Clip(*(torch.from_numpy(np.stack(planes)) for planes in zip(*frames)))


class Clips:
    """Random chains of frames from all videos below a folder.

    Args:
        folder: searched recursively for videos.
        device: where the frames are kept and cropped.

    Raises:
        ValueError: there is no video in the folder.
    """

    def __init__(self, folder: Path, device: torch.device):
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
        with ThreadPoolExecutor(4) as pool:
            loaded = tqdm(pool.map(read_clip, paths), total=len(paths), desc="reading clips", unit="clip", disable=None)
            found = [clip for clip in loaded if clip is not None]
        if not found:
            raise ValueError(f"{folder}: no video with two frames or more was found; give a folder of videos")
        self.clips = [Clip(*(plane.to(device) for plane in (clip.y, clip.u, clip.v))) for clip in found]
        self.weights = [len(clip.y) for clip in self.clips]

    @property
    def frames(self) -> int:
        return sum(self.weights)

    def sample(self, random: Random, batch: int, length: int, size: int) -> list[Planes]:
        """`length` consecutive pictures of `batch` random crops of `size` × `size` luma samples.

        Augmented by frame skipping, time reversal, flips and transposition.
        """
        chains = [self._chain(random, length, size) for _ in range(batch)]
        return [
            Planes(*(torch.stack([chain[k][t] for chain in chains])[:, None].float() for k in range(3))) for t in range(length)
        ]

    def _chain(self, random: Random, length: int, size: int) -> list[Tensor]:
        """Planes y, u, v of one crop: (length, size, size) and half of it twice."""
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
        top, left = (2 * random.randint(0, max(0, (extent - size) // 2)) for extent in (height, width))
        flips = [axis for axis in (1, 2) if random.random() < 0.5]
        swap = random.random() < 0.5
        out = []
        for plane, scale in ((clip.y, 1), (clip.u, 2), (clip.v, 2)):
            side, t, l = size // scale, top // scale, left // scale
            crop = plane[order, t : t + side, l : l + side]
            missing = (0, side - crop.shape[2], 0, side - crop.shape[1])
            if any(missing):
                crop = F.pad(crop.float()[None], missing, mode="replicate")[0]
            crop = crop.flip(flips) if flips else crop
            out.append(crop.transpose(1, 2) if swap else crop)
        return out
