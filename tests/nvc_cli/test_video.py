import io
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from nvc_cli.errors import NvcError
from nvc_cli.planar import parse_raw_name
from nvc_cli.video import Color, Frame, VideoInfo, VideoReader, open_reader, open_writer

SIZES = [(16, 16), (17, 33), (1, 1)]
NTSC = Fraction(30000, 1001)
UHD = Color(primaries=9, transfer=16, matrix=9, full_range=False)
FULL = Color(primaries=1, transfer=1, matrix=1, full_range=True)
FFMPEG = shutil.which("ffmpeg")
needs_posix = pytest.mark.skipif(os.name != "posix", reason="needs named pipes and limits")
needs_ffmpeg = pytest.mark.skipif(FFMPEG is None, reason="needs the ffmpeg binary")


def make_info(width: int = 16, height: int = 16, **more: object) -> VideoInfo:
    return VideoInfo(width, height, **{"fps": Fraction(30), **more})


def make_frames(info: VideoInfo, count: int = 3) -> list[Frame]:
    """Noise: nothing that a lossy step would leave alone."""
    random = np.random.default_rng(0)
    shapes = ((info.height, info.width), info.chroma_shape, info.chroma_shape)
    return [Frame(*(random.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)) for _ in range(count)]


def write(target: Path | str, info: VideoInfo, frames: list[Frame], **more: object) -> None:
    with open_writer(str(target), info, **more) as writer:
        for frame in frames:
            writer.write(frame)


def to_bytes(frames: list[Frame]) -> bytes:
    return b"".join(plane.tobytes() for frame in frames for plane in frame.planes)


def read(source: Path | str, **more: object) -> list[Frame]:
    with open_reader(str(source), **more) as reader:
        return list(reader)


def read_until_error(reader: VideoReader) -> tuple[int, str]:
    """(frames before the error, its text)"""
    count = 0
    with pytest.raises(NvcError) as caught, reader:
        for _ in reader:
            count += 1
    return count, str(caught.value)


def y4m(*frames: bytes, header: str = "YUV4MPEG2 W4 H2 F30:1 C420jpeg") -> bytes:
    return header.encode() + b"\n" + b"".join(b"FRAME\n" + frame for frame in frames)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch):
    """Put bytes on standard input."""

    def put(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))

    return put


# ---- what is written is what is read -------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("suffix", [".yuv", ".y4m", ".mkv", ".avi", ".nut", ".webm"])
def test_round_trip_is_exact_for_every_size(tmp_path: Path, suffix: str, size: tuple[int, int]) -> None:
    info = make_info(*size)
    frames = make_frames(info)
    target = tmp_path / f"clip_{size[0]}x{size[1]}_30{suffix}"
    write(target, info, frames)
    back = read(target)
    assert len(back) == len(frames)
    assert to_bytes(back) == to_bytes(frames)
    assert [plane.shape for plane in back[0].planes] == [plane.shape for plane in frames[0].planes]
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".ts", ".MKV"])
def test_round_trip_is_exact_where_sizes_must_be_even(tmp_path: Path, suffix: str) -> None:
    info = make_info(48, 34)
    frames = make_frames(info, 20)
    write(tmp_path / f"clip{suffix}", info, frames)
    assert to_bytes(read(tmp_path / f"clip{suffix}")) == to_bytes(frames)


