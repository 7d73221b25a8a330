"""The trainer: steps, stages, checkpoints that go on exactly. Its clock ticks once a step, so every count is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from models import card
from models.clips import Clips
from models.entropy import SymbolEncoder
from models.exact import Narrow
from models.picture import Planes
from models.schedule import SCHEDULES, Stage, select
from models.training import REUSED, Progress, Report, Settings, Trainer, draw
from models.weights import load, read, save

CPU = torch.device("cpu")
WHOLE = dict(SCHEDULES)
"""The real schedules; tests run a small one."""

pytestmark = pytest.mark.usefixtures("small_schedule", "clock")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two seconds of intra, two of chains."""
    return Settings("tiny", minutes=4 / 60, pause=None, checkpoint=tmp_path / "run.ckpt", device=CPU)


@pytest.fixture
def clips(videos: Path) -> Clips:
    return Clips(videos, CPU)


def silent(line: str) -> None:
    pass


def test_trains_through_the_stages(settings: Settings, clips: Clips, tmp_path: Path) -> None:
    lines: list[str] = []
    saves: list[int] = []
    trainer = Trainer(settings, clips, lines.append, on_save=lambda trainer: saves.append(trainer.progress.steps))
    before = [p.detach().clone() for p in trainer.codec.parameters()]
    trainer.run()
    progress = trainer.progress
    assert trainer.finished and progress.seconds == 4
    assert (progress.steps, progress.frames, progress.skipped) == (4, 2 * 2 + 2 * 6, 0)
    assert progress.stages == {"intra": 4, "short": 12}
    assert [report.stage for report in progress.reports] == ["intra", "short"]
    for report in progress.reports:
        assert math.isfinite(report.loss) and report.bpp > 0 and 0 <= report.motion <= report.bpp
    assert progress.reports[0].enhancer is None and progress.reports[1].enhancer is None
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.codec.parameters()))
    assert saves == [4] and settings.checkpoint.exists()
    assert any(line.startswith("stage short: chains of 3") for line in lines)
    assert any(word in lines[-1] for word in ("short 0.1/0.0666667 min",)) and "motion" in lines[-1] and "GFLOP/s" in lines[-1]

    save(trainer.finished_codec(), tmp_path / "out.safetensors")
    codec = load(str(tmp_path / "out.safetensors")).codec
    coder = SymbolEncoder()
    with torch.inference_mode():
        codec.encode_keyframe(Planes(*(torch.full((1, 1, s, s), 99.0) for s in (64, 32, 32))), torch.tensor([20]), coder)
    assert coder.finish()


def test_goes_on_exactly_where_it_stopped(settings: Settings, clips: Clips, tmp_path: Path) -> None:
    whole = Trainer(settings, clips, silent)
    whole.run()
    paused = replace(settings, pause=3 / 60, checkpoint=tmp_path / "paused.ckpt")
    first = Trainer(paused, clips, silent)
    first.run()
    assert not first.finished and first.progress.steps == 3
    second = Trainer(paused, clips, silent)
    assert second.progress == first.progress
    second.run()
    assert second.finished
    for part in ("codec", "average"):
        expected, got = (getattr(trainer, part).state_dict() for trainer in (whole, second))
        assert all(torch.equal(expected[name], got[name]) for name in expected), part
    assert second.random.getstate() == whole.random.getstate()
    assert (second.progress.seconds, second.progress.stages) == (whole.progress.seconds, whole.progress.stages)


EXACT = Stage("exact", 0.5, 3, 2, 64, 0.5, 0.5, exact=True)


def test_the_exact_stage_is_calibrated_and_trains(settings: Settings, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES, "tiny", (SCHEDULES["tiny"][0], EXACT))
    trainer = Trainer(settings, clips, silent)
    exact, before = [], []

    def stop() -> bool:
        exact.append(trainer.codec.exact)
        if trainer.progress.steps == 2 and not before:
            before.extend(p.detach().clone() for p in trainer.codec.inter.parameters())
        return False

    trainer.run(stop)
    assert exact == [False, False, False, True]  # before every step; the stage begins after the question
    assert trainer.progress.stages == {"intra": 4, "exact": 12} and trainer.progress.skipped == 0
    assert any(layer.reads.any() for _, layer in trainer.codec.normative(Narrow))
    assert any(not torch.equal(a, b) for a, b in zip(before, trainer.codec.inter.parameters()))
    assert not trainer.finished_codec().exact


