"""Compiled loops give what the forms in PyTorch give, which are those of a GPU and of training."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

from models import bridge, kernels, warp
from models.arrays import Array
from models.bits import flag_bits, laplace_bits, scale_index
from models.codec import Codec, State
from models.compiled import pictures as loops
from models.compiled import networks, strips
from models.compiled.encoder import EncoderCodec
from models.compiled.pictures import Luma, Picture
from models.compiled.search import References, overlapped_errors
from models.entropy import SymbolEncoder, compressai_coder, plain_payload
from models.integers import STREAM_LIMIT
from models.kernels import Kernel, kernel, matching, processor, products, threads
from models.kernels.matching import MARGIN
from models.kernels.windows import SLACK
from models.compiled.matching import fill_phases
from models.motion import Motion
from models.overlap import Overlap
from models.picture import Planes, bordered, to_features, to_planes
from models.vectors import still
from models.plan import QUICK, THOROUGH, Plan
from models.search import Pricing, Search, phases, windows
from models.tables import BYTES, FIRST, FLAG_STEP, FLAGS, SCALES, STEP, load
from models.taps import BORDER, CHROMA_TAPS, LUMA_TAPS
from models.weights import load as load_weights
from models.weights import load_encoder

RATE = torch.tensor([20])

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def stream(*shape: int, seed: int = 0, largest: int = STREAM_LIMIT) -> Tensor:
    """A stream tensor with all that may be in it, its largest numbers as well."""
    values = torch.randint(-largest, largest + 1, shape, generator=torch.Generator().manual_seed(seed)).float()
    values.flatten()[:4] = torch.tensor([largest, -largest, 1, 0])
    return (values * 2.0**-12).contiguous(memory_format=torch.channels_last)


def field(height: int, width: int, reach: int, seed: int = 0) -> Tensor:
    vectors = torch.randint(-reach, reach + 1, (1, 3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.int32)
    vectors[:, 2] %= 8
    return vectors


def noise(height: int, width: int, seed: int = 0, batch: int = 1) -> Planes:
    generator = torch.Generator().manual_seed(seed)
    return Planes(*(torch.randint(0, 256, (batch, 1, height // k, width // k), generator=generator).float() for k in (1, 2, 2)))


@pytest.fixture(scope="module")
def fast() -> EncoderCodec:
    """The shipped weights in compiled loops."""
    return load_encoder("tiny").codec


@pytest.fixture(scope="module")
def plain() -> Codec:
    """The same in PyTorch."""
    return load_weights("tiny").codec


def one(x: Tensor) -> Array:
    """The only sample of a batch, as loops take it."""
    return bridge.arrays(x)[0]


def same(found: Array | Picture, expected: Tensor | Planes) -> bool:
    """Whether loops give what PyTorch gives."""
    if isinstance(found, Picture):
        return all(torch.equal(torch.from_numpy(a), b[0, 0]) for a, b in zip(found.planes, (expected.y, expected.u, expected.v)))
    return np.array_equal(found, one(expected))


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("height, width", [(2, 2), (4, 6), (18, 10)])
def test_the_stages_of_a_frame(fast: EncoderCodec, plain: Codec, height: int, width: int, filtered: bool) -> None:
    """Each from the same numbers, so that none hides behind another."""
    reference, memory = stream(1, 96, height, width, seed=1), stream(1, 96, height, width, seed=2, largest=(1 << 14) - 1)
    latent, z = stream(1, 384, height // 2, width // 2, seed=3), torch.randint(-20, 20, (1, 48, -(-height // 8), -(-width // 8))).float()
    detail, rate = stream(1, 96, height, width, seed=4), int(RATE)
    inter, theirs = fast.inter, plain.inter
    assert same(inter.predict(one(reference), one(memory), rate), theirs.predict(reference, memory, RATE))
    for found, expected in zip(inter.synthesise(one(latent), one(memory), rate), theirs.synthesise(latent, memory, RATE)):
        assert same(found, expected)
    assert same(inter.filtered(one(memory), filtered, rate), theirs.filtered(memory, filtered, RATE))
    assert same(inter.picture(one(memory), one(detail), one(reference), rate), theirs.picture(memory, detail, reference, RATE))
    assert same(inter.refresh(one(reference)), theirs.refresh(reference))
    assert same(fast.motion.side(one(memory)), plain.motion.side(memory))
    for ours, other, known in ((inter, theirs, memory), (fast.intra, plain.intra, None)):
        found = ours.latent.prior(one(z), None if known is None else one(known), rate, height // 2, width // 2)
        expected = other.latent.prior(z, known, RATE, height // 2, width // 2)
        assert same(found.mean, expected.mean) and same(found.tables, scale_index(expected.scale))
    made, others = fast.intra.synthesise(one(latent), rate), plain.intra.synthesise(latent, RATE)
    assert same(made[0], others[0]) and same(made[1], others[1])
    assert same(fast.intra.picture(*made, rate), plain.intra.picture(*others, RATE))


def multiplying(emit: Callable[..., None]) -> Callable[..., None]:
    """What multiplies rows by packed weights in a form."""
    product, begin, end = products.product_in(emit), products.begin, products.end

    @numba.njit
    def multiply(a, weight, out):  # type: ignore[no-untyped-def]
        begin()
        for g in range(len(weight)):
            product(a.ctypes.data, a.itemsize * a.shape[1], weight[g].ctypes.data, weight.shape[1], out[g].ctypes.data)
        end()

    made: Callable[..., None] = multiply
    return made


@pytest.mark.parametrize("form", processor.FORMS)
def test_products_in_all_forms_of_this_machine(form: str) -> None:
    """The largest numbers among them."""
    if form not in processor.forms() or (form == "amx" and processor.FORM != "amx"):
        pytest.skip("this processor does not have it")
    multiply = multiplying(products.EMITTED[form])
    random = np.random.default_rng(1)
    for depth, outputs in ((64, 32), (96, 32), (192, 64), (288, 32), (512, 32)):
        weight = random.choice(np.array([-128, -127, 127, 126, 1, 0], np.int8), (outputs, depth))
        packed = products.packed(weight)
        a = random.choice(np.array([0, 255, 254, 1, 77], np.uint8), (products.ROWS, 4 * packed.shape[1]))
        out = np.zeros((outputs // products.COLUMNS, products.ROWS, products.COLUMNS), np.int32)
        multiply(a, packed, out)
        assert np.array_equal(np.concatenate(list(out), 1), a[:, :depth].astype(np.int32) @ weight.T.astype(np.int32))


@pytest.mark.parametrize("form", products.EMITTED_ROUGHLY)
def test_products_of_bfloat16(form: str) -> None:
    """In all forms but that of a processor that this is not."""
    if form == "amx" and processor.ROUGH != "amx":
        pytest.skip("this processor does not have it")
    multiply = multiplying(products.EMITTED_ROUGHLY[form])
    random = np.random.default_rng(1)
    for depth, outputs in ((32, 32), (96, 64)):
        a, weight = (random.integers(-128, 128, (size, depth)).astype(np.float32) for size in (products.ROWS, outputs))  # which bfloat16 holds
        out = np.zeros((outputs // products.COLUMNS, products.ROWS, products.COLUMNS), np.float32)
        multiply((a.view(np.uint32) >> 16).astype(np.uint16), products.packed_roughly(weight), out)
        assert np.array_equal(np.concatenate(list(out), 1), a @ weight.T)


def test_what_need_not_be_exact_is_close(fast: EncoderCodec, plain: Codec) -> None:
    """By bfloat16, to what float32 gives: layers of several inputs, those that halve the resolution, and stacks."""
    picture, reference, context = (stream(1, 96, 18, 10, seed=seed, largest=1000) for seed in range(3))
    y, shown, following, rate = stream(1, 384, 9, 5), noise(144, 80), noise(144, 80, seed=1), int(RATE)
    (ours,), (next_one,) = bridge.pictures(shown), bridge.pictures(following)
    for rough, exact in (
        (fast.analyse(one(picture), one(reference), one(context), rate), plain.inter.analyse(picture, reference, context, RATE)),
        (fast.analyse_keyframe(one(picture), rate), plain.intra.analyse(picture, RATE)),
        (fast.hyper(one(y), rate), plain.inter.latent.hyper(y, RATE)),
        (fast.enhancer(ours, one(context), next_one, rate, rate + 8).y[..., None], plain.enhance(State((shown,), context, still(context)), RATE, following, RATE + 8).y),
    ):
        assert 0 < np.square(rough - one(exact)).mean() ** 0.5 < 0.01 * np.square(one(exact)).mean() ** 0.5


@pytest.mark.parametrize("height, width", [(2, 2), (18, 10)])
@pytest.mark.parametrize("keyframe", [False, True])
def test_errors_of_values_and_their_gradients_are_close(fast: EncoderCodec, plain: Codec, height: int, width: int, keyframe: bool) -> None:
    """To PyTorch's, through all networks on the way."""
    picture, known = noise(8 * height, 8 * width), [stream(1, 96, height, width, seed=seed, largest=1000) for seed in (1, 2)]
    values, given = one(stream(1, 384, height // 2, width // 2, seed=3, largest=4096)), [] if keyframe else known
    error, gradient = fast.judges[not keyframe].judge(*bridge.pictures(picture), *map(one, given), int(RATE))(values, 2.0)
    exact, slopes = plain._judge(picture, RATE, *given)(values, 2.0)
    assert error == pytest.approx(exact, rel=1e-3)
    right = slopes()
    assert 0 < np.square(gradient() - right).mean() < 0.05**2 * np.square(right).mean()


@pytest.mark.parametrize("batch", [1, 2])
def test_pictures_and_features(batch: int) -> None:
    picture = noise(32, 48, batch=batch)
    moved = Planes(*(plane + torch.randint(-(1 << 14), 1 << 14, plane.shape) * 2.0**-14 for plane in (picture.y, picture.u, picture.v)))
    grid = Motion(8).grid
    grid.exact = True
    assert torch.equal(bridge.tensor([loops.features(sample) for sample in bridge.pictures(moved)]), grid(to_features(moved)))
    samples = stream(batch, 96, 4, 6)
    planes = bridge.to_planes([loops.rounded(sample) for sample in bridge.arrays(samples)])
    for made, plane in zip(vars(planes).values(), vars(to_planes(samples).rounded()).values()):
        assert torch.equal(made, plane)
    wide = torch.nn.functional.pad(picture.y, (BORDER,) * 4, mode="replicate")
    assert torch.equal(bordered(picture.y).float(), wide)


@pytest.mark.parametrize("reach", [0, 7, 200, 32768])
@pytest.mark.parametrize("threads", [1, 2])
def test_compensation(reach: int, threads: int) -> None:
    """Of a GPU, here without one."""
    pictures = [noise(128, 48, seed, batch=2) for seed in range(3)]
    vectors = torch.cat([field(16, 6, reach, seed) for seed in (1, 2)])
    luma, chroma = (torch.stack(planes) for planes in zip(*(picture.bordered for picture in pictures)))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = warp.compensate(pictures, vectors)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found.y, warp._compensate(luma, vectors, LUMA_TAPS, 8, BORDER))
    assert torch.equal(torch.cat([found.u, found.v], 1), warp._compensate(chroma, vectors, CHROMA_TAPS, 4, BORDER // 2))


@pytest.mark.parametrize("reach", [0, 40, 32768])
def test_the_context_warp(reach: int) -> None:
    context, vectors = stream(1, 24, 8, 10, largest=(1 << 14) - 1), field(8, 10, reach)
    grid = Motion(8).grid
    grid.exact = True
    assert torch.equal(bridge.tensor([loops.warp(one(context), vectors[0].numpy())]), grid(warp.warp_context(context, vectors)))


def test_passes_over_many_samples_share_the_cores(fast: EncoderCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = fast.inter.latent.parameters_out
    said = one(stream(1, 160, 18, 10, seed=1)), layer.from_numbers, layer.to_numbers
    step, offset = np.full(384, 2, np.float32), np.zeros(384, np.float32)
    whole = strips.prior(*said, step, offset, 1000.0)
    monkeypatch.setattr(strips, "AT_LEAST", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for found, expected in zip(strips.prior(*said, step, offset, 1000.0), whole):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("height, width", [(1, 1), (3, 100), (24, 18), (17, 33)])
def test_a_stack_can_be_done_in_parts(fast: EncoderCodec, monkeypatch: pytest.MonkeyPatch, height: int, width: int) -> None:
    """As threads do it; what parts need of each other they compute for themselves."""
    stack, x = fast.inter.decoder, one(stream(1, 96, height, width, seed=3))
    whole = stack(x, 20)
    for size in (1, 2, 5):
        monkeypatch.setattr(strips, "spread", lambda count, part, least, size=size: [part(k, min(k + size, count)) for k in range(0, count, size)])
        assert np.array_equal(stack(x, 20), whole)


def test_errors_of_other_threads_are_raised() -> None:
    def part(first: int, last: int) -> None:
        if first:
            raise ValueError("the second half")

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="second half"):
            threads.spread(2, part)
    finally:
        torch.set_num_threads(before)


def test_both_coders_write_the_same_bytes() -> None:
    if not (plain := compressai_coder()):
        pytest.skip("CompressAI is not installed")
    random = np.random.default_rng(0)
    indexes = random.integers(0, BYTES, 20000).astype(np.int32)
    symbols = np.where(indexes < SCALES, np.rint(random.laplace(0, np.exp(FIRST + STEP * np.minimum(indexes, SCALES)))), random.integers(0, 2, 20000)).astype(np.int32)
    groups = [(symbols[:9000], indexes[:9000]), (symbols[:0], indexes[:0]), (symbols[9000:], indexes[9000:])]
    coder = SymbolEncoder()
    for group in groups:
        coder.write(*group)
    assert (np.abs(symbols) > load().reaches[indexes]).any()  # escapes
    assert coder.finish() == plain_payload(groups, plain)


def test_symbols_of_a_latent_are_one_group_whatever_the_threads(fast: EncoderCodec, monkeypatch: pytest.MonkeyPatch) -> None:
    """With escapes, which follow all of a group."""
    y, mean = (one(stream(1, 384, 4, 6, seed=seed)) * 40 for seed in (1, 2))
    prior = networks.Prior(np.rint(mean), np.random.default_rng(0).integers(0, 37, mean.shape).astype(np.uint8))
    latent, payloads, made = fast.inter.latent, [], []
    for size in (384, 100, 1):
        monkeypatch.setattr(networks, "spread", lambda count, part, least, size=size: [part(k, min(k + size, count)) for k in range(0, count, size)][::-1])
        coder = SymbolEncoder()
        made.append(latent.write(y, prior, 20, coder))
        payloads.append(coder.finish())
    assert payloads[0] == payloads[1] == payloads[2] and np.array_equal(made[0], made[1]) and np.array_equal(made[0], made[2])


def test_costs_are_those_of_training() -> None:
    tables = load()
    for index in (2, 20, 40):
        begin, reach = tables.begins[index], int(tables.reaches[index])
        expected = laplace_bits(torch.arange(-reach, reach + 1), torch.tensor(FIRST + STEP * index))
        likely = expected < 8
        assert tables.costs[begin : begin + 2 * reach + 1][likely.numpy()] == pytest.approx(expected[likely].numpy(), abs=0.1)
    for index in (0, 31, FLAGS - 1):
        begin = tables.begins[SCALES + index]
        logit = torch.tensor((index + 0.5 - FLAGS / 2) * FLAG_STEP)
        expected = [float(flag_bits(torch.tensor(flag), logit)) for flag in (0, 1)]
        assert tables.costs[begin : begin + 2] == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("reach", [0, 6, 300])
def test_steps_of_coding_vectors(fast: EncoderCodec, plain: Codec, reach: int) -> None:
    """Predictions, and the bits of what is offered, as the search on a GPU has them."""
    memory = stream(1, 96, 8, 10, largest=(1 << 14) - 1)
    vectors, previous = field(8, 10, reach), field(8, 10, 3, seed=1)
    coded = fast.motion.coded_steps(vectors[0].numpy(), previous[0].numpy(), one(memory), int(RATE))
    for step, loop in zip(plain.motion.steps(vectors, previous, memory, RATE), coded, strict=True):
        assert np.array_equal(loop.base, step.place.base[0, :, 0].numpy())
        assert np.array_equal(loop.near, step.place.near[:, 0, :, 0].numpy())
        assert np.array_equal(loop.distinct, step.place.distinct[:, 0, 0, 0].numpy())
        offers = torch.cat([step.place.take(vectors)[None], step.place.candidates])
        assert np.array_equal(loop.offers, offers[:, 0, :, 0].numpy())
        bits = step.bits(offers)[:, 0, 0].numpy()
        assert loop.bits(loop.offers)[bits < 20] == pytest.approx(bits[bits < 20], abs=0.6, rel=0.05)


def test_references_at_quarter_samples(texture: Callable[..., Tensor]) -> None:
    plane = texture(32, 48)
    out = np.empty((16, 32 + 2 * MARGIN, 48 + 2 * MARGIN), np.uint8)
    fill_phases(plane[0, 0].numpy(), out)
    wide = torch.nn.functional.pad(plane, (MARGIN,) * 4, mode="replicate")
    assert torch.equal(torch.from_numpy(out).float(), phases(wide)[0].round().clamp(0, 255))


@pytest.mark.parametrize("plan", [QUICK, THOROUGH])
def test_the_searches_find_vectors_of_the_same_worth(texture: Callable[..., Tensor], plan: Plan) -> None:
    """Not the same ones: where two cost nearly the same, rounding decides."""
    past = [texture(64, 96, seed=1)]
    current = torch.roll(past[0], (3, -5), (2, 3))
    previous, rate = torch.zeros(1, 3, 8, 12, dtype=torch.int32), torch.tensor([16])
    search = Search(32, plan)
    found = search(current, past, previous, rate)
    other = search._on_device(current, past, previous, rate, None, [])
    assert (found == other).float().mean() > 0.9


def test_priced_vectors_are_much_the_same_by_both_searches(plain: Codec, texture: Callable[..., Tensor]) -> None:
    past = [texture(64, 96, seed=1), texture(64, 96, seed=1)]
    current = torch.roll(past[0], (4, -8), (2, 3))
    previous, context, rate = field(8, 12, 0), stream(1, 96, 8, 12, largest=(1 << 14) - 1), torch.tensor([16])
    search = Search(32, THOROUGH)
    pricing = Pricing(plain.motion, previous, context, rate)
    found = search(current, past, previous, rate, pricing)
    other = search._on_device(current, past, previous, rate, pricing, [1])
    assert (found == other).float().mean() > 0.8


@pytest.mark.parametrize("overlapping", [False, True])
@pytest.mark.parametrize("height, width", [(16, 16), (48, 80)])
def test_errors_of_blocks_are_worth_the_same_bits(texture: Callable[..., Tensor], height: int, width: int, overlapping: bool) -> None:
    """In the middle and at the border, of vectors that lead out of the picture."""
    wide = texture(height + 8, width + 8)
    past, current = [wide[..., :height, :width].contiguous(), wide[..., 2 : height + 2, 3 : width + 3].contiguous()], wide[..., 4 : height + 4, 1 : width + 1]
    rows, columns, multiplier = height // 8, width // 8, 0.02
    vectors, where = field(rows, columns, 90), torch.arange(rows * columns)
    vectors[:, 2] %= 2
    offered = torch.stack([vectors, field(rows, columns, 5, seed=1), torch.zeros_like(vectors)])
    offered[:, :, 2] %= 2
    search = Search(16, THOROUGH)
    search.references.update(past)
    overlap = Overlap(current, past, search.references) if overlapping else None
    if overlap:
        overlap.update(vectors)
    fields = offered.flatten(-2)[..., None, :]
    expected = search._errors_at(windows(current[:, 0], 8), where, fields, fields[0], overlap, torch.tensor([multiplier]))[:, 0, 0].numpy()
    lumas, references = [Luma(plane[0, 0].numpy()) for plane in past], References(4)
    order = references.update(lumas)
    around = matching.OVERLAP
    framed = np.pad(current[0, 0].numpy().astype(np.uint8), ((around, around), (around, around + SLACK)), mode="edge")
    worth, flat = np.empty_like(expected), offered[:, 0].flatten(-2).contiguous().numpy()
    if overlap:
        known = overlapped_errors(current[0, 0].numpy(), lumas, vectors[0].numpy())
        matching.overlapped_errors(0, len(where), references.planes, order, framed, known, where.numpy(), flat, rows, columns, np.float32(multiplier), worth)
    else:
        matching.errors(0, len(where), references.planes, order, framed, where.numpy(), flat, columns, np.float32(multiplier), worth)
    assert worth == pytest.approx(expected, rel=1e-3, abs=0.01)


def test_what_is_kept_is_known_by_the_sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A constant of another file is compiled in, so that what was kept before it changed must not be used."""
    monkeypatch.setattr(Kernel, "known", [])
    module = tmp_path / "loops.py"
    module.write_text("FACTOR = 2\ndef times(x: int) -> int:\n    return FACTOR * x\n")
    results = []
    for version, factor in (("one", 2), ("one", 3), ("two", 3)):
        spec = importlib.util.spec_from_file_location("loops", module)
        assert spec and spec.loader
        loops = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(loops)
        loops.FACTOR = factor
        monkeypatch.setattr(kernels, "_version", lambda version=version: version)
        results.append(kernel("i8(i8)")(loops.times)(7))
    assert results == [14, 14, 21]


def test_kernels_are_compiled_by_several_processes(tmp_path: Path) -> None:
    """All that are loaded, when the first is called; what another process cannot find is left to this one."""
    program = tmp_path / "program.py"
    program.write_text(
        "from models.kernels import Kernel, compilation, kernel, prices\n"
        "from models.kernels.threads import use_threads\n"
        "def double(x):\n"
        "    return 2 * x\n"
        "use_threads(3)\n"
        "lost, compilation.LONGEST = kernel('i8(i8)')(double), ('double',)\n"
        "prices.total.compiled\n"
        "assert all(known.is_kept for known in Kernel.known if known is not lost)\n"
        "print(lost(7))\n"
    )
    assert _compiling(tmp_path, str(program)) == "14\n"


def test_a_process_compiles_what_it_is_told(tmp_path: Path) -> None:
    assert _compiling(tmp_path, "-m", "models.kernels.compilation", said="models.kernels.prices total\nmodels.kernels.prices changes\n") == "\n\n"
    assert len(list(tmp_path.rglob("*total*.nbi"))) == len(list(tmp_path.rglob("*changes*.nbi"))) == 1


def _compiling(folder: Path, *arguments: str, said: str = "") -> str:
    """What Python prints that keeps kernels in a folder."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run([sys.executable, *arguments], input=said, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("cannot cache function: no locator available")])
def test_kernels_are_compiled_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    real, announced = numba.njit, []

    def full(*arguments: Any, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise error
        return real(*arguments, **options)

    def twice(x: int) -> int:
        return 2 * x

    monkeypatch.setattr(numba, "njit", full)
    monkeypatch.setattr(Kernel, "known", [])
    monkeypatch.setattr(Kernel, "announce", lambda: announced.append(1))
    double = kernel("i8(i8)")(twice)
    assert not announced
    assert double(7) == 14 == double(7)
    assert len(announced) == 1
