"""Measuring of one codec at one quality on one clip: encode, decode, compare, each in processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from nvc_cli.anchors import Anchor, decode, find_anchor, point_command
from nvc_cli.errors import NvcError
from nvc_cli.frame import Color, VideoInfo
from nvc_cli.results import NVC, NVC_ENHANCED, Point

ONE_KEYFRAME = ("--keyint", "0", "--no-scenecut")  # what the anchors are told, too


@dataclass(frozen=True)
class Settings:
    """What is measured on every clip."""

    qps: tuple[str, ...]  # of nvc, as given
    anchors: tuple[Anchor, ...]
    frames: int  # at most, per clip
    model: str
    filter: str
    decision: str | None
    effort: str
    references: int
    threads: int
    enhance: bool = False  # decode nvc's streams with the enhancement filter, too
    vmaf: bool = False

    @property
    def codecs(self) -> tuple[str, ...]:
        """The rows of tables, each of which is compared with those after it."""
        own = ([NVC_ENHANCED] if self.enhance else []) + [NVC] if self.qps else []
        return (*own, *(a.name for a in self.anchors))

    @property
    def jobs(self) -> list[Job]:
        """What is to be done on each clip, in order."""
        own = tuple(c for c in (NVC, NVC_ENHANCED) if c in self.codecs)
        jobs = [Job(NVC, qp, "qp", own) for qp in self.qps]
        return jobs + [Job(a.name, str(quality), a.scale, (a.name,)) for a in self.anchors for quality in a.qualities]


@dataclass(frozen=True)
class Job:
    """One stream to be written and measured. `codecs` are the points that it gives: two if it is decoded in two ways."""

    codec: str
    quality: str
    scale: str
    codecs: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.codec}_{self.scale}{self.quality}"


@dataclass(frozen=True)
class Clip:
    """A clip as raw 4:2:0 on disk, which all codecs read. `sha256` is of all its samples."""

    name: str
    path: Path
    width: int
    height: int
    fps: Fraction
    frames: int
    color: Color
    sha256: str

    @property
    def info(self) -> VideoInfo:
        return VideoInfo(self.width, self.height, self.fps, self.frames, self.color)


def unpack_clip(source: str, name: str, folder: Path, frames: int) -> Clip:
    """Write up to `frames` frames of any readable `source` into `folder` as raw 4:2:0. NvcError if it holds none."""
    from nvc_cli.video import open_reader, open_writer

    count, digest = 0, hashlib.sha256()
    with open_reader(source, frames=frames) as reader:
        info = reader.info
        path = folder / f"clip_{info.width}x{info.height}_{float(info.fps):g}.yuv"
        with open_writer(str(path), info) as writer:
            for frame in reader:
                writer.write(frame)
                for plane in frame.planes:
                    digest.update(plane.tobytes())
                count += 1
    if not count:
        raise NvcError(f"{source} holds no frames; leave it out")
    return Clip(name, path, info.width, info.height, info.fps, count, info.color, digest.hexdigest())


def measure(clip: Clip, folder: Path, settings: Settings, job: Job) -> tuple[list[Point], Path]:
    """The points that a job gives on a clip, and its coded file among the scratch files in `folder`. NvcError if it fails."""
    try:
        return _nvc_points(clip, folder, settings, job) if job.codec == NVC else _anchor_point(clip, folder, settings, job)
    except NvcError as error:
        raise NvcError(f"{job.codec} at {job.scale} {job.quality} failed on {clip.name}: {error}") from None


def _nvc_points(clip: Clip, folder: Path, settings: Settings, job: Job) -> tuple[list[Point], Path]:
    coded = folder / "coded.nvc"
    choices = {"--qp": job.quality, "--model": settings.model, "--filter": settings.filter}
    choices |= {"--effort": settings.effort, "--references": str(settings.references), "--threads": str(settings.threads)}
    if settings.decision:
        choices["--decision"] = settings.decision
    options = [word for pair in choices.items() for word in pair]
    command = [*_program(), "encode", str(clip.path), "-o", str(coded), *options, *ONE_KEYFRAME, "--json", "-y"]
    encoding = run_json(command, settings.threads)
    points = []
    for codec in job.codecs:
        decoding = decode_nvc(clip, coded, folder, settings, codec == NVC_ENHANCED)
        points.append(_point(clip, folder, settings, replace(job, codec=codec), coded, encoding["fps"], decoding["fps"]))
    return points, coded


def decode_nvc(clip: Clip, coded: Path, folder: Path, settings: Settings, enhance: bool) -> dict[str, Any]:
    """Decode an nvc stream to `decoded_path`; returns what `nvc decode --json` says."""
    weights = ["--model", settings.model] if settings.model.endswith(".safetensors") else []
    enhancing = ["--enhance"] if enhance else []
    command = [*_program(), "decode", str(coded), "-o", str(decoded_path(clip, folder)), *weights, *enhancing, "--threads", str(settings.threads), "--json", "-y"]
    return run_json(command, settings.threads)


def decode_stream(clip: Clip, coded: Path, folder: Path, settings: Settings, codec: str) -> Path:
    """Decode the coded file of any codec; returns the raw clip, in `folder`. NvcError if that fails."""
    if codec in (NVC, NVC_ENHANCED):
        decode_nvc(clip, coded, folder, settings, codec == NVC_ENHANCED)
    else:
        with _readable(coded):
            for _ in decode(str(coded), clip.info, str(decoded_path(clip, folder)), settings.threads):
                pass
    return decoded_path(clip, folder)


def decoded_path(clip: Clip, folder: Path) -> Path:
    """Where codecs write what they decode."""
    return folder / clip.path.name.replace("clip", "decoded", 1)


def _program() -> list[str]:
    return [sys.executable, "-m", "nvc_cli"]


def _anchor_point(clip: Clip, folder: Path, settings: Settings, job: Job) -> tuple[list[Point], Path]:
    anchor = find_anchor(job.codec)
    coded = folder / f"coded.{anchor.format}"
    command = point_command(anchor, int(job.quality), str(clip.path), str(coded), str(decoded_path(clip, folder)), clip.fps, settings.threads)
    result = run_json(command, settings.threads)
    return [_point(clip, folder, settings, job, coded, result["encode"]["fps"], result["decode"]["fps"])], coded


def _point(clip: Clip, folder: Path, settings: Settings, job: Job, coded: Path, encode_fps: float, decode_fps: float) -> Point:
    from nvc_cli.metrics import frame_psnrs, mean_psnr
    from nvc_cli.video import open_reader

    decoded = decoded_path(clip, folder)
    with open_reader(str(clip.path)) as original, open_reader(str(decoded)) as result:
        try:
            frames = frame_psnrs(original, result)
        except ValueError as error:
            raise NvcError(f"what it decoded is not the clip ({error}); leave this codec or clip out") from None
    size, psnr = coded.stat().st_size, mean_psnr(frames)
    point = Point(
        codec=job.codec,
        quality=float(job.quality),
        bytes=size,
        kbps=8 * size * float(clip.fps) / clip.frames / 1000,
        psnr=psnr.yuv,
        psnr_y=psnr.y,
        psnr_u=psnr.u,
        psnr_v=psnr.v,
        encode_fps=encode_fps,
        decode_fps=decode_fps,
        frame_bytes=packet_sizes(coded),
        frame_psnr=[frame.yuv for frame in frames],
    )
    return _with_vmaf(point, clip, decoded, settings.threads) if settings.vmaf else point


def _with_vmaf(point: Point, clip: Clip, decoded: Path, threads: int) -> Point:
    from nvc_cli.vmaf import sequence_vmaf

    score = sequence_vmaf(clip.path, decoded, clip.width, clip.height, threads)
    return replace(point, vmaf=score.vmaf, vmaf_neg=score.neg)


def packet_sizes(coded: Path) -> list[int]:
    """Bytes of each frame's packet in a coded file, in coding order. NvcError if the file is damaged."""
    if coded.suffix == ".nvc":
        from nvc_cli.stream import open_stream

        with open_stream(str(coded)) as reader:
            return [reader.packet_size for _ in reader]
    import av

    with _readable(coded), av.open(str(coded)) as file:
        return [packet.size for packet in file.demux(video=0) if packet.size]


@contextmanager
def _readable(coded: Path) -> Iterator[None]:
    """Turn what FFmpeg's libraries say about a damaged file into NvcError."""
    import av

    try:
        yield
    except av.FFmpegError as error:
        raise NvcError(f"{coded} cannot be read ({error.strerror}); remove it, and it is written again") from None


def run_json(command: list[str], threads: int) -> dict[str, Any]:
    """Run a command that prints one JSON object and return that. NvcError with its last words if it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "SVT_LOG": "1"}  # SVT-AV1: report errors only
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if result.returncode == 0:
        return json.loads(result.stdout)
    lines = result.stderr.strip().splitlines()
    raise NvcError(lines[-1].removeprefix("nvc: ") if lines else f"it ended with code {result.returncode}")
