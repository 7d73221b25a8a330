"""Videos that something has happened to, and what becomes of them: all that `nvc encode` does, but for the networks."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np

from nvc_cli.encode import LARGEST
from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame
from nvc_cli.report import Meter
from nvc_cli.stream import Header, Packet, StreamReader, StreamWriter
from nvc_cli.video import open_reader
from tests.fuzz.mutations import Part, delete, flip, insert, overwrite, refused, truncate

WIDTH, HEIGHT, FRAMES = 32, 16, 4
MOST = 16
"""Frames that are read of what may now claim to have any number."""

STATE = bytes.fromhex("0001020304050600")  # the smallest payload there is


def sources() -> dict[str, bytes]:
    """Small videos by their file names: y4m in some formats, raw, and containers with sound and subtitles."""
    made = {f"{tag}.y4m": _y4m(tag, size) for tag, size in (("420jpeg", 768), ("422p10", 2048), ("444alpha", 2048), ("mono16", 1024))}
    made[f"a_{WIDTH}x{HEIGHT}_25.yuv"] = np.random.default_rng(1).bytes(FRAMES * 768)
    made |= {name: _container(form, codec, times) for name, form, codec, times in _CONTAINERS}
    return made


_CONTAINERS = (
    ("even.mkv", "matroska", "ffv1", (0, 40, 80, 120)),
    ("uneven.mkv", "matroska", "libx264", (0, 40, 50, 500)),
    ("even.mp4", "mp4", "libx264", (0, 40, 80, 120)),
    ("even.avi", "avi", "mpeg4", (0, 1, 2, 3)),
)


def _y4m(tag: str, size: int) -> bytes:
    noise = np.random.default_rng(1)
    return f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C{tag} XCOLORRANGE=FULL\n".encode() + b"".join(b"FRAME\n" + noise.bytes(size) for _ in range(FRAMES))


def _container(form: str, codec: str, times: tuple[int, ...]) -> bytes:
    """One with pictures at these times in milliseconds, or in frames of an .avi, a track of sound, and one of subtitles where that can be."""
    import av

    file = io.BytesIO()
    tick = Fraction(1, 25) if form == "avi" else Fraction(1, 1000)
    with av.open(file, "w", format=form, options={"fflags": "+bitexact"}) as container:
        video = container.add_stream(codec, rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.time_base = video.codec_context.time_base = tick
        video.codec_context.thread_count = 1
        sound = container.add_stream("aac" if form == "mp4" else "pcm_s16le", rate=8000, layout="mono")
        sound.metadata["language"], sound.metadata["title"] = "deu", "Ton"
        for number, time in enumerate(times):
            picture = av.VideoFrame.from_ndarray(np.random.default_rng(number).integers(0, 255, (3 * HEIGHT // 2, WIDTH), np.uint8), format="yuv420p")
            picture.pts, picture.time_base = time, tick
            container.mux(video.encode(picture))
        piece = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32 if form == "mp4" else np.int16), "fltp" if form == "mp4" else "s16", "mono")
        piece.rate, piece.pts, piece.time_base = 8000, 0, Fraction(1, 8000)
        container.mux(sound.encode(piece))
        for stream in (video, sound):
            container.mux(stream.encode(None))
    return file.getvalue()


# ---- what can happen ------------------------------------------------------------------------------


def _anywhere(change: Callable[[Random, list[Part]], bytes]) -> Callable[[Random, bytes], bytes]:
    def mutate(random: Random, data: bytes) -> bytes:
        return change(random, [Part("source", data)])

    mutate.__name__ = change.__name__
    return mutate


def in_front(random: Random, data: bytes) -> bytes:
    """Other bytes in the first 600, where containers say what they hold."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 2, 4, 16))):
        changed[random.randrange(min(600, len(changed)))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))
    return bytes(changed)


def reword(random: Random, data: bytes) -> bytes:
    """Another number or word in the first line, where y4m says what it holds."""
    line, end, rest = data[:200].partition(b"\n")
    words = list(re.finditer(rb"\d+|[A-Za-z]+|:", line))
    if not end or not words:
        return in_front(random, data)
    word = random.choice(words)
    other = random.choice((b"0", b"-1", b"1", b"65535", b"65536", b"9" * 20, b"9" * 400, b"1_0", b" ", b"", b":", b"\xff", b"\xd9\xa3", b"1e3", b"C", b"mono9", b"444p16"))
    return line[: word.start()] + other + line[word.end() :] + end + rest + data[200:]


MUTATIONS = (*map(_anywhere, (flip, overwrite, truncate, insert, delete)), in_front, reword)


def mutated(seed: int, videos: dict[str, bytes]) -> tuple[str, str, bytes]:
    """The name of a file, what happened to it, and what it holds now."""
    random = Random(seed)
    name, change = random.choice(sorted(videos)), random.choice(MUTATIONS)
    return name, change.__name__, change(random, videos[name])


# ---- what comes of it -----------------------------------------------------------------------------


def outcome(path: Path) -> str:
    """What becomes of a video: "read" or "refused".

    Raises:
        AssertionError: pictures are not as they were announced, the stream of them is none, or a message is not one line.
    """
    file = io.BytesIO()
    try:
        with open_reader(str(path), frames=MOST, tracks=True) as video:
            info = video.info
            if max(info.width, info.height) > LARGEST:
                return "refused"
            header = Header(info.width, info.height, info.fps, info.color, info.sar, info.source_format, "tiny", bytes(8), info.orientation, info.tick, video.tracks)
            meter = Meter(info, info.frames, "encoding")
            with StreamWriter(file, header) as stream:
                for frame in islice(video, MOST):
                    if [plane.shape for plane in frame.planes] != [(info.height, info.width), info.chroma_shape, info.chroma_shape]:
                        raise AssertionError(f"a picture of {frame.y.shape} in a video of {info.width}x{info.height}")
                    for sample in video.beside(stream.frames, frame.time):
                        stream.write_sample(sample)
                    meter.count(stream.write(_packet(stream.frames, frame)))
                for sample in video.rest():
                    stream.write_sample(sample)
            meter.summary(stream.size)
    except NvcError as error:
        return refused(error)
    reader = StreamReader(io.BytesIO(file.getvalue()), "x")
    if (reader.header, sum(1 for _ in reader)) != (header, stream.frames):
        raise AssertionError("the stream is not the one that was written")
    return "read"


def _packet(number: int, frame: Frame) -> Packet:
    return Packet(not number, 0, False, False, False, STATE, 0, frame.time)
