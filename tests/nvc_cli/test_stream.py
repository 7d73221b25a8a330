"""The container: its exact bytes, what it promises about damage and truncation, and reading from pipes."""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
import threading
import zlib
from fractions import Fraction
from pathlib import Path
from random import Random

import numpy as np
import pytest

from nvc_cli import stream
from nvc_cli.errors import NvcError
from nvc_cli.frame import Color, Frame
from nvc_cli.index import Index
from nvc_cli.switches import Switches
from nvc_cli.stream import (
    Header,
    Packet,
    StreamError,
    StreamReader,
    StreamWriter,
    Truncated,
    open_stream,
    pack_header,
    pack_packet,
    picture_checksum,
)

HEADER = Header(352, 288, Fraction(30), Color(2, 2, 2, False), Fraction(1), "yuv420p", "tiny", bytes(range(8)))
STATE = bytes.fromhex("0001020304050600")  # of the entropy coder
KEYFRAME = Packet(True, 37, False, False, True, STATE + b"\xde\xad\xbe\xef", 0x1234)
PACKETS = [
    KEYFRAME,
    Packet(False, 0, False, False, False, STATE, 0),
    Packet(False, 63, True, True, True, STATE + bytes(range(132)), 0xFFFF),
    Packet(False, 8, True, False, False, b"\xff" * 7 + b"\x7f", 7),
    Packet(True, 63, False, False, False, bytes(3) + b"\x80" + bytes(4), 7),
    Packet(False, 8, True, False, True, STATE, 7),
]
GOLDEN_HEADER = bytes.fromhex(
    "4e56430a 25 e002 a002 1e01 0101 02020200 00 0001 00 0779757634323070 0474696e79 0001020304050607 1cbcd8ba"
)
GOLDEN_INDEX = bytes.fromhex("fe 08 0101 002e bc73e053 12000000 c05119f6")
GOLDEN_PACKET = bytes.fromhex("65 0b ac21ad5140b006 deadbeef 3412 bc73e053")


def written(packets: list[Packet], header: Header = HEADER) -> bytes:
    file = io.BytesIO()
    with StreamWriter(file, header) as writer:
        for packet in packets:
            writer.write(packet)
    assert (writer.size, writer.frames) == (len(file.getvalue()), len(packets))
    return file.getvalue()


def read(data: bytes) -> tuple[list[Packet], StreamError | None]:
    packets: list[Packet] = []
    try:
        for packet in StreamReader(io.BytesIO(data), "a.nvc"):
            packets.append(packet)
    except StreamError as error:
        return packets, error
    return packets, None


def ends(packets: list[Packet]) -> list[int]:
    """The offsets in the stream where the header and each packet end."""
    offsets = [len(pack_header(HEADER))]
    switches = Switches()
    for packet in packets:
        offsets.append(offsets[-1] + len(pack_packet(packet, switches)))
    return offsets


def resealed(packet: bytes) -> bytes:
    return packet + zlib.crc32(packet).to_bytes(4, "little")


def test_golden_bytes() -> None:
    assert pack_header(HEADER) == GOLDEN_HEADER
    assert pack_packet(KEYFRAME, Switches()) == GOLDEN_PACKET
    assert written([KEYFRAME]) == GOLDEN_HEADER + GOLDEN_PACKET + GOLDEN_INDEX + b"\xff"


def test_the_example_of_the_document_is_the_golden_stream() -> None:
    text = Path(stream.__file__).with_suffix(".md").read_text(encoding="utf-8")
    example = text.split("## Example")[1].split("## Payload")[0]
    lines = [line[4:47] for line in example.splitlines() if re.match(r"    [0-9A-F]{2} ", line)]
    assert bytes.fromhex("".join(lines)) == GOLDEN_HEADER + GOLDEN_PACKET + GOLDEN_INDEX + b"\xff"


def test_overhead_is_eight_bytes() -> None:
    full = dataclasses.replace(KEYFRAME, payload=b"\xff" * 7 + b"\x0f" + bytes(40))
    assert len(pack_packet(full, Switches())) == 48 + 8


