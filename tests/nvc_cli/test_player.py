"""Playing parts of streams, and what is left of damaged ones: with a decoder that only counts, and with the real one."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import product
from pathlib import Path
from random import Random

import pytest

from models.weights import EncoderModel, load_encoder
from nvc_cli import player, salvage
from nvc_cli.decoder import Decoder, Undecodable
from nvc_cli.encoder import Encoder
from nvc_cli.errors import NvcError
from nvc_cli.fields import intact
from nvc_cli.frame import Color, Frame
from nvc_cli.index import END_MARKER, Index
from nvc_cli.player import Player
from nvc_cli.salvage import Salvager
from nvc_cli.stream import Header, Packet, StreamError, StreamReader, StreamWriter, Truncated
from tests.nvc_cli.conftest import pictures

HEADER = Header(33, 19, Fraction(25), Color(), Fraction(1), "yuv420p", "tiny", bytes(8))
KEYFRAMES = (0, 4, 5, 9)
FRAMES = 12
STATE = bytes(6) + b"\1\1"  # of the entropy coder
GREY = "grey"


class Pipe(io.RawIOBase):
    """A source that cannot seek."""

    def __init__(self, data: bytes) -> None:
        self.rest = memoryview(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        part, self.rest = self.rest[: len(buffer)], self.rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


class Counter:
    """Decodes a packet to its number, which the checksum has, and an enhanced one to the numbers of both packets that it needs."""

    def __init__(self, enhance: bool, wrong: tuple[int, ...] = ()) -> None:
        self.enhance, self.wrong = enhance, wrong
        self.state, self.frames = None, 0
        self.decoded: list[int] = []

    @property
    def begun(self) -> bool:
        return self.state is not None

    def restart(self, frame: int) -> list[object]:
        ready = self.finish()
        self.state, self.frames = None, frame
        return ready

    def decode(self, packet: Packet) -> list[object]:
        number, last = packet.checksum, self.state
        if number in self.wrong:
            raise Undecodable("a.nvc: frame cannot be decoded, though", "it is wrong")
        assert packet.keyframe or last == number - 1
        self.state, self.frames = number, self.frames + 1
        self.decoded.append(number)
        if not self.enhance:
            return [number]
        return [] if last is None else [(last, number) if packet.enhance_last else last]

    def finish(self) -> list[object]:
        return [self.state] if self.enhance and self.state is not None else []


class Notes:
    """In place of the meter."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    @contextmanager
    def frame(self) -> Iterator[None]:
        yield


@dataclasses.dataclass
class Played:
    """What came of a stream."""

    frames: list[object]
    player: Player
    notes: list[str]


def packets() -> list[Packet]:
    """Packets of many sizes."""
    return [
        Packet(t in KEYFRAMES, t, False, False, True, STATE + bytes(range(4 * t)) * (1 + 4 * (t in KEYFRAMES)), t) for t in range(FRAMES)
    ]


def stream(packets: list[Packet], header: Header = HEADER) -> tuple[bytes, list[int]]:
    """Its bytes, and the offsets of the packets and of the index."""
    file = io.BytesIO()
    with StreamWriter(file, header) as writer:
        offsets = [writer.size]
        for packet in packets:
            writer.write(packet)
            offsets.append(writer.size)
    return file.getvalue(), offsets


DATA, OFFSETS = stream(packets())


def play(
    file: io.IOBase, start: int = 0, stop: int | None = None, enhance: bool = False, resilient: bool = False, decoder: Decoder | None = None, wrong: tuple[int, ...] = ()
) -> Played:
    notes = Notes()
    reader = (Salvager if resilient else StreamReader)(file, "a.nvc")
    playing = Player(reader, decoder or Counter(enhance, wrong), notes, start, stop, resilient)
    frames = [GREY if isinstance(frame, Frame) and not decoder else frame for frame in playing]
    return Played(frames, playing, notes.notes)


def expected(start: int = 0, stop: int | None = None, enhance: bool = False) -> list[object]:
    stop = FRAMES if stop is None else min(stop, FRAMES)
    return [(t, t + 1) if enhance and t + 1 < FRAMES else t for t in range(start, stop)]


PARTS = [(start, stop) for start in range(FRAMES) for stop in (None, *range(start + 1, FRAMES + 2))]


