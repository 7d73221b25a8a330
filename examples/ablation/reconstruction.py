"""What filtering the reconstruction inside the loop could bring at best: kernels solved against the source, whose bits are not counted.

As in the adaptive loop filter of ITU-T H.266 (8.8.5) samples fall into classes by the activity around them, and every class of a
picture gets the symmetric kernel with the least squared error. No stream can hold such pictures for free, so this is a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from models.codec import State, Unfiltered
    from models.picture import Planes

CLASSES, STEP = 4, 128
"""Classes of luma samples; kernels are multiples of 1 / STEP."""


@dataclass(frozen=True)
class Bound:
    """A clip coded at one qp with solved kernels in the loop."""

    clip: str
    qp: float
    bytes: int  # without those of kernels
    psnr: list[float]  # dB


def solved(plane: Tensor, source: Tensor, ring: tuple[tuple[int, int], ...], classes: int) -> Tensor:
    """A plane (1, 1, H, W) plus, for every class of samples, the differences to its neighbours with the best weights."""
    import torch
    from torch.nn import functional as F

    from models.filters import REACH

    height, width = plane.shape[2:]
    wide = F.pad(plane, (REACH, REACH, REACH, REACH), mode="replicate")

    def neighbour(down: int, right: int) -> Tensor:
        return wide[..., REACH + down : REACH + down + height, REACH + right : REACH + right + width]

    pairs = [neighbour(down, right) + neighbour(-down, -right) - 2 * plane for down, right in ring]
    activity = F.avg_pool2d(pairs[0].abs() + pairs[1].abs(), 4)
    limits = torch.quantile(activity.flatten(), torch.linspace(0, 1, classes + 1)[1:-1]) if classes > 1 else ()
    kind = F.interpolate(sum(((activity > limit).float() for limit in limits), torch.zeros_like(activity)), size=(height, width)).flatten()
    terms, error = torch.stack([pair.flatten() for pair in pairs], 1), (source - plane).flatten()
    change = torch.zeros_like(error)
    for k in range(classes):
        members = kind == k
        own = terms[members].double()
        square = own.T @ own + 1e-3 * torch.eye(len(ring), dtype=torch.float64)
        weights = torch.linalg.solve(square, own.T @ error[members].double())
        change[members] = terms[members] @ ((weights * STEP).round() / STEP).float()
    return plane + change.view_as(plane)


@dataclass(frozen=True)
class Solved:
    """A P-frame whose reconstruction is filtered, its context not."""

    unfiltered: Unfiltered
    source: Planes

    def finish(self, filtered: bool) -> State:
        from models.filters import CHROMA_RING, LUMA_RING
        from models.picture import Planes

        state, source = self.unfiltered.finish(False), self.source
        if not filtered:
            return state
        y = solved(state.picture.y, source.y, LUMA_RING, CLASSES)
        u, v = (solved(plane, goal, CHROMA_RING, 1) for plane, goal in ((state.picture.u, source.u), (state.picture.v, source.v)))
        return self.unfiltered.before.after(Planes(y, u, v).rounded(), state.context, state.vectors)


class Solving:
    """A codec whose P-frames end with solved kernels."""

    def __init__(self, codec: Any):
        self.codec = codec

    def __getattr__(self, name: str) -> Any:
        return getattr(self.codec, name)

    def encode_frame(self, picture: Planes, *arguments: Any) -> Solved:
        return Solved(self.codec.encode_frame(picture, *arguments), picture)


def solve(clip: str, name: str, qp: float, frames: int, model: str) -> Bound:
    """Encode the first frames of a clip, with solved kernels where they bring a picture closer to its source."""
    import torch
    from coding import encode, opened

    from models.weights import load
    from nvc_cli.decision import Heuristic
    from nvc_cli.encoder import Encoder
    from nvc_cli.metrics import frame_psnr
    from nvc_cli.tensors import EncodingInTorch

    torch.set_num_threads(1)
    weights = load(model)
    encoder = Encoder(weights, qp, 0, Heuristic())
    encoder.networks = EncodingInTorch(Solving(weights.codec), torch.device("cpu"))
    encoder.search = encoder.networks.search(encoder.effort)
    header, source = opened(clip, frames, weights)
    data, coded = encode(encoder, header, source)
    return Bound(name, qp, len(data), [frame_psnr(a, b.picture).yuv for a, b in zip(source, coded)])
