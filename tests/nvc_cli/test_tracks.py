"""Streams with times, sound and subtitles: the bytes, and what damage does to them."""

from __future__ import annotations

import io
from dataclasses import replace
from fractions import Fraction

import pytest

from nvc_cli.errors import NvcError
from nvc_cli.frame import Color, Orientation
from nvc_cli.salvage import Salvager
from nvc_cli.stream import Header, Packet, StreamError, StreamReader, StreamWriter, Truncated, pack_header
from nvc_cli.tracks import Sample, Track, pack_sample, pack_track, parse_sample, parse_track

TRACKS = (Track("audio", "pcm_u8", Fraction(1, 8000), b"sound"), Track("subtitle", "subrip", Fraction(1, 1000), b""))
HEADER = Header(
    64, 48, Fraction(25), Color(), Fraction(1), "yuv420p", "tiny", bytes(8), Orientation(3, True), Fraction(1001, 90000), TRACKS
)  # fmt: skip
TIMES = (0, 1, 5, 300, 301, 70000)
KEYFRAMES = (0, 3)
STATE = bytes.fromhex("0001020304050600")
PACKETS = [Packet(t in KEYFRAMES, t, False, False, True, STATE + bytes(4 * t), t, time) for t, time in enumerate(TIMES)]
SAMPLES = [Sample(t % 2, 1000 * t - 2000, t, t % 2 == 0, bytes(range(t))) for t in range(2 * len(TIMES) + 1)]


def stream(header: Header = HEADER) -> tuple[bytes, list[tuple[int, int]]]:
    """Two samples before each frame and one after the last, and where each packet and sample begins, with the number of the frame that comes next."""
    file, places = io.BytesIO(), []
    with StreamWriter(file, header) as writer:
        samples = iter(SAMPLES)
        for packet in PACKETS:
            for _ in range(2):
                places.append((writer.size, writer.frames))
                writer.write_sample(next(samples))
            places.append((writer.size, writer.frames))
            writer.write(packet if header.tick else replace(packet, time=None))
        places.append((writer.size, writer.frames))
        writer.write_sample(next(samples))
        places.append((writer.size, writer.frames))
    assert writer.size == len(file.getvalue())
    assert writer.side == sum(map(len, [*map(pack_track, TRACKS), *map(pack_sample, SAMPLES)]))
    return file.getvalue(), places


DATA, PLACES = stream()


def read(data: bytes, kind: type[StreamReader] = StreamReader) -> tuple[StreamReader, list[Packet], list[Sample], StreamError | None]:
    packets, samples = [], []
    reader = kind(io.BytesIO(data), "a.nvc")
    reader.on_sample = samples.append
    try:
        packets.extend(packet for packet in reader)
    except StreamError as error:
        return reader, packets, samples, error
    return reader, packets, samples, None


@pytest.mark.parametrize("kind", [StreamReader, Salvager])
def test_round_trip(kind: type[StreamReader]) -> None:
    reader, packets, samples, error = read(DATA, kind)
    assert (reader.header, packets, samples, error) == (HEADER, PACKETS, SAMPLES, None)
    assert (reader.gap, reader.silent) == (None, 0)


def test_samples_of_a_stream_at_a_constant_rate() -> None:
    data, _ = stream(replace(HEADER, tick=None))
    assert read(data)[1:] == ([replace(packet, time=None) for packet in PACKETS], SAMPLES, None)


def test_golden_bytes() -> None:
    assert pack_track(TRACKS[0])[:-4].hex() == "f015" + "05617564696f" + "0670636d5f7538" + "01" + "c03e" + "736f756e64"
    assert pack_sample(Sample(1, -3, 300, True, b"ab"))[:-4].hex() == "f107" + "01" + "01" + "05" + "ac02" + "6162"
    header = pack_header(HEADER)
    assert header.startswith(b"NVC\x0a") and header.endswith(pack_track(TRACKS[0]) + pack_track(TRACKS[1]))


@pytest.mark.parametrize("time", [0, 1, -1, 63, -64, 64, 2**62 - 1, 1 - 2**62])
def test_times_of_any_sign(time: int) -> None:
    sample = Sample(0, time, 7, False, b"")
    assert parse_sample(pack_sample(sample)[2:-4], 1) == sample


@pytest.mark.parametrize("body", [b"", b"\x00", b"\x05audio\x03aac", b"\x05video\x03aac\x01\x01", b"\x05audio\x00\x01\x01", b"\x05audio\x03aac\x00\x01"])
def test_what_is_no_track(body: bytes) -> None:
    with pytest.raises((ValueError, EOFError)):
        parse_track(body)


