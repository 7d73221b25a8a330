"""Disks that are full, processes that are killed, pipes that are closed: real ones. Nothing half-written ever appears under the name that was asked for."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from nvc_cli.decoder import Decoder
from nvc_cli.errors import NvcError
from nvc_cli.files import publish
from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.main import main
from nvc_cli.stream import StreamReader
from nvc_cli.video import open_writer

ROOT = Path(__file__).parent.parent
NVC = [sys.executable, "-m", "nvc_cli"]
WIDTH, HEIGHT = 64, 48
HEADER = f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C420jpeg\n".encode()
TIMEOUT = 120


def picture(t: int) -> Frame:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    y = (128 + 60 * np.sin((rows + 3 * t) / 5) + 40 * np.cos((columns - 2 * t) / 7)).clip(0, 255).astype(np.uint8)
    return Frame(y, y[::2, ::2] // 2 + 60, 200 - y[::2, ::2] // 2)


def y4m(t: int) -> bytes:
    return b"FRAME\n" + b"".join(plane.tobytes() for plane in picture(t).planes)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "a.y4m"
    path.write_bytes(HEADER + b"".join(map(y4m, range(6))))
    return path


@pytest.fixture(scope="module")
def stream(clip: Path) -> Path:
    target = clip.with_suffix(".nvc")
    result = CliRunner().invoke(main, ["encode", str(clip), "-o", str(target), "--qp", "1"])
    assert result.exit_code == 0, result.stderr
    return target


def begin(*arguments: object, **options: object) -> subprocess.Popen:
    """Start nvc in a process of its own."""
    words = [*NVC, *map(str, arguments), "--threads", "1"]
    return subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def end(process: subprocess.Popen, data: bytes | None = None) -> tuple[int, bytes, str]:
    """Its exit code, output, and what it says. No traceback ever."""
    out, told = process.communicate(data, timeout=TIMEOUT)
    assert b"Traceback" not in told, told.decode()
    return process.returncode, out, told.decode()


def one_line(told: str) -> str:
    lines = [line for line in told.splitlines() if line.startswith("nvc: ")]
    assert len(lines) == 1, told
    return lines[0]


def limited(size: int) -> dict[str, object]:
    """A process whose files cannot grow beyond `size` bytes, as on a disk that is full."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return {"preexec_fn": limit}