def test_the_exact_stage_goes_on_exactly_where_it_stopped(settings: Settings, clips: Clips, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES, "tiny", (EXACT,))
    settings = replace(settings, minutes=3 / 60)
    whole = Trainer(settings, clips, silent)
    whole.run()
    paused = replace(settings, pause=2 / 60, checkpoint=tmp_path / "paused.ckpt")
    for _ in range(2):
        parts = Trainer(paused, clips, silent)
        parts.run()
    assert parts.finished and parts.progress.steps == 3
    expected, got = (trainer.codec.state_dict() for trainer in (whole, parts))
    for name in expected:
        assert torch.equal(expected[name], got[name]), name


def test_a_stage_may_teach_one_network(settings: Settings, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES, "tiny", (Stage("motion", 1.0, 3, 2, 64, 0.5, 0.5, exact=True, only="motion"),))
    trainer = Trainer(settings, clips, silent)
    before = {name: p.detach().clone() for name, p in trainer.codec.named_parameters()}
    trainer.run()
    assert trainer.progress.skipped == 0
    for codec in (trainer.codec, trainer.average):
        assert {name.partition(".")[0] for name, p in codec.named_parameters() if not torch.equal(p, before[name])} == {"motion"}


def test_the_enhancer_takes_many_steps_with_what_was_coded_and_changes_nothing_else(settings: Settings, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES, "tiny", (Stage("enhancer", 1.0, 3, 2, 64, 0.5, 0.5, exact=True, only="enhancer"),))
    trainer, taken = Trainer(settings, clips, silent), []
    before = {name: p.detach().clone() for name, p in trainer.codec.named_parameters()}
    step = trainer.optimizer.step
    monkeypatch.setattr(trainer.optimizer, "step", lambda: taken.append(1) or step())
    trainer.run()
    assert len(taken) == REUSED * trainer.progress.steps and trainer.progress.skipped == 0
    assert math.isfinite(trainer.progress.reports[-1].enhancer) and not trainer.progress.reports[-1].bpp
    assert len(trainer.pool.items) == 2 * 2 * trainer.progress.steps
    for codec in (trainer.codec, trainer.average):
        assert {name.partition(".")[0] for name, p in codec.named_parameters() if not torch.equal(p, before[name])} == {"enhancer"}


def test_the_enhancer_alone_leaves_a_decoder_as_it_was(settings: Settings, clips: Clips, weights_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES, "tiny", (Stage("enhancer", 1.0, 3, 2, 64, 0.5, 0.5, exact=True, only="enhancer"),))
    before = read(weights_file)
    trainer = Trainer(settings, clips, silent, before)
    trainer.run()
    save(trainer.finished_codec(), tmp_path / "out.safetensors", trainer.originals)
    after = read(tmp_path / "out.safetensors")
    assert after.integers.keys() == before.integers.keys() and all(torch.equal(after.integers[name], before.integers[name]) for name in before.integers)
    changed = {name.partition(".")[0] for name, p in before.parameters.items() if not torch.equal(p, after.parameters[name])}
    assert changed == {"enhancer"}


def test_finished_weights_are_the_average_calibrated(settings: Settings, clips: Clips) -> None:
    trainer = Trainer(settings, clips, silent)
    codec = trainer.finished_codec()
    for (name, ours), theirs in zip(codec.named_parameters(), trainer.average.parameters()):
        assert torch.equal(ours, theirs) and ours is not theirs, name
    assert any(layer.reads.any() for _, layer in codec.normative(Narrow))
    assert not any(layer.reads.any() for _, layer in trainer.average.normative(Narrow))


def test_stops_when_asked_and_goes_on_with_more_minutes(settings: Settings, clips: Clips) -> None:
    trainer = Trainer(settings, clips, silent)
    trainer.run(stop=lambda: trainer.progress.steps == 1)
    assert trainer.progress.steps == 1
    shorter = Trainer(replace(settings, minutes=1 / 60), clips, silent)
    assert shorter.finished
    shorter.run()
    assert shorter.progress.steps == 1
    assert not Trainer(settings, clips, silent).finished