def test_the_highest_bytes_of_the_state_are_left_out_if_they_are_zero() -> None:
    for state in (1 << 31, 1 << 38, 1 << 39, 1 << 46, 1 << 47, 1 << 54, 1 << 55, (1 << 61) + 12345):
        packet = dataclasses.replace(KEYFRAME, payload=state.to_bytes(8, "little") + b"abcd")
        data = pack_packet(packet, Switches())
        assert len(data) <= max(-(-(state.bit_length() + 1) // 8), 5) + 4 + 8
        assert read(written([packet])) == ([packet], None)


def test_flags_that_stay_the_same_cost_next_to_nothing() -> None:
    packets = [KEYFRAME] + [Packet(False, 8, True, False, True, STATE, 7)] * 64
    switches = Switches()
    for packet in packets:
        pack_packet(packet, switches)
    assert read(written(packets)) == (packets, None)
    flags = ("filtered", True), ("refresh", False), ("enhance_last", True)
    first, last = (sum(math.log2(65536 / seen._interval(*flag)[1]) for flag in flags) for seen in (Switches(), switches))
    assert 1 < first < 1.5 and last < 0.15  # bits


def test_both_ends_learn_the_same() -> None:
    random = Random(1)
    packets = []
    for t in range(300):
        filtered, refresh, enhance = (random.random() < odds for odds in (0.7, 0.1, 0.9))
        inter = t % 90 > 0
        state = random.randrange(1 << 31, 1 << random.randrange(32, 64))
        packets.append(Packet(not inter, t % 64, inter and filtered, inter and refresh, enhance, state.to_bytes(8, "little"), t))
    assert read(written(packets)) == (packets, None)


@pytest.mark.parametrize(
    "header",
    [
        HEADER,
        Header(1, 1, Fraction(1, 2**31 - 1), Color(0, 255, 9, True), Fraction(16, 11), "p", "m", b"\xff" * 8),
        Header(16384, 16384, Fraction(30000, 1001), Color(1, 1, 1, False), Fraction(1), "f" * 32, "m" * 64, bytes(8)),
    ],
)
def test_round_trip(header: Header) -> None:
    reader = StreamReader(io.BytesIO(written(PACKETS, header)), "a.nvc")
    assert reader.header == header
    assert list(reader) == PACKETS
    assert reader.frames == len(PACKETS)
    assert reader.size == len(written(PACKETS, header))


@pytest.mark.parametrize("length", [8, 12, 120, 124, 128, 132, 16380, 16384, 16388, 2**21])
def test_payload_lengths(length: int) -> None:
    packet = dataclasses.replace(KEYFRAME, payload=STATE + bytes(length - 8))
    assert read(written([packet])) == ([packet], None)


def test_a_stream_without_frames() -> None:
    assert read(written([])) == ([], None)


def test_every_flipped_byte_is_detected_in_the_right_frame() -> None:
    data = written(PACKETS)
    offsets = ends(PACKETS)
    for place in range(len(data)):
        frame = sum(place >= end for end in offsets)  # 0 is the header
        for flip in (0xFF, 0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01):
            damaged = bytearray(data)
            damaged[place] ^= flip
            packets, error = read(bytes(damaged))
            assert error is not None, (place, flip)
            assert packets == PACKETS[: max(frame - 1, 0)], (place, flip)
            if frame:
                assert error.frame == frame - 1


def test_no_value_of_a_flags_byte_passes_unseen() -> None:
    data = bytearray(written(PACKETS))
    for frame, place in enumerate(ends(PACKETS)):
        good = data[place]
        for value in set(range(256)) - {good}:
            data[place] = value
            packets, error = read(bytes(data))
            assert packets == PACKETS[:frame]
            assert error is not None and error.frame == frame
        data[place] = good


def test_every_truncation_yields_the_whole_frames_before_it() -> None:
    data = written(PACKETS)
    offsets = ends(PACKETS)
    for cut in range(len(data)):
        packets, error = read(data[:cut])
        whole = sum(cut >= end for end in offsets[1:])
        assert packets == PACKETS[:whole]
        assert isinstance(error, Truncated)
        assert error.frame == whole


class ForwardOnly(io.RawIOBase):
    """A source that hands out one byte a read, cannot seek, and knows how far it was read."""

    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        part = self.data[self.position : self.position + 1]
        buffer[: len(part)] = part
        self.position += len(part)
        return len(part)


def test_reads_no_byte_beyond_the_packet() -> None:
    source = ForwardOnly(written(PACKETS))
    offsets = ends(PACKETS)
    reader = StreamReader(source, "pipe")
    assert source.position == offsets[0]
    for packet, end in zip(reader, offsets[1:]):
        assert source.position == end == reader.size


@pytest.mark.parametrize("buffering", [0, -1])
def test_a_pipe_delivers_each_packet_as_it_arrives(buffering: int) -> None:
    source, sink = (os.fdopen(end, mode, buffering) for end, mode in zip(os.pipe(), ("rb", "wb")))
    read_so_far = threading.Semaphore(0)
    outcome: list[Packet] = []

    def consume() -> None:
        with source:
            for packet in StreamReader(source, "pipe"):
                outcome.append(packet)
                read_so_far.release()

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    large = dataclasses.replace(KEYFRAME, payload=STATE + bytes(300_000))  # more than a pipe holds
    with sink, StreamWriter(sink, HEADER) as writer:
        for packet in [large, *PACKETS]:
            writer.write(packet)
            assert read_so_far.acquire(timeout=20)  # before the next packet is sent
    consumer.join(20)
    assert outcome == [large, *PACKETS]


def test_an_exception_leaves_no_end_marker() -> None:
    file = io.BytesIO()
    with pytest.raises(RuntimeError), StreamWriter(file, HEADER) as writer:
        writer.write(KEYFRAME)
        raise RuntimeError
    assert file.getvalue() == GOLDEN_HEADER + GOLDEN_PACKET


def test_finish_writes_one_end_marker_and_ends_writing() -> None:
    file = io.BytesIO()
    with StreamWriter(file, HEADER) as writer:
        writer.finish()
    assert file.getvalue() == GOLDEN_HEADER + Index().pack() + b"\xff"
    with pytest.raises(ValueError, match="finished"):
        writer.write(KEYFRAME)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"height": 16385},
        {"fps": Fraction(0)},
        {"fps": Fraction(2**31)},
        {"sar": Fraction(-1)},
        {"color": Color(256, 1, 1, False)},
        {"source_format": ""},
        {"model": "m" * 65},
        {"model": "tïny"},
        {"model": "a\x1b[2J"},
        {"weights_hash": b"short"},
    ],
)
def test_the_writer_refuses_a_header_that_cannot_be_stored(change: dict[str, object]) -> None:
    with pytest.raises(NvcError, match="cannot be written as an nvc stream"):
        StreamWriter(io.BytesIO(), dataclasses.replace(HEADER, **change))


