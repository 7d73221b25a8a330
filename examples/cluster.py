"""Encode a long video on many machines, with Dask (`pip install "nvc-codec[cluster]"`).

    dask scheduler                                                on one machine, which prints its address
    dask worker tcp://HOST:8786 --nworkers 4 --nthreads 1         on every machine that is to encode
    python examples/cluster.py film.mkv -o film.nvc --scheduler tcp://HOST:8786

Without --scheduler, the cores of this machine do it. The video is read here, once, and cut into segments from keyframe to
keyframe. Each goes to a worker as raw planes and comes back as packets, so the machines need no folder in common: only nvc,
and where --model is a file, that file in the same place. A worker that is lost is replaced by another one. The stream is the
one that `nvc encode` writes, to the bit, where a worker has as many threads as that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from nvc_cli.effort import Effort
from nvc_cli.jobs import Part, Recipe, encode_segment, joined
from nvc_cli.segments import Borders, Segment, spool
from nvc_cli.stream import Header

if TYPE_CHECKING:
    from distributed import Client

    from nvc_cli.video import VideoReader


def work(planes: bytes, segment: Segment, recipe: Recipe) -> Part:
    """On a worker: encode a segment."""
    return encode_segment(segment.read(BytesIO(planes), recipe.info), segment.first, segment.frames, recipe)


def encode(client: Client, reader: VideoReader, borders: Borders, recipe: Recipe) -> Iterator[Part]:
    """The segments of a video, encoded, in order. Twice as many as there are workers are under way, so none waits for the next."""
    pending: deque = deque()
    with TemporaryDirectory(prefix="nvc-") as folder:
        for segment in spool(reader, borders, Path(folder)):
            pending.append(client.submit(work, segment.path.read_bytes(), segment, recipe, pure=False))
            segment.path.unlink()
            while len(pending) >= 2 * max(1, len(client.nthreads())):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@click.command()
@click.argument("source")
@click.option("-o", "--output", "target", required=True, metavar="OUT.nvc")
@click.option("--scheduler", metavar="ADDRESS", help="Of Dask's scheduler.  [default: one of our own, for this machine]")
@click.option("--qp", type=float, default=3.0, show_default=True, help="Quality, as of nvc encode.")
@click.option("--keyint", type=click.IntRange(1), default=256, show_default=True, help="Most frames of a segment.")
@click.option("--model", default="tiny", show_default=True, metavar="NAME|FILE")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each worker.")
@click.option("-y", "--overwrite", is_flag=True)
def main(source: str, target: str, scheduler: str | None, qp: float, keyint: int, model: str, threads: int, overwrite: bool) -> None:
    """Encode the video SOURCE on the workers of a Dask cluster."""
    import dask
    from distributed import Client, LocalCluster

    from nvc_cli.decision import Heuristic
    from nvc_cli.files import publish
    from nvc_cli.runtime import load_encoder
    from nvc_cli.stream import StreamWriter
    from nvc_cli.video import open_reader

    dask.config.set({"distributed.admin.large-graph-warning-threshold": "100GB"})  # segments are large, and few
    weights = load_encoder(model, "cpu", None)
    with open_reader(source, tracks=True) as reader, publish(target, overwrite) as file, Client(scheduler or LocalCluster(threads_per_worker=1)) as client:
        header = Header.of(reader.info, weights, reader.tracks)
        recipe = Recipe(target, header, model, "auto", threads, Heuristic(), Effort(), qp)
        with StreamWriter(file, header) as stream:
            for part in joined(encode(client, reader, Borders(keyint, True), recipe)):
                for packet in part.packets:
                    for sample in reader.beside(stream.frames, packet.time):
                        stream.write_sample(sample)
                    stream.write(packet)
                click.echo(f"{stream.frames} frames, {stream.size} bytes", err=True)
            for sample in reader.rest():
                stream.write_sample(sample)


if __name__ == "__main__":
    main()
