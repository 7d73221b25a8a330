"""Make the sample clip from three CC0 photographs: a hand-held pan over a cafe table on which two things slide.

    pip install av numpy pillow scikit-image pooch
    python examples/make_clip.py examples/clip/table_352x288_30.mkv

Everything lives in the pixel coordinates of the table photograph ("world"). A camera pose maps screen to world, an
object's pose maps world to the object's own picture, and each frame is the mean over an open shutter of pictures
sampled at twice the resolution. The same command gives the same pictures every time.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 352, 288
FPS = 30
FRAMES = 33
OVERSAMPLING = 2  # in each direction
SHUTTER = 0.5  # of the frame's duration
SHUTTER_SAMPLES = 4
NOISE = 1.2  # standard deviation of the sensor noise in 8-bit steps
CRF = "9"

Matrix = np.ndarray  # (3, 3), homogeneous coordinates of the plane


def pose(x: float, y: float, degrees: float, scale: float) -> Matrix:
    """Scale, then turn, then move: from a thing's own coordinates to those of its surroundings."""
    cos, sin = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    return np.array([[cos, -sin, x], [sin, cos, y], [0, 0, 1]])


@dataclass(frozen=True)
class Sliding:
    """A flat object on the table: its picture (RGBA, premultiplied), where it starts and how it moves in a second."""

    picture: Image.Image
    start: tuple[float, float, float]  # world x, y of its centre and its angle in degrees
    velocity: tuple[float, float, float]
    scale: float  # world pixels per pixel of the picture
    friction: float  # share of the velocity lost in a second

    def to_world(self, seconds: float) -> Matrix:
        travelled = seconds - self.friction * seconds**2 / 2
        x, y, degrees = (s + v * travelled for s, v in zip(self.start, self.velocity, strict=True))
        centred = np.array([[1, 0, -self.picture.width / 2], [0, 1, -self.picture.height / 2], [0, 0, 1]])
        return pose(x, y, degrees, self.scale) @ centred


def camera(seconds: float) -> Matrix:
    """From screen to world: a pan to the right that eases in, a slow zoom out, and an unsteady hand."""
    turn = 2 * np.pi * seconds
    x = 262 + 55 * seconds**1.3 + 1.6 * np.sin(1.7 * turn) + 0.7 * np.sin(4.1 * turn + 1)
    y = 206 - 14 * seconds + 1.3 * np.sin(2.3 * turn + 2) + 0.6 * np.sin(5.3 * turn)
    degrees = -1.5 + 2.5 * seconds + 0.35 * np.sin(1.3 * turn + 0.5)
    centred = np.array([[1, 0, -WIDTH / 2], [0, 1, -HEIGHT / 2], [0, 0, 1]])
    return pose(x, y, degrees, 1.06 + 0.06 * seconds) @ centred


def photographs() -> tuple[Image.Image, Image.Image, Image.Image]:
    """The table, the cat and the stones, as RGB."""
    from skimage import data

    return tuple(Image.fromarray(f()).convert("RGB") for f in (data.coffee, data.chelsea, data.gravel))


def photo_print(photograph: Image.Image) -> Image.Image:
    """A paper print with a white margin."""
    margin = 14
    paper = Image.new("RGB", (photograph.width + 2 * margin, photograph.height + 2 * margin), (236, 232, 224))
    paper.paste(photograph, (margin, margin))
    return cut_out(paper, Image.new("L", paper.size, 255))


def coaster(texture: Image.Image) -> Image.Image:
    """A round coaster with a rim, tinted like sandstone."""
    grey = np.asarray(texture.crop((60, 60, 420, 420)).convert("L"), np.float32)
    tinted = np.clip(grey[..., None] * np.array([1.12, 1.0, 0.82], np.float32), 0, 255).astype(np.uint8)
    picture = Image.fromarray(tinted)
    ImageDraw.Draw(picture).ellipse((2, 2, 357, 357), outline=(70, 58, 44), width=12)
    mask = Image.new("L", picture.size, 0)
    ImageDraw.Draw(mask).ellipse((2, 2, 357, 357), fill=255)
    return cut_out(picture, mask)


