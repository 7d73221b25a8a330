"""What vectors are worth where compensation overlaps: the errors of whole windows, as they come out while all other vectors stay.

A block's vector predicts a window of twice the block's side, with weights that fall towards the window's border, and the vectors around
it predict the rest (overlapped block motion compensation; Orchard and Sullivan, IEEE Transactions on Image Processing 3(5), 1994).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from models.compiled.search import HALF
from models.picture import bordered
from models.warp import BLOCK, compensate_luma

if TYPE_CHECKING:
    from models.search import References

WINDOW = 2 * BLOCK


def _weights(places: Tensor, size: int) -> Tensor:
    """Along one axis, of the vectors of blocks at these places of `size`, in their windows, as parts of one: (n,) -> (n, window).

    Beyond the border there is no other vector, so that those at it have all the weight there.
    """
    sample = torch.arange(WINDOW, device=places.device)
    weights = (2 * torch.minimum(sample, WINDOW - 1 - sample) + 1) / WINDOW
    alone = ((places == 0)[:, None] & (sample < BLOCK)) | ((places == size - 1)[:, None] & (sample >= BLOCK))
    return torch.where(alone, 1.0, weights)


class Overlap:
    """The errors of a picture's prediction.

    Args:
        current: luma (B, 1, H, W).
        pictures: luma (B, 1, H, W) of 8 bits that vectors point to, the newest first.
        references: the same at all quarter-sample positions.
    """

    def __init__(self, current: Tensor, pictures: Sequence[Tensor], references: References):
        self.references, self.current = references, current
        self.pictures = [bordered(picture) for picture in pictures[: len(references)]]
        self.inside = self._framed(torch.ones_like(current[:1]))  # 1 where there are samples
        self.errors = torch.empty(0)

    def update(self, field: Tensor) -> None:
        """These are all vectors (B, 3, H/8, W/8) now."""
        self.errors = self._framed(self.current - compensate_luma(self.pictures, field))

    def variances(self, fields: Tensor, held: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Mean squared errors of the windows of blocks in these rows and columns (n,), each as if the others stayed, and how many samples they have.

        Args:
            fields: candidates for their vectors, (K, B, 3, 1, n).
            held: their vectors in the field, (B, 3, 1, n).

        Returns:
            (K, B, 1, n) and (1, n).
        """
        height, width = (size // BLOCK for size in self.current.shape[2:])
        weights = _weights(rows, height)[:, :, None] * _weights(columns, width)[:, None]
        side = torch.arange(WINDOW, device=fields.device)
        places = (rows.long()[:, None, None] * BLOCK + side[:, None]) * self.errors.shape[-1] + columns.long()[:, None, None] * BLOCK + side
        inside = self.inside.flatten()[places]  # (n, window, window)
        known = self._read(held[None], rows, columns)[0] * weights
        wanted = self.errors.flatten(1)[:, None, places] + known  # (B, 1, n, window, window): what these vectors are to predict
        count = inside.sum((-1, -2))
        squares = [((wanted - self._read(field[None], rows, columns)[0] * weights) * inside).square_().sum((-1, -2)) for field in fields]
        return torch.stack(squares) / count, count[None]

    def _read(self, fields: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        return self.references.windows(fields, BLOCK, rows, columns, HALF).float()

    @staticmethod
    def _framed(plane: Tensor) -> Tensor:
        """Half a block of zeros around it: (B, 1, H, W) -> (B, H + block, W + block)."""
        return F.pad(plane, (HALF,) * 4)[:, 0]
