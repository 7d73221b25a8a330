"""Training video: reading folders, and chains of crops."""

from __future__ import annotations

from pathlib import Path
from random import Random

import av
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.clips import LONGEST, Clip, Clips, _Look, _line, fitting_limit, read_clip
from models.picture import Planes

CPU = torch.device("cpu")


def clips_of(clip: Clip, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Clips:
    """Clips that hold just this one, and show it in its own colours."""
    (folder / "a.mkv").touch()
    monkeypatch.setattr("models.clips._Look.draw", lambda random: _Look())
    monkeypatch.setattr("models.clips.read_clip", lambda path, limit: clip)
    return Clips(folder, CPU)


def numbered(frames: int, height: int, width: int) -> Clip:
    """A clip in which every luma sample tells frame and place: 100 by frame, and rising to the right."""
    y = 20 * torch.arange(frames)[:, None, None] + torch.arange(width) // 8 + torch.zeros(height, 1)
    y = y.to(torch.uint8)
    return Clip(y, y[:, ::2, ::2].contiguous(), y[:, ::2, ::2].contiguous())


def test_reads_a_folder(videos: Path) -> None:
    (videos / "broken.mkv").write_bytes(b"not a video")
    (videos / ".hidden.mkv").write_bytes(b"not a video")
    seen = []
    clips = Clips(videos, CPU, lambda loaded, count: (seen.append(count), loaded)[1])
    assert seen == [3]
    assert (len(clips.clips), clips.frames, clips.skipped) == (2, 16, 1)
    assert clips.clips[0].y.shape == (8, 64, 64) and clips.clips[0].u.shape == (8, 32, 32)
    assert clips.clips[0].y.dtype == torch.uint8
    assert clips.summary == "2 clips, 16 frames; 1 files that do not decode or are too small are left out"


@pytest.mark.parametrize("make", [False, True])
def test_nothing_to_train_on(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "videos"
    if make:
        folder.mkdir()
    with pytest.raises(ValueError, match="give a folder of videos"):
        Clips(folder, CPU)


def test_limit_of_frames(videos: Path) -> None:
    assert read_clip(videos / "a.mkv", limit=3).y.shape[0] == 3
    assert read_clip(videos / "a.mkv", limit=1) is None


def test_titles_in_another_encoding(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "old.mkv"), "w", container_options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        stream.metadata["title"] = "Ton"
        for number in range(2):
            picture = av.VideoFrame.from_ndarray(np.full((24, 16), number, np.uint8), format="yuv420p")
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    data = (tmp_path / "old.mkv").read_bytes()
    assert b"Ton" in data
    (tmp_path / "old.mkv").write_bytes(data.replace(b"Ton", b"T\xf6n"))
    clip = read_clip(tmp_path / "old.mkv")
    assert clip is not None and len(clip.y) == 2


def test_odd_sizes_lose_a_row_and_a_column(write_video, tmp_path: Path) -> None:
    write_video(tmp_path / "odd.mkv", 19, 33, 2)
    clip = read_clip(tmp_path / "odd.mkv")
    assert clip.y.shape == (2, 18, 32) and clip.u.shape == (2, 9, 16)


def test_tiny_pictures_are_left_out(write_video, tmp_path: Path) -> None:
    write_video(tmp_path / "small.mkv", 8, 8, 2)
    assert read_clip(tmp_path / "small.mkv") is None


@pytest.mark.parametrize("room, least, most", [(10**9, LONGEST, LONGEST), (600_000, 200, 300), (0, 2, 2)])
def test_fits_into_memory(room: int, least: int, most: int) -> None:
    assert least <= fitting_limit([(600, 1000), (600, 1000), (50, 1000)], room) <= most


def test_shapes(videos: Path) -> None:
    pictures = Clips(videos, CPU).sample(Random(1), batch=3, length=4, size=32)
    assert len(pictures) == 4
    assert pictures[0].y.shape == (3, 1, 32, 32) and pictures[0].v.shape == (3, 1, 16, 16)
    assert pictures[0].y.dtype == torch.float32


def test_the_same_seed_draws_the_same(videos: Path) -> None:
    clips = Clips(videos, CPU)
    once, again = (clips.sample(Random(7), 2, 2, 32) for _ in range(2))
    assert all(torch.equal(a.y, b.y) and torch.equal(a.u, b.u) for a, b in zip(once, again))


def test_time_runs_evenly_either_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = clips_of(numbered(10, 64, 64), tmp_path, monkeypatch)
    strides = set()
    for seed in range(60):
        frames = [int(p.y.min()) // 20 for p in clips.sample(Random(seed), 1, 4, 32)]
        steps = {b - a for a, b in zip(frames, frames[1:])}
        assert len(steps) == 1
        strides |= steps
    assert strides == {1, 2, 3, -1, -2, -3}


def test_a_clip_shorter_than_the_chain_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = clips_of(numbered(3, 64, 64), tmp_path, monkeypatch)
    for seed in range(10):
        frames = [int(p.y.min()) // 20 for p in clips.sample(Random(seed), 1, 6, 32)]
        assert frames in ([0, 1, 2, 2, 2, 2], [2, 2, 2, 2, 1, 0])


def test_a_clip_smaller_than_the_crop_is_mirrored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = clips_of(numbered(3, 32, 48), tmp_path, monkeypatch)
    for seed in range(10):
        picture = clips.sample(Random(seed), 1, 1, 64)[0]
        assert picture.y.shape == (1, 1, 64, 64) and picture.u.shape == (1, 1, 32, 32)
        assert int(picture.y.max() - picture.y.min()) == 5  # 48 columns in steps of 8: the border adds nothing
        jumps = (picture.y.diff(dim=3).abs().amax(), picture.y.diff(dim=2).abs().amax())
        assert max(jumps) == 1  # no edge where it begins anew


@pytest.mark.parametrize("count, expected", [(5, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 0, 1]), (1, [0] * 12)])
def test_mirroring(count: int, expected: list[int]) -> None:
    assert _line(12, 0, 1, count, reverse=False).tolist() == expected
    assert _line(12, 0, 3, count, reverse=True).tolist() == [3 * place for place in reversed(expected)]


def test_samples_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a ramp of 256 columns, every column to every fourth."""
    ramp = torch.arange(256).to(torch.uint8).expand(2, 256, 256)
    clips = clips_of(Clip(ramp, ramp[:, ::2, ::2], ramp[:, ::2, ::2]), tmp_path, monkeypatch)
    steps = set()
    for seed in range(40):
        picture = clips.sample(Random(seed), 1, 1, 32)[0]
        across, down = picture.y.diff(dim=3).abs().unique().tolist(), picture.y.diff(dim=2).abs().unique().tolist()
        steps.add(max(across + down))
        assert [0.0] in (across, down)
    assert steps == {1, 2, 3, 4}


def test_luma_and_chroma_are_cut_and_turned_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    y = (torch.arange(65)[:, None] + 2 * torch.arange(81)).clamp(max=255).to(torch.uint8).expand(4, 65, 81)
    full = y.repeat_interleave(2, 1).repeat_interleave(2, 2)  # every 2×2 luma samples equal their chroma sample
    clips = clips_of(Clip(full, y, y), tmp_path, monkeypatch)
    for seed in range(20):
        for picture in clips.sample(Random(seed), 2, 3, 16):
            assert (F.avg_pool2d(picture.y, 2) - picture.u).abs().max() <= 4.5  # where samples are left out, up to 1½ of them


def looking(look: _Look, clip: Clip, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Planes]:
    """Three pictures of a clip that is altered like this."""
    clips = clips_of(clip, folder, monkeypatch)
    monkeypatch.setattr("models.clips._Look.draw", lambda random: look)
    return clips.sample(Random(5), 2, 3, 32)


def noise(frames: int, height: int, width: int) -> Clip:
    generator = torch.Generator().manual_seed(3)
    sizes = ((height, width), (height // 2, width // 2), (height // 2, width // 2))
    return Clip(*(torch.randint(90, 160, (frames, *size), generator=generator).to(torch.uint8) for size in sizes))


def test_half_of_the_chains_look_as_they_are() -> None:
    looks = [_Look.draw(Random(seed)) for seed in range(200)]
    plain = sum(look == _Look() for look in looks)
    assert 70 < plain < 130
    assert all(0 <= look.sharpness <= 2 and 0.7 <= look.saturation <= 2 for look in looks)
    assert 30 < sum(look.tint_u != 0 for look in looks) < 70
    assert 30 < sum(look.grain > 0 for look in looks) < 70 and max(look.grain for look in looks) <= 4
    assert any(look.sharpness > 1 for look in looks) and any(look.saturation > 1.5 for look in looks)


def test_sharpening_adds_detail_and_keeps_the_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, sharp = (looking(_Look(amount, 1.0), noise(5, 48, 48), tmp_path, monkeypatch) for amount in (0.0, 1.5))
    for a, b in zip(plain, sharp):
        for before, after in ((a.y, b.y), (a.u, b.u), (a.v, b.v)):
            assert torch.equal(after, after.round()) and after.min() >= 0 and after.max() <= 255
            assert after.std() > 1.5 * before.std() and abs(float(after.mean() - before.mean())) < 2


def test_what_is_flat_stays_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = Clip(*(torch.full((3, *size), 77, dtype=torch.uint8) for size in ((40, 40), (20, 20), (20, 20))))
    for picture in looking(_Look(2.0, 1.0), flat, tmp_path, monkeypatch):
        assert (picture.y == 77).all() and (picture.u == 77).all()


def test_saturation_moves_colours_away_from_grey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, strong = (looking(_Look(0.0, amount), noise(5, 48, 48), tmp_path, monkeypatch) for amount in (1.0, 2.0))
    for a, b in zip(plain, strong):
        assert torch.equal(a.y, b.y)
        assert torch.equal(b.u, 2 * a.u - 128) and torch.equal(b.v, 2 * a.v - 128)


def test_tints_give_colours_the_detail_of_luma(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, tinted = (looking(_Look(tint_u=u, tint_v=v), noise(5, 48, 48), tmp_path, monkeypatch) for u, v in ((0, 0), (0.5, -1)))
    for a, b in zip(plain, tinted):
        assert torch.equal(a.y, b.y)
        assert torch.equal(b.u, (a.u + 0.5 * (a.y[..., ::2, ::2] - 128)).round())
        assert torch.equal(b.v, (a.v - (a.y[..., ::2, ::2] - 128)).clamp(0, 255))


def test_grain_differs_from_picture_to_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flat = Clip(*(torch.full((3, *size), 77, dtype=torch.uint8) for size in ((40, 40), (20, 20), (20, 20))))
    pictures = looking(_Look(grain=3.0), flat, tmp_path, monkeypatch)
    for picture in pictures:
        assert abs(float(picture.y.mean()) - 77) < 0.5 and 2.5 < float(picture.y.std()) < 3.5 and 2 < float(picture.v.std()) < 4
    assert not torch.equal(pictures[0].y, pictures[1].y)
