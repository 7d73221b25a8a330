"""Training of all networks of a preset, stage by stage, on CPU or CUDA.

The loss is `bits/pixel + λ·D` with one random rate point a sample; chains of frames are differentiated through the
recurrent context (not through the decoded picture, from which motion is compensated). The in-loop filter is randomly
on or off, the context is randomly refreshed, rate points follow the quality cycle of the encoder: what can happen in a
stream happens in training.
"""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from models import fusion
from models.clips import Clips
from models.codec import Codec, Trained
from models.picture import Planes
from models.presets import PRESETS, RATES, lagrangian
from models.search import Search

CYCLE = (-4, 3, -2, 3)
"""Offsets of the rate point over four P-frames: the first gets most bits, and the others profit."""
KEYFRAME_OFFSET = -8
"""A keyframe is one qp better than the frames that follow."""


@dataclass(frozen=True)
class Stage:
    """A row of the schedule."""

    name: str
    share: float  # of the whole training time
    length: int  # frames in a chain, the keyframe included
    batch: int
    crop: int  # luma samples
    rate: float  # highest learning rate of the stage
    final: float = 0.3  # the learning rate's last value, in parts of the highest


SCHEDULES = {
    "tiny": (
        Stage("intra", 0.10, 1, 8, 256, 1e-3, 0.5),
        Stage("pairs", 0.10, 2, 4, 256, 1e-3, 1.0),
        Stage("short", 0.35, 3, 4, 256, 1e-3, 0.5),
        Stage("medium", 0.25, 5, 4, 256, 5e-4, 0.4),
        Stage("long", 0.20, 8, 4, 256, 2e-4, 0.02),
    ),
    "base": (
        Stage("intra", 0.10, 1, 32, 256, 6e-4, 0.5),
        Stage("pairs", 0.10, 2, 32, 256, 6e-4, 1.0),
        Stage("short", 0.35, 3, 32, 256, 6e-4, 0.5),
        Stage("medium", 0.25, 6, 16, 256, 3e-4, 0.4),
        Stage("long", 0.20, 12, 8, 256, 1e-4, 0.02),
    ),
}


@dataclass
class Progress:
    """What a checkpoint remembers beside weights."""

    seconds: float = 0.0
    steps: int = 0
    frames: int = 0
    skipped: int = 0


@dataclass
class Tally:
    """Sums for the log line, reset with every line."""

    frames: int = 0
    bits: float = 0.0
    motion: float = 0.0
    loss: float = 0.0
    steps: int = 0
    psnr: float = 0.0
    enhanced: float = 0.0
    started: float = field(default_factory=time.monotonic)


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
    seed: int = 1


