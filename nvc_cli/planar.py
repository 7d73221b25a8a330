"""Uncompressed video: raw 4:2:0 planes (.yuv) and YUV4MPEG2 (.y4m). Read and written strictly forward."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO, cast

import numpy as np

from nvc_cli.errors import NvcError
from nvc_cli.frame import MAX_SIDE, Color, Frame, VideoInfo, blank

DEFAULT_FPS = Fraction(25)  # what ffmpeg assumes for a source that does not say

_Y4M_MAGIC = b"YUV4MPEG2"
_MAX_LINE = 4096  # bytes; a longer header line means that this is something else
_SUBSAMPLING = {"420": (2, 2), "422": (2, 1), "444": (1, 1), "411": (4, 1)}


# ---- raw ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RawName:
    """What the name of a raw file says about its content: foreman_352x288_30.yuv."""

    size: tuple[int, int] | None
    fps: Fraction | None
    bits: int


def parse_raw_name(name: str) -> RawName:
    """Find WxH, the frame rate after it, and a bit depth such as "10bit" in a file name."""
    match = re.search(r"(?<!\d)(\d{1,5})x(\d{1,5})(?!\d)(?:[_@-](\d{1,3}(?:\.\d+)?)(?!\d|-?bit))?", name, re.IGNORECASE)
    bits = re.search(r"(?<!\d)(9|10|12|14|16)[-_]?bit", name, re.IGNORECASE)
    return RawName(
        size=(int(match[1]), int(match[2])) if match else None,
        fps=_rate(match[3]) if match and match[3] else None,
        bits=int(bits[1]) if bits else 8,
    )


def _rate(text: str) -> Fraction | None:
    """Frames per second; 29.97 and its kin become the broadcast rates that they stand for (30000/1001)."""
    rate = Fraction(text)
    broadcast = Fraction(round(rate) * 1000, 1001)
    if rate.denominator != 1 and abs(rate - broadcast) < Fraction(1, 100):
        return broadcast
    return rate or None


def read_raw(file: BinaryIO, name: str, info: VideoInfo) -> Iterator[Frame]:
    """Yield frames until the file ends. Raises NvcError at a frame that is cut off, after all whole ones."""
    index = 0
    while True:
        frame, flat = blank(info)
        got = _read_into(file, flat)
        if got == 0:
            return
        if got < flat.nbytes:
            raise _cut_off(name, index)
        yield frame
        index += 1


def write_planes(file: BinaryIO, frame: Frame) -> None:
    """Append the three planes without padding."""
    for plane in frame.planes:
        file.write(np.ascontiguousarray(plane).data)


# ---- YUV4MPEG2 ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Y4mHeader:
    """The first line of a y4m stream. `fps` is None where it is not given; `format` is ffmpeg's name of the pixels."""

    width: int
    height: int
    fps: Fraction | None
    sar: Fraction
    full_range: bool
    format: str

    def info(self, fps: Fraction) -> VideoInfo:
        color = Color(full_range=self.full_range)
        return VideoInfo(self.width, self.height, fps, None, color, self.sar, self.format)


def read_y4m_header(file: BinaryIO, name: str) -> Y4mHeader:
    """Read the first line. Raises NvcError if it is not one of y4m, or says something that cannot be read."""
    line = file.readline(_MAX_LINE)
    if not line:
        raise NvcError(f"{name} is empty; nothing to read")
    if not line.startswith(_Y4M_MAGIC + b" ") or not line.endswith(b"\n"):
        raise NvcError(f"{name} is not a y4m stream: it does not begin with {_Y4M_MAGIC.decode()}; "
                       "for raw 4:2:0 video give its size")
    fields: dict[str, str] = {}
    for token in line.decode("ascii", "replace").split()[1:]:
        key = "XCOLORRANGE" if token.startswith("XCOLORRANGE=") else token[0]
        fields.setdefault(key, token[len(key):])
    try:
        width, height = int(fields["W"]), int(fields["H"])
        fps, sar = _ratio(fields.get("F", "0:0")), _ratio(fields.get("A", "0:0"))
    except (KeyError, ValueError):
        raise NvcError(f"{name} has a damaged y4m header ({_shown(line)}); write the file anew") from None
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise NvcError(f"{name} says that its pictures are {width}x{height}, which is out of range; write the file anew")
    full_range = fields.get("XCOLORRANGE") == "=FULL"
    return Y4mHeader(width, height, fps, sar or Fraction(1), full_range, _y4m_format(fields.get("C", "420jpeg"), name))


