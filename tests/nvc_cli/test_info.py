"""`nvc info` on whole, cut, damaged and foreign files, and how soon it answers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nvc_cli.frame import Color
from nvc_cli.main import main
from nvc_cli.stream import Header, Packet, StreamWriter

HEADER = Header(64, 48, Fraction(30000, 1001), Color(1, 13, 1, True), Fraction(16, 11), "yuv420p10le", "tiny", bytes(8))
STATE = bytes(7) + b"\x01"  # of the entropy coder
PACKETS = [
    Packet(True, 37, False, False, False, STATE + bytes(192), 1),
    Packet(False, 8, True, True, False, STATE + bytes(32), 2),
    Packet(False, 0, False, False, True, STATE, 3),
]
SIZES = [209, 49, 16]
END = 15  # bytes of index and end marker


@pytest.fixture
def data() -> bytes:
    file = io.BytesIO()
    with StreamWriter(file, HEADER) as writer:
        for packet in PACKETS:
            writer.write(packet)
    return file.getvalue()


@pytest.fixture
def path(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "a.nvc"
    path.write_bytes(data)
    return path


def info(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, ["info", *arguments], input=stdin)


def rows(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines() if line[:7].strip().isdigit()]


ROWS = [
    ["0", "I", "4.625", "209", "-", "-", "-"],
    ["1", "P", "1.000", "49", "yes", "yes", "yes"],
    ["2", "P", "0.000", "16", "-", "-", "-"],
]


def test_listing(path: Path, data: bytes) -> None:
    result = info(str(path))
    assert result.exit_code == 0
    assert result.stderr == ""
    assert rows(result) == ROWS
    for words in (
        "64x48, sample aspect ratio 16/11, 29.970 (30000/1001) frames/s",
        "yuv420p10le, colour bt709/iec61966-2-1/bt709, full range",
        "model    tiny, weights 0000000000000000",
        f"3 frames (1 keyframe), 0.100 s, {len(data)} bytes, ",
        f"{len(data) * 8 / 0.1001 / 1000:.2f} kbit/s, {len(data) * 8 / (3 * 64 * 48):.5f} bits per pixel",
    ):
        assert words in result.stdout


def test_json(path: Path, data: bytes) -> None:
    result = info(str(path), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "width": 64,
        "height": 48,
        "frame_rate": "30000/1001",
        "sample_aspect_ratio": "16/11",
        "source_format": "yuv420p10le",
        "color": {"primaries": 1, "transfer": 13, "matrix": 1, "full_range": True},
        "model": "tiny",
        "weights_hash": "0" * 16,
        "frames": 3,
        "keyframes": 1,
        "bytes": len(data),
        "seconds": pytest.approx(0.1001),
        "kbps": pytest.approx(len(data) * 8 / 100.1),
        "bpp": pytest.approx(len(data) * 8 / (3 * 64 * 48)),
        "complete": True,
        "error": None,
        "packets": [
            {"number": 0, "type": "I", "qp": 4.625, "bytes": 209, "filter": False, "refresh": False, "enhance": False},
            {"number": 1, "type": "P", "qp": 1.0, "bytes": 49, "filter": True, "refresh": True, "enhance": True},
            {"number": 2, "type": "P", "qp": 0.0, "bytes": 16, "filter": False, "refresh": False, "enhance": False},
        ],
    }


def test_standard_input(data: bytes) -> None:
    result = info("-", stdin=data)
    assert result.exit_code == 0
    assert rows(result) == ROWS
    assert result.stdout.startswith("standard input: ")


def test_a_stream_without_frames(tmp_path: Path) -> None:
    path = tmp_path / "empty.nvc"
    with path.open("wb") as file, StreamWriter(file, HEADER):
        pass
    assert "0 frames (0 keyframes), 0.000 s" in info(str(path)).stdout
    assert json.loads(info(str(path), "--json").stdout)["kbps"] == 0


@pytest.mark.parametrize("cut", [1, END, END + 1, END + 7, END + 10])
def test_a_truncated_stream_is_shown_up_to_the_cut(path: Path, data: bytes, cut: int) -> None:
    path.write_bytes(data[:-cut])
    whole = 3 if cut <= END else 2
    result = info(str(path))
    assert result.exit_code == 1
    assert rows(result)[:-1] == ROWS[: whole - 1]
    assert rows(result)[-1] == [*ROWS[whole - 1][:-1], "-"]  # whether it is enhanced would have come with the next one
    assert f"\n{whole} frames (1 keyframe)" in result.stdout
    assert result.stderr.startswith(f"nvc: {path} ends ")
    assert len(result.stderr.splitlines()) == 1


def test_a_damaged_stream_is_shown_up_to_the_damage(path: Path, data: bytes) -> None:
    path.write_bytes(data[: -END - 4] + b"\x55" + data[-END - 3 :])
    result = info(str(path), "--json")
    shown = json.loads(result.stdout)
    assert result.exit_code == 1
    assert [packet["bytes"] for packet in shown["packets"]] == SIZES[:2]
    assert (shown["frames"], shown["bytes"], shown["complete"]) == (2, len(data) - SIZES[2] - END, False)
    assert result.stderr == f"nvc: {shown['error']}\n"
    assert f"frame 2 of {path}" in result.stderr


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_foreign_file_gives_one_line(tmp_path: Path, as_json: list[str]) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"\x00\x00\x00\x18ftypmp42")
    result = info(str(path), *as_json)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"nvc: {path} is not an nvc stream")


def test_loads_no_heavy_modules(path: Path) -> None:
    code = (
        "import sys; from nvc_cli.main import main; main(['info', sys.argv[1]], standalone_mode=False); "
        "sys.exit(' '.join({'torch', 'av', 'compressai', 'scipy'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert result.stdout and result.stderr.strip() == ""
