"""`nvc concat`: several .nvc streams, one after the other, as one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click

from nvc_cli.errors import NvcError
from nvc_cli.files import STDOUT, publish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvc_cli.stream import Header, Packet, StreamReader

FIELDS = {"frame rate": "fps", "colour": "color", "sample aspect ratio": "sar", "model": "model", "hash of weights": "weights_hash"}
"""What streams must agree on beside the size of their pictures. The format of their sources is for information only: it is the first one's."""


@click.command()
@click.argument("sources", metavar="IN.nvc...", nargs=-1, required=True)
@click.option("-o", "--output", "target", required=True, metavar="OUT.nvc", help="Where the stream goes; - for standard output.")
@click.option("-y", "--overwrite", is_flag=True, help="Overwrite the output if it exists.")
def command(sources: tuple[str, ...], target: str, overwrite: bool) -> None:
    """Join .nvc streams, one after the other, into one, without decoding them.

    Their pictures must be of one size, rate, colour and model. One of the inputs may be - for standard input.
    """
    if sources.count("-") > 1:
        raise click.UsageError("standard input can be read only once; name - once")
    from nvc_cli.stream import StreamWriter, open_stream

    with publish(target, overwrite) as file:
        writer, first = None, ""
        for source in sources:
            with open_stream(source) as reader:
                if writer is None:
                    header, first = reader.header, reader.name
                    writer = StreamWriter(file, header)
                _check(header, first, reader)
                for packet in _packets(reader, writer.frames == 0):
                    writer.write(packet)
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


def _packets(reader: StreamReader, begins: bool) -> Iterator[Packet]:
    """The packets of a stream. Unless the joined stream `begins` with it, its first one now has a picture before it, which is none of its own:
    no enhancement was tried there."""
    for packet in reader:
        yield replace(packet, enhance_last=False) if reader.frames == 1 and not begins else packet


def _shown(value: object) -> str:
    """A field of a header in words."""
    from nvc_cli.frame import Color

    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, Color):
        return f"{value.primaries}/{value.transfer}/{value.matrix} {'full' if value.full_range else 'limited'}"
    return str(value)
