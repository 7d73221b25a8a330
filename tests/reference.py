"""A decoder of .nvc streams, written from nvc_cli/stream.md alone: slow, in integers only, with the names of that document."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from math import gcd
from pathlib import Path
from zlib import crc32

import numpy as np
from safetensors.numpy import load_file

# Every fractional number is an int64 in units of 2^-UNIT. Stream tensors, multiples of 2^-12, are multiples of 2^STREAM in these
# units. All that the decoding process keeps exact is a multiple of a unit: the finest are Narrow's results (fractions up to UNIT,
# which `load_weights` checks) and the features of a motion-compensated picture, multiples of 2^-22.
UNIT = 24
STREAM = UNIT - 12
ONE = 1 << UNIT
LARGEST = 127 * 256 + 127  # the largest integer of a stream tensor

LAST_SCALE, FIRST_FLAG, BYTE = 63, 64, 128  # tables: of values 0 to 63, of flags 64 to 127, of bytes 128

LUMA_TAPS = np.array([
    [0, 0, 0, 64, 0, 0, 0, 0],
    [-1, 4, -10, 58, 17, -5, 1, 0],
    [-1, 4, -11, 40, 40, -11, 4, -1],
    [0, 1, -5, 17, 58, -10, 4, -1],
])  # (phases, taps)
CHROMA_TAPS = np.array([
    [0, 64, 0, 0], [-2, 58, 10, -2], [-4, 54, 16, -2], [-6, 46, 28, -4],
    [-4, 36, 36, -4], [-4, 28, 46, -6], [-2, 16, 54, -4], [-2, 10, 58, -2],
])  # (phases, taps)


# The stream


class Truncated(ValueError):
    """The data end too soon."""


class Reader:
    """Takes fields from the front of some bytes."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def take(self, size: int) -> bytes:
        self.position += size
        if self.position > len(self.data):
            raise Truncated("The data end in the middle of a field.")
        return self.data[self.position - size : self.position]

    def unsigned(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def varint(self, low: int, high: int) -> int:
        value, shift = 0, 0
        while (byte := self.unsigned(1)) & 128 and shift < 28:  # no field has more than 31 bits
            value, shift = value | (byte & 127) << shift, shift + 7
        value |= byte << shift
        if byte & 128 or (byte == 0 and shift > 0) or not low <= value <= high:
            raise ValueError("A number is outside its limits, or not in its shortest form.")
        return value

    def name(self, longest: int) -> str:
        text = self.take(self.unsigned(1))
        if not 1 <= len(text) <= longest or not all(0x20 <= byte <= 0x7E for byte in text):
            raise ValueError("A name is too long, empty, or not of printable ASCII characters.")
        return text.decode("ascii")


@dataclass
class Header:
    """What decoding needs of the header."""

    width: int
    height: int
    timed: bool  # frames have times of their own
    model: str
    weights_hash: bytes


def read_header(reader: Reader) -> Header:
    """The header, at the start of the reader's data."""
    if reader.data[:3] != b"NVC":
        raise ValueError("This is not an nvc stream.")
    reader.take(3)
    if (version := reader.unsigned(1)) != 10:
        raise ValueError(f"This is a stream of version {version}, which is for another program.")
    body = Reader(reader.take(reader.unsigned(1)))
    end = reader.position
    if reader.unsigned(4) != crc32(reader.data[:end]):
        raise ValueError("The header is damaged.")
    try:
        width, height = body.varint(1, 16384), body.varint(1, 16384)
        ratios = [(body.varint(1, 2**31 - 1), body.varint(1, 2**31 - 1)) for _ in ("rate", "aspect")]
        *_, full_range, orientation = body.take(5)  # primaries, transfer, matrix, range, orientation
        ratios.append((body.varint(0, 2**31 - 1), body.varint(1, 2**31 - 1)))
        tracks = body.unsigned(1)
        body.name(32)  # source format
        header = Header(width, height, ratios[-1] != (0, 1), body.name(64), body.take(8))
        limits = full_range > 1 or orientation > 7 or tracks > 64
        if any(gcd(*ratio) != 1 for ratio in ratios) or limits or body.position != len(body.data):
            raise ValueError("A field is outside its limits, or bytes are left over.")
    except ValueError as error:
        raise ValueError(f"Unknown header data: {error}") from None
    for _ in range(tracks):
        skip(reader, 0xF0)
    return header


def skip(reader: Reader, mark: int) -> None:
    """A track's description or sample, which has no meaning for pictures."""
    start = reader.position
    if reader.unsigned(1) != mark:
        raise ValueError("There is no track where one should be.")
    reader.take(reader.varint(0, 2**28 - 1))
    end = reader.position
    if reader.unsigned(4) != crc32(reader.data[start:end]):
        raise ValueError("A track is damaged.")


@dataclass
class Packet:
    """What decoding needs of one packet."""

    keyframe: bool
    rate: int
    payload: bytes
    checksum: int


Place = tuple[int, bool, bytes]
"""Of a packet: its offset, whether it is a keyframe, and its CRC-32."""


def index(places: list[Place]) -> bytes:
    """The index of packets."""
    body, last = leb128(len(places)) + leb128(sum(keyframe for _, keyframe, _ in places)), (0, 0)
    for frame, (offset, keyframe, crc) in enumerate(places):
        if keyframe:
            body += leb128(frame - last[0]) + leb128(offset - last[1]) + crc
            last = frame, offset
    data = b"\xFE" + leb128(len(body)) + body
    data += (len(data) + 8).to_bytes(4, "little")
    return data + crc32(data).to_bytes(4, "little")


def leb128(value: int) -> bytes:
    """A varint."""
    return bytes([value]) if value < 128 else bytes([value % 128 + 128]) + leb128(value // 128)


def read_packet(reader: Reader, timed: bool, places: list[Place]) -> Packet | None:
    """The packet after those at these places, which its own is added to; None at the end."""
    place, number = reader.position, len(places)
    try:
        while reader.data[reader.position : reader.position + 1] == b"\xF1":
            skip(reader, 0xF1)
        start = reader.position
        head = reader.unsigned(1)
        if head == 0xFE:
            rest = index(places)[1:] + b"\xFF"
            if reader.take(len(rest)) != rest or reader.position < len(reader.data):
                raise ValueError("It is not there, but neither is the end of the stream.")
            return None
        if head > 127 or not (number or head & 64):
            raise ValueError("Its head is not legal.")
        packet = Packet(bool(head & 64), head & 63, reader.take(reader.varint(0, 2**28 - 1)), reader.unsigned(2))
        end = reader.position
        if reader.unsigned(4) != crc32(reader.data[start:end]):
            raise ValueError("Its CRC-32 is wrong.")
    except Truncated:
        raise ValueError(f"The stream is truncated at frame {number}.") from None
    except ValueError as error:
        raise ValueError(f"Frame {number} is damaged. {error}") from None
    places.append((place, packet.keyframe, reader.data[end : end + 4]))
    if timed:
        packet.payload = without_time(packet.payload)
    return packet


def without_time(payload: bytes) -> bytes:
    """What comes after a varint."""
    while payload[:1] and payload[0] & 128:
        payload = payload[1:]
    return payload[1:]


# Payload


def load_tables(path: Path) -> list[list[int]]:
    """The cumulative frequencies of each table."""
    with np.load(path) as file:
        return [part.tolist() for part in np.split(file["cumulative"], np.cumsum(file["lengths"])[:-1])]


class Symbols:
    """The symbols of one payload."""

    def __init__(self, payload: bytes, tables: list[list[int]]) -> None:
        absent = -len(payload) % 4
        self.reader, self.tables = Reader(payload[: 8 - absent] + bytes(absent) + payload[8 - absent :]), tables
        self.state = self.reader.unsigned(8)
        if not 1 << 31 <= self.state < 1 << 63:
            raise ValueError("A payload begins with an impossible state.")

    def symbol(self, table: int) -> int:
        """The number of the next symbol."""
        return self.number(self.tables[table])

    def flag(self, counts: list[int]) -> bool:
        """The next flag, given how often it was 0 and 1; counts it."""
        flag = self.number([0, 65536 - (2 * counts[1] + 1) * 65536 // (2 * sum(counts) + 2), 65536])
        counts[flag] += 1
        if sum(counts) == 64:
            counts[:] = counts[0] // 2, counts[1] // 2
        return bool(flag)

    def number(self, cumulative: list[int]) -> int:
        """The number of the next symbol, whose intervals begin at these frequencies."""
        low = self.state % 65536
        number = bisect_right(cumulative, low) - 1
        self.state = (cumulative[number + 1] - cumulative[number]) * (self.state // 65536) + low - cumulative[number]
        if self.state < 1 << 31:
            self.state = self.state << 32 | self.reader.unsigned(4)
        return number

    def group(self, tables: np.ndarray) -> np.ndarray:
        """A group of symbols: the values, in the shape of `tables`, which has the table of each."""
        values, escapes = [], []
        for place, table in enumerate(tables.ravel().tolist()):
            reach = (len(self.tables[table]) - 4) // 2 if table <= LAST_SCALE else 0
            number = self.symbol(table)
            if table <= LAST_SCALE and number == 2 * reach + 1:
                escapes.append(place)
            values.append(number - reach)
        for place in escapes:
            low, high = self.symbol(BYTE), self.symbol(BYTE)
            values[place] = (low | high << 8) - ((high & 128) << 9)
        return np.array(values, np.int64).reshape(tables.shape)


# Arithmetic


def round_shift(x: np.ndarray, bits: np.ndarray | int) -> np.ndarray:
    """x · 2^-bits, rounded to the nearest integer, ties to the even one."""
    x, bits = x << np.maximum(-np.asarray(bits), 0), np.maximum(bits, 0)
    floor, whole = x >> bits, np.int64(1) << bits
    twice = 2 * (x - (floor << bits))
    return floor + ((twice > whole) | ((twice == whole) & (floor % 2 == 1)))


def significant(s: np.ndarray) -> np.ndarray:
    """Integers rounded to 24 significant bits, ties to the even one."""
    surplus = np.searchsorted(1 << np.arange(24, 62), np.abs(s), side="right")  # bits beyond the 24th
    return round_shift(s, surplus) << surplus


def to_grid(x: np.ndarray) -> np.ndarray:
    """R: the nearest multiples of 2^-12."""
    return round_shift(x, STREAM) << STREAM


def to_stream(x: np.ndarray) -> np.ndarray:
    """S(x)."""
    return np.clip(round_shift(x, STREAM), -LARGEST, LARGEST) << STREAM


def convolve(weight: np.ndarray, a: np.ndarray) -> np.ndarray:
    """weight (outputs, inputs, k, k), a (inputs, rows, columns) -> sums (outputs, rows, columns); k = 2 halves rows and columns."""
    k = weight.shape[-1]
    if k == 3:  # depth-wise, centred
        rows, columns = a.shape[1:]
        a = np.pad(a, ((0, 0), (1, 1), (1, 1)))
        return sum(weight[:, 0, i, j, None, None] * a[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3))
    return sum(np.tensordot(weight[:, :, i, j], a[:, i::k, j::k], 1) for i in range(k) for j in range(k))


def up(x: np.ndarray) -> np.ndarray:
    """(4C, rows, columns) -> (C, 2 · rows, 2 · columns)."""
    return depth_to_space(x, 2)


def depth_to_space(x: np.ndarray, n: int) -> np.ndarray:
    """(n²C, rows, columns) -> (C, n · rows, n · columns): channel n²c + ni + j goes to places (nr + i, nq + j) of channel c."""
    channels, rows, columns = x.shape
    return x.reshape(-1, n, n, rows, columns).transpose(0, 3, 1, 4, 2).reshape(channels // n**2, n * rows, n * columns)


def space_to_depth(x: np.ndarray, n: int) -> np.ndarray:
    """(C, n · rows, n · columns) -> (n²C, rows, columns): the inverse of `depth_to_space`."""
    channels, rows, columns = x.shape
    return x.reshape(channels, rows // n, n, columns // n, n).transpose(0, 2, 4, 1, 3).reshape(-1, rows // n, columns // n)


@cache
def mantissas() -> np.ndarray:
    """m(i) = round(128 · 2^(i / 128)) for i from 0 to 127: the n with (2n − 1)^128 < 2^(1024 + i) < (2n + 1)^128."""
    return np.array([next(n for n in range(128, 257) if (2 * n + 1) ** 128 > 1 << (1024 + i)) for i in range(128)])


# Layers


def load_weights(path: Path, weights_hash: bytes) -> dict[str, np.ndarray]:
    """LAYER.NAME -> its integers, of a model that must have this weights hash."""
    prefix = "integers."
    weights = {name[len(prefix) :]: tensor for name, tensor in load_file(path).items() if name.startswith(prefix)}
    digest = sha256()
    for name in sorted(weights):
        digest.update(name.encode("ascii") + b"\0" + weights[name].astype("<i4").tobytes())
    if digest.digest()[:8] != weights_hash:
        raise ValueError(f"The weights in {path} are not those that the stream was made with.")
    if any(tensor.max() > UNIT for name, tensor in weights.items() if name.endswith(".fraction")):
        raise ValueError(f"The weights in {path} have fractions beyond the {UNIT} bits of this decoder.")
    return {name: tensor.astype(np.int64) for name, tensor in weights.items()}


@dataclass
class Network:
    """The layers of the document, for the rate point of one packet."""

    weights: dict[str, np.ndarray]
    rate: int

    def per_channel(self, name: str) -> np.ndarray:
        return self.weights[name][:, None, None]  # (channels, 1, 1)

    def narrow(self, layer: str, x: np.ndarray, relu: bool = False) -> np.ndarray:
        a = round_shift(x, UNIT + self.per_channel(f"{layer}.reads"))
        low = 0 if relu else -128
        sums = convolve(self.weights[f"{layer}.weight"], np.clip(a, low, low + 255))
        return sums + self.per_channel(f"{layer}.bias") << UNIT - self.per_channel(f"{layer}.fraction")

    def wide(self, layer: str, x: np.ndarray) -> np.ndarray:
        weight, x = self.weights[f"{layer}.weight"], x >> STREAM
        u, h = weight + 64 >> 7, x + 128 >> 8
        total = significant(convolve(u, x) + 2 * convolve(weight - 128 * u, h))
        result = round_shift(total, self.per_channel(f"{layer}.fraction") - 7) + self.per_channel(f"{layer}.bias")
        return np.clip(result, -LARGEST, LARGEST) << STREAM

    def table(self, layer: str) -> np.ndarray:
        """The integers n of Table(LAYER), (channels, 1, 1); the values are n / 64."""
        k, f = divmod(self.rate, 8)
        knots = self.weights[f"{layer}.knots"]  # (9, channels)
        return (knots[k] * (8 - f) + knots[k + 1] * f + 4 >> 3)[:, None, None]

    def gained(self, layer: str, x: np.ndarray, fraction: int) -> np.ndarray:
        """round(2^fraction · x · g), with the factors g of Gain(LAYER)."""
        n = self.table(layer)
        return round_shift(x * mantissas()[n % 128], UNIT - fraction + 7 - n // 128)

    def scaled(self, layer: str, x: np.ndarray) -> np.ndarray:
        return np.clip(self.gained(layer, x, 12), -LARGEST, LARGEST) << STREAM

    def block(self, layer: str, x: np.ndarray) -> np.ndarray:
        h = self.narrow(f"{layer}.spatial", self.narrow(f"{layer}.narrow", x), relu=True)
        x = to_stream(x + to_grid(self.narrow(f"{layer}.widen", h)))
        return to_stream(x + to_grid(self.narrow(f"{layer}.contract", self.narrow(f"{layer}.expand", x), relu=True)))

    def change(self, layer: str, x: np.ndarray) -> np.ndarray:
        u = v = self.scaled(f"{layer}.gain", x)
        number = 0
        while f"{layer}.body.{number}.narrow.weight" in self.weights:
            v, number = self.block(f"{layer}.body.{number}", v), number + 1
        return self.scaled(f"{layer}.strength", v - u)

    def stack(self, layer: str, x: np.ndarray) -> np.ndarray:
        return to_stream(x + self.change(layer, x))


# Latent


def scale_table(logarithm: np.ndarray) -> np.ndarray:
    """The table of values for the logarithm of a scale: clamp(round(8 · (logarithm + 2.5)), 0, 63)."""
    return np.clip(round_shift(logarithm + 5 * ONE // 2, UNIT - 3), 0, LAST_SCALE)


def hyper_latent(network: Network, symbols: Symbols, latent: str, rows: int, columns: int) -> np.ndarray:
    """z (Z, ⌈rows / 4⌉, ⌈columns / 4⌉), for a y of rows × columns."""
    t = network.table(f"{latent}.hyper_scale") << UNIT - 6
    places = np.zeros((1, -(-rows // 4), -(-columns // 4)), np.int64)
    return symbols.group(scale_table(5 * t) + places) << UNIT


def decode_latent(network: Network, symbols: Symbols, latent: str, rows: int, columns: int, p: np.ndarray | None) -> np.ndarray:
    """ŷ (N, rows, columns); p is the temporal context (channels, 2 · rows, 2 · columns) of P-frames."""
    x = hyper_latent(network, symbols, latent, rows, columns)
    x = up(network.narrow(f"{latent}.hyper_decoder.0.0", x))
    x = up(network.narrow(f"{latent}.hyper_decoder.1.0", x, relu=True))[:, :rows, :columns]
    if p is not None:
        x = np.concatenate([x, network.narrow(f"{latent}.temporal", p)])
    x = network.narrow(f"{latent}.fuse", x, relu=True)
    x = network.scaled(f"{latent}.fuse_gain", np.maximum(to_stream(x), 0))
    x = to_stream(network.narrow(f"{latent}.parameters_out", network.block(f"{latent}.refine", x)))
    a, b = np.split(x, 2)  # (N, rows, columns) each
    mean = np.clip(network.gained(f"{latent}.step", a, 6), -65535, 65535)  # in units of 2^-6
    tables = scale_table(b + (network.table(f"{latent}.scale_offset") << UNIT - 6))
    y = np.zeros_like(tables)
    y[tables >= 2] = symbols.group(tables[tables >= 2])
    return network.scaled(f"{latent}.unstep", np.clip((y << 6) + mean, -65535, 65535) << UNIT - 6)


# Pictures and features


Planes = list[np.ndarray]  # padded luma (H, W) and chroma (H / 2, W / 2) twice, integers from 0 to 255


def to_features(planes: Planes) -> np.ndarray:
    """Planes of grey levels in units of 2^-16 -> features (96, H / 8, W / 8)."""
    parts = [space_to_depth(plane[None], n) for plane, n in zip(planes, (8, 4, 4))]
    return np.concatenate(parts) - (128 << UNIT - 8)  # (s − 128) / 256 in units of 2^-24 is s − 128 in units of 2^-16


def to_picture(features: np.ndarray) -> Planes:
    samples = np.clip(round_shift(features, UNIT - 8) + 128, 0, 255)  # (96, H / 8, W / 8)
    return [depth_to_space(part, n)[0] for part, n in zip(np.split(samples, [64, 80]), (8, 4, 4))]


# Motion compensation


REFERENCES, UNIT_SPEED = 8, 840


def velocity(vectors: np.ndarray) -> np.ndarray:
    """vectors (3, ...): vertical, horizontal, age -> (2, ...)."""
    return vectors[:2] * UNIT_SPEED // (vectors[2] + 1)


def displacement(speed: np.ndarray, age: np.ndarray) -> np.ndarray:
    """velocities (2, ...), ages (...) -> (2, ...)."""
    return np.clip((speed * (age + 1) + UNIT_SPEED // 2) // UNIT_SPEED, -(1 << 15), (1 << 15) - 1)


def interpolate(planes: np.ndarray, vectors: np.ndarray, taps: np.ndarray) -> np.ndarray:
    """planes (N, rows, columns), the newest first, vectors (3, rows, columns), one for each sample -> (rows, columns) in units of 1/64 of a grey level."""
    phases, count = taps.shape
    rows, columns = planes.shape[1:]
    picture = np.minimum(vectors[2], len(planes) - 1)
    y = phases * np.arange(rows)[:, None] + vectors[0]
    x = phases * np.arange(columns) + vectors[1]
    total = np.zeros_like(planes[0])
    for i in range(count):
        row = np.clip(y // phases + i - (count // 2 - 1), 0, rows - 1)
        for j in range(count):
            column = np.clip(x // phases + j - (count // 2 - 1), 0, columns - 1)
            total += taps[y % phases, i] * taps[x % phases, j] * planes[picture, row, column]
    return round_shift(total, 6)


def overlap(size: int, b: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Along an axis of `size` samples in blocks of b, twice (block, weight), each of one integer per sample: own, and other."""
    own, o = np.divmod(np.arange(size), b)
    weight = np.where(o < b // 2, 2 * o + 1 + b, 3 * b - 1 - 2 * o)
    other = np.clip(np.where(o < b // 2, own - 1, own + 1), 0, size // b - 1)
    return (own, weight), (other, 2 * b - weight)


def compensate(planes: np.ndarray, vectors: np.ndarray, b: int, taps: np.ndarray) -> np.ndarray:
    """planes (N, rows, columns), vectors (3, rows / b, columns / b) -> (rows, columns) in units of 2^-16 of a grey level."""
    total = np.zeros_like(planes[0])
    for row, row_weight in overlap(planes.shape[1], b):
        for column, column_weight in overlap(planes.shape[2], b):
            total += interpolate(planes, vectors[:, row[:, None], column], taps) * row_weight[:, None] * column_weight
    return total * ((1 << 16) // (64 * (2 * b) ** 2))


def warp_context(context: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """context (channels, rows, columns), vectors (3, rows, columns) -> (channels, rows, columns)."""
    rows, columns = context.shape[1:]
    moved = displacement(velocity(vectors), np.zeros_like(vectors[2]))
    row, i = np.divmod(32 * np.arange(rows)[:, None] + moved[0], 32)
    column, j = np.divmod(32 * np.arange(columns) + moved[1], 32)
    total = np.zeros_like(context)  # times 32²
    for below, row_weight in enumerate((32 - i, i)):
        for right, column_weight in enumerate((32 - j, j)):
            near_row, near_column = np.clip(row + below, 0, rows - 1), np.clip(column + right, 0, columns - 1)
            total += context[:, near_row, near_column] * row_weight * column_weight
    return to_stream(total >> 10)  # exact: the context is a multiple of 2^STREAM


# Vectors


def neighbours(grid: np.ndarray, odd_row: int, odd_column: int) -> np.ndarray:
    """grid (3, R, Q) -> the four neighbours (4, 3, rows, columns) of its places of these parities."""
    rows, columns = grid.shape[1:]
    offsets = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if odd_row and odd_column else [(-1, 0), (1, 0), (0, -1), (0, 1)]
    if rows == 1:  # those at the left and right stand in for those above and below
        offsets[:2] = offsets[2:]
    elif columns == 1:  # those above and below stand in for those at the left and right
        offsets[2:] = offsets[:2]

    def reflect(places: np.ndarray, size: int) -> np.ndarray:
        places = np.abs(places)  # −1 -> 1
        return np.where(places == size, size - 2, places)

    row, column = np.arange(odd_row, rows, 2)[:, None], np.arange(odd_column, columns, 2)
    return np.stack([grid[:, reflect(row + i, rows), reflect(column + j, columns)] for i, j in offsets])


def decode_step(network: Network, symbols: Symbols, estimator: str, context: np.ndarray, side: np.ndarray) -> np.ndarray:
    """The vectors (3, rows, columns) of a step.

    context (5, 3, rows, columns) has the four neighbours, or the past in their stead, and the past; side (16, rows, columns).
    """
    middle = len(context) // 2
    speed = np.sort([velocity(vectors) for vectors in context], 0)[middle]  # (2, rows, columns)
    age = np.sort(context[:, 2], 0)[middle]
    base = np.concatenate([displacement(speed, age), age[None]])
    moved = [np.clip(displacement(velocity(vectors), age) - base[:2], -64, 64) << UNIT - 3 for vectors in context]
    ages = np.stack([*(vectors[2] - age for vectors in context), age]) << UNIT
    rate = np.full_like(base[:1], network.rate - 32) << UNIT - 6
    x = network.narrow(f"{estimator}.0", np.concatenate([*moved, rate, ages, side]))  # of 33 channels
    x = network.narrow(f"{estimator}.1", x, relu=True)
    x = to_stream(network.narrow(f"{estimator}.2", x, relu=True))
    def flags(values: np.ndarray) -> np.ndarray:
        return symbols.group(FIRST_FLAG + np.clip((4 * values >> UNIT) + 32, 0, 63))

    e, f, d = x[0], x[1:6], x[6:]
    left = flags(e) == 1  # (rows, columns)
    vectors, known = base.copy(), [base]
    for choice, values in zip(context, f):
        asked = left & np.all([np.any(choice != other, 0) for other in known], 0)
        same = asked.copy()
        same[asked] = flags(values[asked]) == 1
        vectors[:, same] = choice[:, same]
        left &= ~same
        known.append(choice)
    difference = np.zeros_like(base)
    difference[:, left] = symbols.group(scale_table(d[:, left]))  # (3, left)
    age = np.clip(age + difference[2], 0, REFERENCES - 1)
    moved = np.clip(displacement(speed, age) + difference[:2], -(1 << 15), (1 << 15) - 1)
    return np.where(left, np.concatenate([moved, age[None]]), vectors)


def decode_vectors(network: Network, symbols: Symbols, past: np.ndarray, context: np.ndarray) -> np.ndarray:
    """past (3, rows, columns), the vectors of the frame before; context (channels, rows, columns), its context -> new vectors."""
    side = np.maximum(network.narrow("motion.side", context), 0)  # (16, rows, columns)
    vectors = np.zeros_like(past)
    steps = [(0, 8, 0, 0)] + [(2 * k + 1 + (not (i and j)), 4 >> k, i, j) for k in range(3) for i, j in ((1, 1), (1, 0), (0, 1))]
    for estimator, s, i, j in steps:
        stride = s if s == 8 else 2 * s
        here = slice(None), slice(i * s, None, stride), slice(j * s, None, stride)
        own = past[here]
        if own.size == 0:
            continue
        around = 4 * [own] if s == 8 else neighbours(vectors[:, ::s, ::s], i, j)
        around = np.stack([*around, own])  # (5, 3, rows, columns)
        vectors[here] = decode_step(network, symbols, f"motion.estimators.{estimator}", around, side[here])
    return vectors


# Frames


@dataclass
class State:
    """What a frame leaves to the next one."""

    pictures: list[Planes]  # the newest first, at most 8
    context: np.ndarray  # (channels, H / 8, W / 8)
    vectors: np.ndarray  # (3, H / 8, W / 8): vertical, horizontal, age


def clamp_context(x: np.ndarray) -> np.ndarray:
    return np.clip(x, -16383 << STREAM, 16383 << STREAM)


def decode_keyframe(network: Network, symbols: Symbols, rows: int, columns: int) -> State:
    """A keyframe with a y of rows × columns."""
    y = decode_latent(network, symbols, "intra.latent", rows, columns, None)
    x = network.stack("intra.decoder", up(network.wide("intra.from_latent.0", y)))
    context = clamp_context(network.wide("intra.to_context", x))
    features = network.wide("intra.leave", network.stack("intra.head", context)) + up(network.wide("intra.detail.0", y))
    return State([to_picture(to_stream(features))], context, np.zeros((3, 2 * rows, 2 * columns), np.int64))


def decode_p_frame(network: Network, symbols: Symbols, filtered: bool, refresh: bool, before: State) -> State:
    """A frame that is predicted from those before."""
    vectors = decode_vectors(network, symbols, before.vectors, before.context)
    kinds = (8, LUMA_TAPS), (4, CHROMA_TAPS), (4, CHROMA_TAPS)
    r = to_stream(to_features([compensate(np.stack(planes), vectors, *kind) for planes, kind in zip(zip(*before.pictures), kinds)]))
    memory = network.wide("inter.refresh", r) if refresh else warp_context(before.context, vectors)
    p = network.stack("inter.context", network.wide("inter.enter", np.concatenate([r, memory])))
    rows, columns = p.shape[1] // 2, p.shape[2] // 2
    y = decode_latent(network, symbols, "inter.latent", rows, columns, p)
    x = np.concatenate([up(network.wide("inter.from_latent.0", y)), p])
    c = network.stack("inter.decoder", network.wide("inter.merge", x))
    if filtered:
        c = c + network.change("inter.filter.stack", c)
    context = clamp_context(c)
    x = network.stack("inter.head", context)
    release = np.clip(round_shift(network.narrow("inter.release", x), UNIT - 8), 0, 256)  # λ in units of 2^-8
    kept = r - to_stream(release * r >> 8)  # exact: r is a multiple of 2^STREAM
    features = to_stream(kept + network.wide("inter.residual", x) + up(network.wide("inter.detail.0", y)))
    return State([to_picture(features), *before.pictures[: REFERENCES - 1]], context, vectors)


def picture_checksum(planes: Planes) -> int:
    crc = crc32(b"".join(plane.tobytes() for plane in planes))
    return crc >> 16 ^ crc & 0xFFFF


def crop(picture: Planes, height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The samples that are shown, as uint8: luma (height, width) and chroma (⌈height / 2⌉, ⌈width / 2⌉) twice."""
    sizes = (height, width), (-(-height // 2), -(-width // 2)), (-(-height // 2), -(-width // 2))
    y, u, v = (plane[:rows, :columns].astype(np.uint8) for plane, (rows, columns) in zip(picture, sizes))
    return y, u, v


def decode(stream: bytes, weights: Path, tables: Path) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The pictures (Y, U, V) of a whole stream. Raises ValueError at the first fault."""
    reader = Reader(stream)
    try:
        header = read_header(reader)
    except Truncated:
        raise ValueError("The stream is truncated at frame 0.") from None
    layers, cumulative = load_weights(weights, header.weights_hash), load_tables(tables)
    rows, columns = -(-header.height // 16), -(-header.width // 16)  # of y
    frames: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    state, counts, places = None, {}, []
    while packet := read_packet(reader, header.timed, places):
        network = Network(layers, packet.rate)
        try:
            symbols = Symbols(packet.payload, cumulative)
            if packet.keyframe:
                counts = {"filtered": [1, 1], "refresh": [16, 0], "enhance_last": [0, 4]}
                symbols.flag(counts["enhance_last"])
                state = decode_keyframe(network, symbols, rows, columns)
            else:
                filtered, refresh, _ = (symbols.flag(counts[name]) for name in ("filtered", "refresh", "enhance_last"))
                state = decode_p_frame(network, symbols, filtered, refresh, state)
        except Truncated:
            raise ValueError(f"The payload of frame {len(frames)} ends too soon.") from None
        if symbols.state != 1 << 31 or symbols.reader.position != len(symbols.reader.data):
            raise ValueError(f"The payload of frame {len(frames)} does not end with its last symbol.")
        shown = crop(state.pictures[0], header.height, header.width)
        if picture_checksum(shown) != packet.checksum:
            raise ValueError(f"The picture of frame {len(frames)} does not have the checksum in its packet.")
        frames.append(shown)
    return frames
