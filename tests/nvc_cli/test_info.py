"""`nvc info` on whole, cut, damaged and foreign files, and how soon it answers."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
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
END = 19  # bytes of index and end marker


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
        "format": 1,
        "width": 64,
        "height": 48,
        "frame_rate": "30000/1001",
        "tick": None,
        "sample_aspect_ratio": "16/11",
        "orientation": {"quarters": 0, "mirrored": False},
        "source_format": "yuv420p10le",
        "color": {"primaries": 1, "transfer": 13, "matrix": 1, "full_range": True},
        "model": "tiny",
        "weights_hash": "0" * 16,
        "tracks": [],
        "frames": 3,
        "keyframes": 1,
        "bytes": len(data),
        "seconds": pytest.approx(0.1001),
        "kbps": pytest.approx(len(data) * 8 / 100.1),
        "bpp": pytest.approx(len(data) * 8 / (3 * 64 * 48)),
        "complete": True,
        "error": None,
        "packets": [
            {"number": 0, "type": "I", "time": 0.0, "qp": 4.625, "bytes": 209, "filter": False, "refresh": False, "enhance": False, "psnr": None},
            {"number": 1, "type": "P", "time": pytest.approx(1001 / 30000), "qp": 1.0, "bytes": 49, "filter": True, "refresh": True, "enhance": True, "psnr": None},
            {"number": 2, "type": "P", "time": pytest.approx(2002 / 30000), "qp": 0.0, "bytes": 16, "filter": False, "refresh": False, "enhance": False, "psnr": None},
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


VECTORS = Path(__file__).parents[1] / "vectors"


def test_times_tracks_and_orientation() -> None:
    shown = info(str(VECTORS / "variable.nvc")).stdout
    assert "turned by 90 degrees counter-clockwise, mirrored, variable rate, 25.000 frames/s in the mean" in shown
    found = json.loads(info(str(VECTORS / "variable.nvc"), "--json").stdout)
    assert [packet["time"] for packet in found["packets"]] == pytest.approx([0, 3003 / 90000, 3004 / 90000, 10])
    assert (found["tick"], found["seconds"]) == ("1/90000", pytest.approx(10.04))
    shown = info(str(VECTORS / "tracks.nvc")).stdout
    assert "  audio    pcm_u8\n  subtitle text\n" in shown
    assert "audio in pcm_u8: 4 samples, 6 bytes" in shown


@pytest.fixture
def coded(done: Callable[..., Result], clip: Callable[..., Path], model: str, tmp_path: Path) -> Path:
    done("encode", clip(), "-o", tmp_path / "c.nvc", "--model", model, "--references", 1, "--recon", tmp_path / "c.y4m")
    return tmp_path / "c.nvc"


def test_psnr_against_the_source(coded: Path, clip: Callable[..., Path], model: str) -> None:
    from nvc_cli.metrics import frame_psnrs
    from nvc_cli.video import open_reader

    with open_reader(str(clip())) as source, open_reader(str(coded.with_suffix(".y4m"))) as decoded:
        expected = [psnr.yuv for psnr in frame_psnrs(source, decoded)]
    found = json.loads(info(str(coded), "--json", "--reference", str(clip()), "--model", model).stdout)
    assert [packet["psnr"] for packet in found["packets"]] == pytest.approx(expected)
    shown = info(str(coded), "--reference", str(clip()), "--model", model)
    assert rows(shown)[0][-1] == f"{expected[0]:.2f}"


def test_a_reference_that_is_another_video(coded: Path, clip: Callable[..., Path], model: str, refused: Callable[..., str]) -> None:
    words = "give the video that it was encoded from"
    assert words in info(str(coded), "--reference", str(clip(frames=2)), "--model", model).stderr
    assert words in info(str(coded), "--reference", str(clip(width=64)), "--model", model).stderr


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_plot(coded: Path, clip: Callable[..., Path], model: str, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    target = coded.with_suffix(suffix)
    result = info(str(coded), "--plot", str(target), "--reference", str(clip()), "--model", model)
    assert result.exit_code == 0
    content = target.read_bytes()
    if suffix == ".png":
        assert content.startswith(b"\x89PNG")
    else:
        text = content.decode()
        assert all(word in text for word in ("keyframe", "PSNR, dB", "enhance", "seconds")) and "currentColor" not in text
    again = info(str(coded), "--plot", str(target))
    assert again.exit_code == 1 and "exists already" in again.stderr


def test_what_cannot_be_drawn(coded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "plots are .png or .svg" in info(str(coded), "--plot", str(tmp_path / "a.txt")).stderr
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = info(str(coded), "--plot", str(tmp_path / "a.png"))
    assert result.exit_code == 1 and result.stdout == ""
    assert "the plots of --plot need matplotlib, which is not installed; pip install '.[compare]', or leave --plot away" in result.stderr


def test_a_stream_that_is_cut_in_its_first_frame_says_so(path: Path, data: bytes, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path.write_bytes(data[: -sum(SIZES) - END + 20])
    result = info(str(path), "--plot", str(tmp_path / "a.png"))
    assert result.exit_code == 1 and "ends inside frame 0" in result.stderr and not (tmp_path / "a.png").exists()
