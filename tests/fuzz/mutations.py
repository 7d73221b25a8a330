"""Streams that something has happened to, and what a decoder makes of them.

A mutation is drawn from a seed, so that a stream that makes trouble can be made again. Some repair the CRCs behind them, as whoever
wants to do harm would: then what is wrong reaches the parsers behind the CRCs, the entropy decoder and the networks.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random


from models.weights import DecoderModel
from nvc_cli.decoder import Decoder
from nvc_cli.errors import NvcError
from nvc_cli.fields import varint
from nvc_cli.frame import Frame
from nvc_cli.index import END_MARKER, MARK
from nvc_cli.player import Player
from nvc_cli.salvage import Salvager
from nvc_cli.stream import StreamReader
from nvc_cli.tracks import DESCRIPTION, SAMPLE

VECTORS = Path(__file__).parent.parent / "vectors"
SEEDS = ("keyframe", "smallest", "narrow", "switched", "tracks", "variable", "refresh")
"""Small streams, one with tracks, one with times."""

MAX_PIXELS = 1 << 16


@dataclass(frozen=True)
class Part:
    """A unit of a stream."""

    kind: str  # header, track, sample, packet, end
    data: bytes

    def resealed(self, change: Callable[[bytearray], None]) -> Part:
        """With its body changed, and the CRC-32 that fits."""
        body = bytearray(self.data[:-4])
        change(body)
        return Part(self.kind, bytes(body) + zlib.crc32(body).to_bytes(4, "little"))


def parts(data: bytes) -> list[Part]:
    """The units of a whole stream."""
    place = 5 + data[4] + 4
    found = [Part("header", data[:place])]
    while data[place] != MARK[0]:
        begin, head = place, data[place]
        length, place = _length(data, place + 1)
        place += length + (4 if head in (DESCRIPTION, SAMPLE) else 6)
        kind = {DESCRIPTION: "track", SAMPLE: "sample"}.get(head, "packet")
        found.append(Part(kind, data[begin:place]))
    return [*found, Part("end", data[place:])]


def _length(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place


# ---- what can happen ------------------------------------------------------------------------------


def _flipped(random: Random, data: bytearray, first: int = 0) -> None:
    for _ in range(random.choice((1, 1, 2, 8))):
        data[random.randrange(min(first, len(data) - 1), len(data))] ^= 1 << random.randrange(8)


def flip(random: Random, units: list[Part]) -> bytes:
    data = bytearray(_joined(units))
    _flipped(random, data)
    return bytes(data)


def overwrite(random: Random, units: list[Part]) -> bytes:
    data = bytearray(_joined(units))
    first = random.randrange(len(data))
    size = min(random.choice((1, 4, 32, 256)), len(data) - first)
    data[first : first + size] = random.choice((bytes(size), b"\xff" * size, random.randbytes(size)))
    return bytes(data)


def truncate(random: Random, units: list[Part]) -> bytes:
    data = _joined(units)
    return data[: random.randrange(len(data))]


def insert(random: Random, units: list[Part]) -> bytes:
    data = _joined(units)
    place, size = random.randrange(len(data)), random.choice((1, 3, 40, 4000))
    return data[:place] + random.choice((bytes(size), random.randbytes(size), data[:size])) + data[place:]


def delete(random: Random, units: list[Part]) -> bytes:
    data = _joined(units)
    place = random.randrange(len(data))
    return data[:place] + data[place + random.choice((1, 2, 7, 100)) :]


def rearrange(random: Random, units: list[Part]) -> bytes:
    """Units that are missing, come twice, or change places."""
    units = list(units)
    one, other = random.randrange(len(units)), random.randrange(len(units))
    match random.randrange(3):
        case 0:
            del units[one]
        case 1:
            units.insert(other, units[one])
        case _:
            units[one], units[other] = units[other], units[one]
    return _joined(units)


def lie(random: Random, units: list[Part]) -> bytes:
    """A length that is not true."""
    place = random.randrange(1, len(units) - 1)
    unit = units[place]
    _, after = _length(unit.data, 1)
    length = random.choice((0, 1, random.randrange(1 << 14), random.randrange(1 << 28), (1 << 28) - 1, (1 << 63) - 1))
    return _joined(units, place, Part(unit.kind, unit.data[:1] + varint(length) + unit.data[after:]))


def enlarge(random: Random, units: list[Part]) -> bytes:
    """Another size in a header that is otherwise right."""
    header = units[0].data
    _, place = _length(header, 5)
    _, place = _length(header, place)
    sides = [random.choice((1, 15, 16, 17, 255, 256, 8192, 16384, 16385, 1 << 40)) for _ in range(2)]
    body = b"".join(map(varint, sides)) + header[place:-4]
    if len(body) > 255:
        return _joined(units)
    front = header[:4] + bytes([len(body)]) + body
    return _joined(units, 0, Part("header", front + zlib.crc32(front).to_bytes(4, "little")))


def alter_header(random: Random, units: list[Part]) -> bytes:
    return _joined(units, 0, units[0].resealed(lambda body: _flipped(random, body, 5)))


def alter_unit(random: Random, units: list[Part]) -> bytes:
    """Flips in a unit whose CRC fits again: in its head, its length, its times, its payload or its checksum."""
    place = random.randrange(1, len(units) - 1)
    return _joined(units, place, units[place].resealed(lambda body: _flipped(random, body)))


def alter_payload(random: Random, units: list[Part]) -> bytes:
    """Flips in a picture's payload, whose CRC fits again."""
    place = random.choice([k for k, unit in enumerate(units) if unit.kind == "packet"])
    _, first = _length(units[place].data, 1)

    def change(body: bytearray) -> None:
        _flipped(random, body, first)

    return _joined(units, place, units[place].resealed(change))


