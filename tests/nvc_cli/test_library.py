"""nvc as a library: what it offers, and what frames can be made of."""

from __future__ import annotations

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import nvc_cli
from models.weights import EncoderModel, load, load_decoder, load_encoder
from nvc_cli import BT709, Decoder, Effort, Encoder, Frame, Header, NvcError, OnePass, StreamReader, StreamWriter, VideoInfo

PATCHES = np.array([[255, 255, 255], [0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200], [120, 120, 120]], np.uint8)


def patches() -> np.ndarray:
    """(32, 96, 3): six flat squares."""
    return np.repeat(np.repeat(PATCHES[None], 16, 1), 32, 0)


def test_all_that_is_offered_is_there() -> None:
    assert [name for name in nvc_cli.__all__ if not hasattr(nvc_cli, name)] == []
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        nvc_cli.nothing  # noqa: B018


def test_the_package_is_imported_without_pytorch() -> None:
    code = "import sys, nvc_cli; sys.exit('torch' in sys.modules or 'av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_rgb_keeps_its_colours() -> None:
    picture = patches()
    assert np.abs(Frame.of(picture).rgb().astype(int) - picture)[:, 2::16].max() <= 3
    assert np.abs(Frame.of(picture[:, ::-1]).rgb().astype(int) - picture[:, ::-1])[:, 2::16].max() <= 3


def test_grey_has_no_colour() -> None:
    grey = np.arange(48 * 32, dtype=np.uint8).reshape(32, 48)
    frame = Frame.of(grey)
    assert (frame.y == grey).all() and set(np.unique([frame.u, frame.v])) == {128}


def test_pictures_of_pyav() -> None:
    frame = Frame.of(patches())
    again = Frame.of(frame.av())
    assert all((one == other).all() for one, other in zip(frame.planes, again.planes, strict=True))
    assert Frame.of(frame) is frame
    assert (frame.av().width, frame.av().format.name, int(frame.av().colorspace)) == (96, "yuv420p", 1)


@pytest.mark.parametrize("wrong", [np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.float32), np.zeros((0, 4), np.uint8), "picture", None])
def test_what_is_no_picture(wrong: object) -> None:
    with pytest.raises(ValueError, match="is no picture; give"):
        Frame.of(wrong)  # type: ignore[arg-type]


def test_arrays_in_and_out(model: str) -> None:
    encoder, file = Encoder(model, qp=1, effort=Effort(references=1)), io.BytesIO()
    with StreamWriter(file, Header.of(VideoInfo(96, 32, Fraction(30), color=BT709), encoder.model)) as stream:
        for picture in (patches(), patches()[:, ::-1], Frame.of(patches()).av()):
            for encoded in encoder.encode(picture):
                stream.write(encoded.packet)
    reader = StreamReader(io.BytesIO(file.getvalue()), "a.nvc")
    assert reader.header.info == VideoInfo(96, 32, Fraction(30), color=BT709)
    decoder = Decoder(reader.header, model, enhance=True)
    shapes = [frame.rgb().shape for packet in reader for frame in decoder.decode(packet)] + [frame.rgb().shape for frame in decoder.finish()]
    assert shapes == [(32, 96, 3)] * 3


def test_a_rate_instead_of_a_quality(model: str) -> None:
    encoder = Encoder(model, OnePass(96 * 32, share=2000.0), effort=Effort(references=1))
    for picture in (patches(), patches()[:, ::-1]):
        (encoded,) = encoder.encode(picture)
        encoder.took(len(encoded.packet.payload))
    assert encoded.packet.rate > 0


def test_what_encoder_and_decoder_refuse(model: str) -> None:
    with pytest.raises(ValueError, match="a quality of 9 is not one from 0 to 7"):
        Encoder(model, qp=9)
    with pytest.raises(NvcError, match="no-such-model"):
        Encoder("no-such-model")
    with pytest.raises(NvcError, match="tiny was loaded to decode only; load it with load_encoder"):
        Encoder(load_decoder("tiny"))
    header = Header.of(VideoInfo(96, 32, Fraction(30)), Encoder(model).model)
    with pytest.raises(NvcError):
        Decoder(header)  # its model is not in the package
    decoder, encoder = Decoder(header, model), Encoder(model, effort=Effort(references=1))
    encoder.encode(patches())
    (encoded,) = encoder.encode(patches())
    with pytest.raises(NvcError, match="no keyframe comes before it"):
        decoder.decode(encoded.packet)
    with pytest.raises(ValueError, match="a picture of 95x32 cannot follow those of 96x32; take another encoder for it"):
        encoder.encode(patches()[:, 1:])


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_models_of_pytorch_go_as_fast(model: str, device: torch.device | str | None) -> None:
    """On a processor they are coded by in loops, too."""
    made = []
    for given in (model, load(model), load_encoder(model)):
        encoder = Encoder(given, effort=Effort(references=1), device=device)
        made.append([encoded.packet for encoded in encoder.encode_all([patches(), patches()[:, ::-1]])])
        assert isinstance(encoder.model, EncoderModel)
        decoder = Decoder(Header.of(VideoInfo(96, 32, Fraction(30)), encoder.model), given, device=device)
        assert len([frame for packet in made[-1] for frame in decoder.decode(packet)]) == 2
    assert made[0] == made[1] == made[2]


def test_the_example(tmp_path: Path) -> None:
    program = Path(__file__).parents[2] / "examples" / "library.py"
    done = subprocess.run([sys.executable, str(program), str(tmp_path / "a.nvc")], capture_output=True, text=True, check=True, cwd=program.parents[1],
                          env={"PYTHONPATH": str(program.parents[1]), "PATH": ""})  # fmt: skip
    assert done.stdout.startswith("12 pictures in ") and (tmp_path / "a.nvc").stat().st_size < 10000


def test_a_model_without_its_filter_cannot_enhance() -> None:
    model = load_decoder("tiny")
    header = Header.of(VideoInfo(64, 48, Fraction(25), color=BT709), model)
    Decoder(header, model)
    with pytest.raises(NvcError, match="tiny was loaded without its out-of-loop filter; load it with enhance=True"):
        Decoder(header, model, enhance=True)
    Decoder(header, load_decoder("tiny", enhance=True), enhance=True)