@pytest.mark.parametrize("change", [{"rate": 64}, {"rate": -1}, {"checksum": 65536}, {"keyframe": False}, {"filtered": True}, {"refresh": True}, {"payload": b""}, {"payload": STATE[:7]}, {"payload": STATE + b"abc"}, {"payload": bytes(8)}])
def test_the_writer_refuses_a_wrong_packet(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        StreamWriter(io.BytesIO(), HEADER).write(dataclasses.replace(KEYFRAME, **change))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x00\x00\x00\x18ftypmp42", "not an nvc stream"),
        (b"NV2" + GOLDEN_HEADER[3:], "not an nvc stream"),
        (b"NVC\x01" + GOLDEN_HEADER[4:], "version 1, which this program does not know .it reads version 10"),
        (GOLDEN_HEADER[:-1] + b"\x00", "header of a.nvc is damaged"),
        (resealed(b"NVC\x0a\x26" + GOLDEN_HEADER[5:-4] + b"\x00"), "does not know .*1 bytes too many"),
        (resealed(b"NVC\x0a\x24" + GOLDEN_HEADER[5:-5]), "does not know .*too short"),
        (resealed(GOLDEN_HEADER[:5] + b"\x00\x00\x00\x00" + GOLDEN_HEADER[9:-4]), "does not know"),
    ],
)
def test_unreadable_headers(data: bytes, message: str) -> None:
    with pytest.raises(StreamError, match=message) as caught:
        StreamReader(io.BytesIO(data), "a.nvc")
    assert caught.value.frame is None


