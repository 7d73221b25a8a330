"""--jobs: the same stream, and the same frames, from several processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result

from models.refinement import Refinement
from models.weights import load_encoder
from nvc_cli.decision import Decision, Heuristic, LookAhead
from nvc_cli.effort import Effort, Refining
from nvc_cli.encoder import Encoder
from nvc_cli.errors import NvcError
from nvc_cli.frame import Color, Frame, VideoInfo
from nvc_cli.jobs import Recipe, encode_segment, joined
from nvc_cli.planar import read_raw
from nvc_cli.rate import OnePass
from nvc_cli.segments import Borders, Segment, spool
from nvc_cli.stream import Header, Packet, StreamReader, StreamWriter
from nvc_cli.trial import Trial
from nvc_cli.video import open_writer

Run = Callable[..., Result]


def scenes(*lengths: int) -> Iterator[Frame]:
    """Scenes of 48×32: noise and waves in turn, which move."""
    rows, columns = np.mgrid[:32, :64]
    for seed, length in enumerate(lengths):
        noise = np.kron(np.random.default_rng(seed).integers(60, 200, (16, 32)), np.ones((2, 2)))
        texture = (128 + 50 * np.sin(rows / 5) + 50 * np.cos(columns / 4) if seed % 2 else noise).astype(np.uint8)
        for t in range(length):
            yield Frame(texture[:, t : t + 48], texture[::2, t : t + 24], texture[::2, 24 + t : t + 48])


def numbered(count: int) -> Iterator[Frame]:
    """Pictures that know their place."""
    for t in range(count):
        yield Frame(np.full((32, 48), t, np.uint8), *(np.full((16, 24), t, np.uint8) for _ in range(2)))


def in_segments(frames: list[Frame], recipe: Recipe, keyint: int, keep: Callable[[Frame], None] | None = None) -> list[Packet]:
    """The packets of frames that are encoded segment by segment."""
    borders = Borders(keyint, True)
    begins = [t for t, frame in enumerate(frames) if borders(frame)] + [len(frames)]
    parts = [encode_segment(frames[a : b + 1], a, b - a, recipe, keep) for a, b in pairwise(begins)]
    return [packet for part in joined(parts) for packet in part.packets]


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    def make(decision: Decision, quality: float | OnePass) -> Recipe:
        model = load_encoder("tiny")
        header = Header(48, 32, Fraction(25), Color(), Fraction(1), "yuv420p", model.name, model.hash)
        return Recipe("a.nvc", header, "tiny", "cpu", 1, decision, Effort(), quality, verify=isinstance(quality, float))

    return make


@pytest.mark.parametrize(
    "decision, keyint, effort",
    [(Heuristic(), 4, Effort()), (LookAhead(3), 0, Effort()), (Heuristic(), 4, Effort(refining=Refining(Refinement(2), Refinement(1, blind=True), 2), trial=Trial(frames=5)))],
    ids=["heuristic", "look-ahead", "trial"],
)
def test_segments_give_the_stream_of_one_encoder(recipe: Callable[..., Recipe], decision: Decision, keyint: int, effort: Effort) -> None:
    frames = list(scenes(5, 3, 4))
    torch.set_num_threads(1)
    encoder = Encoder(load_encoder("tiny"), 2.0, keyint, decision, effort=effort, scenecut=True)
    expected = list(encoder.encode_all(frames))
    kept: list[Frame] = []
    packets = in_segments(frames, replace(recipe(decision, 2.0), effort=effort), keyint, kept.append)
    assert packets == [encoded.packet for encoded in expected]
    assert [t for t, packet in enumerate(packets) if packet.keyframe] == ([0, 4, 5, 8] if keyint else [0, 5, 8])
    assert any(packet.keyframe and packet.enhance_last for packet in packets), "so that the flag at a border was put to the test"
    assert all(np.array_equal(frame.y, encoded.picture.y) for frame, encoded in zip(kept, expected, strict=True))


def test_segments_share_a_rate(recipe: Callable[..., Recipe]) -> None:
    """Each takes what is due to it, though it knows nothing of the others."""
    packets = in_segments(list(scenes(9, 9)), replace(recipe(False, OnePass(48 * 32, 1000.0, keyint=256)), effort=Effort(references=1)), 256)
    for scene in (packets[:9], packets[9:]):
        assert sum(8 * len(packet.payload) for packet in scene) == pytest.approx(9 * 1000, rel=0.3)


def test_a_segment_that_decodes_to_something_else_is_refused(recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvc_cli.decoder.picture_checksum", lambda frame: 0)
    with pytest.raises(NvcError, match="a.nvc: the picture of frame 7 is not the one that was encoded"):
        encode_segment(scenes(2), 7, 2, recipe(False, 3.0))


def test_segments_wait_on_disk_with_the_frame_after_them(tmp_path: Path) -> None:
    seen = []
    for segment in spool(numbered(7), Borders(3, False), tmp_path):
        with segment.path.open("rb") as file:
            seen.append((segment.first, segment.frames, [int(frame.v[0, 0]) for frame in read_raw(file, "a", VideoInfo(48, 32, Fraction(25)))]))
        segment.path.unlink()
    assert seen == [(0, 3, [0, 1, 2, 3]), (3, 3, [3, 4, 5, 6]), (6, 1, [6])]


def test_no_more_than_one_segment_is_kept_at_a_time(tmp_path: Path) -> None:
    """Of a source without end, too."""
    taken: list[int] = []

    def source() -> Iterator[Frame]:
        for t, frame in enumerate(numbered(1000)):
            taken.append(t)
            yield frame

    segments = spool(source(), Borders(4, False), tmp_path)
    assert next(segments) == Segment(0, 4, tmp_path / "0", (None,) * 5) and taken == [0, 1, 2, 3, 4]
    segments.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    (tmp_path / "0").symlink_to("/dev/full")
    with pytest.raises(NvcError, match="no space left on device.*TMPDIR"):
        list(spool(numbered(2), Borders(2, False), tmp_path))


@pytest.fixture(scope="session")
def three_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenes") / "three.y4m"
    with open_writer(str(path), VideoInfo(48, 32, Fraction(25))) as writer:
        for frame in scenes(3, 2, 3):
            writer.write(frame)
    return path


def test_two_processes_write_what_one_does(done: Run, three_scenes: Path, tmp_path: Path) -> None:
    """From a pipe, with everything else that an encode can do."""
    options = ["--recon", tmp_path / "a.yuv", "--verify", "--qp", "1", "--threads", "1", "--references", "1"]
    done("encode", three_scenes, "-o", tmp_path / "a.nvc", *options)
    one = [(tmp_path / name).read_bytes() for name in ("a.nvc", "a.yuv")]
    result = done("encode", "-", "-o", tmp_path / "a.nvc", *options, "--jobs", "2", "--json", "-y", input=three_scenes.read_bytes())
    assert [(tmp_path / name).read_bytes() for name in ("a.nvc", "a.yuv")] == one
    assert '"frames": 8' in result.stdout and '"codec_fps": 0' not in result.stdout
    assert "all 8 frames decode" in result.stderr


def test_a_source_that_breaks_off_leaves_nothing(refused: Callable[..., str], three_scenes: Path, tmp_path: Path) -> None:
    cut = three_scenes.read_bytes()[:-10]
    line = refused("encode", "-", "-o", tmp_path / "a.nvc", "--jobs", "2", "--threads", "1", input=cut)
    assert "standard input ends in the middle of frame 7" in line


def test_one_segment_is_not_for_many(done: Run, three_scenes: Path, tmp_path: Path) -> None:
    result = done("encode", three_scenes, "-o", tmp_path / "a.nvc", "--frames", "2", "--references", "1", "--threads", "1", "--jobs", "2", "--keyint", "0", "--no-scenecut")
    assert "only one segment" in result.stderr.splitlines()[0]


def test_two_passes_are_of_one_process(nvc: Run, three_scenes: Path, tmp_path: Path) -> None:
    result = nvc("encode", three_scenes, "-o", tmp_path / "a.nvc", "--bitrate", "1M", "--two-pass", "--jobs", "2")
    assert result.exit_code == 2 and "--two-pass plans the whole file in one process" in result.stderr


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Nine frames in three segments."""
    model, file = load_encoder("tiny"), BytesIO()
    encoder = Encoder(model, 2.0, 4, True, effort=Effort(references=1, decision=True))
    writer = StreamWriter(file, Header.of(VideoInfo(48, 32, Fraction(25)), model))
    for frame in scenes(9):
        for encoded in encoder.encode(frame):
            writer.write(encoded.packet)
    for encoded in encoder.finish():
        writer.write(encoded.packet)
    writer.finish()
    return file.getvalue()


