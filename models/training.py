"""Training of all networks of a preset, stage by stage, on CPU or CUDA.

The loss is `bits/pixel + λ·D` with one random rate point a sample; chains of frames are differentiated through the
recurrent context (not through the decoded picture, from which motion is compensated). The in-loop filter is randomly
on or off, the context is randomly refreshed, rate points follow the quality cycle of the encoder: what can happen in a
stream happens in training.

The processor runs ahead of a GPU: it draws all random numbers of a batch at once, and reads results back once a step,
when it asks whether the gradient is finite.
"""

import gc
import math
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from random import Random
from time import monotonic
from typing import cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from models import fusion
from models.calibration import calibrate
from models.clips import Clips, sent
from models.codec import Codec, Trained
from models.cycle import CYCLE, rate_point
from models.files import replacing
from models.machine import plain_rate, training_dtype
from models.optimizer import Optimizer
from models.parallel import ALONE, Group
from models.picture import Planes
from models.pool import CAPACITY, Pool
from models.presets import PRESETS, RATES, lagrangian
from models.quality import distortion, psnr
from models.recording import Recording
from models.schedule import Stage, select
from models.plan import QUICK, THOROUGH
from models.search import Search
from models.weights import Contents, restore
from models.widening import widen

FILTERED, REFRESHED = 0.5, 0.08
"""How often a P-frame has its in-loop filter on, and its context made anew."""

CODING = ("intra.", "inter.", "motion.")
"""The networks of the codec proper. The enhancer, which nothing depends on, learns when they are done."""

MOTION, ENHANCER = "motion", "enhancer"
"""Networks that a stage can be for alone, see `Stage.only`."""

REUSED = 8
"""Steps of the enhancer for every batch of chains that is coded."""

AVERAGED = 50
"""One over this part of all steps so far is what shipped weights are averaged over, whatever the training's length."""

REPORT_SECONDS, SAVE_SECONDS = 20, 180
"""From one log line to the next, from one checkpoint to the next."""


@dataclass(frozen=True)
class Settings:
    """How to train."""

    preset: str
    minutes: float  # length of the whole schedule
    pause: float | None  # stop cleanly after this many minutes, to be resumed
    checkpoint: Path
    device: torch.device
    stages: tuple[str, ...] = ()  # only these, in the schedule's order; empty: all
    compiled: bool = False
    rate: float = 1.0  # learning rates in parts of the schedule's
    seed: int = 1
    batch: int | None = None  # chains in a batch, at most
    chain: int | None = None  # frames in a chain, at most

    @property
    def schedule(self) -> tuple[Stage, ...]:
        """The stages to go through.

        Raises:
            ValueError: the preset's schedule has none of such a name, or chains are too short.
        """
        return select(self.preset, self.stages, self.batch, self.chain)


@dataclass(frozen=True)
class Report:
    """Means over the steps of one log line; quality and bits are of training samples at all rates together."""

    stage: str
    frames: int  # seen since the start of the training
    loss: float
    bpp: float  # bits per pixel
    motion: float  # bits per pixel that vectors take
    psnr: float  # dB
    enhancer: float | None  # dB gained; None in stages that do not train it, and bits are only told in the others


@dataclass
class Progress:
    """What a checkpoint remembers beside weights."""

    seconds: float = 0.0
    steps: int = 0
    frames: int = 0
    skipped: int = 0
    stages: dict[str, int] = field(default_factory=dict)  # frames seen in each
    reports: list[Report] = field(default_factory=list)

    @classmethod
    def load(cls, saved: dict) -> "Progress":
        """The inverse of `dataclasses.asdict`."""
        return cls(**{**saved, "reports": [Report(**report) for report in saved.get("reports", [])]})


class Tally:
    """Sums for one log line. They stay on the device until the line is due, so that no step waits for them."""

    def __init__(self, started: float = 0.0) -> None:
        self.started, self.steps = started, 0
        self.sums: dict[str, Tensor] = {}

    def add(self, **values: Tensor) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()

    def total(self, name: str) -> float:
        return float(self.sums.get(name, 0))