@pytest.mark.parametrize("enhance", [False, True])
@pytest.mark.parametrize("resilient", [False, True])
@pytest.mark.parametrize("source", [io.BytesIO, Pipe])
def test_every_part_is_what_it_is_in_the_whole(source: type, enhance: bool, resilient: bool) -> None:
    for start, stop in PARTS:
        played = play(source(DATA), start, stop, enhance, resilient)
        assert played.frames == expected(start, stop, enhance), (start, stop)
        assert (played.player.lost, played.notes, played.player.fault) == (0, [], None)


@pytest.mark.parametrize("source", [io.BytesIO, Pipe])
@pytest.mark.parametrize("enhance", [False, True])
def test_only_what_is_needed_is_decoded(source: type, enhance: bool) -> None:
    for start, stop in PARTS:
        decoder = Counter(enhance)
        list(Player(StreamReader(source(DATA), "a.nvc"), decoder, Notes(), start, stop))
        last = FRAMES - 1 if stop is None else min(stop - 1 + enhance, FRAMES - 1)
        assert decoder.decoded == list(range(max(k for k in KEYFRAMES if k <= start), last + 1))


def test_only_what_is_needed_is_read() -> None:
    class File(io.BytesIO):
        touched: set[int]

        def read(self, size: int | None = -1) -> bytes:
            self.touched.update(range(self.tell(), min(self.tell() + size, len(DATA))))
            return super().read(size)

    for start, stop in PARTS:
        file = File(DATA)
        file.touched = set()
        played = play(file, start, stop)
        begin = OFFSETS[max(k for k in KEYFRAMES if k <= start)]
        end = OFFSETS[stop] if stop is not None and stop <= FRAMES else len(DATA)
        index = range(OFFSETS[-1], len(DATA)) if start else ()
        assert file.touched == {*range(OFFSETS[0]), *range(begin, end), *index}
        assert played.player.size == end - (OFFSETS[start] if start else 0)


def test_nothing_after_the_last_frame_is_read_from_a_pipe() -> None:
    for start, stop in PARTS[::3]:
        pipe = Pipe(DATA)
        play(pipe, start, stop)
        assert len(DATA) - len(pipe.rest) == (OFFSETS[stop] if stop is not None and stop <= FRAMES else len(DATA))


def test_a_stream_in_the_middle_of_a_file() -> None:
    for resilient in (False, True):
        file = io.BytesIO(b"before" + DATA)
        file.seek(len(b"before"))
        assert play(file, 6, 11, resilient=resilient).frames == expected(6, 11)


@pytest.mark.parametrize("cut", range(1, 30, 3))
def test_a_stream_without_a_whole_index(cut: int) -> None:
    data = DATA[:-cut]
    whole = sum(offset <= len(data) for offset in OFFSETS[1:])
    for start in (3, 6, whole - 1):
        played = play(io.BytesIO(data), start)
        assert played.frames == list(range(start, whole))
        assert isinstance(played.player.fault, Truncated)
        assert play(io.BytesIO(data), start, whole).player.fault is None
        assert play(io.BytesIO(data), start, enhance=True).frames == [(t, t + 1) for t in range(start, whole - 1)] + [whole - 1]
    with pytest.raises(Truncated):
        play(io.BytesIO(data), whole)


def test_packets_that_are_too_many_to_keep_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    for held in (1, 200, 400):
        monkeypatch.setattr(player, "HELD", held)
        for enhance, (start, stop) in product((False, True), PARTS):
            played = play(Pipe(DATA), start, stop, enhance)
            assert (played.frames, played.notes) == (expected(start, stop, enhance), [])


@pytest.mark.parametrize("source", [io.BytesIO, Pipe])
@pytest.mark.parametrize("resilient", [False, True])
def test_a_start_beyond_the_end(source: type, resilient: bool) -> None:
    for start in (FRAMES, FRAMES + 1, 10**12):
        with pytest.raises(NvcError, match=r"the last frame of a.nvc is at 0.440 s, so none is left at .* s; choose an earlier --start"):
            play(source(DATA), start, resilient=resilient)


def damaged(*places: int, data: bytes = DATA) -> bytes:
    changed = bytearray(data)
    for place in places:
        changed[place] ^= 0x55
    return bytes(changed)


def test_without_resilience_a_fault_is_an_error() -> None:
    data = damaged(OFFSETS[2] + 4)
    for enhance in (False, True):
        with pytest.raises(StreamError, match="frame 2 of a.nvc .*CRC-32"):
            play(io.BytesIO(data), enhance=enhance)
    assert play(io.BytesIO(data), 4).frames == expected(4)  # what is not needed is not looked at
    with pytest.raises(StreamError):
        play(Pipe(data), 4)


