"""Encoder and decoder agree in every bit of their state; training reaches every weight."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch

from models.calibration import integers
from models.codec import Codec, State, is_normative
from models.entropy import SymbolDecoder, SymbolEncoder
from models.exact import layers
from models.picture import Planes
from models.quality import psnr
from models.plan import QUICK
from models.search import Search
from models.weights import restore

Moving = Callable[[int, int, int], list[Planes]]
RATES = (30, 26, 33)


def distortion(a: Planes, b: Planes) -> torch.Tensor:
    """Mean squared error of each sample of a batch, all planes the same."""
    return sum((x - y).square().mean((1, 2, 3)) for x, y in ((a.y, b.y), (a.u, b.u), (a.v, b.v)))


def assert_same(a: State, b: State) -> None:
    assert torch.equal(a.vectors, b.vectors)
    assert torch.equal(a.context, b.context)
    assert all(torch.equal(x, y) for x, y in ((a.picture.y, b.picture.y), (a.picture.u, b.picture.u), (a.picture.v, b.picture.v)))


def encode(codec: Codec, pictures: list[Planes], filtered: bool, refresh: bool) -> tuple[list[bytes], list[State]]:
    search, payloads, states = Search(16), [], []
    for t, picture in enumerate(pictures):
        coder, rate = SymbolEncoder(), torch.tensor([RATES[t]])
        if t == 0:
            states.append(codec.encode_keyframe(picture, rate, coder))
        else:
            vectors = search(picture.y, [past.y for past in states[-1].pictures], states[-1].vectors, rate)
            states.append(codec.encode_frame(picture, states[-1], rate, vectors, refresh, coder).finish(filtered))
        payloads.append(coder.finish())
    return payloads, states


def decode(codec: Codec, payloads: list[bytes], height: int, width: int, filtered: bool, refresh: bool) -> list[State]:
    states: list[State] = []
    for t, payload in enumerate(payloads):
        coder, rate = SymbolDecoder(payload, codec.symbols(height, width)), torch.tensor([RATES[t]])
        if t == 0:
            states.append(codec.decode_keyframe(height, width, rate, coder))
        else:
            states.append(codec.decode_frame(states[-1], rate, refresh, coder).finish(filtered))
    return states


@pytest.mark.parametrize("height, width, filtered, refresh", [(48, 32, True, False), (48, 32, False, True), (16, 16, True, True), (80, 16, False, False)])
@torch.inference_mode()
def test_the_decoder_is_where_the_encoder_is(exact_codec: Codec, moving: Moving, height: int, width: int, filtered: bool, refresh: bool) -> None:
    pictures = moving(height, width, 3)
    payloads, states = encode(exact_codec, pictures, filtered, refresh)
    decoded = decode(exact_codec, payloads, height, width, filtered, refresh)
    for picture, ours, theirs in zip(pictures, states, decoded):
        assert_same(ours, theirs)
        assert theirs.picture.y.shape == picture.y.shape and theirs.picture.u.shape == picture.u.shape
        assert theirs.vectors.shape == (1, 3, height // 8, width // 8)
        values = theirs.picture.y
        assert torch.equal(values, values.round()) and values.min() >= 0 and values.max() <= 255


@torch.inference_mode()
def test_the_best_quality_of_noise_decodes(exact_codec: Codec) -> None:
    """Every symbol is coded, and most are escaped."""
    generator = torch.Generator().manual_seed(0)
    planes = Planes(*(255.0 * torch.randint(0, 2, (1, 1, *size), generator=generator) for size in ((32, 32), (16, 16), (16, 16))))
    coder, rate = SymbolEncoder(), torch.tensor([0])
    state = exact_codec.encode_keyframe(planes, rate, coder)
    assert_same(exact_codec.decode_keyframe(32, 32, rate, SymbolDecoder(coder.finish(), exact_codec.symbols(32, 32))), state)


@torch.inference_mode()
def test_the_filter_and_the_refresh_change_what_follows(exact_codec: Codec, moving: Moving) -> None:
    pictures = moving(32, 32, 2)
    (_, off), (_, on), (_, fresh) = (
        encode(exact_codec, pictures, *flags)[1] for flags in ((False, False), (True, False), (False, True))
    )
    assert not torch.equal(off.context, on.context)
    assert not torch.equal(off.context, fresh.context)


@torch.inference_mode()
def test_a_decoder_needs_the_normative_weights_only(exact_codec: Codec, moving: Moving) -> None:
    payloads, states = encode(exact_codec, moving(32, 48, 3), True, True)
    bare = deepcopy(exact_codec)
    for name, tensor in bare.named_parameters():
        if not is_normative(name):
            tensor.fill_(float("nan"))
    for ours, theirs in zip(states, decode(bare, payloads, 32, 48, True, True)):
        assert_same(ours, theirs)


def chain(codec: Codec, pictures: list[Planes]) -> torch.Tensor:
    """The loss of a chain that passes through everything: keyframe, P-frame, filter, refresh, enhancer."""
    rate = torch.tensor([10, 50])
    frames = [codec.train_keyframe(pictures[0], rate)]
    for refresh, picture in zip((True, False), pictures[1:]):
        frames.append(codec.train_frame(picture, frames[-1].state, rate, torch.tensor([1.0, 0.0]), refresh, Search(16, QUICK)))
    loss = 0
    for frame, picture in zip(frames, pictures):
        assert frame.bits.shape == frame.motion_bits.shape == (2,)
        assert (frame.bits > 0).all() and (frame.motion_bits >= 0).all()
        assert not frame.state.picture.y.requires_grad
        loss = loss + (0.001 * (frame.bits + frame.motion_bits) + distortion(frame.reconstruction, picture)).mean()
    return loss + distortion(codec.enhance(frames[-2].state, rate, frames[-1].state.picture, rate), pictures[-2]).mean()


def batch(pictures: list[Planes]) -> list[Planes]:
    return [Planes(*(torch.cat([p, p.flip(3)]) for p in (picture.y, picture.u, picture.v))) for picture in pictures]


def trainable(codec: Codec, exact: bool) -> Codec:
    """A copy to train, in which no z is all zero: nothing is learned from zeros."""
    trained = deepcopy(codec)
    for network in (trained.intra, trained.inter):
        network.latent.hyper_encoder[-1].bias += 3
    trained.exact = exact
    return trained.requires_grad_(True)


@pytest.mark.parametrize("exact", [False, True])
def test_gradients_reach_every_parameter(codec: Codec, moving: Moving, exact: bool) -> None:
    trained = trainable(codec, exact)
    loss = chain(trained, batch(moving(64, 64, 3)))
    assert torch.isfinite(loss)
    loss.backward()
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize("exact", [False, True])
def test_training_in_bfloat16_is_finite(codec: Codec, moving: Moving, exact: bool) -> None:
    trained = trainable(codec, exact)
    with torch.autocast("cpu", torch.bfloat16):
        loss = chain(trained, batch(moving(64, 64, 3)))
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in trained.parameters())


@torch.inference_mode()
def test_training_and_coding_agree_on_size_and_quality(exact_codec: Codec, moving: Moving) -> None:
    picture, rate = moving(64, 64, 1)[0], torch.tensor([RATES[0]])
    trained = exact_codec.train_keyframe(picture, rate)
    (payload,), (state,) = encode(exact_codec, [picture], False, False)
    assert 8 * len(payload) == pytest.approx(float(trained.bits), rel=0.15)
    assert psnr(trained.state.picture, state.picture) > 45


@torch.inference_mode()
def test_the_number_of_threads_does_not_matter(exact_codec: Codec, moving: Moving) -> None:
    payloads, states = encode(exact_codec, moving(64, 96, 3), True, False)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for ours, theirs in zip(states, decode(exact_codec, payloads, 64, 96, True, False)):
                assert_same(ours, theirs)
    finally:
        torch.set_num_threads(before)


def test_only_what_a_decoder_has_becomes_exact(codec: Codec) -> None:
    changed = deepcopy(codec)
    for exact in (True, False):
        changed.exact = exact
        assert changed.exact is exact
        for name, layer in layers(changed):
            assert layer.exact == (exact and is_normative(name)), name
    assert {name.split(".")[1] for name, _ in layers(changed) if name.startswith("inter.") and not is_normative(name)} == {"join", "encoder", "to_latent", "latent"}


@torch.inference_mode()
def test_preparing_changes_no_number(codec: Codec, exact_codec: Codec, moving: Moving) -> None:
    """Training and calibration use the exact form unprepared, and with float parameters that integers follow from."""
    unprepared = deepcopy(codec)
    unprepared.exact = True
    restore(unprepared, integers(exact_codec))
    payloads, states = encode(exact_codec, moving(48, 32, 3), True, False)
    for ours, theirs in zip(states, decode(unprepared, payloads, 48, 32, True, False)):
        assert_same(ours, theirs)
