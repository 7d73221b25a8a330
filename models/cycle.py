"""The quality cycle: how the rate points of frames lie around the one that the user asked for.

Some frames get more bits, and the frames after them profit. Encoder and training follow the same cycle; a decoder
reads every frame's rate point from the stream.
"""

from models.presets import RATES

CYCLE = (-4, 2, -1, 2)
"""Offsets over P-frames, the first after a keyframe first, in eighths of a qp."""

KEYFRAME = -12
"""A keyframe is usually one and a half qp better than the frames that follow, which all profit from it."""


def rate_point(base: float, since: int, swing: float = 1.0, keyframe: int = KEYFRAME) -> int:
    """The rate point of a frame, 0 to 63.

    Args:
        base: rate point that was asked for.
        since: frames since the keyframe; 0 is the keyframe itself.
        swing: how far the cycle swings; 0 keeps all frames at `base`.
        keyframe: the offset of the keyframe.
    """
    offset = CYCLE[(since - 1) % len(CYCLE)] if since else keyframe
    return min(max(round(base + swing * offset), 0), RATES - 1)