def survivors(*lost: int, enhance: bool = False, start: int = 0, stop: int = FRAMES) -> list[object]:
    """The frames when the packets of some are gone."""
    frames, whole, good = [], [], False
    for t in range(FRAMES):
        good = t not in lost and (good or t in KEYFRAMES)
        whole.append(good)
    for t in range(FRAMES):
        if whole[t]:
            frames.append((t, t + 1) if enhance and t + 1 < FRAMES and whole[t + 1] else t)
        else:
            frames.append(frames[-1] if frames else GREY)
    return frames[start:stop]


def gone(*lost: int) -> int:
    """How many frames are lost with these."""
    count, good = 0, False
    for t in range(FRAMES):
        good = t not in lost and (good or t in KEYFRAMES)
        count += not good
    return count


@pytest.mark.parametrize("enhance", [False, True])
def test_any_damaged_byte_costs_the_frames_up_to_the_next_keyframe(enhance: bool) -> None:
    for place in range(OFFSETS[0], OFFSETS[-1]):
        frame = sum(place >= offset for offset in OFFSETS) - 1
        played = play(io.BytesIO(damaged(place)), enhance=enhance, resilient=True)
        assert played.frames == survivors(frame, enhance=enhance), place
        assert played.player.lost == gone(frame)
        end = min([k for k in KEYFRAMES if k > frame], default=FRAMES) - 1
        (note,) = played.notes
        assert note.startswith(f"a.nvc: frame{f' {frame} is' if frame == end else f's {frame} to {end} are'} lost (")


def test_any_two_damaged_packets() -> None:
    for one, two in product(range(FRAMES), repeat=2):
        played = play(io.BytesIO(damaged(*{OFFSETS[one] + 5, OFFSETS[two] + 6})), resilient=True)
        assert (played.frames, played.player.lost) == (survivors(one, two), gone(one, two))


@pytest.mark.parametrize("source", [lambda data: io.BytesIO(data[:-1]), Pipe])
def test_without_an_index_frames_are_counted_by_their_packets(source) -> None:
    for frame in range(FRAMES - 1):
        played = play(source(damaged(OFFSETS[frame] + 6)), resilient=True)
        assert (played.frames, played.player.lost) == (survivors(frame), gone(frame))
        assert not any("at least" in note for note in played.notes)


def test_without_an_index_a_damaged_length_hides_one_frame_or_more() -> None:
    for frame in range(FRAMES):
        played = play(Pipe(damaged(OFFSETS[frame] + 1)), resilient=True)  # all that is whole after it is found
        assert (played.frames, played.player.lost) == (survivors(frame), gone(frame))
        assert ("at least frame" in played.notes[0]) == (frame < KEYFRAMES[-1])  # after that, the index at the end tells
    played = play(Pipe(damaged(OFFSETS[1] + 1, OFFSETS[2] + 1)), resilient=True)  # two in a row look like one, until the end tells
    assert played.frames == [0, 0, 0, *range(4, FRAMES)]
    assert played.player.lost == 3
    assert played.notes[0].startswith("a.nvc: at least frames 1 to 2 are lost (") and "1 more" in played.notes[1]


@pytest.mark.parametrize("start, stop", [(1, 3), (3, 8), (4, 6), (6, 9), (7, 12), (10, 12)])
def test_a_part_of_a_damaged_stream(start: int, stop: int) -> None:
    for frame in range(FRAMES):
        data = io.BytesIO(damaged(OFFSETS[frame] + 6))
        whole = survivors(frame)
        bad = set(range(frame, min([k for k in KEYFRAMES if k > frame], default=FRAMES)))
        if bad >= {*range(start, stop)} and max(bad) == FRAMES - 1 and frame in KEYFRAMES:
            with pytest.raises(NvcError, match="nothing of a.nvc can be decoded"):
                play(data, start, stop, resilient=True)
            continue
        played = play(data, start, stop, resilient=True)
        shown = [GREY if t in bad and frame in KEYFRAMES and start >= frame else whole[t] for t in range(start, stop)]
        assert played.frames == shown, frame
        assert played.player.lost == len(bad & {*range(start, stop)})