def read_y4m(file: BinaryIO, name: str, info: VideoInfo) -> Iterator[Frame]:
    """Yield the frames after the header. Raises NvcError at a damaged or cut off frame, after all whole ones before it.

    Pixels that are not 8-bit 4:2:0 are converted.
    """
    index = 0
    while line := file.readline(_MAX_LINE):
        if not line.endswith(b"\n"):
            raise _cut_off(name, index)
        if line.rstrip() != b"FRAME" and not line.startswith(b"FRAME "):
            raise NvcError(f"{name} is damaged, frame {index} does not begin with FRAME; {remedy(index)}")
        yield _read_y4m_frame(file, name, info, index)
        index += 1


def write_y4m_header(file: BinaryIO, info: VideoInfo) -> None:
    color_range = "FULL" if info.color.full_range else "LIMITED"
    fps, sar = info.fps, info.sar
    file.write(f"{_Y4M_MAGIC.decode()} W{info.width} H{info.height} F{fps.numerator}:{fps.denominator} Ip "
               f"A{sar.numerator}:{sar.denominator} C420jpeg XCOLORRANGE={color_range}\n".encode())


def write_y4m_frame(file: BinaryIO, frame: Frame) -> None:
    file.write(b"FRAME\n")
    write_planes(file, frame)


def frame_count(info: VideoInfo, body_bytes: int) -> int | None:
    """Frames in a y4m body of this many bytes; None unless it is whole frames with bare FRAME lines."""
    count, rest = divmod(body_bytes, len(b"FRAME\n") + sum(rows * row for rows, row in _planes(info)))
    return None if rest else count


def _read_y4m_frame(file: BinaryIO, name: str, info: VideoInfo, index: int) -> Frame:
    if info.source_format == "yuv420p":
        frame, flat = blank(info)
        if _read_into(file, flat) < flat.nbytes:
            raise _cut_off(name, index)
        return frame
    planes = []
    for rows, row_bytes in _planes(info):
        plane = np.empty((rows, row_bytes), np.uint8)
        if _read_into(file, plane.reshape(-1)) < plane.nbytes:
            raise _cut_off(name, index)
        planes.append(plane)
    from nvc_cli.pixels import from_planes

    return from_planes(planes, info)


def _y4m_format(tag: str, name: str) -> str:
    """ffmpeg's name of the pixel format that a y4m header calls C<tag>."""
    if re.fullmatch(r"420(jpeg|mpeg2|paldv)", tag):
        return "yuv420p"
    if tag in ("411", "444alpha"):
        return {"411": "yuv411p", "444alpha": "yuva444p"}[tag]
    match = re.fullmatch(r"(420|422|444|mono)(?:p?(9|10|12|14|16))?", tag)
    if not match:
        raise NvcError(f"{name} holds pixels of the kind C{tag}, which is unknown here; convert it, for example "
                       "with ffmpeg -i IN -pix_fmt yuv420p OUT.y4m")
    pixels = "gray" if match[1] == "mono" else f"yuv{match[1]}p"
    return f"{pixels}{match[2]}le" if match[2] else pixels


def _planes(info: VideoInfo) -> list[tuple[int, int]]:
    """(rows, bytes in a row) of each plane of a frame in the source's own format."""
    match = re.fullmatch(r"(?:gray|yuv(a?)(\d{3})p)(\d+)?(?:le)?", info.source_format)
    assert match  # `_y4m_format` makes no others
    sample_bytes = 2 if match[3] else 1
    luma = (info.height, info.width * sample_bytes)
    if not match[2]:
        return [luma]
    across, down = _SUBSAMPLING[match[2]]
    chroma = (-(-info.height // down), -(-info.width // across) * sample_bytes)
    return [luma, chroma, chroma] + [luma] * bool(match[1])


def _ratio(text: str) -> Fraction | None:
    """A "30000:1001"; None where a part is zero, which means unknown."""
    numerator, denominator = (int(part) for part in text.split(":"))
    if numerator < 0 or denominator < 0:
        raise ValueError(text)
    return Fraction(numerator, denominator) if numerator and denominator else None


# ---- both ---------------------------------------------------------------------------------------


def _read_into(file: BinaryIO, flat: np.ndarray) -> int:
    """Fill a flat array from a file or a pipe; returns the bytes got, fewer than asked only at the end."""
    view = memoryview(flat.data)
    got = 0
    while got < len(view):
        count = cast(io.BufferedIOBase, file).readinto(view[got:])
        if not count:
            break
        got += count
    return got


def _cut_off(name: str, index: int) -> NvcError:
    return NvcError(f"{name} ends in the middle of frame {index} (counted from 0); {remedy(index)}")


def remedy(good: int) -> str:
    """What to do about a source of which only the first `good` frames are whole."""
    return f"use --frames {good} to take the whole ones, or copy it again" if good else "copy it again"


def _shown(line: bytes) -> str:
    return repr(line.decode("ascii", "replace").strip())
