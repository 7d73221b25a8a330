"""nvc decode: its summary, and what it makes of streams that are damaged, cut off, or foreign."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from fractions import Fraction
from itertools import accumulate
from pathlib import Path

import click
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from nvc_cli import runtime
from nvc_cli.decode import Time, _part
from nvc_cli.frame import Color
from nvc_cli.index import END_MARKER, Index
from nvc_cli.main import main
from nvc_cli.stream import Header, Packet, StreamReader, pack_header, pack_packet
from nvc_cli.switches import Switches

Run = Callable[..., Result]
Refused = Callable[..., str]
ROOT = Path(__file__).parents[2]
FRAME = 48 * 32 * 3 // 2


def parts(stream: Path) -> tuple[bytes, list[Packet]]:
    """The header's bytes, and the packets."""
    with stream.open("rb") as file:
        reader = StreamReader(file, stream.name)
        return pack_header(reader.header), list(reader)


def packed(packets: list[Packet]) -> list[bytes]:
    """The bytes of each of the packets that follow each other."""
    switches = Switches()
    return [pack_packet(packet, switches) for packet in packets]


def end(header: bytes, packets: list[bytes]) -> bytes:
    """The index and the end marker that follow these."""
    index, offset = Index(), len(header)
    for packet in packets:
        index.add(bool(packet[0] & 64), offset, int.from_bytes(packet[-4:], "little"))
        offset += len(packet)
    return index.pack() + END_MARKER


def test_json(done: Run, stream: Path, model: str, tmp_path: Path) -> None:
    result = done("decode", stream, "-o", tmp_path / "a.y4m", "--model", model, "--json")
    summary = json.loads(result.stdout)
    assert {"frames", "bytes", "kbps", "bpp", "seconds", "fps", "codec_fps"} <= summary.keys()
    assert (summary["frames"], summary["bytes"]) == (4, stream.stat().st_size)


def test_the_summary_for_people_is_on_stderr(done: Run, stream: Path, model: str, tmp_path: Path) -> None:
    result = done("decode", stream, "-o", tmp_path / "a.y4m", "--model", model)
    assert result.stdout == "" and "4 frames" in result.stderr


@pytest.mark.parametrize("cut, whole", [(1, 4), (18, 4), (19, 4), (20, 3), (24, 3), (49, 3)])
def test_of_a_truncated_stream_all_whole_frames_are_written(
    nvc: Run, done: Run, stream: Path, model: str, tmp_path: Path, cut: int, whole: int
) -> None:
    done("decode", stream, "-o", tmp_path / "all.yuv", "--model", model)
    data = stream.read_bytes()
    assert len(end(parts(stream)[0], packed(parts(stream)[1]))) == 19
    (tmp_path / "cut.nvc").write_bytes(data[:-cut])
    result = nvc("decode", tmp_path / "cut.nvc", "-o", tmp_path / "some.yuv", "--model", model)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert "cut.nvc ends" in result.stderr.splitlines()[-1] and f"{whole} frames" in result.stderr
    assert (tmp_path / "some.yuv").read_bytes() == (tmp_path / "all.yuv").read_bytes()[: whole * FRAME]
    assert not list(tmp_path.glob(".*"))


def test_a_truncated_pipe(nvc: Run, done: Run, stream: Path, model: str) -> None:
    whole = done("decode", stream, "-o", "-", "--model", model).stdout_bytes
    header, packets = parts(stream)
    cut = header + b"".join(packed(packets[:2])) + b"\x01"
    result = nvc("decode", "-", "-o", "-", "--model", model, input=cut)
    assert result.exit_code == 1 and "standard input ends inside frame 2" in result.stderr
    assert result.stdout_bytes == whole[: len(whole) - 2 * (FRAME + len(b"FRAME\n"))]


def test_a_stream_cut_off_before_the_first_frame(refused: Refused, stream: Path, model: str, tmp_path: Path) -> None:
    header, packets = parts(stream)
    for cut in (b"N", header[:-1], header, header + packed(packets)[0][:-1]):
        (tmp_path / "cut.nvc").write_bytes(cut)
        assert "cut.nvc ends" in refused("decode", tmp_path / "cut.nvc", "-o", tmp_path / "a.yuv", "--model", model)


def test_a_stream_without_frames(refused: Refused, stream: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "none.nvc").write_bytes(parts(stream)[0] + end(b"", []))
    refused("decode", tmp_path / "none.nvc", "-o", tmp_path / "a.yuv", "--model", model)


