"""Damaged and malicious videos: pictures as they were announced, or a sentence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.sources import mutated, outcome, sources

COUNT = 700


@pytest.fixture(scope="module")
def videos() -> dict[str, bytes]:
    return sources()


def test_whole_videos_are_read(tmp_path: Path, videos: dict[str, bytes]) -> None:
    for name, data in videos.items():
        (tmp_path / name).write_bytes(data)
        assert outcome(tmp_path / name) == "read", name


def test_mutated_videos(tmp_path: Path, videos: dict[str, bytes]) -> None:
    seen: Counter[str] = Counter()
    for seed in range(COUNT):
        name, change, data = mutated(seed, videos)
        (tmp_path / name).write_bytes(data)
        try:
            seen[outcome(tmp_path / name)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {change} of {name}: {type(error).__name__}: {error}") from error
    assert min(seen["read"], seen["refused"]) > COUNT / 10


def test_words_in_another_encoding(tmp_path: Path, videos: dict[str, bytes]) -> None:
    """The title of a track in Latin-1."""
    assert b"Ton" in videos["even.mkv"]
    (tmp_path / "old.mkv").write_bytes(videos["even.mkv"].replace(b"Ton", b"T\xf6n"))
    assert outcome(tmp_path / "old.mkv") == "read"