@pytest.mark.parametrize(
    ("packet", "message"),
    [
        (resealed(b"\x80\x00\x00\x00"), "frame 1 of a.nvc .*begins with 0x80"),
        (resealed(b"\x00\x00\x00\x00"), "frame 1 of a.nvc .*payload does not begin"),
        (resealed(b"\x00\x08" + bytes(10)), "frame 1 of a.nvc .*payload does not begin"),
        (resealed(b"\x00\x05" + bytes(3) + b"\x80" + bytes(3)), "frame 1 of a.nvc .*payload ends too soon"),
        (resealed(b"\x00\x80\x00\x00\x00"), "frame 1 of a.nvc .*shortest form"),
        (b"\x00\x80\x80\x80\x80\x01", "frame 1 of a.nvc .*exceeds"),
        (b"\xff", "frame 1 of a.nvc .*without the index"),
        (GOLDEN_INDEX + b"\xff\x00", "frame 1 of a.nvc .*data follow"),
        (GOLDEN_INDEX + b"\xfe", "frame 1 of a.nvc .*not that of the frames before it"),
        (Index().pack() + b"\xff" + bytes(6), "frame 1 of a.nvc .*not that of the frames before it"),
        (GOLDEN_PACKET[:-1] + b"\x00", "frame 1 of a.nvc .*CRC-32"),
    ],
)
def test_unreadable_packets(packet: bytes, message: str) -> None:
    packets, error = read(GOLDEN_HEADER + GOLDEN_PACKET + packet)
    assert packets == [KEYFRAME]
    assert error is not None and error.frame == 1 and not isinstance(error, Truncated)
    assert re.search(message, str(error))


def test_the_first_frame_must_be_a_keyframe() -> None:
    packets, error = read(GOLDEN_HEADER + pack_packet(PACKETS[1], Switches()))
    assert packets == []
    assert error is not None and "not a keyframe" in str(error)


def test_a_damaged_length_reserves_no_memory() -> None:
    class Source(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1) -> bytes:
            Source.largest = max(Source.largest, size)
            return super().read(size)

    source = Source(GOLDEN_HEADER + b"\x40\xff\xff\xff\x7f" + bytes(100))
    with pytest.raises(Truncated):
        list(StreamReader(source, "a.nvc"))
    assert 0 < Source.largest <= 1 << 20


def test_picture_checksum() -> None:
    luma = np.arange(35, dtype=np.uint8).reshape(5, 7)
    u, v = np.full((3, 4), 1, np.uint8), np.full((3, 4), 2, np.uint8)
    crc = zlib.crc32(bytes(range(35)) + b"\1" * 12 + b"\2" * 12)
    expected = (crc >> 16) ^ (crc & 0xFFFF)
    assert picture_checksum(Frame(luma, u, v)) == expected
    padded = np.pad(luma, 3)[3:8, 3:10]  # the same samples, not contiguous
    assert picture_checksum(Frame(padded, u, v)) == expected
    assert picture_checksum(Frame(luma, v, u)) != expected


def test_open_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.nvc"
    path.write_bytes(written(PACKETS))
    with open_stream(str(path)) as reader:
        assert list(reader) == PACKETS
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(written(PACKETS))))
    with open_stream("-") as reader:
        assert list(reader) == PACKETS
    for wrong in (tmp_path, tmp_path / "missing.nvc"):
        with pytest.raises(NvcError, match="cannot be opened"), open_stream(str(wrong)):
            pass