@dataclass(frozen=True)
class Draw:
    """The random choices of one batch of B chains of T frames."""

    rates: Tensor  # (T, B) rate points
    multipliers: Tensor  # (T, B) their λ
    importance: Tensor  # (B,) weights of the samples
    filtered: Tensor  # (T, B) 1 where the in-loop filter is on
    refreshed: Tensor  # (T,) whether the context is made anew


def draw(random: Random, batch: int, length: int, device: torch.device) -> Draw:
    """Rate points along the quality cycle, filter flags and refreshes; moved to the device without waiting for it."""
    # Low, middle and high rates in every batch: stratified over the samples.
    base = [(k + random.random()) * RATES / batch for k in range(batch)]
    phase = random.randrange(len(CYCLE))
    swing = [random.choice((0.0, 1.0, 1.0)) for _ in range(batch)]
    if length == 1:
        swing = [0.0] * batch
    places = [0, *(t + phase for t in range(1, length))]
    points = [[rate_point(b, since, s) for b, s in zip(base, swing)] for since in places]
    filtered, refreshed = [[0.0] * batch], [False]
    for _ in range(1, length):
        filtered.append([float(random.random() < FILTERED) for _ in range(batch)])
        refreshed.append(random.random() < REFRESHED)

    def send(values: list) -> Tensor:
        return sent(torch.tensor(values), device)

    return Draw(
        rates=send(points),
        multipliers=send([[lagrangian(point) for point in row] for row in points]),
        # High rates cost a hundred times more bits; in logarithms, as BD-rate counts them, all weigh the same.
        importance=send([(lagrangian(0) / lagrangian(b)) ** 0.6 for b in base]),
        filtered=send(filtered),
        refreshed=send(refreshed),
    )


