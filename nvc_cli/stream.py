"""The .nvc container: a header, tracks, one packet a frame, an index, an end marker. stream.md beside this file describes the layout.

Both directions run strictly forward, so that a stream can go to a pipe and come from one. A file can be entered at any
keyframe of its index.
"""

from __future__ import annotations

import io
import sys
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from models.stages import staged
from nvc_cli.errors import NvcError
from nvc_cli.fields import CRC_BYTES, Source, seal, sealed, varint
from nvc_cli.frame import Color, Frame, Orientation, VideoInfo
from nvc_cli.index import END_MARKER, MARK, Index, Keyframe, load
from nvc_cli.switches import Switches
from nvc_cli.tracks import DESCRIPTION, MAX_BODY, MAX_TERM, MAX_TIME, MAX_TRACKS, SAMPLE, Sample, Track, pack_sample, pack_track, parse_sample, parse_track

if TYPE_CHECKING:
    from models.weights import DecoderModel, Model

MAGIC = b"NVC"
VERSION = 10

MAX_SIDE = 16384  # samples
MAX_PAYLOAD = 2**28 - 1  # bytes; its varint has at most four
MAX_FORMAT = 32  # characters
MAX_MODEL = 64  # characters
RATES = 64
KEYFRAME = RATES  # the bit of a packet's first byte above its rate point
HASH_BYTES = 8
MIRRORED = 4  # the bit of the orientation above its quarters of a turn


class StreamError(NvcError):
    """The bytes are not a stream that can be read. `frame` is the number of the frame at fault, None for the header."""

    def __init__(self, message: str, frame: int | None = None) -> None:
        super().__init__(message)
        self.frame = frame


class Truncated(StreamError):
    """The stream stops before its end marker. All whole frames, numbers 0 to `frame` - 1, were delivered."""


@dataclass(frozen=True)
class Gap:
    """Frames that are missing, and why. Unless `exact`, there may be more of them than the frames' numbers say."""

    reason: str
    exact: bool


@dataclass(frozen=True)
class Header:
    """What a decoder must know before the first frame: picture size in luma samples, rate in frames a second, model.

    Where the distance of frames varies, their packets have times in units of `tick` seconds. `tracks` are sound and subtitles.
    """

    width: int
    height: int
    fps: Fraction
    color: Color
    sar: Fraction
    source_format: str
    model: str
    weights_hash: bytes
    orientation: Orientation = Orientation()
    tick: Fraction | None = None
    tracks: tuple[Track, ...] = ()

    @classmethod
    def of(cls, info: VideoInfo, model: Model | DecoderModel, tracks: tuple[Track, ...] = ()) -> Header:
        """The header of a video that a model codes."""
        return cls(
            info.width, info.height, info.fps, info.color, info.sar, info.source_format, model.name, model.hash, info.orientation, info.tick, tracks
        )

    @property
    def info(self) -> VideoInfo:
        """What the decoded pictures are."""
        return VideoInfo(self.width, self.height, self.fps, color=self.color, sar=self.sar, orientation=self.orientation, tick=self.tick)


@dataclass(frozen=True)
class Packet:
    """One coded frame. `rate` is the rate point, 0 to 63; `checksum` the `picture_checksum` of the decoded picture.

    `time` is in ticks after the first frame, None in a stream without a tick.

    `payload` is the entropy coder's; in the stream the flags are pushed onto it. Keyframes have neither filter nor refresh.
    `enhance_last` is about the frame before: with this one known, the filter out of the loop improves it.
    """

    keyframe: bool
    rate: int
    filtered: bool
    refresh: bool
    enhance_last: bool
    payload: bytes
    checksum: int
    time: int | None = None

    @property
    def flags(self) -> dict[str, bool]:
        """Those that are in the payload, in order."""
        return {name: getattr(self, name) for name in _flag_names(self.keyframe)}


def check_pixels(header: Header, most: int, name: str) -> None:
    """NvcError if pictures have more luma samples than `most`: a few bytes must not make a decoder take any amount of memory."""
    if header.width * header.height > most:
        raise NvcError(
            f"{name}: its pictures of {header.width}x{header.height} have more than {most} pixels, the most that are decoded; "
            f"if the file is to be trusted, allow more by --max-pixels {header.width * header.height}"
        )


@staged("checksum")
def picture_checksum(frame: Frame) -> int:
    """16 bits that prove a decoded picture right: the CRC-32 of the planes y, u, v, each in raster order, without
    padding, its upper half XORed onto its lower half."""
    crc = 0
    for plane in frame.planes:
        crc = zlib.crc32(np.ascontiguousarray(plane).data, crc)
    return (crc >> 16) ^ (crc & 0xFFFF)