@pytest.mark.parametrize("cut", range(2, 200, 7))
def test_a_stream_that_is_cut_off_plays_to_the_cut(cut: int) -> None:
    data = DATA[:-cut]
    whole = sum(offset <= len(data) for offset in OFFSETS[1:])
    inside = len(data) not in OFFSETS and len(data) < OFFSETS[-1]
    played = play(io.BytesIO(data), resilient=True)
    assert played.frames == list(range(whole)) + inside * [whole - 1]
    assert (played.player.lost, played.player.fault) == (inside, None)
    assert "no index at its end" in played.notes[-1]


def test_a_damaged_index_costs_no_frame() -> None:
    for place in range(OFFSETS[-1] + 1, len(DATA)):  # the first byte tells what it is
        played = play(io.BytesIO(damaged(place)), resilient=True)
        assert played.frames == expected(), place
        assert played.player.lost == 0
        assert place == len(DATA) - 1 or "no index at its end" in played.notes[-1]


def test_bytes_that_are_missing_or_too_many() -> None:
    """The offsets of the index are wrong then, and keyframes are searched for."""
    for data in (DATA[: OFFSETS[2] + 3] + DATA[OFFSETS[2] + 7 :], DATA[: OFFSETS[2]] + b"\x07some more" + DATA[OFFSETS[2] :]):
        played = play(io.BytesIO(data), resilient=True)
        good = [frame for number, frame in enumerate(played.frames) if number < 2 or frame >= 4]
        assert good[-8:] == list(range(4, FRAMES))
        assert played.player.lost in (2, 3)


def test_packets_that_cannot_be_decoded_though_they_are_whole() -> None:
    for wrong in ((0,), (2,), (4,), (5, 7), (8, 9, 10)):
        for enhance in (False, True):
            played = play(io.BytesIO(DATA), enhance=enhance, resilient=True, wrong=wrong)
            assert (played.frames, played.player.lost) == (survivors(*wrong, enhance=enhance), gone(*wrong))
            assert played.notes[0].endswith("lost (it is wrong)")


@pytest.mark.parametrize("source", [io.BytesIO, Pipe])
def test_nothing_can_be_decoded(source: type) -> None:
    data = damaged(*(OFFSETS[k] + 6 for k in KEYFRAMES))
    with pytest.raises(NvcError, match=r"nothing of a.nvc can be decoded \(its CRC-32 does not match\); get a fresh copy of it"):
        play(source(data), resilient=True)
    with pytest.raises(NvcError, match="nothing"):
        play(source(DATA), resilient=True, wrong=KEYFRAMES)
    with pytest.raises(NvcError, match="nothing"):
        play(source(DATA[: OFFSETS[0]]), resilient=True)


def test_noise_never_raises_anything_else() -> None:
    random = Random(3)
    for _ in range(150):
        data = bytearray(DATA)
        for _ in range(random.randrange(1, 8)):
            place, length = random.randrange(OFFSETS[0], len(data)), random.randrange(1, 60)
            data[place : place + random.choice((0, length))] = random.randbytes(random.choice((0, length)))
        for source in (io.BytesIO, Pipe):
            try:
                played = play(source(bytes(data)), resilient=True)
            except NvcError:
                continue
            assert len(played.frames) <= 3 * FRAMES


