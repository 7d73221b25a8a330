"""What kind of content a clip has, by rules on its motion and texture."""

from __future__ import annotations

from dataclasses import dataclass

PAN, UNSTEADY, CUT, FINE, FLAT = 1.0, 0.25, 30.0, 14.0, 0.5
"""Limits of the rules, see `Content.kind`."""


@dataclass(frozen=True)
class Content:
    """Means over the pictures that were looked at."""

    motion: float  # median length of vectors, luma samples a frame
    unsteady: float  # part of blocks that move more than two samples otherwise than the median
    residual: float  # the largest mean absolute error of a picture predicted from the one before
    detail: float  # mean absolute difference to the 3×3 mean
    flat: float  # part of 8×8 blocks without any texture

    @property
    def kind(self) -> str:
        """The first that applies."""
        if self.residual > CUT:
            return "scene changes"
        if self.flat > FLAT:
            return "animation"
        if self.unsteady > UNSTEADY:
            return "sport"
        if self.motion > PAN:
            return "pan"
        return "texture" if self.detail > FINE else "static camera"


def describe(clip: str, frames: int = 17) -> Content:
    """Look at every other of the first frames of a clip."""
    import torch
    from torch.nn import functional as F

    from models.plan import QUICK
    from models.search import Search
    from models.vectors import still
    from models.warp import compensate
    from nvc_cli.tensors import to_picture
    from nvc_cli.video import open_reader

    with open_reader(clip, frames=frames) as reader:
        pictures = [to_picture(frame, torch.device("cpu")) for frame in reader]
    search, motion, unsteady, residual, detail, flat = Search(64, QUICK, 1), [], [], [], [], []
    for last, picture in zip(pictures[::2], pictures[1::2]):
        rows, columns = (size // 8 for size in picture.y.shape[2:])
        field = search(picture.y, [last.y], still(torch.empty(1, 1, rows, columns)), torch.tensor([24]))
        vectors = field[0, :2].float().flatten(1) / 4
        middle = vectors.median(1, keepdim=True).values
        motion.append(float(middle.norm()))
        unsteady.append(float(((vectors - middle).norm(dim=0) > 2).float().mean()))
        residual.append(float((compensate([last], field).y - picture.y).abs().mean()))
        detail.append(float((picture.y - F.avg_pool2d(picture.y, 3, 1, 1, count_include_pad=False)).abs().mean()))
        blocks = F.pixel_unshuffle(picture.y, 8)
        flat.append(float((blocks.std(1) < 1).float().mean()))

    def mean(values: list[float]) -> float:
        return sum(values) / max(len(values), 1)

    return Content(mean(motion), mean(unsteady), max(residual, default=0.0), mean(detail), mean(flat))