@pytest.mark.parametrize("color", [UHD, FULL, Color()])
@pytest.mark.parametrize("fps", [NTSC, Fraction(25)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_containers_carry_colour_shape_and_rate(tmp_path: Path, suffix: str, fps: Fraction, color: Color) -> None:
    info = make_info(32, 32, fps=fps, color=color, sar=Fraction(4, 3))
    with open_writer(str(tmp_path / f"clip{suffix}"), info) as writer:
        writer.write(make_frames(info, 1)[0])
    assert writer.note is None
    with open_reader(str(tmp_path / f"clip{suffix}")) as reader:
        assert (reader.info.color, reader.info.sar, reader.info.fps) == (color, Fraction(4, 3), fps)
        assert reader.note is None


def test_ffv1_carries_colour(tmp_path: Path) -> None:
    info = make_info(color=UHD, fps=NTSC)
    write(tmp_path / "clip.mkv", info, make_frames(info))
    with open_reader(str(tmp_path / "clip.mkv")) as reader:
        assert (reader.info.color, reader.info.fps, reader.info.source_format) == (UHD, NTSC, "yuv420p")


def test_y4m_carries_range_shape_and_rate(tmp_path: Path) -> None:
    info = make_info(fps=NTSC, sar=Fraction(10, 11), color=Color(full_range=True))
    write(tmp_path / "clip.y4m", info, make_frames(info))
    with open_reader(str(tmp_path / "clip.y4m")) as reader:
        assert reader.info == VideoInfo(16, 16, NTSC, 3, Color(full_range=True), Fraction(10, 11))


def test_a_container_says_what_it_does_not_keep(tmp_path: Path) -> None:
    writer = open_writer(str(tmp_path / "clip.avi"), make_info(color=UHD, sar=Fraction(4, 3)))
    assert writer.note == f"{tmp_path}/clip.avi: does not keep colour tags and the pixel shape 4:3"


def test_planes_that_are_views_are_written_as_they_look(tmp_path: Path) -> None:
    info = make_info(6, 4)
    wide = np.arange(96, dtype=np.uint8).reshape(8, 12)
    frame = Frame(wide[::2, ::2], wide[:2, :3], wide[4:6, 5:8])
    write(tmp_path / "clip_6x4_30.yuv", info, [frame])
    assert (tmp_path / "clip_6x4_30.yuv").read_bytes() == to_bytes([frame])


def test_another_codec_and_its_options(tmp_path: Path) -> None:
    info = make_info(64, 64)
    frames = make_frames(info)
    write(tmp_path / "good.mkv", info, frames, codec="libx265", options={"crf": "5", "x265-params": "log-level=error"})
    write(tmp_path / "poor.mkv", info, frames, codec="libx265", options={"crf": "50", "x265-params": "log-level=error"})
    good, poor = read(tmp_path / "good.mkv"), read(tmp_path / "poor.mkv")
    assert len(good) == len(poor) == len(frames)
    assert (tmp_path / "poor.mkv").stat().st_size < (tmp_path / "good.mkv").stat().st_size
    assert to_bytes(poor) != to_bytes(frames)


# ---- other pixel formats -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(16, 16), (17, 33)])
@pytest.mark.parametrize(
    ("tag", "pixels", "across", "down", "depth"),
    [("422", "yuv422p", 2, 1, 8), ("444", "yuv444p", 1, 1, 8), ("420p10", "yuv420p10le", 2, 2, 10), ("422p12", "yuv422p12le", 2, 1, 12),
     ("444p16", "yuv444p16le", 1, 1, 16), ("411", "yuv411p", 4, 1, 8)],
)
def test_y4m_of_other_pixels_is_converted(
    tmp_path: Path, tag: str, pixels: str, across: int, down: int, depth: int, size: tuple[int, int]
) -> None:
    width, height = size
    scale = 1 << depth - 8
    luma = np.random.default_rng(0).integers(16, 236, (height, width))
    chroma = np.full((-(-height // down), -(-width // across)), 90)
    dtype = np.uint8 if depth == 8 else "<u2"
    body = b"".join((plane * scale).astype(dtype).tobytes() for plane in (luma, chroma, chroma + 60))
    (tmp_path / "clip.y4m").write_bytes(y4m(body, body, header=f"YUV4MPEG2 W{width} H{height} F30:1 C{tag}"))
    with open_reader(str(tmp_path / "clip.y4m")) as reader:
        frames = list(reader)
    assert reader.note == f"{tmp_path}/clip.y4m: converted from {pixels} to 8-bit 4:2:0"
    assert (reader.info.source_format, reader.info.frames, len(frames)) == (pixels, 2, 2)
    assert np.abs(frames[1].y.astype(int) - luma).max() <= (0 if depth == 8 else 1)
    assert np.abs(frames[1].u.astype(int) - 90).max() <= 1
    assert np.abs(frames[1].v.astype(int) - 150).max() <= 1


@pytest.mark.parametrize(("tag", "dtype", "scale"), [("mono", np.uint8, 1), ("mono10", "<u2", 4)])
def test_mono_gets_grey_chroma(tmp_path: Path, tag: str, dtype: str, scale: int) -> None:
    luma = np.arange(17 * 3).reshape(3, 17) * 5
    body = (luma * scale).astype(dtype).tobytes()
    (tmp_path / "clip.y4m").write_bytes(y4m(body, header=f"YUV4MPEG2 W17 H3 F30:1 C{tag}"))
    (frame,) = read(tmp_path / "clip.y4m")
    assert np.abs(frame.y.astype(int) - luma).max() <= (0 if scale == 1 else 1)
    assert (frame.u == 128).all() and (frame.v == 128).all()


@needs_ffmpeg
@pytest.mark.parametrize("color_range", ["tv", "pc"])
def test_conversion_keeps_the_range(tmp_path: Path, color_range: str) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    command = [FFMPEG, "-v", "error", "-f", "rawvideo", "-pix_fmt", "yuv444p", "-s", "256x4", "-color_range", color_range, "-i", "-",
               "-c:v", "ffv1", "-color_range", color_range, "-colorspace", "bt709", str(tmp_path / "clip.mkv")]
    subprocess.run(command, input=ramp.tobytes() + bytes([128]) * 2048, check=True)
    with open_reader(str(tmp_path / "clip.mkv")) as reader:
        (frame,) = reader
    assert reader.info.color.full_range == (color_range == "pc")
    assert reader.info.color.matrix == 1
    assert np.array_equal(frame.y, ramp)


def test_rgb_becomes_bt709_limited(tmp_path: Path) -> None:
    import av

    picture = av.VideoFrame.from_ndarray(np.full((16, 16, 3), (255, 0, 0), np.uint8), format="rgb24")
    with av.open(str(tmp_path / "red.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "bgr0"
        container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    with open_reader(str(tmp_path / "red.mkv")) as reader:
        (frame,) = reader
    assert (reader.info.color.matrix, reader.info.color.full_range) == (1, False)
    assert np.abs([frame.y.mean() - 63, frame.u.mean() - 102, frame.v.mean() - 240]).max() < 1.5


# ---- pipes ---------------------------------------------------------------------------------------


def test_y4m_from_stdin(stdin) -> None:
    stdin(y4m(bytes(12), bytes([7]) * 12))
    with open_reader("-") as reader:
        assert reader.info == VideoInfo(4, 2, Fraction(30))
        assert [int(frame.y[0, 0]) for frame in reader] == [0, 7]


def test_raw_from_stdin(stdin) -> None:
    stdin(bytes(12) + bytes([7]) * 12)
    with open_reader("-", size=(4, 2), fps=NTSC) as reader:
        assert reader.info == VideoInfo(4, 2, NTSC)
        assert [int(frame.v[0, 0]) for frame in reader] == [0, 7]


@needs_posix
def test_frames_are_delivered_as_they_arrive(tmp_path: Path) -> None:
    """Each frame is sent only after the one before it has been read: a reader that looks ahead would wait for ever."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    taken = threading.Semaphore(1)

    def send() -> None:
        with open(fifo, "wb", buffering=0) as file:
            file.write(y4m())
            for value in range(4):
                assert taken.acquire(timeout=10)
                file.write(b"FRAME\n" + bytes([value]) * 12)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    seen = []
    with open_reader(str(fifo)) as reader:
        for frame in reader:
            seen.append(int(frame.y[0, 0]))
            taken.release()
    sender.join(10)
    assert seen == [0, 1, 2, 3]


@needs_ffmpeg
def test_stdin_and_stdout_between_two_ffmpeg() -> None:
    copy = "from nvc_cli.video import *\nwith open_reader('-') as r, open_writer('-', r.info) as w:\n for f in r: w.write(f)"
    pattern = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "testsrc2=size=34x18:rate=30000/1001", "-frames:v", "5",
               "-pix_fmt", "yuv420p", "-f"]
    expected = subprocess.run([*pattern, "rawvideo", "-"], check=True, capture_output=True).stdout
    source = subprocess.run([*pattern, "yuv4mpegpipe", "-"], check=True, capture_output=True).stdout
    copied = subprocess.run([sys.executable, "-c", copy], input=source, check=True, capture_output=True).stdout
    back = subprocess.run([FFMPEG, "-v", "error", "-i", "-", "-f", "rawvideo", "-"], input=copied, check=True, capture_output=True)
    assert copied.startswith(b"YUV4MPEG2 W34 H18 F30000:1001 ")
    assert back.stdout == expected


@needs_ffmpeg
@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".y4m"])
def test_ffmpeg_reads_what_is_written(tmp_path: Path, suffix: str) -> None:
    info = make_info(32, 18)
    frames = make_frames(info)
    write(tmp_path / f"clip{suffix}", info, frames)
    command = [FFMPEG, "-v", "error", "-i", str(tmp_path / f"clip{suffix}"), "-f", "rawvideo", "-"]
    assert subprocess.run(command, check=True, capture_output=True).stdout == to_bytes(frames)


def test_a_closed_pipe_is_not_an_error_for_the_user() -> None:
    program = ("from nvc_cli.video import *\nimport numpy as np\nplane = np.zeros((256, 256), np.uint8)\n"
               "frame = Frame(plane, plane[:128, :128], plane[:128, :128])\n"
               "try:\n with open_writer('-', VideoInfo(256, 256, 25)) as w:\n  for _ in range(1000): w.write(frame)\n"
               "except BrokenPipeError:\n import os; os._exit(7)")
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.read(100)
    process.stdout.close()
    assert process.wait(30) == 7


# ---- raw video -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "fps", "bits"),
    [
        ("foreman_352x288_30.yuv", (352, 288), 30, 8),
        ("foreman_352x288.yuv", (352, 288), None, 8),
        ("Beauty_1920x1080_120fps_420_8bit_YUV.yuv", (1920, 1080), 120, 8),
        ("Jockey_3840x2160_120fps_420_10bit.yuv", (3840, 2160), 120, 10),
        ("a_17x33_29.97.yuv", (17, 33), NTSC, 8),
        ("a_17x33_23.976.yuv", (17, 33), Fraction(24000, 1001), 8),
        ("a_17x33_12.5.yuv", (17, 33), Fraction(25, 2), 8),
        ("a_64x48_10bit.yuv", (64, 48), None, 10),
        ("plain.yuv", None, None, 8),
    ],
)
def test_names_of_raw_files(name: str, size: tuple[int, int] | None, fps: Fraction | None, bits: int) -> None:
    said = parse_raw_name(name)
    assert (said.size, said.fps, said.bits) == (size, fps, bits)


def test_what_is_given_overrides_the_name(tmp_path: Path) -> None:
    (tmp_path / "clip_8x8_30.yuv").write_bytes(bytes(24))
    with open_reader(str(tmp_path / "clip_8x8_30.yuv"), size=(4, 2), fps=Fraction(50)) as reader:
        assert reader.info == VideoInfo(4, 2, Fraction(50), 2)


def test_a_rate_that_nobody_knows_is_assumed_and_said(tmp_path: Path) -> None:
    (tmp_path / "clip_4x2.yuv").write_bytes(bytes(12))
    with open_reader(str(tmp_path / "clip_4x2.yuv")) as reader:
        assert reader.info.fps == 25
        assert reader.note and "25 per second" in reader.note


# ---- how many frames -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".yuv", ".y4m", ".mkv", ".mp4"])
def test_frames_limits(tmp_path: Path, suffix: str) -> None:
    info = make_info()
    frames = make_frames(info, 5)
    target = tmp_path / f"clip_16x16_30{suffix}"
    write(target, info, frames)
    assert to_bytes(read(target, frames=2)) == to_bytes(frames[:2])
    assert to_bytes(read(target, frames=9)) == to_bytes(frames)
    with open_reader(str(target), frames=2) as reader:
        assert reader.info.frames == 2
    with open_reader(str(target)) as reader:
        assert reader.info.frames == 5


def test_a_limit_stops_before_damage(tmp_path: Path) -> None:
    (tmp_path / "clip.y4m").write_bytes(y4m(bytes(12), bytes(3)))
    assert len(read(tmp_path / "clip.y4m", frames=1)) == 1


@pytest.mark.parametrize("suffix", [".yuv", ".y4m"])
def test_memory_is_constant(tmp_path: Path, suffix: str) -> None:
    info = make_info(256, 256)
    target = tmp_path / f"clip_256x256_30{suffix}"
    write(target, info, make_frames(info, 1) * 60)
    tracemalloc.start()
    try:
        with open_reader(str(target)) as reader:
            assert sum(1 for _ in reader) == 60
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * info.frame_bytes


# ---- sources that cannot be read -----------------------------------------------------------------


def test_a_missing_source(tmp_path: Path) -> None:
    for name in ("none.mkv", "none.y4m", "none_4x2_30.yuv"):
        with pytest.raises(NvcError, match=f"there is no file .*{name}"):
            open_reader(str(tmp_path / name))


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NvcError, match="is a folder"):
        open_reader(str(tmp_path))


@pytest.mark.parametrize("name", ["empty.mkv", "empty.y4m", "empty_4x2_30.yuv"])
def test_an_empty_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(NvcError, match=f"{name} is empty"):
        open_reader(str(tmp_path / name))


@pytest.mark.parametrize("size", [None, (4, 2)])
def test_empty_standard_input(stdin, size: tuple[int, int] | None) -> None:
    stdin(b"")
    with pytest.raises(NvcError, match="standard input (is empty|has no frames)"), open_reader("-", size=size) as reader:
        next(reader)


def test_a_terminal_as_standard_input(stdin, monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(b"")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    with pytest.raises(NvcError, match="pipe y4m into it"):
        open_reader("-")


@pytest.mark.parametrize("name", ["notes.txt", "notes.mkv", "notes.y4m", "notes", "notes.nvc"])
def test_a_text_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("to be or not to be\n" * 200)
    with pytest.raises(NvcError, match=f"{name} (is not a|has no video)"):
        open_reader(str(tmp_path / name))


def test_sound_only(tmp_path: Path) -> None:
    import wave

    with wave.open(str(tmp_path / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    with pytest.raises(NvcError, match="tone.wav has no video stream"):
        open_reader(str(tmp_path / "tone.wav"))


def test_raw_video_of_unknown_size(tmp_path: Path) -> None:
    (tmp_path / "plain.yuv").write_bytes(bytes(12))
    with pytest.raises(NvcError, match="plain.yuv is not known; give it as --size"):
        open_reader(str(tmp_path / "plain.yuv"))


def test_raw_video_that_the_size_does_not_divide(tmp_path: Path) -> None:
    (tmp_path / "clip_4x2_30.yuv").write_bytes(bytes(13))
    with pytest.raises(NvcError, match=r"clip_4x2_30.yuv has 13 bytes.*4x2 \(12 bytes each\); give its true size as --size"):
        open_reader(str(tmp_path / "clip_4x2_30.yuv"))


def test_raw_video_of_more_bits(tmp_path: Path) -> None:
    (tmp_path / "clip_4x2_30fps_10bit.yuv").write_bytes(bytes(24))
    with pytest.raises(NvcError, match="10-bit"):
        open_reader(str(tmp_path / "clip_4x2_30fps_10bit.yuv"))


@pytest.mark.parametrize("more", [{"size": (0, 4)}, {"size": (4, 1 << 20)}, {"fps": Fraction(0)}, {"frames": 0}])
def test_requests_that_make_no_sense(tmp_path: Path, more: dict[str, object]) -> None:
    (tmp_path / "clip_4x2_30.yuv").write_bytes(bytes(12))
    with pytest.raises(NvcError):
        open_reader(str(tmp_path / "clip_4x2_30.yuv"), **more)


@pytest.mark.parametrize("suffix", [".y4m", ".mkv"])
def test_a_size_that_contradicts_the_file(tmp_path: Path, suffix: str) -> None:
    info = make_info()
    write(tmp_path / f"clip{suffix}", info, make_frames(info))
    with pytest.raises(NvcError, match="16x16, not 8x8"):
        open_reader(str(tmp_path / f"clip{suffix}"), size=(8, 8))
    assert len(read(tmp_path / f"clip{suffix}", size=(16, 16))) == 3


@pytest.mark.parametrize("cut", [1, 3, 6, 12, 17])
def test_y4m_that_is_cut_off_yields_its_whole_frames(tmp_path: Path, cut: int) -> None:
    (tmp_path / "clip.y4m").write_bytes(y4m(bytes(12), bytes(12), bytes(12))[:-cut])
    count, text = read_until_error(open_reader(str(tmp_path / "clip.y4m")))
    assert count == 2
    assert "clip.y4m ends in the middle of frame 2" in text and "--frames 2" in text


def test_y4m_of_other_pixels_that_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "clip.y4m").write_bytes(y4m(bytes(16), bytes(15), header="YUV4MPEG2 W4 H2 F30:1 C422"))
    assert read_until_error(open_reader(str(tmp_path / "clip.y4m")))[0] == 1


def test_raw_input_that_is_cut_off_yields_its_whole_frames(stdin) -> None:
    stdin(bytes(30))
    count, text = read_until_error(open_reader("-", size=(4, 2)))
    assert count == 2
    assert "standard input ends in the middle of frame 2" in text


def test_y4m_with_a_damaged_frame(tmp_path: Path) -> None:
    (tmp_path / "clip.y4m").write_bytes(y4m(bytes(12)) + b"FRAMED\n" + bytes(12))
    count, text = read_until_error(open_reader(str(tmp_path / "clip.y4m")))
    assert (count, "frame 1 does not begin with FRAME" in text) == (1, True)


def test_y4m_without_frames(tmp_path: Path) -> None:
    (tmp_path / "clip.y4m").write_bytes(y4m())
    assert "has no frames" in read_until_error(open_reader(str(tmp_path / "clip.y4m")))[1]


@pytest.mark.parametrize(
    "header",
    ["YUV4MPEG2 H2 F30:1", "YUV4MPEG2 Wx H2", "YUV4MPEG2 W0 H2", "YUV4MPEG2 W-4 H2", "YUV4MPEG2 W999999 H2", "YUV4MPEG2 W4 H2 F30",
     "YUV4MPEG2 W4 H2 F-1:1", "YUV4MPEG2 W4 H2 C400", "YUV4MPEG2 W4 H2 C422jpeg", "YUV4MPEG2", "YUV4MPEG3 W4 H2",
     "YUV4MPEG2 W4 H2 X" + "x" * 5000],
)
def test_damaged_y4m_headers(tmp_path: Path, header: str) -> None:
    (tmp_path / "clip.y4m").write_bytes(y4m(bytes(12), header=header))
    with pytest.raises(NvcError, match="clip.y4m"):
        open_reader(str(tmp_path / "clip.y4m"))


def test_y4m_header_and_frame_parameters_that_do_not_matter(tmp_path: Path) -> None:
    header = "YUV4MPEG2 W4 H2 F0:0 It A0:0 C420mpeg2 XYSCSS=420MPEG2"
    (tmp_path / "clip.y4m").write_bytes(header.encode() + b"\nFRAME Ixyz\n" + bytes(12))
    with open_reader(str(tmp_path / "clip.y4m")) as reader:
        assert (reader.info.fps, reader.info.sar, reader.info.frames) == (25, 1, None)
        assert len(list(reader)) == 1


def test_a_damaged_container(tmp_path: Path) -> None:
    info = make_info(64, 64)
    write(tmp_path / "clip.mp4", info, make_frames(info, 4))
    whole = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NvcError, match="clip.mp4 is not a video that can be read"):
        open_reader(str(tmp_path / "clip.mp4"))


@needs_ffmpeg
def test_a_size_that_changes_on_the_way(tmp_path: Path) -> None:
    for name, size in (("a", "32x32"), ("b", "48x32")):
        subprocess.run([FFMPEG, "-v", "error", "-f", "lavfi", "-i", f"color=size={size}", "-frames:v", "3", "-c:v", "libx264", "-bf", "0",
                        "-threads", "1", str(tmp_path / f"{name}.h264")], check=True)
    (tmp_path / "both.h264").write_bytes((tmp_path / "a.h264").read_bytes() + (tmp_path / "b.h264").read_bytes())
    count, text = read_until_error(open_reader(str(tmp_path / "both.h264")))
    assert count == 3
    assert "changes from 32x32 to 48x32 at frame 3" in text


# ---- targets that cannot be written --------------------------------------------------------------

TARGETS = ["clip.yuv", "clip.y4m", "clip.mkv", "clip.mp4"]


@pytest.mark.parametrize("name", TARGETS)
def test_an_existing_target_is_refused_on_opening(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(NvcError, match=f"{name} exists"):
        open_writer(str(tmp_path / name), make_info())
    assert (tmp_path / name).read_bytes() == b"old"
    write(tmp_path / name, make_info(), make_frames(make_info()), overwrite=True)
    assert len(read(tmp_path / name, size=(16, 16))) == 3


@pytest.mark.parametrize("name", TARGETS)
def test_a_failure_keeps_the_old_file_and_removes_the_part(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt), open_writer(str(tmp_path / name), make_info(), overwrite=True) as writer:
        writer.write(make_frames(make_info())[0])
        assert (tmp_path / f".{name}.part").exists()
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"old"


@pytest.mark.parametrize("name", TARGETS)
def test_a_missing_folder_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(NvcError, match="no folder .*missing; create it"):
        write(tmp_path / "missing" / name, make_info(), make_frames(make_info()))


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_published_for_no_frame(tmp_path: Path, name: str) -> None:
    with pytest.raises(NvcError, match=f"{name} was not written"), open_writer(str(tmp_path / name), make_info()):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk() -> None:
    info = make_info(64, 64)
    with pytest.raises(NvcError, match="/dev/full: no space left on device"):
        write("/dev/full", info, make_frames(info))


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@needs_posix
@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("count", [1, 30])  # fails at the end only, and on the way
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, name: str, count: int) -> None:
    info = make_info(256, 256)
    frames = make_frames(info, 1) * count
    with files_no_longer_than(20_000), pytest.raises(NvcError, match=f"{name}: file too large"):
        write(tmp_path / name, info, frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["clip", "clip.nvc", "clip.png"])
def test_an_unknown_suffix(tmp_path: Path, name: str) -> None:
    with pytest.raises(NvcError, match="says no known format; use one of .yuv, .*.mkv"):
        open_writer(str(tmp_path / name), make_info())


@pytest.mark.parametrize(
    ("name", "size", "more", "reason"),
    [
        ("clip.mkv", (16, 16), {"codec": "nonesuch"}, "there is no encoder nonesuch"),
        ("clip.mkv", (16, 16), {"codec": "aac"}, "aac does not encode"),
        ("clip.mp4", (17, 33), {}, "no odd sizes such as 17x33; write a .mkv"),
        ("clip.y4m", (16, 16), {"codec": "libx264"}, "it is uncompressed"),
        ("clip.yuv", (16, 16), {"options": {"crf": "3"}}, "it is uncompressed"),
    ],
)
def test_codecs_that_do_not_fit(tmp_path: Path, name: str, size: tuple[int, int], more: dict[str, object], reason: str) -> None:
    with pytest.raises(NvcError, match=reason):
        open_writer(str(tmp_path / name), make_info(*size), **more)


@pytest.mark.parametrize(
    ("name", "more", "reason"),
    [
        ("clip.webm", {"codec": "libx264"}, "webm does not hold libx264"),
        ("clip.mkv", {"codec": "libx264", "options": {"preset": "x"}}, "libx264 refused"),
    ],
)
def test_what_only_the_encoder_knows(tmp_path: Path, name: str, more: dict[str, object], reason: str) -> None:
    with pytest.raises(NvcError, match=f"{name}: {reason}"):
        write(tmp_path / name, make_info(), make_frames(make_info()), **more)
    assert list(tmp_path.iterdir()) == []


def test_frames_of_another_shape_or_type_are_a_programming_error(tmp_path: Path) -> None:
    info = make_info()
    frame = make_frames(info)[0]
    for wrong in (Frame(frame.y[:8], frame.u, frame.v), Frame(frame.y.astype(np.float32), frame.u, frame.v)):
        with pytest.raises(ValueError, match="expected a uint8 plane"):
            write(tmp_path / "clip.yuv", info, [wrong])
    assert list(tmp_path.iterdir()) == []


def test_metadata_in_another_encoding_than_utf8(tmp_path: Path) -> None:
    """As old files have it."""
    import av

    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "caf\u00e9"
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(2):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace("caf\u00e9".encode(), b"caf\xe9s"))
    assert b"caf\xe9" in path.read_bytes()
    with open_reader(str(path)) as reader:
        assert len(list(reader)) == 2
