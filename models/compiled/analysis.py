"""The networks that an encoder has beside those of a decoder, from their parameters, in bfloat16; in PyTorch they are in `models/intra.py`, `inter.py` and `latent.py`."""

import numpy as np

from models.arrays import Array
from models.compiled.networks import HYPER_ALIGN
from models.compiled.rough import Parameters, Stack
from models.presets import PICTURE, Preset
from models.stages import staged


class Hyper:
    """`models.latent.Latent.hyper`."""

    def __init__(self, given: Parameters, name: str, preset: Preset):
        n, z = preset.latent, preset.hyper
        self.gain = given.gains(f"{name}.hyper_gain", n)
        self.layers = (
            given.layer(f"{name}.hyper_encoder.0", n, 64), given.layer(f"{name}.hyper_encoder.1", 64, 64, 2, relu=True),
            given.layer(f"{name}.hyper_encoder.2", 64, z, 2, relu=True),
        )  # fmt: skip

    @staged("prior")
    def __call__(self, y: Array, rate: int) -> Array:
        """z before quantisation: (H/16, W/16, N) -> (H/64, W/64, Z), sizes rounded up."""
        x = np.pad(y * self.gain[rate], [(0, -size % HYPER_ALIGN) for size in y.shape[:2]] + [(0, 0)], mode="edge")
        for layer in self.layers:
            x = layer(x)
        return x


class Intra:
    """`models.intra.Intra.analyse`."""

    def __init__(self, given: Parameters, preset: Preset):
        width = preset.intra_context
        self.enter = given.layer("intra.enter", PICTURE, width)
        self.encoder = Stack(given, "intra.encoder", width, preset.intra_blocks)
        self.to_latent = given.layer("intra.to_latent", width + PICTURE, preset.latent, 2)

    @staged("keyframe network")
    def __call__(self, picture: Array, rate: int) -> Array:
        """Features (H/8, W/8, 96) -> y (H/16, W/16, N)."""
        return self.to_latent(self.encoder(self.enter(picture), rate), picture)


class Inter:
    """`models.inter.Inter.analyse`."""

    def __init__(self, given: Parameters, preset: Preset):
        c = preset.context
        self.join = given.layer("inter.join", 2 * PICTURE + c, c)
        self.encoder = Stack(given, "inter.encoder", c, preset.encoder_blocks)
        self.to_latent = given.layer("inter.to_latent", c + PICTURE, preset.latent, 2)

    @staged("analysis")
    def __call__(self, picture: Array, reference: Array, context: Array, rate: int) -> Array:
        """Features of the picture and of the warped one (H/8, W/8, 96), and the temporal context (H/8, W/8, C) -> y (H/16, W/16, N)."""
        return self.to_latent(self.encoder(self.join(picture, reference, context), rate), picture - reference)
