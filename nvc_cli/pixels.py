"""Pictures of PyAV to and from 8-bit 4:2:0 planes. Whatever is converted keeps its range and its colour matrix; only RGB,
which has no matrix, becomes BT.709 in limited range."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from nvc_cli.frame import Color, Frame, Orientation, VideoInfo, blank

if TYPE_CHECKING:
    import av

NATIVE_FORMATS = ("yuv420p", "yuvj420p")

_BT709 = 1
_LIMITED, _FULL = 1, 2  # AVColorRange


def color_of(picture: av.VideoFrame) -> Color:
    """Colour tags that hold for what `from_av` makes of this picture."""
    primaries, transfer = int(picture.color_primaries), int(picture.color_trc)
    if _is_rgb(picture):
        return Color(primaries, transfer, _BT709, full_range=False)
    return Color(primaries, transfer, int(picture.colorspace), _is_full_range(picture))


def orientation_of(picture: av.VideoFrame) -> Orientation | None:
    """How players should show a picture; None if it is to be turned by something else than quarters of a turn.

    Its display matrix is that of ISO/IEC 14496-12, (a, b, u; c, d, v; x, y, w): what is at (x, y) goes to (a·x + c·y, b·x + d·y).
    """
    from av.sidedata.sidedata import Type

    matrix = cast(Any, picture.side_data).get(Type.DISPLAYMATRIX)
    if matrix is None:
        return Orientation()
    a, b, _, c, d, *_ = np.frombuffer(matrix, np.int32).astype(float) / 65536
    for mirrored in (False, True):
        for quarters, (cos, sin) in enumerate(((1, 0), (0, 1), (-1, 0), (0, -1))):
            flip = -1 if mirrored else 1
            if np.allclose((a, b, c, d), (flip * cos, -sin, flip * sin, cos), atol=1e-3):
                return Orientation(quarters, mirrored)
    return None


def from_av(picture: av.VideoFrame, info: VideoInfo) -> Frame:
    """Copy a decoded picture of any pixel format into 8-bit 4:2:0. Exact if it holds such pixels already."""
    frame, _ = blank(info)
    if picture.format.name.startswith("gray"):
        if picture.format.name != "gray":
            picture = picture.reformat(format="gray")
        np.copyto(frame.y, _array(picture, 0))
        frame.u.fill(128)
        frame.v.fill(128)
        return frame
    if picture.format.name not in NATIVE_FORMATS:
        picture = _subsampled(picture)
    for index, plane in enumerate(frame.planes):
        np.copyto(plane, _array(picture, index))
    return frame


def to_frame(picture: np.ndarray | av.VideoFrame) -> Frame:
    """A picture of PyAV, or an array (H, W, 3) of RGB or (H, W) of grey, as a frame. Raises ValueError if it is neither."""
    import av

    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3) or 0 in picture.shape:
            raise ValueError(f"an array {picture.shape} of {picture.dtype} is no picture; give uint8 (H, W, 3) for RGB, or (H, W) for grey")
        picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24" if picture.ndim == 3 else "gray")
    if not isinstance(picture, av.VideoFrame):
        raise ValueError(f"a {type(picture).__name__} is no picture; give a NumPy array or a VideoFrame of PyAV")
    return from_av(picture, VideoInfo(picture.width, picture.height, Fraction(1)))


def to_av(frame: Frame, info: VideoInfo) -> av.VideoFrame:
    """Copy a frame into a tagged yuv420p picture for an encoder."""
    picture = _empty(info, "yuv420p")
    for index, plane in enumerate(frame.planes):
        np.copyto(_array(picture, index), plane)
    return picture


def from_planes(planes: list[np.ndarray], info: VideoInfo) -> Frame:
    """Convert unpadded planes (rows, bytes in a row) of the format `info.source_format` to 8-bit 4:2:0."""
    picture = _empty(info, info.source_format)
    for index, plane in enumerate(planes):
        padded = np.frombuffer(cast(Any, picture.planes[index]), np.uint8).reshape(-1, picture.planes[index].line_size)
        padded[: plane.shape[0], : plane.shape[1]] = plane
    return from_av(picture, info)


def _empty(info: VideoInfo, pixel_format: str) -> av.VideoFrame:
    import av

    picture = av.VideoFrame(info.width, info.height, pixel_format)
    picture.color_primaries = info.color.primaries
    picture.color_trc = info.color.transfer
    picture.colorspace = info.color.matrix
    picture.color_range = _FULL if info.color.full_range else _LIMITED
    return picture


def _array(picture: av.VideoFrame, index: int) -> np.ndarray:
    """An 8-bit plane as a view (rows, columns) without its padding."""
    plane = picture.planes[index]
    padded = np.frombuffer(cast(Any, plane), np.uint8).reshape(-1, plane.line_size)
    return padded[: plane.height, : plane.width]


def _subsampled(picture: av.VideoFrame) -> av.VideoFrame:
    own_range = _FULL if _is_full_range(picture) else _LIMITED
    rgb = _is_rgb(picture)
    return picture.reformat(
        format="yuv420p",
        dst_colorspace=_BT709 if rgb else None,
        src_color_range=_FULL if rgb else own_range,
        dst_color_range=_LIMITED if rgb else own_range,
        interpolation=_scaler(),
        threads=1,
    )


def _scaler() -> int:
    """Bicubic, and the same bits on every machine."""
    from av.video.reformatter import Interpolation

    return Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.BITEXACT


def _is_rgb(picture: av.VideoFrame) -> bool:
    return picture.format.is_rgb or picture.format.has_palette


def _is_full_range(picture: av.VideoFrame) -> bool:
    return int(picture.color_range) == _FULL or picture.format.name.startswith("yuvj")