@pytest.mark.parametrize("preset", WHOLE)
def test_schedules_end_in_the_exact_form(preset: str) -> None:
    exact = [stage.exact for stage in WHOLE[preset]]
    assert exact == sorted(exact) and {*exact} == {False, True}
    assert sum(stage.share for stage in WHOLE[preset]) == pytest.approx(1)


def test_the_rate_scales_learning(settings: Settings, clips: Clips) -> None:
    moved = []
    for rate in (1.0, 0.01):
        trainer = Trainer(replace(settings, rate=rate, minutes=1 / 60, checkpoint=settings.checkpoint.with_name(f"{rate}.ckpt")), clips, silent)
        before = trainer.codec.intra.enter.weight.detach().clone()
        trainer.run()
        moved.append(float((trainer.codec.intra.enter.weight.detach() - before).abs().sum()))
    assert 0 < moved[1] < moved[0] / 20


def test_time_asleep_is_not_taken_from_the_schedule(settings: Settings, clips: Clips, clock) -> None:
    trainer = Trainer(replace(settings, minutes=1), clips, silent)

    def stop() -> bool:
        clock.now += 1000.0 * (trainer.progress.steps == 2)
        return trainer.progress.steps == 4

    trainer.run(stop)
    assert 4 <= trainer.progress.seconds < 20 and not trainer.finished


def test_only_some_stages(settings: Settings, clips: Clips) -> None:
    trainer = Trainer(replace(settings, stages=("short",), minutes=1 / 60), clips, silent)
    trainer.run()
    assert trainer.progress.stages == {"short": 6}
    with pytest.raises(ValueError, match="no stage 'long'; its stages are intra, short"):
        select("tiny", ("long",))


def test_batches_and_chains_can_be_bounded(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULES, "tiny", WHOLE["tiny"])
    whole = [(stage.batch, stage.length) for stage in WHOLE["tiny"]]
    assert [(stage.batch, stage.length) for stage in replace(settings, batch=1, chain=3).schedule] == [(1, min(length, 3)) for _, length in whole]
    with pytest.raises(ValueError, match="chains of 2 frames are too short"):
        replace(settings, chain=2).schedule
    assert [(stage.batch, stage.length) for stage in replace(settings, batch=100, chain=100).schedule] == whole