@pytest.fixture(scope="session")
def keyed(clip: Callable[..., Path], model: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[bytes]]:
    """Six frames of 33x17 at 25 a second as a stream with keyframes 0, 2 and 4, and its pictures."""
    folder = tmp_path_factory.mktemp("keyed")
    for arguments in (
        ["encode", clip(33, 17, 6), "-o", folder / "a.nvc", "--keyint", 2],
        ["decode", folder / "a.nvc", "-o", folder / "a.yuv"],
    ):
        result = CliRunner().invoke(main, [*map(str, arguments), "--model", model])
        assert result.exit_code == 0, result.stderr
    data, size = (folder / "a.yuv").read_bytes(), 33 * 17 + 2 * 17 * 9
    return folder / "a.nvc", [data[i : i + size] for i in range(0, len(data), size)]


@pytest.mark.parametrize("arguments, first, stop", [
    (["--start", "0.12"], 3, None),
    (["--start", "00:00:00.12", "--duration", "0.08"], 3, 5),
    (["--start", "0:00.1", "--duration", "0:01"], 2, None),  # of frames 2 and 3 as near, the even one
    (["--duration", "0.2"], 0, 5),
    (["--start", "0.04", "--frames", "2"], 1, 3),
    (["--start", "0.04", "--frames", "3", "--duration", "0.08"], 1, 3),
])
def test_a_part(
    done: Run, keyed: tuple[Path, list[bytes]], model: str, tmp_path: Path, arguments: list[str], first: int, stop: int | None
) -> None:
    path, pictures = keyed
    result = done("decode", path, "-o", tmp_path / "a.yuv", "--model", model, "--json", *arguments)
    assert (tmp_path / "a.yuv").read_bytes() == b"".join(pictures[first:stop])
    header, packets = parts(path)
    ends = list(accumulate(map(len, packed(packets)), initial=len(header)))
    summary = json.loads(result.stdout)
    assert summary["frames"] == len(pictures[first:stop])
    assert summary["bytes"] == (path.stat().st_size if stop is None else ends[stop]) - (ends[first] if first else 0)


def test_parts_from_a_pipe(done: Run, keyed: tuple[Path, list[bytes]], model: str) -> None:
    path, pictures = keyed
    command = [sys.executable, "-m", "nvc_cli", "decode", "-", "-o", "-", "--model", model, "--threads", "1", "--start", "0.12", "--duration", "0.04"]
    result = subprocess.run(command, input=path.read_bytes(), capture_output=True, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stdout.partition(b"FRAME\n")[2] == pictures[3]


def test_a_start_beyond_the_end(refused: Refused, keyed: tuple[Path, list[bytes]], model: str, tmp_path: Path) -> None:
    line = refused("decode", keyed[0], "-o", tmp_path / "a.yuv", "--model", model, "--start", "0.24")
    assert "a.nvc is at 0.200 s, so none is left at 0.240 s; choose an earlier --start" in line


def test_a_duration_that_is_too_short(refused: Refused, keyed: tuple[Path, list[bytes]], model: str, tmp_path: Path) -> None:
    line = refused("decode", keyed[0], "-o", tmp_path / "a.yuv", "--model", model, "--duration", "0.01")
    assert "--duration 0.01 is too short for a frame" in line


@pytest.mark.parametrize("text, seconds", [
    ("0", 0), ("75", 75), ("75.25", Fraction(301, 4)), ("1:15.25", Fraction(301, 4)), ("00:01:15.25", Fraction(301, 4)),
    ("2:00:00", 7200), ("100:00", 6000), ("100:00:00.001", 360000 + Fraction(1, 1000)),
])
def test_times(text: str, seconds: Fraction) -> None:
    assert Time().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1:60", "1:2:3:4", "1:60:00", "1e3", "1,5", ":30", "1:", "nan", "٣", "1 "])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time like"):
        Time().convert(text, None, None)


def test_parts_fit_together() -> None:
    for tick in (None, Fraction(1, 90000)):
        header = Header(64, 48, Fraction(30000, 1001), Color(), Fraction(1), "yuv420p", "tiny", bytes(8), tick=tick)
        parts = [_part(header, Fraction(k, 10), Fraction(1, 10), None) for k in range(100)]
        assert [part.stop for part in parts[:-1]] == [part.first for part in parts[1:]]


