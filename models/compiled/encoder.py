"""The encoder's side of the codec on a processor: what a frame turns into. `models/codec.py` has the same in PyTorch."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from models.arrays import Array
from models.compiled import analysis, layers, pictures, synthesis
from models.compiled.codec import Codec, State, Unfiltered
from models.compiled.enhancer import Enhancer
from models.compiled.networks import Refine
from models.compiled.pictures import Picture
from models.compiled.rough import Parameters
from models.compiled.search import Search
from models.compiled.synthesis import Judge
from models.entropy import SymbolSink
from models.presets import Preset
from models.refinement import Refinement
from models.stages import staged
from models.steps import CodedStep


class EncoderCodec(Codec):
    """All networks of an encoder: those of a decoder, and the ones whose results need not be exact.

    Args:
        preset: their sizes.
        integers: all that a decoder computes with, by layer and name.
        parameters: all parameters, by name.

    Raises:
        Misfit: these are not what such networks have.
        RangeError: sums of a layer could leave the range in which they are exact.
    """

    def __init__(self, preset: Preset, integers: Mapping[str, Array], parameters: Mapping[str, Array]):
        super().__init__(preset, integers)
        self.integers, given = integers, Parameters(parameters)
        self.analyse_keyframe, self.analyse = analysis.Intra(given, preset), analysis.Inter(given, preset)
        self.hyper_keyframe, self.hyper = (analysis.Hyper(given, f"{name}.latent", preset) for name in ("intra", "inter"))
        self.enhancer = Enhancer(given, preset)

    @cached_property
    def judges(self) -> tuple[synthesis.Intra, synthesis.Inter]:
        """What tells errors of keyframes and of P-frames, and their gradients, which go through what a decoder computes with."""
        given = Parameters(layers.parameters(self.integers))
        return synthesis.Intra(given, self.preset), synthesis.Inter(given, self.preset)

    def encode_keyframe(self, picture: Picture, rate: int, coder: SymbolSink, refinement: Refinement | None = None) -> State:
        """Write a keyframe; returns the decoder's state after it."""
        y = self.analyse_keyframe(pictures.features(picture), rate)
        refine = self._refine(refinement, picture, rate, self.judges[0].judge(picture, rate)) if refinement else None
        return self.keyframe(self.intra.latent.encode(y, self.hyper_keyframe(y, rate), None, rate, coder, refine), rate)

    @staged("motion search")
    def search(self, search: Search, picture: Picture, state: State, rate: int, older: Sequence[int] | None = None) -> tuple[Array, list[CodedStep]]:
        """Vectors for a P-frame, found by `search`, also in pictures of the ages `older`, by default in all; and the steps of coding them, where it has been through these."""
        known: list[CodedStep] = []

        def priced(field: Array) -> Iterator[CodedStep]:
            for step in self.motion.coded_steps(field, state.vectors, state.context, rate):
                known.append(step)
                yield step

        return search(picture.y, [past.luma for past in state.pictures], state.vectors, rate, priced, older), known

    def encode_frame(
        self, picture: Picture, state: State, rate: int, vectors: Array, refresh: bool, coder: SymbolSink, steps: Sequence[CodedStep] = (),
        refinement: Refinement | None = None,
    ) -> Unfiltered:  # fmt: skip
        """Write a P-frame with the given vectors, whose steps may be known; what remains to decide is the filter. Refinement takes it to be on."""
        self.motion.encode(vectors, state.vectors, state.context, rate, coder, steps)
        reference, context = self.predict(state, rate, vectors, refresh)
        y = self.analyse(pictures.features(picture), reference, context, rate)
        refine = self._refine(refinement, picture, rate, self.judges[1].judge(picture, context, reference, rate)) if refinement else None
        latent = self.inter.latent.encode(y, self.hyper(y, rate), context, rate, coder, refine)
        return self.unfiltered(state, latent, reference, context, vectors, rate)

    @staticmethod
    def _refine(refinement: Refinement, picture: Picture, rate: int, judge: Judge) -> Refine:
        """What refines the symbols of a frame."""
        return lambda symbols, means, tables: refinement(symbols, means, tables, rate, picture.y.size, judge)