@pytest.mark.parametrize("options", [["--enhance"], ["--start", "0.2", "--duration", "0.12"], ["--frames", "5"]], ids=str)
def test_two_processes_decode_what_one_does(done: Run, stream: bytes, tmp_path: Path, options: list[str]) -> None:
    results = [done("decode", "-", "-o", tmp_path / f"{jobs}.yuv", *options, "--threads", "1", "--jobs", jobs, "--json", input=stream) for jobs in ("1", "2")]
    assert (tmp_path / "2.yuv").read_bytes() == (tmp_path / "1.yuv").read_bytes() != b""
    frames, sizes = zip(*((summary["frames"], summary["bytes"]) for summary in (json.loads(result.stdout) for result in results)))
    assert frames[0] == frames[1] and sizes[0] == sizes[1]


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_what_is_whole_is_decoded(nvc: Run, stream: bytes, tmp_path: Path, jobs: str) -> None:
    """Of a stream that is cut off: in both cases the same frames, and the exit code 1."""
    result = nvc("decode", "-", "-o", tmp_path / "a.yuv", "--threads", "1", "--jobs", jobs, input=stream[: len(stream) * 2 // 3])
    assert result.exit_code == 1 and "ends inside frame 5" in result.stderr
    assert len((tmp_path / "a.yuv").read_bytes()) == 5 * 48 * 32 * 3 // 2


def test_a_frame_that_cannot_be_decoded_is_named(refused: Callable[..., str], stream: bytes, tmp_path: Path) -> None:
    """One in the second segment, whose picture is not what the packet says."""
    reader, copy = StreamReader(BytesIO(stream), "a.nvc"), BytesIO()
    writer = StreamWriter(copy, reader.header)
    for frame, packet in enumerate(reader):
        writer.write(replace(packet, checksum=packet.checksum ^ (frame == 6)))
    writer.finish()
    lines = [refused("decode", "-", "-o", tmp_path / "a.yuv", "--threads", "1", "--jobs", jobs, input=copy.getvalue()) for jobs in ("1", "2")]
    assert lines[0] == lines[1] and "the picture of frame 6 is not the one that was encoded" in lines[0]


def test_salvaging_is_for_one_process(nvc: Run, tmp_path: Path) -> None:
    result = nvc("decode", tmp_path / "a.nvc", "-o", tmp_path / "a.yuv", "--resilient", "--jobs", "2")
    assert result.exit_code == 2 and "--resilient goes through a stream in one process" in result.stderr