def plain_rate(device: torch.device) -> float:
    """FLOP/s of a large plain bfloat16 channels-last convolution, forward and backward: the yardstick of the trainer."""
    x = torch.randn(8, 128, 64, 64, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    w = torch.randn(128, 128, 3, 3, device=device, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()
    times = []
    for _ in range(5):
        _wait(device)
        begin = time.monotonic()
        torch.nn.functional.conv2d(x, w, padding=1).backward(x.detach())
        _wait(device)
        times.append(time.monotonic() - begin)
    return 3 * 2 * 8 * 64 * 64 * 128 * 128 * 9 / sorted(times)[2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def distortion(decoded: Planes, picture: Planes) -> Tensor:
    """Squared error of the planes weighted 6:2:2, for each sample: (B,).

    Chroma weighs more than in (6Y + U + V)/8 because that is a mean of decibels, and chroma errors are the smaller.
    """

    def mse(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().mean((1, 2, 3))

    return (6 * mse(decoded.y, picture.y) + 2 * mse(decoded.u, picture.u) + 2 * mse(decoded.v, picture.v)) / 8


def psnr(decoded: Planes, picture: Planes) -> Tensor:
    """(6Y + U + V)/8 in dB of rounded pictures, for each sample: (B,)."""

    def one(a: Tensor, b: Tensor) -> Tensor:
        return 10 * torch.log10(255**2 / (a.detach().round().clamp(0, 255) - b).square().mean((1, 2, 3)).clamp(min=1e-4))

    return (6 * one(decoded.y, picture.y) + one(decoded.u, picture.u) + one(decoded.v, picture.v)) / 8


class Trainer:
    """Trains one preset; its state lives in one checkpoint file.

    Args:
        settings: how to train.
        clips: what to train on.
        log: takes a line of text.
        initial: weights to begin with where there is no checkpoint yet.
    """

    def __init__(self, settings: Settings, clips: Clips, log: Callable[[str], None], initial: dict[str, Tensor] | None = None):
        self.settings, self.clips, self.log = settings, clips, log
        self.random = Random(settings.seed)
        torch.manual_seed(settings.seed)
        device = settings.device
        self.codec = Codec(PRESETS[settings.preset]).to(device).to(memory_format=torch.channels_last)
        if initial is not None:
            self.codec.load_state_dict(initial)
        self.average = deepcopy(self.codec).requires_grad_(False)
        self.optimizer = torch.optim.AdamW(self.codec.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.progress = Progress()
        chosen = [s for s in SCHEDULES[settings.preset] if not settings.stages or s.name in settings.stages]
        total = sum(s.share for s in chosen)
        self.stages = [(s, s.share / total) for s in chosen]
        self.search = Search(32, thorough=False)
        if settings.compiled:
            fusion.enable()
        if settings.checkpoint.exists():
            self._load()

    def run(self) -> None:
        """Train until the schedule ends or the pause is due."""
        device = self.settings.device
        yardstick = plain_rate(device)
        self.log(f"plain bf16 convolution: {yardstick / 1e9:.0f} GFLOP/s; {self.clips.frames} frames of video")
        begin = mark = saved = time.monotonic()
        tally, cost, current = Tally(), 0.0, None
        while True:
            now = time.monotonic()
            self.progress.seconds += now - mark
            mark = now
            done = self.progress.seconds / (60 * self.settings.minutes)
            paused = self.settings.pause is not None and now - begin >= 60 * self.settings.pause
            if done >= 1 or paused:
                break
            stage, part = self._stage(done)
            if stage is not current:
                current = stage
                self.log(f"stage {stage.name}: chains of {stage.length}, batch {stage.batch}, crop {stage.crop}")
                with FlopCounterMode(display=False) as counter:
                    self._step(stage, part, Tally())
                cost = counter.get_total_flops()
                tally = Tally()
                continue
            self._step(stage, part, tally)
            if tally.steps and now - tally.started >= 20:
                self._report(stage, tally, cost, yardstick)
                tally = Tally()
            if now - saved >= 180:
                self._save()
                saved = now
        self._save()

    def _stage(self, done: float) -> tuple[Stage, float]:
        """The stage at a place in the schedule (0 to 1), and the place inside it."""
        for stage, share in self.stages:
            if done < share:
                return stage, done / share
            done -= share
        return self.stages[-1][0], 1.0

    def _step(self, stage: Stage, part: float, tally: Tally) -> None:
        """One step of the optimiser on one batch of chains."""
        rate = stage.rate * (stage.final + (1 - stage.final) * (1 + math.cos(math.pi * part)) / 2)
        rate *= min(1.0, (self.progress.steps + 1) / 200)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        pictures = self.clips.sample(self.random, stage.batch, stage.length, stage.crop)
        loss = self._chain(pictures, tally)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.codec.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimizer.step()
            self._update_average()
        else:
            self.progress.skipped += 1
        self.progress.steps += 1
        self.progress.frames += stage.batch * stage.length
        tally.frames += stage.batch * stage.length
        tally.steps += 1
        tally.loss += float(loss.detach())

    def _chain(self, pictures: list[Planes], tally: Tally) -> Tensor:
        """The mean loss of a batch of chains, each sample at its own rate point."""
        batch, device = pictures[0].y.shape[0], self.settings.device
        pixels = pictures[0].y[0].numel()
        # Low, middle and high rates in every batch: stratified over the samples.
        base = [(k + self.random.random()) * RATES / batch for k in range(batch)]
        phase = self.random.randrange(len(CYCLE))
        swing = [self.random.choice((0.0, 1.0, 1.0)) for _ in range(batch)]
        loss, frame = 0, None
        for t, picture in enumerate(pictures):
            if t == 0:
                alone = len(pictures) == 1
                offsets = [0.0 if alone else s * KEYFRAME_OFFSET for s in swing]
            else:
                offsets = [s * CYCLE[(t + phase) % len(CYCLE)] for s in swing]
            points = [min(max(round(b + o), 0), RATES - 1) for b, o in zip(base, offsets)]
            rate = torch.tensor(points, device=device)
            multiplier = torch.tensor([lagrangian(p) for p in points], device=device)
            # High rates cost a hundred times more bits; in logarithms, as BD-rate counts them, all weigh the same.
            importance = torch.tensor([(lagrangian(0) / lagrangian(b)) ** 0.6 for b in base], device=device)
            with torch.autocast(device.type, torch.bfloat16):
                frame = self._frame(picture, frame, rate)
                bits = (frame.bits + frame.motion_bits) / pixels
                error = distortion(frame.reconstruction, picture)
                loss = loss + (importance * (bits + multiplier * error)).mean()
                if t == len(pictures) - 1 and t > 0:
                    better = self.codec.enhance(frame.state.picture, frame.state.context.detach(), rate)
                    loss = loss + (importance * multiplier * distortion(better, picture)).mean()
                    tally.enhanced += float((psnr(better, picture) - psnr(frame.reconstruction, picture)).mean())
            tally.bits += float(bits.detach().mean())
            tally.motion += float(frame.motion_bits.detach().mean()) / pixels
            tally.psnr += float(psnr(frame.reconstruction, picture).mean())
        return loss / len(pictures)

    def _frame(self, picture: Planes, before: Trained | None, rate: Tensor) -> Trained:
        if before is None:
            return self.codec.train_keyframe(picture, rate)
        filtered = torch.tensor([float(self.random.random() < 0.5) for _ in range(len(rate))], device=rate.device)
        refresh = self.random.random() < 0.08
        return self.codec.train_frame(picture, before.state, rate, filtered, refresh, self.search)

    def _update_average(self) -> None:
        decay = min(0.999, (1 + self.progress.steps) / (10 + self.progress.steps))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.codec.parameters()), 1 - decay)

    def _report(self, stage: Stage, tally: Tally, cost: float, yardstick: float) -> None:
        seconds = time.monotonic() - tally.started
        count = tally.steps * stage.length
        speed = cost * tally.steps / seconds
        self.log(
            f"{stage.name} {self.progress.seconds / 60:.1f} min, {self.progress.frames} frames, "
            f"{tally.frames / seconds:.1f} frames/s, {speed / 1e9:.0f} GFLOP/s ({100 * speed / yardstick:.0f} %), "
            f"loss {tally.loss / tally.steps:.3f}, {tally.bits / count:.4f} bpp (motion {tally.motion / count:.4f}), "
            f"{tally.psnr / count:.2f} dB, enhancer {tally.enhanced / tally.steps:+.2f} dB, skipped {self.progress.skipped}"
        )

    def _save(self) -> None:
        """Write the checkpoint beside the old one, then rename."""
        path = self.settings.checkpoint
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        torch.save(
            {
                "codec": self.codec.state_dict(),
                "average": self.average.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "progress": vars(self.progress),
                "random": self.random.getstate(),
                "preset": self.settings.preset,
            },
            part,
        )
        part.replace(path)

    def _load(self) -> None:
        saved = torch.load(self.settings.checkpoint, map_location=self.settings.device, weights_only=False)
        if saved["preset"] != self.settings.preset:
            raise ValueError(
                f"{self.settings.checkpoint}: holds the preset {saved['preset']}, not {self.settings.preset}; "
                "give another checkpoint or the other --model"
            )
        self.codec.load_state_dict(saved["codec"])
        self.average.load_state_dict(saved["average"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.progress = Progress(**saved["progress"])
        self.random.setstate(saved["random"])