def alter_end(random: Random, units: list[Part]) -> bytes:
    """Flips in the index."""
    data = bytearray(units[-1].data)
    _flipped(random, data)
    return _joined(units, len(units) - 1, Part("end", bytes(data)))


def alter_index(random: Random, units: list[Part]) -> bytes:
    """Flips in the index, whose CRC fits again."""
    end = Part("end", units[-1].data[:-1]).resealed(lambda body: _flipped(random, body, 1))
    return _joined(units, len(units) - 1, Part("end", end.data + END_MARKER))


MUTATIONS = (flip, overwrite, truncate, insert, delete, rearrange, lie, enlarge, alter_header, alter_unit, alter_payload, alter_end, alter_index)


def _joined(units: list[Part], place: int | None = None, instead: Part | None = None) -> bytes:
    return b"".join(instead.data if instead and k == place else unit.data for k, unit in enumerate(units))


def mutated(seed: int, streams: dict[str, list[Part]]) -> tuple[str, str, bytes]:
    """The name of a stream, what happened to it, and what it is now."""
    random = Random(seed)
    name, change = random.choice(sorted(streams)), random.choice(MUTATIONS)
    return name, change.__name__, change(random, streams[name])


# ---- what comes of it -----------------------------------------------------------------------------


class Quiet:
    """In place of a meter."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @contextmanager
    def frame(self) -> Iterator[None]:
        yield

    def count(self, size: int) -> None: ...

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


Pictures = list[bytes]


def samples(frame: Frame) -> bytes:
    return b"".join(plane.tobytes() for plane in frame.planes)


def decoded(data: bytes, model: DecoderModel) -> Pictures:
    """All pictures. Raises NvcError."""
    reader = StreamReader(io.BytesIO(data), "x")
    decoder = Decoder(reader.header, model, name="x", max_pixels=MAX_PIXELS)
    return [samples(frame) for packet in reader for frame in decoder.decode(packet)]


def refused(error: NvcError, given: Sequence[bytes] = (), truth: Sequence[bytes] = ()) -> str:
    """ "refused".

    Raises:
        AssertionError: the reason is not one line, or a picture was wrong that was given out before.
    """
    if "\n" in str(error):
        raise AssertionError(f"not one sentence: {error}") from error
    if any(picture not in truth for picture in given):
        raise AssertionError("a wrong picture was given out before the fault was found")
    return "refused"


def outcome(data: bytes, truth: Pictures, model: DecoderModel) -> str:
    """What becomes of a stream: "right" or "refused", and never a picture that is wrong.

    Raises:
        AssertionError: pictures are wrong, and nobody says so.
    """
    given: Pictures = []
    try:
        reader = StreamReader(io.BytesIO(data), "x")
        decoder = Decoder(reader.header, model, name="x", max_pixels=MAX_PIXELS)
        for packet in reader:
            given += [samples(frame) for frame in decoder.decode(packet)]
    except NvcError as error:
        return refused(error, given, truth)
    if given != truth:
        raise AssertionError(f"{len(given)} pictures are not the {len(truth)} true ones")
    return "right"


def salvaged(data: bytes, truth: Pictures, model: DecoderModel) -> str:
    """The same with --resilient: lost frames show an older picture, or grey, and are told of."""
    meter = Quiet()
    try:
        reader = Salvager(io.BytesIO(data), "x")
        player = Player(reader, Decoder(reader.header, model, name="x", max_pixels=MAX_PIXELS), meter, resilient=True)  # type: ignore[arg-type]
        given = [samples(frame) for frame in player]
    except NvcError:
        return "refused"
    if player.lost or player.fault or meter.notes:
        grey = {bytes([picture[0]]) * len(picture) for picture in given[:1]}
        if any(picture not in truth and picture not in grey for picture in given):
            raise AssertionError("a wrong picture was shown")
        return "salvaged"
    if given != truth:
        raise AssertionError(f"{len(given)} pictures are not the {len(truth)} true ones, and nobody says so")
    return "right"