def test_resilience(nvc: Run, done: Run, refused: Refused, keyed: tuple[Path, list[bytes]], model: str, tmp_path: Path) -> None:
    path, pictures = keyed
    header, packets = parts(path)
    data = bytearray(path.read_bytes())
    data[len(header) + sum(map(len, packed(packets[:2]))) + 20] ^= 1
    bad, out = tmp_path / "bad.nvc", tmp_path / "a.yuv"
    bad.write_bytes(data)
    assert "nvc decode --resilient" in refused("decode", bad, "-o", out, "--model", model)
    result = done("decode", bad, "-o", out, "--model", model, "--resilient", "--json")
    assert out.read_bytes() == b"".join(pictures[t] for t in (0, 1, 1, 1, 4, 5))
    assert result.stderr.splitlines()[0] == f"nvc: {bad}: frames 2 to 3 are lost (its CRC-32 does not match)"
    assert "decoded 6 frames (2 lost) to" in result.stderr
    summary = json.loads(result.stdout)
    assert (summary["frames"], summary["lost"]) == (6, 2)
    done("decode", bad, "-o", out, "--model", model, "--resilient", "-y", "--start", "0.16")
    assert out.read_bytes() == b"".join(pictures[4:])


def test_resilience_does_not_matter_to_a_whole_stream(done: Run, keyed: tuple[Path, list[bytes]], model: str, tmp_path: Path) -> None:
    path, pictures = keyed
    result = done("decode", path, "-o", tmp_path / "a.yuv", "--model", model, "--resilient", "--json")
    assert (tmp_path / "a.yuv").read_bytes() == b"".join(pictures)
    assert json.loads(result.stdout)["lost"] == 0 and len(result.stderr.splitlines()) == 1


def test_a_stream_of_which_nothing_is_left(refused: Refused, keyed: tuple[Path, list[bytes]], model: str, tmp_path: Path) -> None:
    header, packets = parts(keyed[0])
    (tmp_path / "bad.nvc").write_bytes(header + bytes(500))
    assert "nothing of" in refused("decode", tmp_path / "bad.nvc", "-o", tmp_path / "a.yuv", "--model", model, "--resilient")
    (tmp_path / "bad.nvc").write_bytes(header[:-1] + bytes(500))
    assert "header" in refused("decode", tmp_path / "bad.nvc", "-o", tmp_path / "a.yuv", "--model", model, "--resilient")


@pytest.mark.parametrize("suffix", [".yuv", ".mkv"])
def test_a_damaged_packet_is_named(refused: Refused, stream: Path, model: str, tmp_path: Path, suffix: str) -> None:
    header, packets = parts(stream)
    data = bytearray(stream.read_bytes())
    data[len(header) + sum(map(len, packed(packets[:2]))) + 20] ^= 1
    (tmp_path / "bad.nvc").write_bytes(data)
    line = refused("decode", tmp_path / "bad.nvc", "-o", tmp_path / f"a{suffix}", "--model", model)
    assert "frame 2" in line and "bad.nvc" in line and "CRC" in line