def test_steps_that_are_not_finite_change_nothing(settings: Settings, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(settings, clips, silent)
    monkeypatch.setattr("models.training.distortion", lambda decoded, picture: decoded.y.mean((1, 2, 3)) * math.nan)
    before = {name: value.clone() for name, value in trainer.codec.state_dict().items()}
    trainer.run(stop=lambda: trainer.progress.steps == 1)
    assert trainer.progress.skipped == 1
    assert all(torch.equal(before[name], value) for name, value in trainer.codec.state_dict().items())


def test_counting_operations_leaves_no_trace(settings: Settings, clips: Clips) -> None:
    trainer = Trainer(settings, clips, silent)
    noise, state = torch.get_rng_state(), trainer.random.getstate()
    costs = [Trainer._cost.__wrapped__(trainer, stage) for stage in trainer.stages]  # not the fixture's
    assert 0 < costs[0] < costs[1]
    assert torch.equal(torch.get_rng_state(), noise) and trainer.random.getstate() == state
    assert trainer.progress == Progress() and all(p.grad is None for p in trainer.codec.parameters())


def test_checkpoints_that_do_not_fit(settings: Settings, clips: Clips) -> None:
    settings.checkpoint.write_bytes(b"something else")
    with pytest.raises(ValueError, match="not a checkpoint of nvc train"):
        Trainer(settings, clips, silent)
    torch.save({"preset": "base"}, settings.checkpoint)
    with pytest.raises(ValueError, match="holds the preset base, not tiny"):
        Trainer(settings, clips, silent)
    torch.save({"preset": "tiny", "codec": {}}, settings.checkpoint)
    with pytest.raises(ValueError, match="does not fit the networks of this version"):
        Trainer(settings, clips, silent)


def test_reads_progress_of_older_checkpoints() -> None:
    assert Progress.load({"seconds": 1.5, "steps": 2, "frames": 3, "skipped": 0}) == Progress(1.5, 2, 3, 0)


def test_a_failed_checkpoint_leaves_the_old_one(settings: Settings, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.checkpoint.write_bytes(b"old")

    def fail(content: dict, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("models.training.torch.save", fail)
    trainer = Trainer(replace(settings, checkpoint=settings.checkpoint.with_name("new.ckpt")), clips, silent)
    trainer.settings = settings
    with pytest.raises(OSError, match="disk full"):
        trainer._save()
    assert settings.checkpoint.read_bytes() == b"old"
    assert not list(settings.checkpoint.parent.glob(".*.part"))


def test_draws_follow_the_quality_cycle() -> None:
    drawn = [draw(Random(seed), 4, 6, CPU) for seed in range(40)]
    for one in drawn:
        assert one.rates.shape == one.multipliers.shape == one.filtered.shape == (6, 4) and one.importance.shape == (4,)
        assert one.rates.min() >= 0 and one.rates.max() <= 63
        assert not one.filtered[0].any() and not one.refreshed[0]
        assert (one.rates[0] <= one.rates[1] + 4).all()  # the keyframe is the best
    assert any(one.refreshed.any() for one in drawn)
    alone = draw(Random(1), 4, 1, CPU)
    assert (alone.rates[0].diff() > 0).all()  # stratified over all rates


def test_card(tmp_path: Path) -> None:
    reports = [Report("intra", 10 * k, 9.0 - k, 0.5, 0.0, 30.0 + k, None) for k in range(1, 9)]
    reports.append(Report("short", 100, 4.0, 0.3, 0.05, 33.0, 0.12))
    progress = Progress(90.0, 40, 100, 0, {"intra": 80, "short": 20}, reports)
    history = card.History("some_videos", 2, 16, SCHEDULES["tiny"], progress, 1.5, "a machine")
    state = torch.get_rng_state()
    costs = card.complexity("tiny")
    assert torch.equal(torch.get_rng_state(), state)
    assert costs.encoder > costs.decoder > 0 and costs.keyframe_encoder > costs.keyframe_decoder > 0 and costs.enhancer > 0
    card.write_card(tmp_path / "mine.md", "tiny", costs, history)
    text = (tmp_path / "mine.md").read_text(encoding="utf-8")
    assert text.startswith("# mine\n")
    for part in ("some_videos, 2 clips, 16 frames", "1.5 of 1.5 minutes, 40 steps, 100 frames seen", "a machine"):
        assert part in text
    assert text.count("| intra |") == 2 + card.ROWS  # in the tables of parameters and of stages, too
    assert "| 100 | short | 4.000 | 0.3000 | 33.00 | +0.12 |" in text
    assert f"{sum(card.parameters('tiny').values()):,}" in text and f"| decoder | {costs.decoder:.1f} |" in text


def test_a_step_that_can_be_recorded_is_the_same_step(settings: Settings, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU steps are replayed; here the same work is done as it is."""
    plain, recorded = Trainer(settings, clips, silent), Trainer(replace(settings, checkpoint=settings.checkpoint.with_name("other.ckpt")), clips, silent)
    monkeypatch.setattr(recorded, "_records", lambda stage: not stage.only)
    states = []
    for trainer in (plain, recorded):
        torch.manual_seed(3)
        trainer.run()
        states.append(trainer.codec.state_dict())
    assert recorded.recorded and recorded.recorded.recording.calls == recorded.progress.stages["short"] // (2 * 3)
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-4, atol=1e-5)
    one, other = plain.progress.reports[-1], recorded.progress.reports[-1]
    assert one.frames == other.frames and abs(one.loss - other.loss) < 1e-3 * one.loss and abs(one.psnr - other.psnr) < 0.01


def test_gradients_that_are_no_numbers_change_nothing(settings: Settings, clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(settings, clips, silent)
    monkeypatch.setattr(trainer, "_records", lambda stage: True)
    before = {name: p.detach().clone() for name, p in trainer.codec.named_parameters()}
    losses = trainer._losses
    monkeypatch.setattr(trainer, "_losses", lambda *given: (loss * math.nan for loss in losses(*given)))
    trainer.run()
    assert trainer.progress.skipped == trainer.progress.steps > 0
    assert all(torch.equal(p, before[name]) for name, p in trainer.codec.named_parameters())
