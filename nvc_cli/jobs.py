"""Encoding in several processes, each of which takes one segment after the other.

The frames are read once, in order, and wait on disk, so neither the source's kind nor its length matters. With a fixed quality the
packets are those of one `Encoder` for all, to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from nvc_cli.decision import Decision
from nvc_cli.errors import NvcError
from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.planar import read_raw, write_planes
from nvc_cli.rate import OnePass
from nvc_cli.segments import Borders, Segment, spool
from nvc_cli.stream import Header, Packet, pack_packet
from nvc_cli.switches import Switches
from nvc_cli.workers import Workers, abandoned, disk_errors, ready_encoder, scratch

if TYPE_CHECKING:
    from nvc_cli.effort import Effort
    from nvc_cli.encoder import Encoded
    from nvc_cli.report import Meter


@dataclass(frozen=True)
class Recipe:
    """How segments are encoded: all that a process, here or elsewhere, must know beside the frames."""

    name: str  # of the stream, for messages
    header: Header
    model: str  # name or file
    device: str  # auto, cpu or cuda
    threads: int | None  # of a process; None: as many as there are cores
    decision: Decision | None
    effort: Effort
    quality: float | OnePass  # qp; or a rate control, of which each segment gets its own
    verify: bool = False  # decode every frame and compare

    @property
    def info(self) -> VideoInfo:
        """Of the frames of a segment."""
        return self.header.info


@dataclass
class Part:
    """An encoded segment. Its first packet's `enhance_last` is not known yet."""

    packets: list[Packet] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # what each frame took
    enhance_last: bool = False  # of the keyframe that comes next: it is about this segment's last picture
    recon: Path | None = None  # planes of the decoded pictures


def encode_segment(frames: Iterable[Frame], first: int, count: int, recipe: Recipe, keep: Callable[[Frame], None] | None = None) -> Part:
    """Encode `count` frames as one segment. A frame after them is the next segment's keyframe, and only looked at.

    Args:
        first: number of the first frame in the video, for messages.
        keep: is given the pictures that every decoder will get, in order.

    Raises:
        NvcError: there is no such model or device, it is not the header's, or a frame decodes to something else.
    """
    from nvc_cli.decoder import Decoder
    from nvc_cli.encoder import Encoder

    model = ready_encoder(recipe.model, recipe.device, recipe.threads)
    part, switches = Part(), Switches()
    control = recipe.quality.anew(count) if isinstance(recipe.quality, OnePass) else recipe.quality
    encoder = Encoder(model, control, 0, recipe.decision, effort=recipe.effort)
    verifier = Decoder(recipe.header, model, name=recipe.name)
    verifier.restart(first)

    def take(ready: list[Encoded]) -> None:
        for encoded in ready:
            if recipe.verify:
                verifier.decode(encoded.packet)
            encoder.took(len(pack_packet(encoded.packet, switches)))
            if keep:
                keep(encoded.picture)
            part.packets.append(encoded.packet)

    for number, frame in enumerate(frames):
        begin = time.monotonic()
        if number == count:
            take(encoder.finish())
            part.enhance_last = encoder.helps_before(frame)
            return part
        take(encoder.encode(frame))
        part.seconds.append(time.monotonic() - begin)
    take(encoder.finish())
    return part


def joined(parts: Iterable[Part]) -> Iterator[Part]:
    """The same segments, in order, as parts of one stream: each with the flag that the one before knows."""
    enhance_last = False
    for part in parts:
        yield replace(part, packets=[replace(part.packets[0], enhance_last=enhance_last), *part.packets[1:]])
        enhance_last = part.enhance_last


def encode(frames: Iterable[Frame], borders: Borders, recipe: Recipe, jobs: int, meter: Meter, write: Callable[[Packet, Frame | None], int], recon: bool) -> None:
    """Encode a video in `jobs` processes. The frames of at most `jobs` + 1 segments wait on disk.

    Args:
        meter: is told the time that frames take.
        write: is given every packet in order, with the picture that decoders will get if `recon` is set.

    Raises:
        NvcError: what `frames` and `encode_segment` raise, or a process ended early, or the disk is full.
    """
    with scratch() as folder, Workers(jobs) as workers:
        parts = workers.results(partial(_work, segment, recipe, recon) for segment in spool(frames, borders, folder))
        for part in joined(parts):
            meter.times += part.seconds
            for packet, picture in zip(part.packets, _kept(part, recipe)):
                write(packet, picture and replace(picture, time=packet.time))


def _work(segment: Segment, recipe: Recipe, recon: bool) -> Part:
    """Encode a segment, and remove its file."""
    kept = segment.path.with_suffix(".recon") if recon else None
    try:
        with disk_errors(), segment.path.open("rb") as source, kept.open("wb") if kept else nullcontext() as file:
            frames = takewhile(lambda frame: not abandoned(), segment.read(source, recipe.info))
            part = encode_segment(frames, segment.first, segment.frames, recipe, partial(write_planes, file) if file else None)
    except NvcError as error:
        raise NvcError(str(error)) from None  # the kind that goes from process to process
    segment.path.unlink()
    return replace(part, recon=kept)


def _kept(part: Part, recipe: Recipe) -> Iterator[Frame | None]:
    """The pictures of a part, if they were kept; then their file is removed."""
    if not part.recon:
        yield from repeat(None)
        return
    with disk_errors(), part.recon.open("rb") as file:
        yield from read_raw(file, part.recon.name, recipe.info)
    part.recon.unlink()
