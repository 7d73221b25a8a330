"""`nvc concat`: several .nvc streams, one after the other, as one."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from nvc_cli.completion import files
from nvc_cli.errors import NvcError
from nvc_cli.files import STDOUT, publish

if TYPE_CHECKING:
    from nvc_cli.stream import Header, Packet, StreamReader, StreamWriter
    from nvc_cli.tracks import Sample

FIELDS = {"frame rate": "fps", "colour": "color", "sample aspect ratio": "sar", "model": "model", "hash of weights": "weights_hash"}
FIELDS |= {"orientation": "orientation", "unit of time": "tick", "sound and subtitles": "tracks"}
"""What streams must agree on beside the size of their pictures. The format of their sources is for information only: it is the first one's."""


@click.command()
@click.argument("sources", metavar="IN.nvc...", nargs=-1, required=True, shell_complete=files)
@click.option("-o", "--output", "target", required=True, metavar="OUT.nvc", shell_complete=files, help="Where the stream goes; - for standard output.")
@click.option("-y", "--overwrite", is_flag=True, help="Overwrite the output if it exists.")
def command(sources: tuple[str, ...], target: str, overwrite: bool) -> None:
    """Join .nvc streams, one after the other, into one, without decoding them.

    Their pictures must be of one size, rate, colour and model, and their sound and subtitles of the same codecs. One of the inputs may be - for standard input.
    """
    if sources.count("-") > 1:
        raise click.UsageError("standard input can be read only once; name - once")
    from nvc_cli.stream import StreamWriter, open_stream

    with publish(target, overwrite) as file:
        writer, first, last = None, "", None
        for source in sources:
            with open_stream(source) as reader:
                if writer is None:
                    header, first = reader.header, reader.name
                    writer = StreamWriter(file, header)
                _check(header, first, reader)
                joint = Joint(writer, last)
                reader.on_sample = joint.sample
                for packet in reader:
                    last = joint.packet(packet, reader.frames == 1)
                    writer.write(last)
        assert writer  # there is a source at least
        writer.finish()
    count = f"{len(sources)} streams" if len(sources) > 1 else "one stream"
    name = "standard output" if target == STDOUT else target
    click.echo(f"joined {count} to {name}: {writer.frames} frames, {writer.size} bytes", err=True)


def _check(header: Header, first: str, reader: StreamReader) -> None:
    """Raises NvcError, with what differs, for a stream that cannot follow one with this header."""
    other = reader.header
    pairs = {"size": tuple(f"{h.width}x{h.height}" for h in (header, other))}
    pairs |= {name: (getattr(header, field), getattr(other, field)) for name, field in FIELDS.items()}
    for name, (ours, theirs) in pairs.items():
        if ours != theirs:
            raise NvcError(f"{reader.name} cannot follow {first}: its {name} is {_shown(theirs)}, not {_shown(ours)}; encode its source again to match")


class Joint:
    """What becomes of a stream that follows what is written already, whose last packet, if there is one, is `last`."""

    def __init__(self, writer: StreamWriter, last: Packet | None) -> None:
        header = writer.header
        self._writer, self._begins = writer, last is None
        self._start = writer.frames / header.fps  # in seconds
        self._ticks = 0
        if last and last.time is not None and header.tick:
            self._ticks = last.time + max(1, round(1 / (header.fps * header.tick)))
            self._start = self._ticks * header.tick

    def packet(self, packet: Packet, first: bool) -> Packet:
        """One of its packets. The first one has a picture before it now, which is none of its own: no enhancement was tried there."""
        time = None if packet.time is None else packet.time + self._ticks
        return replace(packet, time=time, enhance_last=packet.enhance_last and (self._begins or not first))

    def sample(self, sample: Sample) -> None:
        """Write a piece of one of its tracks."""
        tick = self._writer.header.tracks[sample.track].tick
        self._writer.write_sample(replace(sample, time=sample.time + round(self._start / tick)))


def _shown(value: object) -> str:
    """A field of a header in words."""
    from nvc_cli.frame import Color, Orientation

    if isinstance(value, tuple):
        return ", ".join(f"{track.kind} in {track.codec} ({zlib.crc32(track.media):08x})" for track in value) or "none"
    if isinstance(value, Orientation):
        return f"{90 * value.quarters} degrees{' mirrored' if value.mirrored else ''}"
    if value is None:
        return "none, at a constant rate"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Color):
        return f"{value.primaries}/{value.transfer}/{value.matrix} {'full' if value.full_range else 'limited'}"
    return str(value)