def cut_out(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """RGBA with premultiplied colour and a transparent border, so that edges are sampled smoothly."""
    border = 40
    size = (picture.width + 2 * border, picture.height + 2 * border)
    result = Image.new("RGBA", size, (0, 0, 0, 0))
    result.paste(picture, (border, border), mask)
    return result


def with_mask(picture: Image.Image, mask: Image.Image) -> Image.Image:
    picture.putalpha(mask)
    return picture


def shadow_of(picture: Image.Image) -> Image.Image:
    """The object's soft shadow: black, with an alpha channel."""
    alpha = picture.getchannel("A").filter(ImageFilter.GaussianBlur(9)).point(lambda a: a * 0.45)
    return with_mask(Image.new("RGBA", picture.size, (0, 0, 0, 0)), alpha)


def sample(picture: Image.Image, screen_to_picture: Matrix) -> np.ndarray:
    """What the oversampled screen sees of `picture`: (H', W', channels) float32, 0..255."""
    size = (WIDTH * OVERSAMPLING, HEIGHT * OVERSAMPLING)
    to_screen = np.diag([1 / OVERSAMPLING, 1 / OVERSAMPLING, 1])
    coefficients = (screen_to_picture @ to_screen)[:2].ravel().tolist()
    seen = picture.transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(seen, np.float32)


def over(below: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Put a premultiplied RGBA layer over an RGB picture."""
    return layer[..., :3] + below * (1 - layer[..., 3:] / 255)


def instant(table: Image.Image, things: list[tuple[Sliding, Image.Image]], seconds: float) -> np.ndarray:
    """The scene at one moment: (H, W, 3) float32."""
    view = camera(seconds)
    scene = sample(table, view)
    for thing, shadow in things:
        to_world = thing.to_world(seconds)
        fallen = pose(4, 5, 0, 1) @ to_world
        scene = over(scene, sample(shadow, np.linalg.inv(fallen) @ view))
        scene = over(scene, sample(thing.picture, np.linalg.inv(to_world) @ view))
    return scene.reshape(HEIGHT, OVERSAMPLING, WIDTH, OVERSAMPLING, 3).mean(axis=(1, 3))


def film() -> Iterator[np.ndarray]:
    """The frames: (H, W, 3) float32 RGB, noise included."""
    table, cat, stones = photographs()
    slides = [
        Sliding(coaster(stones), start=(455, 352, 0), velocity=(-75, -22, 55), scale=0.3, friction=0.5),
        Sliding(photo_print(cat), start=(96, 300, -14), velocity=(105, 24, 17), scale=0.36, friction=0.6),
    ]
    things = [(s, shadow_of(s.picture)) for s in slides]
    noise = np.random.default_rng(7)
    for i in range(FRAMES):
        moments = [(i + SHUTTER * k / SHUTTER_SAMPLES) / FPS for k in range(SHUTTER_SAMPLES)]
        exposed = np.mean([instant(table, things, t) for t in moments], axis=0)
        yield exposed + noise.normal(0, NOISE, exposed.shape)


def to_yuv420(rgb: np.ndarray) -> list[np.ndarray]:
    """BT.601, limited range, chroma at the left of each luma pair: planes (H, W), (H/2, W/2), (H/2, W/2) uint8."""
    r, g, b = np.moveaxis(np.clip(rgb, 0, 255) / 255, -1, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    u, v = (b - y) / 1.772, (r - y) / 1.402
    planes = [16 + 219 * y, *(128 + 224 * halve(c) for c in (u, v))]
    return [np.rint(p).astype(np.uint8) for p in planes]


def halve(plane: np.ndarray) -> np.ndarray:
    padded = np.pad(plane, ((0, 0), (1, 0)), mode="edge")
    across = (padded[:, :-1:2] + 2 * padded[:, 1::2] + np.pad(plane, ((0, 0), (0, 1)), mode="edge")[:, 1::2]) / 4
    return (across[::2] + across[1::2]) / 2


def write(target: str) -> None:
    """Encode the film visually losslessly, tagged as BT.601 video."""
    with av.open(target, "w") as file:
        options = {"crf": CRF, "preset": "veryslow", "tune": "grain"}
        stream = file.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        context = stream.codec_context
        context.time_base = Fraction(1, FPS)
        context.color_primaries = context.color_trc = context.colorspace = 6  # SMPTE 170M
        context.color_range = 1  # limited
        for i, rgb in enumerate(film()):
            samples = np.concatenate([plane.ravel() for plane in to_yuv420(rgb)])
            picture = av.VideoFrame.from_ndarray(samples.reshape(-1, WIDTH), format="yuv420p")
            picture.pts = i
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", help="the file to write, for example table_352x288_30.mkv")
    write(parser.parse_args().target)