# ---- disks ----------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of this size, mounted."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("suffix", [".nvc", ".yuv", ".y4m", ".mkv"])
def test_a_file_system_that_is_full(stream: Path, tmp_path: Path, suffix: str) -> None:
    with small_disk(tmp_path / "disk", "4k") as disk:
        target = disk / f"a{suffix}"
        noise = tmp_path / "noise.y4m"  # whose stream is large
        noise.write_bytes(HEADER + 3 * (b"FRAME\n" + np.random.default_rng(1).bytes(WIDTH * HEIGHT * 3 // 2)))
        words = ("encode", noise, "-o", target, "--qp", 0) if suffix == ".nvc" else ("decode", stream, "-o", target)
        code, _, told = end(begin(*words))
        assert code == 1 and "no space left" in one_line(told) and str(target) in told
        assert not any(disk.iterdir())


def test_a_reconstruction_that_does_not_fit_leaves_no_stream(clip: Path, tmp_path: Path) -> None:
    code, _, told = end(begin("encode", clip, "-o", tmp_path / "a.nvc", "--recon", tmp_path / "a.yuv", **limited(9000)))
    assert code == 1 and "a.yuv" in one_line(told)
    assert not any(tmp_path.iterdir())


def test_no_room_for_temporary_files(clip: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "8k") as disk:
        environment = {**os.environ, "TMPDIR": str(disk)}
        code, _, told = end(begin("encode", clip, "-o", tmp_path / "a.nvc", "--jobs", 2, env=environment))
        assert code == 1 and "TMPDIR" in one_line(told)
        assert not (tmp_path / "a.nvc").exists()


def test_weights_in_a_folder_that_cannot_be_written(stream: Path, tmp_path: Path) -> None:
    """Nothing is ever written beside the weights, nor into a home, which need not be there."""
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "tiny.safetensors").write_bytes((ROOT / "models" / "weights" / "tiny.safetensors").read_bytes())
    weights.chmod(0o555)
    environment = {**os.environ, "HOME": str(tmp_path / "nowhere")}
    code, _, told = end(begin("decode", stream, "-o", tmp_path / "a.yuv", "--model", weights / "tiny.safetensors", env=environment))
    assert code == 0, told
    assert [path.name for path in weights.iterdir()] == ["tiny.safetensors"]
    weights.chmod(0o755)


# ---- ends ------------------------------------------------------------------------------------------


@contextmanager
def encoding(target: Path, frames: int) -> Iterator[subprocess.Popen]:
    """An encoder that has written so many frames and waits for more."""
    process = begin("encode", "-", "-o", target, "--effort", "fast")  # which does not wait for the frames after a keyframe
    assert process.stdin
    process.stdin.write(HEADER + b"".join(map(y4m, range(frames + 1))))
    process.stdin.flush()
    part = target.with_name(f".{target.name}.part")
    while written(part) < frames:  # the last one given may still be open
        assert process.poll() is None, process.communicate()
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


def written(part: Path) -> int:
    """Whole packets of a stream that is being written."""
    count = 0
    with contextlib.suppress(OSError, NvcError), part.open("rb") as file:  # not there yet, or cut off
        for _ in StreamReader(file, "part"):
            count += 1
    return count


@pytest.mark.parametrize("frames", [1, 3])
def test_what_a_killed_encoder_leaves_can_be_decoded(tmp_path: Path, frames: int) -> None:
    target = tmp_path / "a.nvc"
    with encoding(target, frames) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [path.name for path in tmp_path.iterdir()] == [".a.nvc.part"]
    rescued = tmp_path / "rescued.yuv"
    code, _, told = end(begin("decode", tmp_path / ".a.nvc.part", "-o", rescued))
    assert code == 1 and "ends" in one_line(told)
    assert rescued.stat().st_size % (WIDTH * HEIGHT * 3 // 2) == 0
    assert rescued.stat().st_size // (WIDTH * HEIGHT * 3 // 2) >= frames

    code, _, told = end(begin("encode", "-", "-o", target), HEADER + y4m(0))  # what was left is in nobody's way
    assert code == 0, told
    assert not (tmp_path / ".a.nvc.part").exists()


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_who_is_asked_to_end_leaves_nothing(tmp_path: Path, number: int, code: int) -> None:
    with encoding(tmp_path / "a.nvc", 1) as process:
        process.send_signal(number)
        assert process.wait(TIMEOUT) == code
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("encode", "clip"), ("decode", "stream")])
def test_a_reader_that_leaves(clip: Path, stream: Path, words: tuple[str, str]) -> None:
    process = begin(words[0], clip if words[1] == "clip" else stream, "-o", "-")
    assert process.stdout
    assert process.stdout.read(1)
    process.stdout.close()
    process.stdout = None
    code, _, told = end(process)
    assert code in (0, 1) and not told.count("nvc: ")  # a pipe takes so few bytes whole, if they come before it is closed


def test_two_processes_that_want_one_file(clip: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.nvc"
    with encoding(target, 1) as process:
        code, _, told = end(begin("encode", clip, "-o", target, "-y"))
        assert code == 1 and "another process" in one_line(told)
        assert end(process, b"")[0] == 0
    with target.open("rb") as file:
        assert len(list(StreamReader(file, "a"))) == 2


def test_a_part_file_is_held_until_it_has_its_name(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with publish(target) as one:
        one.write(b"one")
        with pytest.raises(Exception, match="another process"), publish(target):
            pass
    assert target.read_bytes() == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# ---- inputs -----------------------------------------------------------------------------------------


def test_a_pipe_that_ends_inside_a_frame(tmp_path: Path) -> None:
    code, _, told = end(begin("encode", "-", "-o", tmp_path / "a.nvc"), HEADER + y4m(0) + y4m(1)[:100])
    assert code == 1 and "standard input" in one_line(told)
    assert not any(tmp_path.iterdir())


def test_a_file_that_cannot_be_read(clip: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed.y4m"
    closed.write_bytes(clip.read_bytes())
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        pytest.skip("this user may read everything")
    code, _, told = end(begin("encode", closed, "-o", tmp_path / "a.nvc"))
    assert code == 1 and "closed.y4m" in one_line(told)


@pytest.mark.parametrize("command", ["encode", "decode"])
def test_a_folder_is_no_input(tmp_path: Path, command: str) -> None:
    code, _, told = end(begin(command, tmp_path, "-o", tmp_path / "a.nvc"))
    assert code == 1 and str(tmp_path) in one_line(told)


# ---- memory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error, words",
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "--device cpu"),
        (MemoryError(), "memory does not suffice"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"), "memory does not suffice"),
    ],
)
def test_memory_that_does_not_suffice(stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Decoder, "decode", fail)
    result = CliRunner().invoke(main, ["decode", str(stream), "-o", str(tmp_path / "a.yuv")])
    assert result.exit_code == 1 and words in one_line(result.stderr)
    assert not any(tmp_path.iterdir())


def test_other_errors_are_not_taken_for_want_of_memory(stream: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Decoder, "decode", fail)
    assert isinstance(CliRunner().invoke(main, ["decode", str(stream), "-o", str(tmp_path / "a.yuv")]).exception, RuntimeError)


def test_writers_in_threads_stop_with_their_file(tmp_path: Path) -> None:
    """A container is written by a thread; where its file cannot grow, the error is told, and nothing is left."""
    with pytest.raises(ValueError, match="stop"), open_writer(str(tmp_path / "a.mkv"), VideoInfo(WIDTH, HEIGHT, Fraction(25))) as writer:
        for t in range(20):
            writer.write(picture(t))
        raise ValueError("stop")
    assert not any(tmp_path.iterdir())