def pack_header(header: Header) -> bytes:
    """The header as bytes. Raises ValueError, with the reason, for what the layout cannot hold."""
    _check_header(header)
    color, body = header.color, bytearray()
    for number in (header.width, header.height, *header.fps.as_integer_ratio(), *header.sar.as_integer_ratio()):
        body += varint(number)
    body += bytes((color.primaries, color.transfer, color.matrix, color.full_range))
    body += bytes((header.orientation.quarters | MIRRORED * header.orientation.mirrored,))
    for number in header.tick.as_integer_ratio() if header.tick else (0, 1):
        body += varint(number)
    body += bytes((len(header.tracks),))
    for text in (header.source_format, header.model):
        body += bytes((len(text),)) + text.encode("ascii")
    body += header.weights_hash
    return sealed(MAGIC + bytes((VERSION, len(body))) + body) + b"".join(map(pack_track, header.tracks))


def packed_header(header: Header) -> bytes:
    """The same, but raises NvcError."""
    try:
        return pack_header(header)
    except ValueError as problem:
        raise NvcError(f"the video cannot be written as an nvc stream because {problem}; convert it first") from None


def pack_packet(packet: Packet, switches: Switches, last: int | None = None) -> bytes:
    """The packet as bytes, and what came before it noted in `switches`; `last` is the time of the packet before it.

    Raises ValueError for what the layout cannot hold.
    """
    if not 0 <= packet.rate < RATES:
        raise ValueError(f"rate {packet.rate} is not in 0..{RATES - 1}")
    if not 0 <= packet.checksum <= 0xFFFF:
        raise ValueError(f"checksum {packet.checksum} does not fit 16 bits")
    if packet.keyframe:
        if packet.filtered or packet.refresh:
            raise ValueError("a keyframe has neither filter nor refresh")
        switches.reset()
    payload = _pack_time(packet, last) + switches.push(packet.payload, packet.flags)
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} bytes exceeds {MAX_PAYLOAD}")
    start = bytes((KEYFRAME * packet.keyframe | packet.rate,)) + varint(len(payload))
    return sealed(start + payload + packet.checksum.to_bytes(2, "little"))


def _pack_time(packet: Packet, last: int | None) -> bytes:
    """In a keyframe after the first frame of all, else after the frame before."""
    if packet.time is None:
        return b""
    if not (0 if last is None else last + 1) <= packet.time <= MAX_TIME:
        raise ValueError(f"a frame at {packet.time} ticks does not come after one at {last}")
    return varint(packet.time if packet.keyframe or last is None else packet.time - last)


