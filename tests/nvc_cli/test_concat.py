"""nvc concat: streams one after the other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import pytest
from click.testing import Result

from nvc_cli.frame import Color
from nvc_cli.index import load
from nvc_cli.stream import Header, Packet, StreamWriter, open_stream

Run = Callable[..., Result]
Clip = Callable[..., Path]
ROOT = Path(__file__).parents[2]

HEADER = Header(352, 288, Fraction(30), Color(), Fraction(1), "yuv420p", "tiny", bytes(8))
STATE = bytes.fromhex("0001020304050600")  # of the entropy coder


def stream_of(packets: list[Packet], header: Header = HEADER) -> bytes:
    file = BytesIO()
    with StreamWriter(file, header) as writer:
        for packet in packets:
            writer.write(packet)
    return file.getvalue()


def packets(keyframe: bool, *flags: bool) -> list[Packet]:
    """A keyframe with this `enhance_last`, and P-frames with these flags."""
    following = [Packet(False, 8, flag, False, flag, STATE + bytes(4 * t), t) for t, flag in enumerate(flags)]
    return [Packet(True, 37, False, False, keyframe, STATE + b"\xde\xad\xbe\xef", 0x1234), *following]


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    """Two streams."""
    paths = [tmp_path / "a.nvc", tmp_path / "b.nvc"]
    paths[0].write_bytes(stream_of(packets(True, True, True, False)))
    paths[1].write_bytes(stream_of([*packets(True, False), *packets(True, True)], replace(HEADER, source_format="yuv444p10le")))
    return paths


def test_joins_packets_and_makes_the_index_anew(done: Run, pair: list[Path], tmp_path: Path) -> None:
    result = done("concat", *pair, "-o", tmp_path / "out.nvc")
    expected = stream_of([*packets(True, True, True, False), *packets(False, False), *packets(True, True)])
    assert (tmp_path / "out.nvc").read_bytes() == expected
    assert result.stdout == "" and "joined 2 streams" in result.stderr and f"8 frames, {len(expected)} bytes" in result.stderr
    with (tmp_path / "out.nvc").open("rb") as file:
        index = load(file, 0)
    assert index and [keyframe.frame for keyframe in index] == [0, 4, 6]


def test_one_stream_stays_as_it_is(done: Run, pair: list[Path], tmp_path: Path) -> None:
    done("concat", pair[1], "-o", tmp_path / "out.nvc")
    assert (tmp_path / "out.nvc").read_bytes() == pair[1].read_bytes()


def test_through_pipes(done: Run, pair: list[Path], tmp_path: Path) -> None:
    done("concat", *pair, pair[0], "-o", tmp_path / "out.nvc")
    command = [sys.executable, "-m", "nvc_cli", "concat", str(pair[0]), "-", str(pair[0]), "-o", "-"]
    result = subprocess.run(command, input=pair[1].read_bytes(), capture_output=True, cwd=ROOT, timeout=120, check=True)
    assert result.stdout == (tmp_path / "out.nvc").read_bytes()


@pytest.mark.parametrize("enhance", [[], ["--enhance"]], ids=["plain", "enhanced"])
def test_decodes_to_the_pictures_of_both(done: Run, clip: Clip, tmp_path: Path, enhance: list[str]) -> None:
    sources = [clip(frames=4), clip(frames=3)]
    for name, source in zip("ab", sources):
        done("encode", source, "-o", tmp_path / f"{name}.nvc", "--qp", "1", "--references", "1", "--threads", "1")
        done("decode", tmp_path / f"{name}.nvc", "-o", tmp_path / f"{name}.yuv", "--threads", "1", *enhance)
    done("concat", tmp_path / "a.nvc", tmp_path / "b.nvc", "-o", tmp_path / "ab.nvc")
    done("decode", tmp_path / "ab.nvc", "-o", tmp_path / "ab.yuv", "--threads", "1", *enhance)
    assert (tmp_path / "ab.yuv").read_bytes() == (tmp_path / "a.yuv").read_bytes() + (tmp_path / "b.yuv").read_bytes()
    if enhance:
        done("decode", tmp_path / "ab.nvc", "-o", tmp_path / "plain.yuv", "--threads", "1")
        assert (tmp_path / "ab.yuv").read_bytes() != (tmp_path / "plain.yuv").read_bytes()


@pytest.mark.parametrize("changes, words", [
    ({"width": 350}, "its size is 350x288, not 352x288"),
    ({"fps": Fraction(30000, 1001)}, "its frame rate is 30000/1001, not 30"),
    ({"color": Color(1, 1, 1, True)}, "its colour is 1/1/1 full, not 2/2/2 limited"),
    ({"sar": Fraction(4, 3)}, "its sample aspect ratio is 4/3, not 1"),
    ({"model": "base"}, "its model is base, not tiny"),
    ({"weights_hash": bytes(7) + b"\1"}, "its hash of weights is 0000000000000001, not 0000000000000000"),
], ids=lambda value: "" if isinstance(value, str) else next(iter(value)))
def test_streams_that_differ_are_not_joined(refused: Callable[..., str], pair: list[Path], tmp_path: Path, changes: dict, words: str) -> None:
    other = tmp_path / "other.nvc"
    other.write_bytes(stream_of(packets(True), replace(HEADER, **changes)))
    line = refused("concat", *pair, other, "-o", tmp_path / "out.nvc")
    assert f"other.nvc cannot follow {pair[0]}" in line and words in line


def test_damage_leaves_nothing(refused: Callable[..., str], pair: list[Path], tmp_path: Path) -> None:
    whole = pair[1].read_bytes()
    pair[1].write_bytes(whole[:-20])
    assert "b.nvc ends" in refused("concat", *pair, "-o", tmp_path / "out.nvc")
    pair[1].write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
    assert "frame 0 of" in refused("concat", *pair, "-o", tmp_path / "out.nvc")
    pair[1].write_bytes(b"text")
    assert "b.nvc is not an nvc stream" in refused("concat", *pair, "-o", tmp_path / "out.nvc")
    assert "gone.nvc cannot be opened" in refused("concat", pair[0], tmp_path / "gone.nvc", "-o", tmp_path / "out.nvc")
    assert "a.nvc exists already" in refused("concat", *pair, "-o", pair[0])


def test_a_target_may_be_a_source(done: Run, pair: list[Path]) -> None:
    once = pair[0].read_bytes()
    done("concat", pair[0], pair[0], "-o", pair[0], "-y")
    with open_stream(str(pair[0])) as reader:
        assert len(list(reader)) == 8 and len(pair[0].read_bytes()) > len(once)


def test_wrong_usage(nvc: Run, pair: list[Path], tmp_path: Path) -> None:
    assert nvc("concat", "-o", tmp_path / "out.nvc").exit_code == 2
    assert nvc("concat", *pair).exit_code == 2
    assert "name - once" in nvc("concat", "-", "-", "-o", tmp_path / "out.nvc").stderr