def hostile(kind: str) -> bytes:
    """Much in which everything seems to be a long packet or an index."""
    length = 2 * 33 * 19  # bytes, about what the picture allows
    head = {
        "packets": bytes((64, 0x80 | length & 127, length >> 7)),
        "indexes": b"\xfe\xff\xff\x03",
        "endless": b"\x40\xff\xff\xff\x7f",
    }[kind]
    return DATA[: OFFSETS[1]] + head * (60_000 // len(head)) + DATA[OFFSETS[4] :]


@pytest.mark.parametrize("kind", ["packets", "indexes", "endless"])
@pytest.mark.parametrize("source", [io.BytesIO, Pipe])
def test_work_is_bounded(kind: str, source: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salvage, "EFFORT", 8)
    checked = 0

    def counting(data: bytes) -> bool:
        nonlocal checked
        checked += len(data)
        return intact(data)

    monkeypatch.setattr(salvage, "intact", counting)
    data = hostile(kind)
    played = play(source(data), resilient=True)
    assert played.frames[0] == 0 and (played.frames[-1] == FRAMES - 1 or kind == "packets")
    assert checked <= 9 * len(data) + 20_000


def test_parts_that_change_places_are_noticed() -> None:
    """Two keyframes, each with three frames after it, whose packets take as many bytes."""
    data, offsets = stream([dataclasses.replace(packet, payload=STATE + bytes(8)) for packet in packets()])
    first, second = (data[offsets[frame] : offsets[frame + 4]] for frame in (0, 5))
    swapped = data[: offsets[0]] + second + data[offsets[4] : offsets[5]] + first + data[offsets[9] :]
    with pytest.raises(StreamError, match="not that of the frames before it"):
        list(StreamReader(io.BytesIO(swapped), "a.nvc"))
    played = play(io.BytesIO(swapped), resilient=True)
    assert played.frames[5:] == [5, 6, 7, 8, 9, 10, 11] and played.player.lost == 5


def test_an_index_that_lies_costs_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names a keyframe every 13 bytes, where there is none."""
    monkeypatch.setattr(salvage, "EFFORT", 8)
    index = Index()
    index.add(True, OFFSETS[0], int.from_bytes(DATA[: OFFSETS[1]][-4:], "little"))
    for i in range(2000):
        index.add(True, OFFSETS[1] + 13 * i, i)

    class File(io.BytesIO):
        total = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            File.total += len(data)
            return data

    data = DATA[: OFFSETS[1]] + (b"\x40\xff\x09" + bytes(10)) * 2000 + index.pack() + END_MARKER
    assert play(File(data), resilient=True).frames == 2001 * [0]
    assert File.total <= 10 * len(data) + 20_000


def test_memory_is_bounded() -> None:
    class Ahead(Pipe):
        largest = 0

        def readinto(self, buffer) -> int:
            Ahead.largest = max(Ahead.largest, len(buffer))
            return super().readinto(buffer)

    data = DATA[: OFFSETS[1]] + b"\x40\xff\xff\x3f" * 1000 + DATA[OFFSETS[4] :]
    assert play(Ahead(data), resilient=True).frames[-1] == FRAMES - 1
    assert Ahead.largest < 10_000


# ---- with the real decoder --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(weights_file: Path) -> EncoderModel:
    return load_encoder(str(weights_file))


@pytest.fixture(scope="module")
def real_stream(real: EncoderModel) -> tuple[bytes, list[int]]:
    """Nine frames of 33x19 with keyframes 0, 3, 6, most of which are to be enhanced."""
    encoder = Encoder(real, 4, 3, True, effort="fast")
    coded = [encoded.packet for frame in pictures(33, 19, 9) for encoded in encoder.encode(frame)]
    coded = [dataclasses.replace(packet, enhance_last=t != 5) for t, packet in enumerate(coded)]
    assert [packet.keyframe for packet in coded] == 3 * [True, False, False]
    return stream(coded, dataclasses.replace(HEADER, model=real.name, weights_hash=real.hash))


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "enhanced"])
def seen(request: pytest.FixtureRequest, real: EncoderModel, real_stream: tuple[bytes, list[int]]):
    """Plays a part of the stream, and the pictures of the whole."""
    header = dataclasses.replace(HEADER, model=real.name, weights_hash=real.hash)

    def see(data: bytes, start: int = 0, stop: int | None = None, resilient: bool = False) -> list[bytes]:
        decoder = Decoder(header, real, request.param, name="a.nvc")
        played = play(io.BytesIO(data), start, stop, resilient=resilient, decoder=decoder)
        return [b"".join(plane.tobytes() for plane in frame.planes) for frame in played.frames]

    return see, see(real_stream[0])


@pytest.mark.parametrize("start, stop", [(1, 2), (2, 3), (2, 4), (3, 4), (4, 6), (5, 6), (5, 7), (8, None), (7, 9)])
def test_pictures_of_a_part(seen, real_stream: tuple[bytes, list[int]], start: int, stop: int | None) -> None:
    see, whole = seen
    assert len(set(whole)) == len(whole) == 9
    assert see(real_stream[0], start, stop) == whole[start:stop]


def test_pictures_of_a_damaged_stream(seen, real_stream: tuple[bytes, list[int]]) -> None:
    see, whole = seen
    data, offsets = real_stream
    found = see(damaged(offsets[4] + 9, data=data), resilient=True)
    assert found[:3] == whole[:3] and found[6:] == whole[6:]
    assert found[3] == found[4] == found[5]
    assert len(set(see(damaged(offsets[0] + 9, data=data), stop=5, resilient=True)[:3])) == 1
