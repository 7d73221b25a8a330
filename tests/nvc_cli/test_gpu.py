"""What runs on a GPU, or on one that is pretended where there is none: the same pictures, and frames that are replayed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from models import replay
from models.weights import load, load_decoder
from nvc_cli.decoder import Decoder
from nvc_cli.effort import EFFORTS
from nvc_cli.encoder import Encoder
from nvc_cli.frame import Frame, VideoInfo
from nvc_cli.stream import Header, open_stream
from tests.pretended import PretendedGpu, pretended_gpu
from tests.test_vectors import FOLDER, scene

STREAMS = sorted(FOLDER.glob("*.nvc"))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu | None]:
    """None where there is a real one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if torch.cuda.is_available():
            yield None
        else:
            with pretended_gpu(monkeypatch) as gpu:
                yield gpu
    replay.forget()


def decoded(path: Path, decoder: Decoder) -> list[Frame]:
    with open_stream(path) as reader:
        return [frame for packet in reader for frame in decoder.decode(packet)] + decoder.finish()


def test_streams_decode_to_the_same_pictures(gpu: PretendedGpu | None) -> None:
    """The decoder compares each picture with its checksum."""
    model = load("tiny", "cuda")
    for path in STREAMS:
        with open_stream(path) as reader:
            header = reader.header
        assert decoded(path, Decoder(header, model))
    assert gpu is None or sum(graph.replays for graph in gpu.graphs) > 100  # most streams have one size


def test_frames_are_replayed(gpu: PretendedGpu | None) -> None:
    if gpu is None:
        pytest.skip("nobody counts what a real one starts")
    with open_stream(FOLDER / "references.nvc") as reader:
        decoder, started = Decoder(reader.header, load("tiny", "cuda")), []
        for packet in reader:
            gpu.started.clear()
            decoder.decode(packet)
            started.append(sum(gpu.started.values()))
    assert len(started) == 12 and max(started[5:-1]) < 150 < started[1] / 4  # the last frame is filtered otherwise


def test_enhanced_pictures_are_nearly_the_same(gpu: PretendedGpu | None) -> None:
    """The enhancer need not be exact."""
    path, given = FOLDER / "references.nvc", []
    for model in (load("tiny", "cuda"), load_decoder("tiny", True)):
        with open_stream(path) as reader:
            given.append(decoded(path, Decoder(reader.header, model, enhance=True)))
    for here, there in zip(*given, strict=True):
        assert np.abs(here.y.astype(int) - there.y.astype(int)).mean() < 0.2


@pytest.mark.parametrize("effort", ["fast", "medium"])
def test_what_it_encodes_decodes_anywhere(gpu: PretendedGpu | None, effort: str) -> None:
    """All but refinement, as PyTorch finds no gradients on what is pretended."""
    frames = [scene(80, 64, t, (1, 2)) for t in range(13)]
    encoder, encoded, started = Encoder(load("tiny", "cuda"), qp=3, effort=replace(EFFORTS[effort], refining=None)), [], []
    for frame in frames:
        if gpu:
            gpu.started.clear()
        encoded += encoder.encode(frame)
        started.append(sum(gpu.started.values()) if gpu else 0)
    encoded += encoder.finish()
    model = load_decoder("tiny")
    decoder = Decoder(Header.of(VideoInfo(80, 64, Fraction(25)), model), model)
    pictures = [picture for one in encoded for picture in decoder.decode(one.packet)]
    assert len(pictures) == len(frames) and started[-1] < 300
