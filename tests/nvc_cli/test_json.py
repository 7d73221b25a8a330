"""json.md tells every field that --json prints, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

import nvc_cli

Run = Callable[..., Result]
Clip = Callable[..., Path]
TYPES = {"integer": int, "number": (int, float), "string": str, "boolean": bool, "list": list, "object": dict, "null": type(None)}


def tables() -> list[dict[str, str]]:
    """For each table of the document, the types of its fields."""
    text = (Path(nvc_cli.__file__).parent / "json.md").read_text(encoding="utf-8")
    parts = re.split(r"\| field \| type \| meaning \|\n\|---\|---\|---\|\n", text)[1:]
    return [dict(re.findall(r"^\| (\w+) \| ([\w, ]+) \|", part, re.MULTILINE)) for part in parts]


INFO, TRACK, PACKET, SUMMARY = tables()


def check(found: dict, table: dict[str, str]) -> None:
    assert list(found) == list(table)
    for name, value in found.items():
        kinds = tuple(kind for word in table[name].split(", ") for kind in ([TYPES[word]] if not isinstance(TYPES[word], tuple) else TYPES[word]))
        assert isinstance(value, kinds) and (not isinstance(value, bool) or bool in kinds), name


@pytest.fixture
def stream(done: Run, clip: Clip, model: str, tmp_path: Path) -> Path:
    check(json.loads(done("encode", clip(), "-o", tmp_path / "a.nvc", "--model", model, "--references", 1, "--json").stdout), SUMMARY)
    return tmp_path / "a.nvc"


def test_summaries(done: Run, stream: Path, model: str, tmp_path: Path) -> None:
    check(json.loads(done("decode", stream, "-o", tmp_path / "a.yuv", "--model", model, "--json").stdout), SUMMARY)


def test_info(done: Run, stream: Path, clip: Clip, model: str) -> None:
    for options in ([], ["--reference", clip(), "--model", model]):
        found = json.loads(done("info", stream, "--json", *options).stdout)
        check(found, INFO)
        assert found["packets"]
        for packet in found["packets"]:
            check(packet, PACKET)
            assert (packet["psnr"] is None) == (not options)


def test_tracks(done: Run) -> None:
    vector = Path(__file__).parents[1] / "vectors" / "tracks.nvc"
    found = json.loads(done("info", vector, "--json").stdout)
    check(found, INFO)
    assert [track["samples"] for track in found["tracks"]] == [4, 4]
    for track in found["tracks"]:
        check(track, TRACK)
