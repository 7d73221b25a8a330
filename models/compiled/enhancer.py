"""The out-of-loop filter F_out from its parameters, with the motion search that it needs; in PyTorch it is `models.filters.Enhancer`. Not normative."""

import numpy as np

from models.arrays import Array
from models.compiled import pictures
from models.compiled.pictures import Picture
from models.compiled.rough import Parameters, Stack
from models.compiled.search import Search
from models.plan import QUICK
from models.presets import LAMBDA_RATIO, PICTURE, RATES, Preset
from models.stages import staged

LUMA_RING = ((0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0))
CHROMA_RING = LUMA_RING[:4]
"""Neighbours of a sample that a kernel weighs, rows down and columns to the right; each stands for the one opposite as well."""

RINGS = tuple(np.array(ring) for ring in (LUMA_RING, CHROMA_RING, CHROMA_RING))

CHANGE_LIMIT = 1 / 8
"""Of what the next picture differs by, no more than this is believed: 32 grey levels."""

REACH = 32
"""Luma samples that the motion search looks around."""


class Enhancer:
    """F_out.

    Raises:
        Misfit: the parameters are not of such a network.
    """

    def __init__(self, given: Parameters, preset: Preset):
        width = preset.enhancer
        self.enter = given.layer("enhancer.enter", 3 * PICTURE + preset.context, width)
        self.stack = Stack(given, "enhancer.stack", width, preset.enhancer_blocks)
        self.leave, self.trust = (given.layer(f"enhancer.{name}", width, PICTURE) for name in ("leave", "trust"))
        self.kernels = given.layer("enhancer.kernels", width, sum(map(len, RINGS)))
        self.limit = given.gains("enhancer.limit", 2)

    @staged("enhancement")
    def __call__(self, picture: Picture, context: Array, following: Picture, rate: int, following_rate: int) -> Picture:
        """A decoded picture enhanced, by its context c̃ (H/8, W/8, C) and the next decoded picture, at their rate points; neither clamped nor rounded."""
        features, change = pictures.features(picture), pictures.features(moved(following, picture, rate))
        change -= features
        better = np.float32((following_rate - rate) / 8)
        x = self.stack(self.enter(features, context, 4 * change, 4 * change * better), rate)
        luma, chroma = map(float, self.limit[rate])
        size = LAMBDA_RATIO ** ((rate - RATES) / 32)  # corrections are as large as the errors
        return pictures.enhanced(picture, (features, self.leave(x), self.trust(x), change), self.kernels(x), RINGS, size, CHANGE_LIMIT, (luma, chroma, chroma))


def moved(following: Picture, picture: Picture, rate: int) -> Picture:
    """A decoded picture moved to where the content of the one before is, as a decoder can find out for itself; not rounded."""
    still = np.zeros((3, *(size // 8 for size in picture.y.shape)), np.int32)
    return pictures.compensate([following.bordered], Search(REACH, QUICK, 1)(picture.y, [following.luma], still, rate))
