"""The conformance streams in tests/vectors decode to their hashes in a decoder that was written from nvc_cli/stream.md alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests import reference

HERE = Path(__file__).parent
VECTORS = HERE / "vectors"
WEIGHTS = HERE.parent / "models" / "weights"
HASHES = json.loads((VECTORS / "hashes.json").read_text())


def decode(stream: bytes) -> list:
    """The pictures of a stream whose model is among the weights of this repository."""
    model = reference.read_header(reference.Reader(stream)).model
    return reference.decode(stream, WEIGHTS / f"{model}.safetensors", WEIGHTS / "tables.npz")


@pytest.mark.parametrize("name", sorted(HASHES))
def test_pictures(name: str) -> None:
    pictures = decode((VECTORS / f"{name}.nvc").read_bytes())
    hashes = [hashlib.sha256(b"".join(plane.tobytes() for plane in picture)).hexdigest() for picture in pictures]
    assert hashes == HASHES[name]["frames"]


@pytest.mark.parametrize("fault, message", [
    (lambda stream: b"X" + stream[1:], "not an nvc stream"),
    (lambda stream: stream[:3] + b"\xFE" + stream[4:], "version 254"),
    (lambda stream: stream[:5] + bytes([stream[5] ^ 1]) + stream[6:], "header is damaged"),
    (lambda stream: stream[:-1], "truncated at frame 1"),
    (lambda stream: stream + b"\0", "Frame 1 is damaged"),
    (lambda stream: stream[:-2] + bytes([stream[-2] ^ 1]) + stream[-1:], "Frame 1 is damaged"),
    (lambda stream: stream[:-19] + b"\xFF", "Frame 1 is damaged"),
    (lambda stream: stream[:-19], "truncated at frame 1"),
    (lambda stream: stream[:-20] + bytes([stream[-20] ^ 1]) + stream[-19:], "Frame 0 is damaged"),
])
def test_faults(fault, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(fault((VECTORS / "keyframe.nvc").read_bytes()))
