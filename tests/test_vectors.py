"""Conformance streams: what they decode to is written down, for this decoder and for any other.

`tests/vectors` holds small streams of the shipped model tiny, one for each tool, and `hashes.json`: for each stream the
hash of its weights, and of each decoded picture the SHA-256 of its samples, luma, then U, then V. New weights need new
streams: `python -m pytest tests/test_vectors.py --regenerate` writes them.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from models.cycle import rate_point
from models.entropy import SymbolEncoder
from models.compiled.pictures import distortion, padded
from models.compiled.search import Search
from models.vectors import REFERENCES
from models.weights import EncoderModel, load_encoder
from nvc_cli.arrays import EncodingInLoops
from nvc_cli.decoder import Decoder
from nvc_cli.frame import Color, Frame, Orientation
from nvc_cli.stream import Header, Packet, StreamReader, StreamWriter, open_stream, picture_checksum
from nvc_cli.tracks import Sample, Track

FOLDER = Path(__file__).parent / "vectors"
HASHES = FOLDER / "hashes.json"


def noise(rows: np.ndarray, columns: np.ndarray, plane: int) -> np.ndarray:
    """An integer from 0 to 255 for every place; int64 arithmetic that never overflows."""
    mixed = (rows * 7919 + columns * 104729 + plane * 1299709 + 12345) % 2147483647
    for factor in (48271, 69621):
        mixed = mixed * factor % 2147483647
    return mixed >> 12 & 255


def smooth(rows: np.ndarray, columns: np.ndarray, plane: int) -> np.ndarray:
    """Noise on every fourth place, bilinear in between."""
    (r, y), (c, x) = divmod(rows, 4), divmod(columns, 4)
    corners = (noise(r + i, c + j, plane) * (y if i else 4 - y) * (x if j else 4 - x) for i in (0, 1) for j in (0, 1))
    return sum(corners) // 16


def scene(width: int, height: int, t: int, speed: tuple[int, int]) -> Frame:
    """A gradient and a texture that move by `speed` (down, right) a frame, and a box that moves the other way."""
    planes = []
    for plane in range(3):
        step = 2 if plane else 1
        rows, columns = np.mgrid[0 : -(-height // step), 0 : -(-width // step)] * step
        r, c = rows - speed[0] * t + 1000, columns - speed[1] * t + 1000
        value = 40 + (2 * r + 3 * c + 50 * plane) % 256 // 2 + smooth(r // step, c // step, plane) // 3
        top, left = height // 4 - t * speed[0] // 2, width // 3 - t * speed[1] // 2
        box = (rows >= top) & (rows < top + 16) & (columns >= left) & (columns < left + 20)
        value[box] = (220, 90, 170)[plane] - (5 * (rows - top) + 3 * (columns - left))[box] % 40
        planes.append(value.clip(0, 255).astype(np.uint8))
    return Frame(*planes)


def hard(width: int, height: int, t: int, speed: tuple[int, int]) -> Frame:
    """Black and white samples without order: symbols are large, and pictures are clipped."""
    places = (np.mgrid[0 : -(-height // step), 0 : -(-width // step)] for step in (1, 2, 2))
    return Frame(*((noise(rows + 50 * t, columns, plane) // 128 * 255).astype(np.uint8) for plane, (rows, columns) in enumerate(places)))


def blinking(width: int, height: int, t: int, speed: tuple[int, int]) -> Frame:
    """The scene, its negative, and the scene upside down take turns, so that older pictures predict best."""
    frame = scene(width, height, t, speed)
    return Frame(*((plane, 255 - plane, plane[::-1].copy())[t % 3] for plane in frame.planes))


@dataclass(frozen=True)
class Vector:
    """How one stream is made."""

    width: int = 64
    height: int = 48
    frames: int = 3
    qp: float = 2
    keyframes: tuple[int, ...] = (0,)
    filtered: tuple[int, ...] = ()  # frames with the in-loop filter
    refreshed: tuple[int, ...] = ()
    enhanced: tuple[int, ...] = ()  # frames whose packets flag the out-of-loop filter, which changes no picture
    speed: tuple[int, int] = (1, -2)
    wild: bool = False  # vectors of any length in any direction, instead of sought ones
    times: tuple[int, ...] = ()  # in ticks of 1/90000 s, instead of a constant rate
    turned: Orientation = Orientation()
    tracks: tuple[Track, ...] = ()  # each with a sample before every frame, and after the last
    content: Callable[[int, int, int, tuple[int, int]], Frame] = scene


VECTORS = {
    "keyframe": Vector(frames=1),
    "unfiltered": Vector(frames=4),
    "filtered": Vector(frames=4, filtered=(1, 2, 3)),
    "switched": Vector(frames=4, filtered=(2,), keyframes=(0, 3), enhanced=(0, 2)),
    "refresh": Vector(frames=4, filtered=(3,), refreshed=(2,)),
    "odd": Vector(67, 45, filtered=(1,), refreshed=(2,)),
    "smallest": Vector(16, 16, filtered=(2,)),
    "best": Vector(frames=2, qp=0, filtered=(1,)),
    "worst": Vector(96, 64, qp=7, filtered=(1, 2)),
    "motion": Vector(96, 64, qp=4, filtered=(1,), speed=(9, 21)),
    "wild": Vector(96, 64, frames=4, qp=3, filtered=(2,), wild=True),
    "references": Vector(frames=12, qp=5, keyframes=(0, 11), content=blinking),
    "flat": Vector(64, 16, filtered=(1,), wild=True),
    "narrow": Vector(16, 130, frames=2, filtered=(1,), wild=True),
    "variable": Vector(32, 32, frames=4, keyframes=(0, 2), filtered=(1,), times=(0, 3003, 3004, 900000), turned=Orientation(1, True)),
    "tracks": Vector(32, 32, keyframes=(0, 2), tracks=(Track("audio", "pcm_u8", Fraction(1, 8000), b"\xff\0"), Track("subtitle", "text", Fraction(1), b""))),
    "hard": Vector(32, 32, frames=2, qp=0, filtered=(1,), content=hard),
}


def wild_vectors(like: np.ndarray, t: int) -> np.ndarray:
    """Vectors of up to 32 samples, one in four of them of up to 512, half of them to older pictures, that exist or not; a third alike."""
    height, width = like.shape[1:]
    part, rows, columns = np.mgrid[:2, :height, :width]
    short = noise(rows, columns, 10 * t + part) - 128
    far = np.where(noise(rows, columns, 10 * t + 5) < 64, 16, 1)
    age = np.maximum(noise(rows, columns, 10 * t + 6)[:1] % (2 * REFERENCES) - REFERENCES, 0)
    vectors = np.concatenate([short * far, age])
    alike = noise(rows, columns, 10 * t + 7)[0] < 85
    vectors[:, alike] = np.array([[-20], [33], [1]])
    return vectors.astype(like.dtype)


def make(vector: Vector, model: EncoderModel) -> tuple[bytes, list[Frame]]:
    """A stream, and its pictures."""
    codec, networks, search, state, pictures = model.codec, EncodingInLoops(model.codec), Search(32), None, []
    file = io.BytesIO()
    header = Header(
        vector.width, vector.height, Fraction(25), Color(), Fraction(1), "yuv420p", model.name, model.hash,
        vector.turned, Fraction(1, 90000) if vector.times else None, vector.tracks,
    )  # fmt: skip
    with StreamWriter(file, header) as stream:
        for t in range(vector.frames):
            source, coder = networks.source(vector.content(vector.width, vector.height, t, vector.speed)), SymbolEncoder()
            keyframe, filtered, refresh = (t in places for places in (vector.keyframes, vector.filtered, vector.refreshed))
            rate = rate_point(8 * vector.qp, t - max(k for k in vector.keyframes if k <= t))
            if keyframe:
                state = codec.encode_keyframe(source, rate, coder)
            else:
                sought = search(source.y, [past.luma for past in state.pictures], state.vectors, rate)
                vectors = wild_vectors(sought, t) if vector.wild else sought
                state = codec.encode_frame(source, state, rate, vectors, refresh, coder).finish(filtered)
            pictures.append(networks.shown(state, vector.width, vector.height))
            checksum = picture_checksum(pictures[-1])
            write_samples(stream, vector, t)
            time = vector.times[t] if vector.times else None
            stream.write(Packet(keyframe, rate, filtered, refresh, t in vector.enhanced, coder.finish(), checksum, time))
        write_samples(stream, vector, vector.frames)
    return file.getvalue(), pictures


def write_samples(stream: StreamWriter, vector: Vector, t: int) -> None:
    for number, track in enumerate(vector.tracks):
        stream.write_sample(Sample(number, round((t - 1) / 25 / track.tick), t, t % 2 == 0, bytes(range(t))))


def digest(frame: Frame) -> str:
    return hashlib.sha256(b"".join(plane.tobytes() for plane in frame.planes)).hexdigest()


def decoded(name: str, model: EncoderModel) -> Iterator[tuple[Packet, Frame]]:
    """The pictures of a stream, by the decoder of the product."""
    with open_stream(str(FOLDER / f"{name}.nvc")) as stream:
        decoder = Decoder(stream.header, model, name=name)
        for packet in stream:
            yield packet, *decoder.decode(packet)


@pytest.fixture(scope="module")
def model() -> EncoderModel:
    return load_encoder("tiny")


@pytest.fixture(scope="module")
def hashes(model: EncoderModel, request: pytest.FixtureRequest) -> dict[str, dict]:
    """What is written down; with --regenerate, it is written first."""
    if request.config.getoption("--regenerate"):
        FOLDER.mkdir(exist_ok=True)
        entries = {}
        for name, vector in VECTORS.items():
            data, pictures = make(vector, model)
            (FOLDER / f"{name}.nvc").write_bytes(data)
            entries[name] = {"weights": model.hash.hex(), "frames": [digest(picture) for picture in pictures]}
        for path in FOLDER.glob("*.nvc"):
            if path.stem not in VECTORS:
                path.unlink()
        HASHES.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return json.loads(HASHES.read_text(encoding="utf-8"))


def test_every_stream_is_written_down(hashes: dict[str, dict]) -> None:
    assert hashes.keys() == VECTORS.keys() == {path.stem for path in FOLDER.glob("*.nvc")}


def test_the_streams_are_of_the_shipped_weights(hashes: dict[str, dict], model: EncoderModel) -> None:
    assert {entry["weights"] for entry in hashes.values()} == {model.hash.hex()}, "make them anew: python -m pytest tests/test_vectors.py --regenerate"


@pytest.mark.parametrize("name", VECTORS)
def test_pictures(name: str, hashes: dict[str, dict], model: EncoderModel) -> None:
    assert [digest(frame) for _, frame in decoded(name, model)] == hashes[name]["frames"]


@pytest.mark.parametrize("name", VECTORS)
def test_flags_and_size(name: str, hashes: dict[str, dict]) -> None:
    """Each stream uses the tools that it is there for."""
    vector = VECTORS[name]
    with (FOLDER / f"{name}.nvc").open("rb") as file:
        reader = StreamReader(file, name)
        packets = list(reader)
    assert (reader.header.width, reader.header.height, len(packets)) == (vector.width, vector.height, vector.frames)
    assert (reader.header.orientation, reader.header.tracks) == (vector.turned, vector.tracks)
    assert tuple(packet.time for packet in packets) == (vector.times or (None,) * vector.frames)
    for flag, places in (("keyframe", vector.keyframes), ("filtered", vector.filtered), ("refresh", vector.refreshed), ("enhance_last", vector.enhanced)):
        assert tuple(t for t, packet in enumerate(packets) if getattr(packet, flag)) == places
    assert reader.size < 12000


def test_pictures_resemble_their_source(hashes: dict[str, dict], model: EncoderModel) -> None:
    """The streams are ones that an encoder could have written, not noise that happens to decode."""
    for t, (_, frame) in enumerate(decoded("unfiltered", model)):
        source = scene(64, 48, t, VECTORS["unfiltered"].speed)
        flat = Frame(*(np.full_like(plane, round(plane.mean())) for plane in source.planes))
        ours, plain = (distortion(padded(other.planes), padded(source.planes)) for other in (frame, flat))
        assert ours < plain / 5


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_does_not_matter(threads: int, hashes: dict[str, dict], model: EncoderModel) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert [digest(frame) for _, frame in decoded("motion", model)] == hashes["motion"]["frames"]
    finally:
        torch.set_num_threads(before)
