"""What a video is made of: colour tags, the description of the whole, and one picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from models.presets import aligned

if TYPE_CHECKING:
    from av import VideoFrame

UNSPECIFIED = 2  # in each of the three tables of H.273
MAX_SIDE = 65535


@dataclass(frozen=True)
class Color:
    """Colour tags by the code numbers of ITU-T H.273; 2 is "unspecified"."""

    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    matrix: int = UNSPECIFIED
    full_range: bool = False


BT709 = Color(1, 1, 1)
"""What RGB pictures become."""


@dataclass(frozen=True)
class Orientation:
    """How a player shows pictures: turned counter-clockwise by so many quarters of a turn, and then mirrored left to right if need be."""

    quarters: int = 0  # 0 to 3
    mirrored: bool = False


@dataclass(frozen=True)
class VideoInfo:
    """A video as a whole. `width` and `height` are in luma pixels, `frames` is None where nobody knows before the end.

    `sar` is the shape of a pixel (1 if unknown); `source_format` names the pixel format that the source was stored in,
    in the vocabulary of ffmpeg. `tick` is the unit in seconds of the frames' times where their distance varies, None where
    there are `fps` of them in every second; then `fps` is their mean rate.
    """

    width: int
    height: int
    fps: Fraction
    frames: int | None = None
    color: Color = Color()
    sar: Fraction = Fraction(1)
    source_format: str = "yuv420p"
    orientation: Orientation = Orientation()
    tick: Fraction | None = None

    @property
    def chroma_shape(self) -> tuple[int, int]:
        """(rows, columns) of each chroma plane: half of luma, rounded up."""
        return (self.height + 1) // 2, (self.width + 1) // 2

    @property
    def frame_bytes(self) -> int:
        """Bytes of one 8-bit 4:2:0 frame without padding."""
        rows, columns = self.chroma_shape
        return self.width * self.height + 2 * rows * columns


@dataclass(frozen=True, eq=False)
class Frame:
    """One 8-bit 4:2:0 picture: `y` (H, W), `u` and `v` (ceil(H/2), ceil(W/2)), uint8 arrays.

    `time` is when it is shown, in ticks after the first, where the distance of frames varies.
    """

    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    time: int | None = None

    @property
    def planes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.y, self.u, self.v

    @property
    def coded_samples(self) -> int:
        """Of luma, with those that pad it to an aligned size."""
        return math.prod(map(aligned, self.y.shape))

    @staticmethod
    def of(picture: Frame | np.ndarray[Any, Any] | VideoFrame) -> Frame:
        """A frame of what may be one: a uint8 array (H, W, 3) of red, green and blue, which becomes BT.709, or (H, W) of grey in full
        range; or a picture of PyAV in any format, which keeps its range and matrix.

        Raises:
            ValueError: it is none of these.
        """
        from nvc_cli.pixels import to_frame

        return picture if isinstance(picture, Frame) else to_frame(picture)

    def rgb(self, color: Color = BT709) -> np.ndarray[Any, Any]:
        """Red, green and blue, uint8 (H, W, 3), by the colour tags of its video."""
        return self.av(color).to_ndarray(format="rgb24")

    def av(self, color: Color = BT709) -> VideoFrame:
        """A picture of PyAV, in yuv420p with these tags."""
        from nvc_cli.pixels import to_av

        return to_av(self, VideoInfo(self.y.shape[1], self.y.shape[0], Fraction(1), color=color))


def blank(info: VideoInfo) -> tuple[Frame, np.ndarray]:
    """A frame of undefined content, and the one flat array (frame_bytes,) that its three planes are views of, in order."""
    flat = np.empty(info.frame_bytes, np.uint8)
    luma = info.width * info.height
    u, v = flat[luma:].reshape(2, *info.chroma_shape)
    return Frame(flat[:luma].reshape(info.height, info.width), u, v), flat
