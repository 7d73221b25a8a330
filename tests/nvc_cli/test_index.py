"""The index: what it says of a stream, where it is found, and which ones are none."""

from __future__ import annotations

import io
import os

import pytest

from nvc_cli.fields import sealed, varint
from nvc_cli.index import END_MARKER, Index, Keyframe, load, parse

KEYFRAMES = [Keyframe(0, 42, 1), Keyframe(3, 300, 2), Keyframe(4, 316, 3), Keyframe(300, 70000, 0xFFFFFFFF)]
FRAMES, OFFSET = 310, 80000
CRC = b"CRC!"


@pytest.fixture
def index() -> Index:
    index, keyframes = Index(), {keyframe.frame: (keyframe.offset, keyframe.crc) for keyframe in KEYFRAMES}
    for frame in range(FRAMES):
        index.add(frame in keyframes, *keyframes.get(frame, (0, 0)))
    return index


def packed(*numbers: int | bytes, length: int | None = None, size: int | None = None) -> bytes:
    """An index with these numbers, or bytes, in its body."""
    body = b"".join(number if isinstance(number, bytes) else varint(number) for number in numbers)
    data = b"\xfe" + varint(len(body) if length is None else length) + body
    return sealed(data + (len(data) + 8 if size is None else size).to_bytes(4, "little"))


def test_bytes(index: Index) -> None:
    assert index.pack() == packed(310, 4, 0, 42, b"\1\0\0\0", 3, 258, b"\2\0\0\0", 1, 16, b"\3\0\0\0", 296, 69684, b"\xff\xff\xff\xff")
    assert Index().pack() == packed(0, 0)


def test_round_trip(index: Index) -> None:
    again = parse(index.pack(), OFFSET)
    assert (list(again), again.frames, again.keyframes) == (KEYFRAMES, FRAMES, 4)
    assert parse(Index().pack(), 42).frames == 0


@pytest.mark.parametrize("frame, found", [(0, 0), (2, 0), (3, 1), (4, 2), (299, 2), (300, 3), (10**9, 3)])
def test_the_last_keyframe_at_or_before_a_frame(index: Index, frame: int, found: int) -> None:
    assert index.last(frame) == KEYFRAMES[found]
    assert Index().last(frame) is None


def test_until_a_keyframe(index: Index) -> None:
    before = index.until(KEYFRAMES[2])
    assert (list(before), before.frames) == (KEYFRAMES[:2], 4)
    before.add(True, KEYFRAMES[2].offset, KEYFRAMES[2].crc)
    for _ in range(295):
        before.add(False, 0, 7)
    before.add(True, KEYFRAMES[3].offset, KEYFRAMES[3].crc)
    for _ in range(9):
        before.add(False, 0, 7)
    assert before.pack() == index.pack()


def test_every_flipped_byte_is_noticed(index: Index) -> None:
    data = index.pack()
    for place in range(len(data)):
        for flip in (0xFF, 0x80, 0x01):
            damaged = bytearray(data)
            damaged[place] ^= flip
            with pytest.raises(ValueError):
                parse(bytes(damaged), OFFSET)


@pytest.mark.parametrize("data", [
    b"",
    packed(0),
    packed(2, 1, 0),
    packed(1, 1, 0, 42),
    packed(1, 1, 0, 42, CRC[1:]),
    packed(1, 1, 1, 42, CRC),  # begins with a P-frame
    packed(1, 0),
    packed(0, 1, 0, 42, CRC),
    packed(5, 2, 0, 42, CRC, 0, 20, CRC),  # twice the same frame
    packed(5, 2, 0, 42, CRC, 2, 25, CRC),  # two packets in 25 bytes
    packed(20, 1, 0, 42, CRC),  # twenty in 258
    packed(2**62, 1, 0, 42, CRC),
    packed(1, 1, 0, 301, CRC),
    packed(1, 1, 0, 42, CRC, 7),
    packed(1, 2**28, 0, 42, CRC),
    packed(1, 1, 0, 42, CRC, length=9),
    packed(1, 1, 0, 42, CRC, size=17),
])
def test_what_is_no_index_though_its_crc_is_right(data: bytes) -> None:
    with pytest.raises(ValueError):
        parse(data, 300)


@pytest.mark.parametrize("before", [b"", b"something else\n"])
def test_load(index: Index, before: bytes) -> None:
    file = io.BytesIO(before + bytes(OFFSET) + index.pack() + END_MARKER)
    file.seek(len(before) + 7)
    found = load(file, len(before))
    assert found and list(found) == KEYFRAMES
    assert file.tell() == len(before) + 7


@pytest.mark.parametrize("cut", [1, 2, 9, 30, OFFSET])
def test_no_index_at_the_end(index: Index, cut: int) -> None:
    data = bytes(OFFSET) + index.pack() + END_MARKER
    assert load(io.BytesIO(data[:-cut]), 0) is None
    assert load(io.BytesIO(data + b"\xff"), 0) is None
    assert load(io.BytesIO(data[:-1] + b"\x00"), 0) is None
    assert load(io.BytesIO(), 0) is None


def test_a_size_that_is_too_large_reserves_no_memory() -> None:
    class File(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            assert 0 <= size <= 10
            return super().read(size)

    for size in (9, 300, 2**32 - 1):
        assert load(File(bytes(40) + size.to_bytes(4, "little") + bytes(4) + END_MARKER), 0) is None


def test_a_pipe_has_none() -> None:
    read, write = os.pipe()
    os.close(write)
    with open(read, "rb") as file:
        assert load(file, 0) is None
