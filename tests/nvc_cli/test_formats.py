"""What real ffmpeg and ffprobe say about a video before nvc and after it."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]

pytestmark = pytest.mark.skipif(not (shutil.which("ffmpeg") and shutil.which("ffprobe")), reason="needs the programs ffmpeg and ffprobe")

X264 = "-c:v libx264 -preset ultrafast"
FFV1 = "-c:v ffv1"
BT709 = "-color_primaries bt709 -color_trc bt709 -colorspace bt709"
BT601 = "-color_primaries smpte170m -color_trc smpte170m -colorspace smpte170m"
BT2020 = "-color_primaries bt2020 -color_trc smpte2084 -colorspace bt2020nc"
DROPPED = "-vf select='not(eq(mod(n,5),2))' -vsync vfr"
COLORS = ("color_range", "color_primaries", "color_transfer", "color_space")
UNSAID = {"color_range": "tv", "color_primaries": "unknown", "color_transfer": "unknown", "color_space": "unknown"}


@dataclass(frozen=True)
class Input:
    """How ffmpeg makes a file, the suffix of what nvc makes of it, and words of the line that nvc says about it, None for no line."""

    options: str
    suffix: str
    output: str
    says: str | None = None
    size: str = "64x48"
    rate: str = "25"
    turned: int = 0
    colors: tuple[str, str, str, str] | None = None  # of the output, where they are not the source's


INPUTS = {
    "plain": Input(X264, ".mp4", ".mp4"),
    "odd size": Input(FFV1, ".mkv", ".mkv", size="67x45"),
    "23.976": Input(X264, ".mp4", ".mp4", rate="24000/1001"),
    "23.976 in ticks of 1 ms": Input(X264, ".mkv", ".mkv", rate="24000/1001"),
    "59.94": Input(X264, ".mkv", ".mkv", rate="60000/1001"),
    "b-frames, late start": Input("-c:v libx264 -bf 2", ".ts", ".ts"),
    "no times": Input("-c:v libx264 -bf 2", ".h264", ".mp4"),
    "variable rate": Input(f"{X264} {DROPPED}", ".mp4", ".mp4"),
    "variable rate in ticks of 1 ms": Input(f"{FFV1} {DROPPED}", ".mkv", ".mkv"),
    "animation": Input(DROPPED, ".gif", ".mkv", "converted from ", colors=("tv", "unknown", "unknown", "bt709")),
    "full range": Input(f"{X264} -pix_fmt yuvj420p -color_range pc", ".mp4", ".mp4"),
    "BT.601": Input(f"{X264} {BT601}", ".mp4", ".mp4"),
    "BT.709": Input(f"{X264} {BT709} -color_range tv", ".mkv", ".mkv"),
    "BT.2020, 10 bits": Input(f"{X264} -pix_fmt yuv420p10le {BT2020}", ".mp4", ".mp4", "converted from yuv420p10le to 8-bit 4:2:0"),
    "10 bits, 4:2:2": Input(f"{FFV1} -pix_fmt yuv422p10le", ".mkv", ".mkv", "converted from yuv422p10le to 8-bit 4:2:0"),
    "4:4:4": Input(f"{X264} -pix_fmt yuv444p {BT709}", ".mp4", ".mp4", "converted from yuv444p to 8-bit 4:2:0"),
    "RGB": Input(f"{FFV1} -pix_fmt bgr0", ".mkv", ".mkv", "converted from bgr0 to 8-bit 4:2:0", colors=("tv", "unknown", "unknown", "bt709")),
    "gray": Input(f"{FFV1} -pix_fmt gray", ".mkv", ".mkv", "converted from gray to 8-bit 4:2:0", colors=("pc", "unknown", "unknown", "unknown")),
    "interlaced": Input(f"{X264} -flags +ildct+ilme -x264opts tff=1", ".mp4", ".mp4", "its pictures are interlaced"),
    "pixels that are not square": Input(f"{X264} -vf setsar=16/11", ".mp4", ".mp4"),
    "turned": Input(X264, ".mp4", ".mp4", turned=90),
    "turned the other way": Input(X264, ".mov", ".mov", turned=270),
    "upside down": Input(X264, ".mp4", ".mp4", turned=180),
    "VP9": Input("-c:v libvpx-vp9 -deadline realtime -cpu-used 8", ".webm", ".webm"),
}


def ffmpeg(*words: str) -> None:
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *words], check=True)


def probe(path: Path, *options: str) -> dict:
    command = ["ffprobe", "-v", "error", "-of", "json", *options, str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def seen(path: Path) -> dict[str, object]:
    """What ffprobe finds in the video stream of a file."""
    found = probe(path, "-select_streams", "v:0", "-count_frames", "-show_streams", "-show_frames", "-show_entries", "frame=pts_time:stream")
    stream = found["streams"][0]
    turned = [data["rotation"] % 360 for data in stream.get("side_data_list", []) if "rotation" in data]
    times = [Fraction(frame["pts_time"]) for frame in found["frames"] if "pts_time" in frame]
    return {
        "size": (stream["width"], stream["height"]),
        "pixels": stream.get("sample_aspect_ratio", "1:1"),
        "frames": int(stream["nb_read_frames"]),
        "turned": turned or [0],
        "rate": Fraction(stream["r_frame_rate"]),
        "times": [time - times[0] for time in times],
        "colors": tuple(stream.get(key, "unknown").replace("unknown", UNSAID[key]) for key in COLORS),
    }


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    """Make an input."""

    def make(name: str) -> Path:
        entry = INPUTS[name]
        path, plain = tmp_path / f"in{entry.suffix}", tmp_path / f"plain{entry.suffix}"
        source = f"testsrc=size={entry.size}:rate={entry.rate}"
        ffmpeg("-f", "lavfi", "-i", source, "-t", "0.24", *([] if "-pix_fmt" in entry.options or entry.suffix == ".gif" else ["-pix_fmt", "yuv420p"]),
               *entry.options.split(), str(plain if entry.turned else path))  # fmt: skip
        if entry.turned:
            ffmpeg("-i", str(plain), "-c", "copy", "-metadata:s:v", f"rotate={entry.turned}", str(path))
        return path

    return make


@pytest.mark.parametrize("name", INPUTS)
def test_what_comes_out_is_what_went_in(name: str, made: Callable[[str], Path], done: Run, model: str, tmp_path: Path) -> None:
    source, entry = made(name), INPUTS[name]
    stream, out = tmp_path / "a.nvc", tmp_path / f"out{entry.output}"
    said = done("encode", source, "-o", stream, "--model", model, "--qp", 5, "--references", 1).stderr.splitlines()
    done("decode", stream, "-o", out, "--model", model)
    before, after = seen(source), seen(out)
    assert [line for line in said if line.startswith("nvc: ")] == [line for line in said if entry.says and entry.says in line]
    assert bool(entry.says) == said[0].startswith("nvc: ")
    if entry.colors:
        before["colors"] = entry.colors
    times = zip(before.pop("times") or [Fraction(n) / before["rate"] for n in range(before["frames"])], after.pop("times"), strict=True)
    assert all(abs(one - other) <= Fraction(1, 500) for one, other in times)
    if "variable" not in name and "animation" not in name:
        assert before.pop("rate") == after.pop("rate")
    before.pop("rate", None), after.pop("rate", None)
    assert before == after


def packets(path: Path, kind: str) -> list[tuple[float, str]]:
    """(time in seconds, hash of the data) of each packet of the first stream of a kind ("a" or "s")."""
    found = probe(path, "-select_streams", f"{kind}:0", "-show_packets", "-show_data_hash", "md5")
    return [(float(packet["pts_time"]), packet["data_hash"]) for packet in found["packets"]]


def titles(path: Path) -> list[tuple[str, str | None, str | None]]:
    """(codec, language, title) of the sound and subtitles."""
    found = [stream for stream in probe(path, "-show_streams")["streams"] if stream["codec_type"] != "video"]
    return [(stream["codec_name"], *(stream.get("tags", {}).get(key) for key in ("language", "title"))) for stream in found]


@pytest.fixture
def film(tmp_path: Path) -> Callable[[str, str, str], Path]:
    """(suffix, codec of the sound, codec of the subtitles) -> half a second with a tone in two languages, and subtitles."""

    def make(suffix: str, sound: str, subtitles: str) -> Path:
        (tmp_path / "text.srt").write_text("1\n00:00:00,100 --> 00:00:00,200\nGood morning\n\n2\n00:00:00,300 --> 00:00:00,400\nGood night\n\n")
        path = tmp_path / f"film{suffix}"
        ffmpeg("-f", "lavfi", "-i", "testsrc=size=32x32:rate=25", "-f", "lavfi", "-i", "sine=frequency=440", "-i", str(tmp_path / "text.srt"),
               "-map", "0", "-map", "1", "-map", "1", "-map", "2", "-t", "0.48", *X264.split(), "-pix_fmt", "yuv420p", "-c:a", sound, "-c:s", subtitles,
               "-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=deu", "-metadata:s:s:0", "language=fra", str(path))  # fmt: skip
        return path

    return make


@pytest.fixture
def coded(done: Run, model: str, tmp_path: Path) -> Callable[..., Path]:
    """Encode a film."""

    def encode(source: Path, *options: object) -> Path:
        done("encode", source, "-o", tmp_path / "film.nvc", "--model", model, "--qp", 6, "--references", 1, *options, "-y")
        return tmp_path / "film.nvc"

    return encode


@pytest.mark.parametrize(("suffix", "sound", "subtitles"), [(".mkv", "flac", "srt"), (".mkv", "libopus", "ass"), (".mp4", "aac", "mov_text")])
def test_sound_and_subtitles_come_out_untouched(
    suffix: str, sound: str, subtitles: str, film: Callable[..., Path], coded: Callable[..., Path], done: Run, model: str, tmp_path: Path
) -> None:
    source, out = film(suffix, sound, subtitles), tmp_path / f"out{suffix}"
    result = done("decode", coded(source), "-o", out, "--model", model)
    assert "nvc: " not in result.stderr
    assert titles(out) == titles(source)
    for kind in ("a", "s"):
        assert packets(out, kind) == packets(source, kind)
    subprocess.run(["ffmpeg", "-v", "error", "-xerror", "-i", str(out), "-f", "null", "-"], check=True)


def test_what_a_container_does_not_take_is_said(film: Callable[..., Path], coded: Callable[..., Path], done: Run, model: str, tmp_path: Path) -> None:
    stream = coded(film(".mkv", "flac", "srt"))
    result = done("decode", stream, "-o", tmp_path / "out.mp4", "--model", model)
    assert "out.mp4: does not keep subtitle in subrip" in result.stderr
    assert [codec for codec, *_ in titles(tmp_path / "out.mp4")] == ["flac", "flac"]
    result = done("decode", stream, "-o", tmp_path / "out.y4m", "--model", model)
    assert "out.y4m: does not keep sound and subtitles" in result.stderr


def test_tracks_can_be_left_out(film: Callable[..., Path], coded: Callable[..., Path], done: Run, model: str, tmp_path: Path) -> None:
    source, out = film(".mkv", "flac", "srt"), tmp_path / "out.mkv"
    whole = coded(source)
    done("decode", whole, "-o", out, "--model", model, "--no-tracks")
    assert titles(out) == []
    size = whole.stat().st_size
    assert coded(source, "--no-tracks").stat().st_size < size - 1000
    done("decode", whole, "-o", out, "--model", model, "-y")
    assert titles(out) == []


def test_a_part_has_the_sound_of_its_time(film: Callable[..., Path], coded: Callable[..., Path], done: Run, model: str, tmp_path: Path) -> None:
    source, out = film(".mkv", "pcm_s16le", "srt"), tmp_path / "out.mkv"
    done("decode", coded(source, "--keyint", 3), "-o", out, "--model", model, "--start", "0.2", "--duration", "0.16")
    for kind in ("a", "s"):
        inside = [(time - 0.2, data) for time, data in packets(source, kind) if 0.2 <= time < 0.36]
        got = packets(out, kind)
        assert [data for _, data in got] == [data for _, data in inside] and inside
        assert all(abs(one - other) < 0.002 for (one, _), (other, _) in zip(got, inside))
    assert seen(out)["frames"] == 4


def test_a_part_of_a_film_has_no_more_sound_than_pictures(film: Callable[..., Path], coded: Callable[..., Path], done: Run, model: str, tmp_path: Path) -> None:
    source, out = film(".mkv", "pcm_s16le", "srt"), tmp_path / "out.mkv"
    done("decode", coded(source, "--frames", 5), "-o", out, "--model", model)
    assert [data for _, data in packets(out, "a")] == [data for time, data in packets(source, "a") if time < 0.2]


def test_jobs_and_concat_keep_times_and_sound(film: Callable[..., Path], coded: Callable[..., Path], done: Run, model: str, tmp_path: Path) -> None:
    source, uneven = film(".mkv", "flac", "srt"), tmp_path / "uneven.mkv"
    ffmpeg("-i", str(source), "-map", "0", *DROPPED.split(), *FFV1.split(), "-c:a", "copy", "-c:s", "copy", str(uneven))
    one = coded(uneven, "--keyint", 4).read_bytes()
    two = coded(uneven, "--keyint", 4, "--jobs", 2, "--recon", tmp_path / "recon.mkv").read_bytes()
    assert one == two
    assert seen(tmp_path / "recon.mkv")["times"] == seen(uneven)["times"]
    done("concat", tmp_path / "film.nvc", tmp_path / "film.nvc", "-o", tmp_path / "twice.nvc")
    done("decode", tmp_path / "twice.nvc", "-o", tmp_path / "twice.mkv", "--model", model)
    single, double = seen(uneven), seen(tmp_path / "twice.mkv")
    shift = double["times"][single["frames"]]
    assert shift > single["times"][-1]
    assert all(abs(one - other) <= Fraction(1, 500) for one, other in zip(double["times"], [*single["times"], *(time + shift for time in single["times"])], strict=True))
    for kind in ("a", "s"):
        once = packets(uneven, kind)
        twice = packets(tmp_path / "twice.mkv", kind)
        assert [data for _, data in twice] == [data for _, data in once] * 2
        assert all(abs(time - other - float(shift)) < 0.01 for (time, _), (other, _) in zip(twice[len(once) :], once))
