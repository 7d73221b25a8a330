"""An in-loop filter learns, through the head of a finished codec, from coded crops; what it gains on others."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from random import Random
from statistics import stdev

import torch
from crops import Crops, Shelf
from report import mean
from torch import Tensor, nn
from tqdm import tqdm

from models.codec import Codec
from models.picture import Planes, to_planes
from models.presets import PRESETS, RATES
from models.quality import distortion, psnr
from models.weights import locate, read

BATCH, RATE, WARM = 8, 4e-3, 30
"""Crops in a step, learning rate, steps until it is reached."""


@dataclass(frozen=True)
class Gain:
    """Of one filter on the crops held out."""

    steps: int  # of training
    clips: list[int]  # the clip, rate point and gain in dB of every crop
    rates: list[int]
    values: list[float]

    @property
    def mean(self) -> float:
        return mean(self.values)

    @property
    def error(self) -> float:
        """Standard error of the mean over clips, as crops of one clip are alike."""
        means = [mean(value for clip, value in zip(self.clips, self.values) if clip == which) for which in set(self.clips)]
        return stdev(means) / math.sqrt(len(means))

    @property
    def switched(self) -> float:
        """The mean if the filter is off where it does harm, as an encoder can tell."""
        return mean(max(value, 0.0) for value in self.values)

    @property
    def quarters(self) -> list[float]:
        """Means over quarters of the rates, the best pictures first."""
        return [mean(value for rate, value in zip(self.rates, self.values) if rate * 4 // RATES == quarter) for quarter in range(4)]

    def summary(self) -> dict[str, object]:
        return {"steps": self.steps, **{name: getattr(self, name) for name in ("quarters", "mean", "error", "switched")}}


def in_float(model: str) -> Codec:
    """A codec in its float form, which gradients pass through."""
    contents = read(locate(model))
    codec = Codec(PRESETS[contents.preset])
    codec.load_state_dict(contents.parameters, strict=False)
    return codec.eval().requires_grad_(False)


def picture(codec: Codec, crops: Crops, change: Tensor | float) -> Planes:
    """The decoded pictures, not rounded, if `change` is added to the context."""
    return to_planes(codec.inter.reconstruct(crops.context + change, crops.detail, crops.reference, crops.rate))


def train(network: nn.Module, codec: Codec, shelf: Shelf, minutes: float, name: str) -> int:
    """Train a filter for so many minutes of the processor; returns the number of steps."""
    random, step, done = Random(0), 0, 0.0
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    begin = time.process_time()
    with tqdm(total=round(60 * minutes), desc=name, unit="s", leave=False, disable=None) as bar:
        while (part := done / (60 * minutes)) < 1:
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(1, (step + 1) / WARM) * (1 + math.cos(math.pi * part)) / 2
            crops = shelf.take(random.sample(shelf.places, BATCH))
            better = picture(codec, crops, network(crops.context, crops.rate))
            loss = (distortion(better, crops.source) + 0.5).log().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            step, done = step + 1, time.process_time() - begin
            bar.update(round(done) - bar.n)
    return step


@torch.inference_mode()
def gain(network: nn.Module, codec: Codec, shelf: Shelf, steps: int) -> Gain:
    """What a filter adds to the PSNR, (6Y + U + V)/8, of all crops of a shelf."""
    rates, values = [], []
    for first in range(0, len(shelf.places), BATCH):
        crops = shelf.take(shelf.places[first : first + BATCH])
        on, off = (psnr(picture(codec, crops, change), crops.source) for change in (network(crops.context, crops.rate), 0.0))
        rates += crops.rate.tolist()
        values += (on - off).tolist()
    return Gain(steps, [clip for clip, _ in shelf.places], rates, values)