def test_wrong_payloads_in_whole_packets_are_named(refused: Refused, stream: Path, model: str, tmp_path: Path) -> None:
    """As a faulty encoder may write them: the CRC is right, the content is not."""
    header, packets = parts(stream)
    random = np.random.default_rng(0)
    for place in (0, 1):
        payload = packets[place].payload
        flipped = bytearray(payload)
        flipped[len(payload) // 2] ^= 0x40
        cases = []
        for wrong in (payload[:8], payload[: len(payload) // 8 * 4], bytes(flipped), payload[:8] + random.bytes(48)):
            changed = [*packets]
            changed[place] = dataclasses.replace(packets[place], payload=wrong)
            cases.append(packed(changed))
        for wrong in (b"", payload[:7], bytes(100)):  # the writer itself refuses these
            data = bytes((64 * (place == 0) | packets[place].rate, len(wrong))) + wrong + bytes(2)
            cases.append(packed(packets))
            cases[-1][place] = data + zlib.crc32(data).to_bytes(4, "little")
        for case in cases:
            (tmp_path / "bad.nvc").write_bytes(header + b"".join(case) + end(header, case))
            line = refused("decode", tmp_path / "bad.nvc", "-o", tmp_path / "a.yuv", "--model", model)
            assert f"frame {place}" in line and "bad.nvc" in line


@pytest.mark.parametrize("change", [{"rate": 1}, {"filtered": True}, {"refresh": True}, {"checksum": 7}])
def test_wrong_fields_are_found_by_the_checksum(refused: Refused, stream: Path, model: str, tmp_path: Path, change: dict[str, object]) -> None:
    header, packets = parts(stream)
    if change == {"filtered": True}:
        change = {"filtered": not packets[1].filtered}
    packets[1] = dataclasses.replace(packets[1], **change)
    (tmp_path / "bad.nvc").write_bytes(header + b"".join(packed(packets)) + end(header, packed(packets)))
    assert "frame 1" in refused("decode", tmp_path / "bad.nvc", "-o", tmp_path / "a.yuv", "--model", model)


def test_other_weights(refused: Refused, stream: Path, other_model: str, tmp_path: Path) -> None:
    line = refused("decode", stream, "-o", tmp_path / "a.yuv", "--model", other_model)
    assert "weights" in line and "noise" in line and "other" in line


def test_a_model_that_is_not_here(refused: Refused, stream: Path, tmp_path: Path) -> None:
    assert "the model noise is not in this package" in refused("decode", stream, "-o", tmp_path / "a.yuv")


@pytest.mark.parametrize("name, content, words", [
    ("gone.nvc", None, "cannot be opened"),
    ("empty.nvc", b"", "ends inside its header"),
    ("text.nvc", b"Dear diary,\n" * 50, "not an nvc stream"),
    ("older.nvc", b"NVC\x01" + bytes(60), "version 1, which this program does not know (it reads version 10)"),
    ("newer.nvc", b"NVC\x63" + bytes(60), "version 99"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_bad_input(refused: Refused, tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    line = refused("decode", tmp_path / name, "-o", tmp_path / "a.yuv")
    assert words in line and name in line


def test_a_folder_as_input(refused: Refused, tmp_path: Path) -> None:
    refused("decode", tmp_path, "-o", tmp_path / "a.yuv")


def test_nothing_is_overwritten_unasked(refused: Refused, done: Run, stream: Path, model: str, tmp_path: Path) -> None:
    target = tmp_path / "a.yuv"
    target.write_bytes(b"mine")
    assert "a.yuv exists already" in refused("decode", stream, "-o", target, "--model", model)
    assert target.read_bytes() == b"mine"
    done("decode", stream, "-o", target, "--model", model, "-y")
    assert len(target.read_bytes()) == 4 * FRAME


def test_a_failure_leaves_the_old_file(refused: Refused, stream: Path, model: str, tmp_path: Path) -> None:
    (tmp_path / "a.yuv").write_bytes(b"mine")
    (tmp_path / "bad.nvc").write_bytes(stream.read_bytes()[:-20] + bytes(20))
    refused("decode", tmp_path / "bad.nvc", "-o", tmp_path / "a.yuv", "--model", model, "-y")
    assert (tmp_path / "a.yuv").read_bytes() == b"mine"


def test_targets_that_cannot_be_written(refused: Refused, stream: Path, model: str, tmp_path: Path) -> None:
    assert "no folder" in refused("decode", stream, "-o", tmp_path / "no" / "a.yuv", "--model", model)
    assert "suffix" in refused("decode", stream, "-o", tmp_path / "a.what", "--model", model)
    assert "nonsense" in refused("decode", stream, "-o", tmp_path / "a.mkv", "--codec", "nonsense", "--model", model)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk(refused: Refused, stream: Path, model: str) -> None:
    assert "no space left" in refused("decode", stream, "-o", "/dev/full", "--model", model)


def test_a_reader_that_leaves_early_is_no_error_worth_a_word(done: Run, stream: Path, model: str) -> None:
    command = [sys.executable, "-m", "nvc_cli", "decode", str(stream), "-o", "-", "--model", model, "--threads", "1"]
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb") as closed:
        result = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, cwd=ROOT, timeout=120)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.parametrize("arguments", [
    ["--json", "-o", "-"],
    ["--frames", "0"],
    ["--codec-option", "crf"],
    ["--codec-option", "=18"],
    ["--threads", "0"],
    ["--start", "-1"],
    ["--duration", "soon"],
    ["--device", "abacus"],
])
def test_wrong_usage(nvc: Run, stream: Path, tmp_path: Path, arguments: list[str]) -> None:
    result = nvc("decode", stream, "-o", tmp_path / "a.yuv", *arguments)
    assert result.exit_code == 2 and "Usage" in result.stderr
    assert not list(tmp_path.iterdir())


def test_profile_tells_where_time_goes(done: Run, stream: Path, model: str, tmp_path: Path) -> None:
    table = done("decode", stream, "-o", tmp_path / "a.yuv", "--model", model, "--profile").stderr.splitlines()
    names = [line[:20].strip() for line in table]
    assert names[names.index("stage") + 1 :][-2:] == ["the rest", "all"]
    assert {"vectors", "synthesis", "entropy coding", "reading", "writing"} <= set(names)
    assert "stage" not in done("decode", stream, "-o", tmp_path / "b.yuv", "--model", model).stderr


@pytest.mark.parametrize("options", [[], ["--enhance"]])
def test_processors_decode_without_pytorch(
    done: Run, stream: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:  # fmt: skip
    """Which takes most of the start; and the same pictures come with it, or, as enhancing need not be exact, nearly the same."""
    arguments = ["decode", str(stream), "-o", str(tmp_path / "a.y4m"), "--model", model, "--device", "cpu", *options]
    code = f"import sys; from nvc_cli.main import main; main({arguments}, standalone_mode=False); print(*{{'torch', 'compressai'}} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr
    monkeypatch.setenv("NVC_BACKEND", "float32")
    done("decode", stream, "-o", tmp_path / "b.y4m", "--model", model, "--device", "cpu", *options)
    one, other = (np.frombuffer((tmp_path / f"{name}.y4m").read_bytes(), np.uint8).astype(int) for name in "ab")
    assert np.abs(one - other).max() <= len(options)


@pytest.mark.parametrize("driver, installed", [(False, True), (True, True), (True, False)])
def test_pytorch_is_asked_where_there_may_be_a_gpu(
    done: Run, stream: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: bool, installed: bool
) -> None:  # fmt: skip
    """If it is installed; and where it finds none, it has no more to do."""
    asked: list[str] = []
    monkeypatch.setattr(runtime, "_may_have_gpu", lambda: driver)
    monkeypatch.setattr(runtime, "find_spec", lambda name: installed or None)
    monkeypatch.setattr(runtime, "choose_device", lambda name, threads: asked.append(name) or torch.device("cpu"))
    monkeypatch.setattr(runtime, "load_model", lambda name, place: pytest.fail("it codes in PyTorch, though there is no GPU after all"))
    done("decode", stream, "-o", tmp_path / "a.y4m", "--model", model)
    done("encode", tmp_path / "a.y4m", "-o", tmp_path / "a.nvc", "--model", model)
    assert asked == (["auto", "auto"] if driver and installed else [])


@pytest.mark.parametrize("frame", [0, 2])
@pytest.mark.parametrize("backend", ["", "float32"])
def test_a_payload_that_is_wrong_does_not_end_right(refused: Refused, stream: Path, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frame: int, backend: str) -> None:
    """Whatever CRC and checksum say, which damage may fit by chance, and who wants to do harm can repair."""
    header, packets = parts(stream)
    packets = [dataclasses.replace(packet, checksum=0) for packet in packets]
    payload = packets[frame].payload
    packets[frame] = dataclasses.replace(packets[frame], payload=payload[:-4] + bytes([payload[-4] ^ 1]) + payload[-3:])
    coded = packed(packets)
    damaged = tmp_path / "damaged.nvc"
    damaged.write_bytes(header + b"".join(coded) + end(header, coded))
    monkeypatch.setenv("NVC_BACKEND", backend)
    monkeypatch.setattr("nvc_cli.decoder.picture_checksum", lambda picture: 0)
    assert f"frame {frame} cannot be decoded, the payload does not end with its last symbol" in refused("decode", damaged, "-o", tmp_path / "a.y4m", "--model", model, "--device", "cpu")


def test_keyframes_that_are_the_same_do_not_take_each_others_place(done: Run, stream: Path, model: str, tmp_path: Path) -> None:
    """As of a video that comes back to the same picture."""
    twice = tmp_path / "twice.nvc"
    done("concat", stream, stream, "-o", twice)
    outputs = []
    for more in ([], ["--resilient"]):
        result = done("decode", twice, "-o", tmp_path / f"{len(more)}.yuv", "--model", model, *more)
        assert "decoded 8 frames to" in result.stderr
        outputs.append((tmp_path / f"{len(more)}.yuv").read_bytes())
    assert outputs[0] == outputs[1]