class StreamWriter:
    """Writes a stream to a binary file or pipe, every packet flushed as it is complete.

    `finish` writes the index and the end marker; as a context manager the writer does so itself, unless an exception passes.
    `size` counts the bytes, `side` those of them that are of tracks, and `frames` the frames written so far.
    """

    def __init__(self, file: BinaryIO, header: Header) -> None:
        """Write the header. Raises NvcError when the layout cannot hold it."""
        start = packed_header(header)
        self._file = file
        self._switches = Switches()
        self._index = Index()
        self._finished = False
        self.header = header
        self._timed = header.tick is not None
        self._last: int | None = None  # time of the frame before
        self.size = 0
        self.side = sum(len(pack_track(track)) for track in header.tracks)
        self.frames = 0
        self._send(start)
        self._end = self.size  # of the last packet

    @staged("writing")
    def write(self, packet: Packet) -> int:
        """Append one frame; returns its bytes.

        Raises ValueError for a first frame that is no keyframe, a time that there should not be or that does not rise, and after `finish`.
        """
        if self._finished:
            raise ValueError("the stream is finished")
        if self.frames == 0 and not packet.keyframe:
            raise ValueError("the first frame must be a keyframe")
        if self._timed != (packet.time is not None):
            raise ValueError("all frames of a stream with a tick have a time, and no others")
        before = self.size
        data = pack_packet(packet, self._switches, self._last)
        self._send(data)
        self._last = packet.time
        self._index.add(packet.keyframe, self._end, seal(data))
        self._end = self.size
        self.frames += 1
        return self.size - before

    def write_sample(self, sample: Sample) -> None:
        """Append a piece of a track. Raises ValueError where the layout cannot hold it, and after `finish`."""
        if self._finished:
            raise ValueError("the stream is finished")
        data = pack_sample(sample)
        self._send(data)
        self.side += len(data)

    def finish(self) -> None:
        """Write the index and the end marker, once. The file stays open."""
        if not self._finished:
            self._send(self._index.pack() + END_MARKER)
            self._finished = True

    def _send(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:  # an unbuffered file may take a part only
            rest = rest[self._file.write(rest) :]
        self._file.flush()
        self.size += len(data)

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.finish()


class StreamReader:
    """Reads a stream from a binary file or pipe: `header` at once, then the packets by iteration, each as soon as its
    last byte has arrived. Never asks for a byte beyond the packet in hand, and seeks only if told to.

    `frames` is the number of the packet that comes next, `size` counts the bytes of the stream before it, and `packet_size`
    those of the one before. `name` is for messages.
    Raises StreamError or Truncated, here for the header and from the iteration for a frame.
    """

    gap: Gap | None = None
    """What is missing right before the last packet, or the end. Here nothing ever is, but `Salvager` goes on after a fault."""
    uncounted = 0
    """Frames that are missing besides those that the frames' numbers tell of."""
    surplus = 0
    """Frames that are there besides those that the index tells of."""
    silent = 0
    """Pieces of tracks that are missing."""
    on_sample: Callable[[Sample], None] | None = None
    """Called with every piece of a track that is met while packets are read."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._start = file.tell() if file.seekable() else 0
        self._source = Source(file)
        self._switches = Switches()
        self._index = Index()  # of the packets read so far
        self.name = name
        self.frames = 0
        self.header = self._read_start()
        self._time: int | None = None  # of the frame before
        self.size, self.packet_size = self._source.size, 0
        self._packets = self._read_packets()

    def __iter__(self) -> Iterator[Packet]:
        return self._packets

    def seek(self, place: int) -> int | None:
        """Before the first packet is read: go to the last keyframe at or before a place, if the file can be sought and ends with a
        whole index; else stay. A place is the number of a frame, in a stream with a tick a time. Returns the number of frames in the
        stream where the index tells it."""
        index = load(self._file, self._start)
        if index is None:
            return None
        keyframe = index.last(place) if self.header.tick is None else self._last_before(index, place)
        if keyframe:
            self._enter(index, keyframe)
        return index.frames

    def _last_before(self, index: Index, time: int) -> Keyframe | None:
        """The last keyframe at or before a time; None where one in the middle cannot be read."""
        keyframes = list(index)
        try:
            after = bisect_right(keyframes, time, key=self._time_of)
        except (EOFError, ValueError):
            after = 0
        finally:
            self._file.seek(self._start + self.size)
        return keyframes[after - 1] if after else None

    def _time_of(self, keyframe: Keyframe) -> int:
        """Raises ValueError or EOFError where no keyframe stands at its place."""
        self._file.seek(self._start + keyframe.offset)
        source = Source(self._file)
        while (head := source.byte()) == SAMPLE:
            source.take(source.varint(MAX_BODY) + CRC_BYTES)
        if head & ~KEYFRAME >= RATES or not head & KEYFRAME:
            raise ValueError("not a keyframe")
        source.varint(MAX_PAYLOAD)
        return source.varint(MAX_TIME)

    def _enter(self, index: Index, keyframe: Keyframe) -> None:
        self._file.seek(self._start + keyframe.offset)
        self._index = index.until(keyframe)
        self.frames = keyframe.frame
        self.size = self._source.size = keyframe.offset

    def _read_start(self) -> Header:
        """The header, with the tracks."""
        header, tracks = self._read_header()
        found = []
        for number in range(tracks):
            self._source.crc = 0
            try:
                if self._source.byte() != DESCRIPTION:
                    raise ValueError
                found.append(parse_track(self._sealed_body()))
            except EOFError:
                raise Truncated(f"{self.name} ends inside its tracks; get a complete copy of it", 0) from None
            except ValueError:
                raise StreamError(f"the description of track {number} of {self.name} is damaged; get a fresh copy of the file") from None
        return replace(header, tracks=tuple(found))

    def _read_header(self) -> tuple[Header, int]:
        """The header without the tracks, and their number."""
        source, name = self._source, self.name
        try:
            if any(source.byte() != expected for expected in MAGIC):
                raise StreamError(f"{name} is not an nvc stream; name a file that `nvc encode` wrote")
            version = source.byte()
            if version != VERSION:
                raise StreamError(
                    f"{name} is an nvc stream of version {version}, which this program does not know (it reads version "
                    f"{VERSION}); install the nvc that wrote it, or encode the video again"
                )
            body = source.take(source.byte())
            sealed = source.check_seal()
        except EOFError:
            raise Truncated(f"{name} ends inside its header; get a complete copy of it", 0) from None
        if not sealed:
            raise StreamError(f"the header of {name} is damaged; get a fresh copy of the file")
        try:
            return _parse_header_body(body)
        except (EOFError, ValueError) as problem:
            reason = str(problem) or "it is too short"
            raise StreamError(
                f"the header of {name} holds data that this program does not know ({reason}); install a newer nvc"
            ) from None

    def _read_packets(self) -> Iterator[Packet]:
        while (packet := self._read_packet()) is not None:
            self._index.add(packet.keyframe, self.size, self._source.seal)
            self.frames += 1
            self.packet_size = self._source.size - self._begin
            self.size = self._source.size
            yield packet
        self.size = self._source.size

    @staged("reading")
    def _read_packet(self) -> Packet | None:
        """The next packet, or None at the end of the stream."""
        source, frame = self._source, self.frames
        while (head := self._read_head()) == SAMPLE:
            self._pass_sample()
        if head == MARK[0]:
            self._expect_index_and_end()
            return None
        if head == END_MARKER[0]:
            raise self._damaged("an end marker stands in its place, without the index that comes before one")
        if head >= 2 * KEYFRAME:
            raise self._damaged(f"it begins with {head:#04x}, which this program does not know")
        keyframe, rate = bool(head & KEYFRAME), head % KEYFRAME
        try:
            length = source.varint(MAX_PAYLOAD)
            payload = source.take(length)
            checksum = int.from_bytes(source.take(2), "little")
            sealed = source.check_seal()
        except EOFError:
            raise self._truncated(f"ends inside frame {frame}") from None
        except ValueError as problem:
            raise self._damaged(f"payload length: {problem}") from None
        if not sealed:
            raise self._damaged("its CRC-32 does not match")
        if frame == 0 and not keyframe:
            raise self._damaged("the first frame is not a keyframe")
        try:
            return self._packet(keyframe, rate, payload, checksum)
        except ValueError as problem:
            raise self._damaged(str(problem)) from None

    def _read_head(self) -> int:
        self._source.crc = 0
        self._begin = self._source.size
        try:
            return self._source.byte()
        except EOFError:
            raise self._truncated(f"ends before frame {self.frames} or an end marker") from None

    def _sealed_body(self) -> bytes:
        """What comes after the head of something that is not a picture's packet. Raises EOFError, and ValueError where it is damaged."""
        body = self._source.take(self._source.varint(MAX_BODY))
        if not self._source.check_seal():
            raise ValueError("its CRC-32 does not match")
        return body

    def _pass_sample(self) -> None:
        """Read what comes after the head of a piece of a track, and hand it on."""
        try:
            sample = parse_sample(self._sealed_body(), len(self.header.tracks))
        except EOFError:
            raise self._truncated(f"ends inside sound or subtitles before frame {self.frames}") from None
        except ValueError as problem:
            raise self._damaged(f"before it stands sound or a subtitle that is damaged: {problem}") from None
        if self.on_sample:
            self.on_sample(sample)

    def _packet(self, keyframe: bool, rate: int, payload: bytes, checksum: int) -> Packet:
        """Raises ValueError for a payload without flags, or without the time that it should have."""
        if keyframe:
            self._switches.reset()
        time, payload = self._parse_time(keyframe, payload)
        flags, payload = self._switches.pull(payload, _flag_names(keyframe))
        self._time = time
        return Packet(keyframe, rate, flags.get("filtered", False), flags.get("refresh", False), flags["enhance_last"], payload, checksum, time)

    def _parse_time(self, keyframe: bool, payload: bytes) -> tuple[int | None, bytes]:
        """A packet's time, and the rest of its payload."""
        if self.header.tick is None:
            return None, payload
        source = Source(io.BytesIO(payload))
        try:
            time = source.varint(MAX_TIME)
        except EOFError:
            raise ValueError("its payload has no time") from None
        if not keyframe:
            time += self._time or 0
        if time > MAX_TIME or (self._time is not None and time <= self._time):
            raise ValueError("its time is not after that of the frame before")
        return time, payload[source.size :]

    def _expect_index_and_end(self) -> None:
        """Read the rest of the index, which must be that of the packets before it, and the end marker."""
        expected = self._index.pack()[len(MARK) :] + END_MARKER
        try:
            found = self._source.take(len(expected))
        except EOFError:
            raise self._truncated("ends inside its index") from None
        if found != expected:
            raise self._damaged("an index stands in its place, but not that of the frames before it")
        try:
            self._source.byte()
        except EOFError:
            return
        raise self._damaged("an index and an end marker stand in its place, but data follow them")

    def _damaged(self, reason: str) -> StreamError:
        message = f"frame {self.frames} of {self.name} cannot be read ({reason}); {self._remedy()}, or try nvc decode --resilient"
        return StreamError(message, self.frames)

    def _truncated(self, how: str) -> Truncated:
        return Truncated(f"{self.name} {how}; {self._remedy()}", self.frames)

    def _remedy(self) -> str:
        if self.frames == 0:
            return "get a fresh copy of it"
        return f"{_count(self.frames)} before that can be used, get a fresh copy of it for the rest"


@contextmanager
def open_stream(source: str, reader: type[StreamReader] = StreamReader) -> Iterator[StreamReader]:
    """Open a stream by file name, `-` for standard input. Raises NvcError, StreamError, Truncated."""
    if source == "-":
        yield reader(sys.stdin.buffer, "standard input")
        return
    try:
        file = open(source, "rb")
    except OSError as error:
        reason = error.strerror or "unknown reason"
        raise NvcError(f"{source} cannot be opened ({reason}); name an .nvc file, or - for standard input") from None
    with file:
        yield reader(file, source)


def _parse_header_body(body: bytes) -> tuple[Header, int]:
    """The header without its tracks, and their number. Raises ValueError or EOFError when the body is not exactly one known header."""
    source = Source(io.BytesIO(body))
    width, height = source.varint(MAX_SIDE), source.varint(MAX_SIDE)
    terms = [source.varint(MAX_TERM) for _ in range(4)]
    if 0 in terms:
        raise ValueError("a fraction holds a zero")
    primaries, transfer, matrix, full_range = source.take(4)
    if full_range > 1:
        raise ValueError(f"the colour range is {full_range}")
    orientation = source.byte()
    if orientation >= 2 * MIRRORED:
        raise ValueError(f"the orientation is {orientation}")
    ticks, unit = source.varint(MAX_TERM), source.varint(MAX_TERM)
    if not unit or (not ticks and unit > 1):
        raise ValueError("the unit of time is no fraction")
    tracks = source.byte()
    header = Header(
        width=width,
        height=height,
        fps=Fraction(terms[0], terms[1]),
        color=Color(primaries, transfer, matrix, bool(full_range)),
        sar=Fraction(terms[2], terms[3]),
        source_format=source.text(MAX_FORMAT),
        model=source.text(MAX_MODEL),
        weights_hash=source.take(HASH_BYTES),
        orientation=Orientation(orientation % MIRRORED, orientation >= MIRRORED),
        tick=Fraction(ticks, unit) if ticks else None,
    )
    if source.size < len(body):
        raise ValueError(f"{len(body) - source.size} bytes too many")
    if tracks > MAX_TRACKS:
        raise ValueError(f"there are {tracks} tracks")
    _check_header(header)
    return header, tracks


def _check_header(header: Header) -> None:
    """Raises ValueError, with the reason, for a header outside the limits of the format."""
    if not (1 <= header.width <= MAX_SIDE and 1 <= header.height <= MAX_SIDE):
        raise ValueError(f"its size of {header.width}x{header.height} is not within 1 to {MAX_SIDE} samples a side")
    for what, value in (("frame rate", header.fps), ("sample aspect ratio", header.sar)):
        if not (value > 0 and max(value.as_integer_ratio()) <= MAX_TERM):
            raise ValueError(f"its {what} of {value} is not positive or too long a fraction")
    if header.tick is not None and not (header.tick > 0 and max(header.tick.as_integer_ratio()) <= MAX_TERM):
        raise ValueError(f"its unit of time {header.tick} is not positive or too long a fraction")
    if len(header.tracks) > MAX_TRACKS:
        raise ValueError(f"it has more than {MAX_TRACKS} tracks")
    color = header.color
    if not all(0 <= code <= 255 for code in (color.primaries, color.transfer, color.matrix)):
        raise ValueError("its colour codes are not within 0 to 255")
    for what, text, limit in (("source format", header.source_format, MAX_FORMAT), ("model", header.model, MAX_MODEL)):
        if not (1 <= len(text) <= limit and text.isascii() and text.isprintable()):
            raise ValueError(f"its {what} {text!r} is not 1 to {limit} printable ASCII characters")
    if len(header.weights_hash) != HASH_BYTES:
        raise ValueError(f"its hash of the weights has not {HASH_BYTES} bytes")


def _flag_names(keyframe: bool) -> tuple[str, ...]:
    return ("enhance_last",) if keyframe else ("filtered", "refresh", "enhance_last")


def _count(frames: int) -> str:
    return f"the {frames} frames" if frames > 1 else "the one frame"
