"""The error of what is decoded from values of a latent, and its gradient, in bfloat16: what an encoder refines symbols by. In PyTorch it is `decoded` of `models.inter.Inter` and `models.intra.Intra`."""

from collections.abc import Callable

import numpy as np

from models.arrays import Array
from models.compiled import pictures
from models.compiled.networks import shuffled
from models.compiled.pictures import Picture
from models.compiled.rough import Parameters, Stack
from models.presets import PICTURE, Preset

Judge = Callable[[Array, float], tuple[float, Callable[[], Array]]]
"""Values of a latent in steps of quantisation (H/16, W/16, N), and what an error counts -> the error, and what tells its gradient."""


def gathered(x: Array) -> Array:
    """The inverse of `shuffled`: (2·H, 2·W, C) -> (H, W, 4·C)."""
    height, width, channels = x.shape
    return np.ascontiguousarray(x.reshape(height // 2, 2, width // 2, 2, channels).transpose(0, 2, 4, 1, 3)).reshape(height // 2, width // 2, 4 * channels)


class _Error:
    """Of features (H/8, W/8, 96), as `models.quality.distortion` has that of planes."""

    def __init__(self, picture: Picture):
        self.source = pictures.features(picture)
        parts = 6 / picture.y.size, 2 / picture.u.size, 2 / picture.v.size
        self.weights = (np.repeat(parts, (64, 16, 16)) * 256**2 / 8).astype(np.float32)

    def __call__(self, features: Array, multiplier: float) -> tuple[float, Array]:
        """The error, and its gradient."""
        difference = features - self.source
        weighted = difference * (self.weights * np.float32(multiplier))
        return float(np.vdot(difference, weighted)), 2 * weighted


class _FromLatent:
    """Values in steps -> what goes through the networks, and detail that passes them by, side by side at twice the resolution."""

    def __init__(self, given: Parameters, name: str, preset: Preset, channels: int):
        n = preset.latent
        self.unstep = given.gains(f"{name}.latent.unstep", n)
        self.layer = given.beside(n, {f"{name}.from_latent.0": 4 * channels, f"{name}.detail.0": 4 * PICTURE})
        self.channels = channels

    def __call__(self, values: Array, rate: int) -> tuple[Array, Array]:
        both = shuffled(self.layer(values * self.unstep[rate]))
        return np.ascontiguousarray(both[..., : self.channels]), both[..., self.channels :]

    def gradient(self, through: Array, detail: Array, rate: int) -> Array:
        """That of the values."""
        return self.layer.gradient(gathered(np.concatenate([through, detail], 2))) * self.unstep[rate]


class Intra:
    """Of keyframes."""

    def __init__(self, given: Parameters, preset: Preset):
        width, c = preset.intra_context, preset.context
        self.begin = _FromLatent(given, "intra", preset, width)
        self.decoder, self.head = Stack(given, "intra.decoder", width, preset.intra_blocks), Stack(given, "intra.head", c, 1)
        self.to_context, self.leave = given.layer("intra.to_context", width, c), given.layer("intra.leave", c, PICTURE)

    def judge(self, picture: Picture, rate: int) -> Judge:
        """Of what is decoded in the place of this picture."""
        error = _Error(picture)

        def judge(values: Array, multiplier: float) -> tuple[float, Callable[[], Array]]:
            x, detail = self.begin(values, rate)
            x, decoder = self.decoder.kept(x, rate)
            x, head = self.head.kept(self.to_context(x), rate)
            found, g = error(self.leave(x) + detail, multiplier)

            def gradient() -> Array:
                x = self.to_context.gradient(self.head.gradient(self.leave.gradient(g), head, rate))
                return self.begin.gradient(self.decoder.gradient(x, decoder, rate), g, rate)

            return found, gradient

        return judge


class Inter:
    """Of P-frames, with the in-loop filter on."""

    def __init__(self, given: Parameters, preset: Preset):
        c = preset.context
        self.begin = _FromLatent(given, "inter", preset, c)
        self.merge, self.channels = given.layer("inter.merge", 2 * c, c), c
        names = {"decoder": preset.decoder_blocks, "filter.stack": preset.filter_blocks, "head": 1}
        self.stacks = [Stack(given, f"inter.{name}", c, count) for name, count in names.items()]
        self.leave = given.beside(c, {"inter.residual": PICTURE, "inter.release": PICTURE})

    def judge(self, picture: Picture, context: Array, reference: Array, rate: int) -> Judge:
        """Of what is decoded in the place of this picture, with the temporal context p and the features of the warped picture."""
        error = _Error(picture)

        def judge(values: Array, multiplier: float) -> tuple[float, Callable[[], Array]]:
            x, detail = self.begin(values, rate)
            x, kept = self.merge(x, context), []
            for stack in self.stacks:
                x, known = stack.kept(x, rate)
                kept.append(known)
            said = self.leave(x)
            release = said[..., PICTURE:]
            found, g = error(said[..., :PICTURE] + detail + reference * (1 - release.clip(0, 1)), multiplier)

            def gradient() -> Array:
                released = np.where((release > 0) & (release < 1), -g * reference, np.float32(0))
                x = self.leave.gradient(g, released)
                for stack, known in zip(reversed(self.stacks), reversed(kept)):
                    x = stack.gradient(x, known, rate)
                return self.begin.gradient(np.ascontiguousarray(self.merge.gradient(x)[..., : self.channels]), g, rate)

            return found, gradient

        return judge
