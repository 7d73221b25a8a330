"""A few bytes must not make a decoder take any amount of memory, open files, or run code."""

from __future__ import annotations

import ast
import io
import pickle
import wave
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from nvc_cli.decoder import Decoder
from nvc_cli.errors import NvcError
from nvc_cli.stream import StreamReader, StreamWriter, pack_header
from nvc_cli.tracks import Track
from tests.nvc_cli.conftest import Run

VECTORS = Path(__file__).parent.parent / "vectors"


def resized(width: int, height: int) -> bytes:
    """A stream whose header tells another size."""
    data = (VECTORS / "keyframe.nvc").read_bytes()
    header = StreamReader(io.BytesIO(data), "x").header
    return pack_header(replace(header, width=width, height=height)) + data[len(pack_header(header)) :]


def test_pictures_that_are_too_large_are_refused(nvc: Run, tmp_path: Path) -> None:
    stream, target = tmp_path / "large.nvc", tmp_path / "large.yuv"
    stream.write_bytes(resized(16384, 16384))
    result = nvc("decode", stream, "-o", target)
    assert result.exit_code == 1 and "16384x16384" in result.stderr and "--max-pixels 268435456" in result.stderr
    assert not target.exists()


def test_the_bound_can_be_chosen(nvc: Run, tmp_path: Path) -> None:
    stream = VECTORS / "keyframe.nvc"
    header = StreamReader(io.BytesIO(stream.read_bytes()), "x").header
    count = header.width * header.height
    assert nvc("decode", stream, "-o", tmp_path / "a.yuv", "--max-pixels", count).exit_code == 0
    assert nvc("decode", stream, "-o", tmp_path / "b.yuv", "--max-pixels", count - 1).exit_code == 1
    with pytest.raises(NvcError, match="more than 10 pixels"):
        Decoder(header, max_pixels=10)


def test_a_stream_names_no_file(nvc: Run, tmp_path: Path) -> None:
    data = (VECTORS / "keyframe.nvc").read_bytes()
    header = StreamReader(io.BytesIO(data), "x").header
    stream = tmp_path / "named.nvc"
    stream.write_bytes(pack_header(replace(header, model="/dev/stdin.safetensors")) + data[len(pack_header(header)) :])
    result = nvc("decode", stream, "-o", tmp_path / "a.yuv")
    assert result.exit_code == 1 and "none of the package" in result.stderr


def test_a_track_names_no_file(done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A playlist in place of the description of a track, which FFmpeg would follow."""
    monkeypatch.chdir(tmp_path)
    with wave.open("secret.wav", "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    media = b"ffconcat version 1.0\nfile secret.wav\n"
    with av.open(io.BytesIO(media)) as container:
        assert container.streams.audio, "the trap does not work"
    data = (VECTORS / "keyframe.nvc").read_bytes()
    header = StreamReader(io.BytesIO(data), "x").header
    track = Track("audio", "pcm_s16le", Fraction(1, 8000), media)
    stream = io.BytesIO()
    with StreamWriter(stream, replace(header, tracks=(track,))) as writer:
        for packet in StreamReader(io.BytesIO(data), "x"):
            writer.write(packet)
    Path("a.nvc").write_bytes(stream.getvalue())
    assert "audio in pcm_s16le" in done("decode", "a.nvc", "-o", "a.mkv").stderr
    with av.open("a.mkv") as container:
        assert not container.streams.audio


class Bomb:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("command", ["encode", "train"])
def test_weights_execute_nothing(nvc: Run, tmp_path: Path, command: str) -> None:
    trap, weights, checkpoint = tmp_path / "trap", tmp_path / "bomb.safetensors", tmp_path / "out.ckpt"
    for path in (weights, checkpoint):
        path.write_bytes(pickle.dumps(Bomb(trap)))
    if command == "encode":
        raw = tmp_path / "a_16x16_30.yuv"
        raw.write_bytes(bytes(384))
        result = nvc("encode", raw, "-o", tmp_path / "a.nvc", "--model", weights)
    else:
        videos = tmp_path / "videos"
        videos.mkdir()
        (videos / "a.y4m").write_bytes(b"YUV4MPEG2 W64 H64 F30:1\n" + 2 * (b"FRAME\n" + bytes(6144)))
        result = nvc("train", videos, "-o", tmp_path / "out.safetensors", "--minutes", "0.001", "--checkpoint", checkpoint)
    assert result.exit_code == 1 and result.stderr.count("\n") <= 3
    assert not trap.exists()


def test_a_rate_that_no_stream_holds(refused: Callable[..., str], tmp_path: Path) -> None:
    video = b"YUV4MPEG2 W16 H16 F1:%d\n" % 10**400 + 2 * (b"FRAME\n" + bytes(384))
    assert "its frame rate of 1/1000" in refused("encode", "-", "-o", tmp_path / "a.nvc", "--bitrate", "100k", input=video)


def test_unpickling_is_told_to_execute_nothing() -> None:
    """Every `torch.load` names weights_only=True, and nothing else unpickles."""
    root = Path(__file__).parents[2]
    calls = 0
    for path in [path for folder in ("models", "nvc_cli", "examples") for path in (root / folder).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                assert not names & {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}, f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                calls += 1
                assert "weights_only=True" in map(ast.unparse, node.keywords), f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("np.load", "numpy.load"):
                assert "allow_pickle=True" not in map(ast.unparse, node.keywords), f"{path}:{node.lineno}"
    assert calls