class Trainer:
    """Trains one preset; its state lives in one checkpoint file, from which it goes on if the file exists.

    Args:
        settings: how to train.
        clips: what to train on.
        log: takes a line of text.
        initial: weights to begin with where there is no checkpoint yet, of this preset or of a smaller one. If only the enhancer is trained, all others of them are kept,
            as the integers that they are, so that streams stay what they were.
        on_save: called with the trainer after every checkpoint.
        group: the processes that train together. The first one writes.

    Raises:
        ValueError: a stage is unknown, `initial` is of a preset that is not smaller, or the checkpoint cannot be gone on from.
    """

    def __init__(
        self,
        settings: Settings,
        clips: Clips,
        log: Callable[[str], None],
        initial: Contents | None = None,
        on_save: Callable[["Trainer"], None] | None = None,
        group: Group = ALONE,
    ):
        self.settings, self.clips, self.log, self.on_save, self.group = settings, clips, log, on_save, group
        self.stages = settings.schedule
        self.originals: dict[str, Tensor] | None = None  # parameters of all but the enhancer, where these are kept
        if initial is not None and initial.preset == settings.preset and all(stage.only == ENHANCER for stage in self.stages):
            self.originals = {name: p for name, p in initial.parameters.items() if not name.startswith(ENHANCER)}
        self.random = Random(settings.seed)
        torch.manual_seed(settings.seed)
        device = settings.device
        self.codec = Codec(PRESETS[settings.preset]).to(device).to(memory_format=torch.channels_last)
        if initial is not None:
            self._begin(initial)
        self.average = deepcopy(self.codec).requires_grad_(False)
        self.optimizer = Optimizer(self.codec)
        self.progress = Progress()
        self.pool: Pool | None = None  # what the enhancer learns from
        self.recorded: _RecordedStep | None = None
        self.searches = {plan: Search(32, plan) for plan in (QUICK, THOROUGH)}
        if settings.checkpoint.exists():
            self._load()
        if group.size > 1:
            self._meet()

    def _begin(self, initial: Contents) -> None:
        """Take over weights, of this preset or of a smaller one."""
        preset = self.settings.preset
        try:
            if initial.preset == preset:
                self.codec.load_state_dict({**self.codec.state_dict(), **initial.parameters})
            else:
                widen(initial.parameters, PRESETS[initial.preset], self.codec)
            if self.originals:
                restore(self.codec, initial.integers)
        except (RuntimeError, KeyError):
            raise ValueError(f"the weights to begin with are not of the preset {initial.preset}, as they say; choose others") from None

    @property
    def finished(self) -> bool:
        """Whether the schedule is at its end."""
        return self.progress.seconds >= 60 * self.settings.minutes

    def run(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Train until the schedule ends, the pause is due, or `stop()`, asked before every step, is true; then save.

        A larger `Settings.minutes` than before goes on with the part of the longer schedule that is not yet done.
        """
        settings, progress = self.settings, self.progress
        if settings.compiled and not fusion.enable():
            self.log("no C++ compiler was found: training goes on without compiled functions, more slowly")
        if settings.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # shapes stay the same for a whole stage
        yardstick = plain_rate(settings.device)
        self.log(f"plain convolution in {str(training_dtype(settings.device)).removeprefix('torch.')}: {yardstick / 1e9:.0f} GFLOP/s; {self.clips.frames} frames of video")
        begin = mark = saved = self._time()
        tally, cost, current, usual = Tally(begin), 0, None, math.inf
        while True:
            now = self._time()
            took, mark = now - mark, now
            progress.seconds += min(took, usual)  # time asleep, as in a suspended process, is not taken from the schedule
            usual = max(1.0, 5 * took)
            if self.finished or self.group.any(stop()) or (settings.pause is not None and now - begin >= 60 * settings.pause):
                break
            stage, part = self._stage(progress.seconds / (60 * settings.minutes))
            if stage is not current:
                if current and tally.steps:
                    self._report(current, tally, cost / yardstick, cost)
                begun = any(other.exact and other.name in progress.stages for other in self.stages)  # a checkpoint holds exponents
                if stage.exact and not self.codec.exact and not begun and not self.originals:
                    self._calibrate(self.codec)
                self.group.share(self.codec.state_dict().values())
                self.codec.exact = stage.exact
                for name, p in self.codec.named_parameters():
                    p.requires_grad_(name.startswith(stage.only or CODING))
                self.log(f"stage {stage.name}: chains of {stage.length}, batch {stage.batch}, crop {stage.crop}")
                cost = self._cost(stage)
                mark = self._time()  # compiling takes no time from the schedule
                current, tally = stage, Tally(mark)
            elif now - tally.started >= REPORT_SECONDS and tally.steps:
                self._report(stage, tally, cost / yardstick, cost)
                tally = Tally(now)
            if now - saved >= SAVE_SECONDS:
                self._save()
                saved = now
            self._step(stage, part, tally)
        if current and tally.steps:
            self._report(current, tally, cost / yardstick, cost)
        self._save()

    def _time(self) -> float:
        """The group's clock."""
        return self.group.time(monotonic())

    def _meet(self) -> None:
        """Make sure that all processes of the group begin alike, and draw other crops and noise from here on.

        A checkpoint knows the random numbers of the first one; the others begin with new ones.
        """
        rank, steps = self.group.rank, self.progress.steps
        if not self.group.same(steps):
            raise ValueError(f"{self.settings.checkpoint}: not all processes see the same checkpoint; let --checkpoint be in a folder that all machines share")
        self.group.share([*self.codec.state_dict().values(), *self.average.state_dict().values()])
        if rank:
            self.random = Random(f"{self.settings.seed} {rank} {steps}")
            torch.manual_seed(self.random.getrandbits(63))

    def _stage(self, done: float) -> tuple[Stage, float]:
        """The stage at a place in the schedule (0 to 1), and the place inside it."""
        total = sum(stage.share for stage in self.stages)
        for stage in self.stages:
            share = stage.share / total
            if done < share:
                return stage, done / share
            done -= share
        return self.stages[-1], 1.0

    def _step(self, stage: Stage, part: float, tally: Tally) -> None:
        """One step of the optimiser on one batch of chains; `part` is the place inside the stage, 0 to 1."""
        progress = self.progress
        rate = stage.rate * (stage.final + (1 - stage.final) * (1 + math.cos(math.pi * part)) / 2)
        rate *= self.settings.rate * min(1.0, (progress.steps + 1) / 200)
        self.optimizer.scale(rate)
        pictures = self.clips.sample(self.random, stage.batch, stage.length, stage.crop)
        choices = draw(self.random, stage.batch, stage.length, self.settings.device)
        if self._records(stage):
            self._replay(stage, pictures, choices)
        else:
            for loss in self._losses(stage, pictures, choices, tally):
                self.optimizer.zero_grad()
                loss.backward()
                self.group.average(self.codec.parameters())
                norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), 1.0)
                if torch.isfinite(norm):
                    self.optimizer.step()
                    self._update_average()
                else:
                    progress.skipped += 1
        frames = self.group.size * stage.batch * stage.length
        progress.steps += 1
        progress.frames += frames
        progress.stages[stage.name] = progress.stages.get(stage.name, 0) + frames
        tally.steps += 1

    def _records(self, stage: Stage) -> bool:
        """Whether steps of a stage are recorded: those of one GPU, in which the codec proper learns."""
        return self.settings.device.type == "cuda" and self.group.size == 1 and not stage.only

    def _replay(self, stage: Stage, pictures: list[Planes], choices: Draw) -> None:
        """A step that is recorded when it comes for the third time."""
        if self.recorded is None or self.recorded.stage is not stage:
            self.recorded = None
            self.release()
            self.recorded = _RecordedStep(self, stage, pictures, choices)
        else:
            self.recorded.feed(pictures, choices)
        self.recorded.recording()
        self._update_average()

    def release(self) -> None:
        """Give back the memory that steps have kept."""
        self.optimizer.zero_grad()
        for search in self.searches.values():
            search.forget()
        gc.collect()

    def _losses(self, stage: Stage, pictures: list[Planes], draw: Draw, tally: Tally) -> Iterator[Tensor]:
        """What to take steps down from, on a batch of chains: their mean loss, or those of the enhancer on pictures that were coded lately."""
        if stage.only == ENHANCER:
            yield from self._enhancer_losses(stage, pictures, draw, tally)
            return
        frames = self._chain(stage, pictures, draw, tally)
        loss, pixels = draw.importance.new_zeros(()), pictures[0].y[0].numel()
        for t, (frame, picture) in enumerate(zip(frames, pictures)):
            bits = (frame.bits + frame.motion_bits) / pixels
            loss = loss + (draw.importance * (bits + draw.multipliers[t] * distortion(frame.reconstruction, picture))).mean()
        tally.add(loss=loss / len(frames))
        yield loss / len(frames)

    def _enhancer_losses(self, stage: Stage, pictures: list[Planes], draw: Draw, tally: Tally) -> Iterator[Tensor]:
        """Code the chains, then learn from all that the pool holds, in decibels, as people judge it."""
        if self.pool is None:
            self.pool = Pool(self.codec, CAPACITY // self.group.size)
        self.pool.grow(pictures, draw.rates, draw.filtered)
        for _ in range(REUSED):
            coded = self.pool.sample(self.random, 4 * stage.batch)
            with self._autocast():
                better = self.codec.enhancer(coded.picture, coded.context, coded.following, coded.rate, coded.following_rate)
            loss = (distortion(better, coded.source) + 0.5).log().mean()
            after = psnr(better, coded.source)
            gain = after - psnr(coded.picture, coded.source)
            tally.add(loss=loss / REUSED, psnr=after.mean() * stage.length / REUSED, enhancer=gain.mean() / REUSED)
            yield loss

    def _chain(self, stage: Stage, pictures: list[Planes], draw: Draw, tally: Tally) -> list[Trained]:
        """The frames of a batch of chains, each sample at its own rate point."""
        search = self.searches[THOROUGH if stage.only == MOTION else QUICK]  # vectors that the coder of vectors learns from are those of an encoder
        pixels = pictures[0].y[0].numel()
        frames: list[Trained] = []
        with self._autocast():  # one context, so that weights are cast once
            for t, picture in enumerate(pictures):
                rate = draw.rates[t]
                if not frames:
                    frame = self.codec.train_keyframe(picture, rate)
                else:
                    frame = self.codec.train_frame(picture, frames[-1].state, rate, draw.filtered[t], draw.refreshed[t], search)
                frames.append(frame)
                bits = (frame.bits + frame.motion_bits) / pixels
                tally.add(bpp=bits.mean(), motion=frame.motion_bits.mean() / pixels, psnr=psnr(frame.reconstruction, picture).mean())
        return frames

    def _autocast(self) -> torch.autocast:
        dtype = training_dtype(self.settings.device)
        return torch.autocast(self.settings.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16)

    def _update_average(self) -> None:
        """Move the averaged weights toward the current ones: an average over the last fiftieth of all steps."""
        decay = self.progress.steps / (self.progress.steps + AVERAGED)
        with torch.no_grad():
            pairs = [pair for pair in zip(self.average.parameters(), self.codec.parameters()) if pair[1].requires_grad]
            torch._foreach_lerp_([mine for mine, _ in pairs], [theirs for _, theirs in pairs], 1 - decay)

    def _cost(self, stage: Stage) -> int:
        """FLOP of one step: those of the convolutions, forward and, unless only the coder of vectors learns, twice as many backward.

        Measured forward only, since PyTorch counts the backward pass of depth-wise convolutions as if they were full.
        Nothing that training depends on is touched: the random numbers are others. Compiles what the stage needs on the way.
        """
        device, random = self.settings.device, Random(0)
        with torch.random.fork_rng([device] if device.type == "cuda" else []), torch.no_grad():
            pictures = self.clips.sample(random, stage.batch, stage.length, stage.crop)
            choices = draw(random, stage.batch, stage.length, device)
            if fusion.enabled():  # nothing is compiled while operations are counted
                list(self._losses(stage, pictures, choices, Tally()))
            with FlopCounterMode(display=False) as counter:
                list(self._losses(stage, pictures, choices, Tally()))
        self.pool = None
        return (1 if stage.only == MOTION else 3) * counter.get_total_flops()

    def _report(self, stage: Stage, tally: Tally, share: float, cost: int) -> None:
        """Log means since the last line; `share` is seconds per step at the yardstick's speed, `cost` FLOP per step."""
        if self.recorded:
            self.progress.skipped += self.recorded.collect(tally)
        pictures = tally.steps * stage.length
        chained = stage.length > 1
        report = Report(
            stage=stage.name,
            frames=self.progress.frames,
            loss=tally.total("loss") / tally.steps,
            bpp=tally.total("bpp") / pictures,
            motion=tally.total("motion") / pictures,
            psnr=tally.total("psnr") / pictures,
            enhancer=tally.total("enhancer") / tally.steps if stage.only == ENHANCER else None,
        )
        self.progress.reports.append(report)
        steps = tally.steps / max(monotonic() - tally.started, 1e-9)  # per second; after the sums were read, so the device is done
        motion = f" (motion {100 * report.motion / report.bpp:.0f} %)" if chained and report.bpp else ""
        bits = f"{report.bpp:.4f} bpp{motion}, " if report.bpp else ""
        enhancer = "" if report.enhancer is None else f", enhancer {report.enhancer:+.2f} dB"
        skipped = f", {self.progress.skipped} steps skipped" if self.progress.skipped else ""
        self.log(
            f"{stage.name} {self.progress.seconds / 60:.1f}/{self.settings.minutes:g} min, {report.frames} frames, "
            f"{steps * self.group.size * stage.batch * stage.length:.1f} frames/s, {steps * cost / 1e9:.0f} GFLOP/s ({100 * steps * share:.0f} %), "
            f"loss {report.loss:.3f}, {bits}{report.psnr:.2f} dB{enhancer}{skipped}"
        )

    def finished_codec(self) -> Codec:
        """A codec with the averaged weights, calibrated: what is worth keeping of the training so far."""
        codec = deepcopy(self.average)
        if not self.originals:
            self._calibrate(codec)
        return codec

    def _calibrate(self, codec: Codec) -> None:
        """Set the exponents of the exact form from a few training clips, always the same."""
        random = Random(0)
        calibrate(codec, (self.clips.sample(random, 8, 4, 256) for _ in range(3)))

    def _save(self) -> None:
        if not self.group.first:
            return
        device = self.settings.device
        noise = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
        content = {
            "codec": self.codec.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "random": self.random.getstate(),
            "noise": {device.type: noise},
            "preset": self.settings.preset,
        }
        with replacing(self.settings.checkpoint) as part:
            torch.save(content, part)
        if self.on_save:
            self.on_save(self)

    def _load(self) -> None:
        path, device = self.settings.checkpoint, self.settings.device
        other = "delete it to start anew, or give another --checkpoint"
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            preset = saved["preset"]
        except Exception as error:  # the unpickler has no error of its own for files that are something else
            raise ValueError(f"{path}: not a checkpoint of nvc train ({type(error).__name__}); {other}") from None
        if preset != self.settings.preset:
            raise ValueError(f"{path}: holds the preset {preset}, not {self.settings.preset}; give another checkpoint or the other --model")
        try:
            self.codec.load_state_dict(saved["codec"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.progress = Progress.load(saved["progress"])
            self.random.setstate(saved["random"])
        except (RuntimeError, KeyError, TypeError, ValueError):
            raise ValueError(f"{path}: the checkpoint does not fit the networks of this version; {other}") from None
        noise = saved.get("noise", {}).get(device.type)  # absent in old checkpoints, and from another kind of device
        if noise is not None:
            torch.cuda.set_rng_state(noise, device) if device.type == "cuda" else torch.set_rng_state(noise)


class _RecordedStep:
    """A step of the optimiser as work that a GPU can replay: no number of it is asked for before a log line is due."""

    def __init__(self, trainer: Trainer, stage: Stage, pictures: list[Planes], choices: Draw):
        self.trainer, self.stage, self.pictures, self.choices = trainer, stage, pictures, choices
        self.sums: dict[str, Tensor] = {}
        self.recording = Recording(self._work, trainer.release, self._unrecorded)

    def _unrecorded(self, why: str) -> None:
        self.trainer.log(f"training goes on without a recording of its steps, more slowly ({why})")

    def feed(self, pictures: list[Planes], choices: Draw) -> None:
        """What the next step learns from."""
        for mine, others in zip(self.pictures, pictures):
            for name in ("y", "u", "v"):
                getattr(mine, name).copy_(getattr(others, name))
        for each in fields(Draw):
            getattr(self.choices, each.name).copy_(getattr(choices, each.name))

    def collect(self, tally: Tally) -> int:
        """Hand over the sums since the last time, and how many steps were skipped, since gradients were no numbers."""
        skipped = round(float(self.sums["skipped"])) if self.sums else 0
        tally.add(**{name: value.clone() for name, value in self.sums.items()})
        for value in self.sums.values():
            value.zero_()
        return skipped

    def _work(self) -> None:
        trainer = self.trainer
        for search in trainer.searches.values():
            search.forget()
        trainer.optimizer.zero_grad()
        tally = Tally()
        (loss,) = trainer._losses(self.stage, self.pictures, self.choices, tally)
        loss.backward()
        learning = [p for p in trainer.codec.parameters() if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm([cast(Tensor, p.grad) for p in learning])))
        finite = torch.isfinite(norm)
        scale = torch.where(finite, (1 / (norm + 1e-6)).clamp(max=1.0), 0.0)
        for p in learning:
            p.grad = torch.where(finite, cast(Tensor, p.grad), 0.0) * scale
        trainer.optimizer.step()
        tally.add(skipped=(~finite).float())
        for name, value in tally.sums.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros_like(value)
            self.sums[name] += value