@pytest.mark.parametrize("body", [b"", b"\x00\x00", b"\x02\x00\x00\x00", b"\x00\x02\x00\x00"])
def test_what_is_no_sample(body: bytes) -> None:
    with pytest.raises((ValueError, EOFError)):
        parse_sample(body, 2)


def test_times_must_rise() -> None:
    for time in (None, 0, -1):
        with StreamWriter(io.BytesIO(), HEADER) as writer:
            writer.write(PACKETS[0])
            with pytest.raises(ValueError):
                writer.write(replace(PACKETS[1], time=time))
    with StreamWriter(io.BytesIO(), replace(HEADER, tick=None)) as writer, pytest.raises(ValueError):
        writer.write(PACKETS[0])


def test_every_flipped_bit_is_seen() -> None:
    starts = [place for place, _ in PLACES]
    for place in range(len(DATA)):
        for flip in (0x80, 0x40, 0x10, 0x01):
            damaged = bytearray(DATA)
            damaged[place] ^= flip
            if place < starts[0]:
                with pytest.raises(StreamError):
                    StreamReader(io.BytesIO(damaged), "a.nvc")
                continue
            _, packets, _, error = read(bytes(damaged))
            frame = [number for start, number in PLACES if start <= place][-1]
            assert error is not None and error.frame == frame and packets == PACKETS[:frame]


def test_every_truncation_is_seen() -> None:
    for cut in range(len(DATA)):
        if cut < PLACES[0][0]:
            with pytest.raises(Truncated):
                StreamReader(io.BytesIO(DATA[:cut]), "a.nvc")
            continue
        _, packets, _, error = read(DATA[:cut])
        assert isinstance(error, Truncated) and packets == PACKETS[: error.frame]


@pytest.mark.parametrize("kind", [StreamReader, Salvager])
def test_seeking_by_time(kind: type[StreamReader]) -> None:
    for time in range(0, 400, 7):
        reader = kind(io.BytesIO(DATA), "a.nvc")
        samples: list[Sample] = []
        reader.on_sample = samples.append
        assert reader.seek(time) == len(PACKETS)
        first = 3 if time >= 300 else 0
        assert list(reader) == PACKETS[first:] and samples == SAMPLES[2 * first :]


def test_an_index_that_points_elsewhere_is_not_used() -> None:
    damaged = bytearray(DATA)
    damaged[PLACES[11][0]] ^= 0x40  # the head of the second keyframe
    reader = StreamReader(io.BytesIO(damaged), "a.nvc")
    reader.seek(400)
    assert next(iter(reader)) == PACKETS[0]


def test_damaged_sound_costs_no_picture() -> None:
    for place, number in enumerate(PLACES[:-1]):
        start, end = place_of(place)
        if place % 3 == 2 and place < 18:  # a packet
            continue
        for byte in range(start + 2, end):
            damaged = bytearray(DATA)
            damaged[byte] ^= 0x11
            reader, packets, samples, _ = read(bytes(damaged), Salvager)
            assert packets == PACKETS and len(samples) == len(SAMPLES) - 1 and reader.silent == 1, (place, byte, number)


def place_of(place: int) -> tuple[int, int]:
    return PLACES[place][0], PLACES[place + 1][0]


def test_damaged_pictures_cost_those_up_to_the_next_keyframe() -> None:
    for frame in range(len(PACKETS)):
        start, end = place_of(3 * frame + 2)
        for byte in range(start, end):
            damaged = bytearray(DATA)
            damaged[byte] ^= 0x21
            reader, packets, samples, _ = read(bytes(damaged), Salvager)
            after = next((key for key in KEYFRAMES if key > frame), len(PACKETS))
            assert packets == PACKETS[:frame] + PACKETS[after:] or (byte == start and packets[:frame] == PACKETS[:frame])
            assert len(samples) >= len(SAMPLES) - 2 * (after - frame) - 1


def test_noise_raises_nothing_else() -> None:
    import random

    for seed in range(300):
        damaged = bytearray(DATA)
        dice = random.Random(seed)
        for _ in range(dice.randrange(1, 6)):
            damaged[dice.randrange(PLACES[0][0], len(DATA))] = dice.randrange(256)
        _, packets, _, _ = read(bytes(damaged), Salvager)
        assert all(packet in PACKETS for packet in packets)
        try:
            StreamReader(io.BytesIO(bytes(damaged[seed:])), "a.nvc")
        except NvcError:
            continue
