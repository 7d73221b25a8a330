"""The encoder: frames in, packets out. All choices are made here; the networks only carry them out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from models.cycle import KEYFRAME, rate_point
from models.entropy import SymbolEncoder
from models.kernels.threads import beside
from models.presets import lagrangian
from models.vectors import REFERENCES
from models.weights import DecoderModel, EncoderModel, Model
from nvc_cli.arrays import EncodingInLoops
from nvc_cli.cuts import Lookout
from nvc_cli.decision import Decision, LookAhead, Moment
from nvc_cli.effort import EFFORTS, Effort
from nvc_cli.frame import Frame
from nvc_cli.rate import RateControl
from nvc_cli.runtime import ready_encoder
from nvc_cli.stream import Packet, picture_checksum
from nvc_cli.trial import Trial

if TYPE_CHECKING:
    import av
    import numpy as np
    import torch

MAX_QP = 7


@dataclass(frozen=True)
class Encoded:
    """One frame: what goes into the stream, and what every decoder makes of it."""

    packet: Packet
    picture: Frame
    moment: Moment | None = None  # what was known of its filter's flag, where both were tried


@dataclass(frozen=True, eq=False)
class _Coded:
    """One frame that may still turn out another way."""

    frame: Frame
    source: Any  # as the networks take it
    state: Any  # which the networks know
    rate: int
    keyframe: bool
    filtered: bool
    payload: bytes
    moment: Moment | None = None


@dataclass(frozen=True)
class _Way:
    """One way to have coded the frames so far."""

    state: Any
    cost: float = 0.0  # bits + λ·error, where ways differ
    open: tuple[_Coded, ...] = ()  # frames not given out yet

    def then(self, coded: _Coded, cost: float) -> _Way:
        return _Way(coded.state, self.cost + cost, (*self.open, coded))


class Encoder:
    """Turns frames into packets, for a StreamWriter whose header is `Header.of(info, encoder.model)`.

    Args:
        model: a model of the package, a .safetensors file, or what `models.weights.load` or `load_encoder` returns.
        qp: 0 (best picture) to 7 (smallest file), in steps of 1/8; or what finds the rate point of each frame, such as `OnePass`,
            which must then be told by `took` what frames took.
        keyint: largest distance of keyframes; 0: no limit.
        decision: when the in-loop filter is on: True, False, or how to find out; None: as the effort says.
        device: where a model that is given by name is to be, cpu, cuda or one of PyTorch's devices; by default on a CUDA device if there is one.
        effort: how long to think, a name among `EFFORTS` or another `Effort`.
        scenecut: keyframes at scene cuts, too.

    Raises:
        NvcError: there is no such model, or it was loaded to decode only.
        ValueError: the quality is out of range.
    """

    def __init__(
        self, model: Model | DecoderModel | str = "tiny", qp: float | RateControl = 3.0, keyint: int = 256, decision: Decision | None = None,
        device: torch.device | str | None = None, effort: Effort | str = "medium", scenecut: bool = False,
    ):  # fmt: skip
        self.model = ready_encoder(model, device)
        self.networks = _networks(self.model)
        self.control: RateControl | None = None if isinstance(qp, int | float) else qp
        self.base = round(qp * 8) if isinstance(qp, int | float) else 0
        if not 0 <= self.base <= 8 * MAX_QP:
            raise ValueError(f"a quality of {qp} is not one from 0 to {MAX_QP}")
        effort = EFFORTS[effort] if isinstance(effort, str) else effort
        self.keyint, self.decision = keyint, effort.decision if decision is None else decision
        self.search = self.networks.search(effort)
        self.lookout = Lookout() if scenecut or self.control else None
        self.scenecut, self.effort = scenecut, effort
        self.size: tuple[int, ...] | None = None  # of pictures: rows, columns
        self.waiting: list[tuple[Frame, Any]] = []  # frames and their sources, until it is known how good their keyframe is to be
        self.keyframe = KEYFRAME  # its offset in the quality cycle
        self.hasty: Any = None  # what trials of keyframes search by
        self.since = 0  # frames since the keyframe
        self.rates: list[int] = []  # of these frames, the newest first
        self.ways: list[_Way] = []
        self.last: _Coded | None = None  # the frame that was given out last
        self.trusted = 0  # pictures on which the enhancer need not be tried

    def encode(self, picture: Frame | np.ndarray[Any, Any] | av.VideoFrame) -> list[Encoded]:
        """Encode the next frame in order of display; returns the frames that are decided on, which may be none, or several. After the last one comes `finish`.

        Raises:
            ValueError: it is none of what `Frame.of` takes, or of another size than the one before.
        """
        frame = Frame.of(picture)
        self.size = self.size or frame.y.shape
        if frame.y.shape != self.size:
            raise ValueError(f"a picture of {frame.y.shape[1]}x{frame.y.shape[0]} cannot follow those of {self.size[1]}x{self.size[0]}; take another encoder for it")
        source, done = self.networks.source(frame), []
        glance = self.lookout(frame.y) if self.lookout else None
        cut = glance is not None and self.scenecut and glance.cut
        if (self.keyint and self.since + len(self.waiting) >= self.keyint) or cut:
            done = self.finish()
        if not self.ways:
            self.since, self.rates = 0, []
        if self.control and glance:
            self.base = self.control.base(self.since, glance)
        trial = None if self.control or self.ways else self.effort.trial
        if not trial or len(trial.open(self.base)) == 1:
            return done + self._code(frame, source)
        self.waiting.append((frame, source))
        return done + (self._begin(trial, False) if len(self.waiting) == trial.frames else [])

    def _begin(self, trial: Trial, ended: bool) -> list[Encoded]:
        """Encode what waits for its keyframe."""
        waiting, self.waiting = self.waiting, []
        self.keyframe = trial(waiting, self.base, ended, self._candidate)
        return [encoded for frame, source in waiting for encoded in self._code(frame, source)]

    def _candidate(self, offset: int) -> Encoder:
        """A hasty encoder for a trial of keyframes."""
        candidate = Encoder(self.model, self.base / 8, 0, effort="fast")
        candidate.keyframe, candidate.trusted = offset, 1 << 16  # nobody looks at its flags
        candidate.search = self.hasty = self.hasty or candidate.search
        return candidate

    def _code(self, frame: Frame, source: Any) -> list[Encoded]:
        """Encode a frame at last; returns the frames that are decided on."""
        self.ways = self._follow(frame, source) if self.ways else [self._keyframe(frame, source)]
        self.since += 1
        self.rates = [self.ways[0].open[-1].rate, *self.rates[: REFERENCES - 1]]
        return self._decided()

    def encode_all(self, pictures: Iterable[Frame | np.ndarray[Any, Any] | av.VideoFrame]) -> Iterator[Encoded]:
        """Encode the frames that are left of a clip, and finish."""
        for picture in pictures:
            yield from self.encode(picture)
        yield from self.finish()

    def finish(self) -> list[Encoded]:
        """The frames that are still open; what comes next is a keyframe."""
        done = self._begin(self.effort.trial, True) if self.waiting and self.effort.trial else []
        if not self.ways:
            return done
        left = _cheapest(self.ways).open
        self.ways = []
        return done + [self._packed(coded) for coded in left]

    def took(self, size: int) -> None:
        """Tell the rate control what the next frame that was given out took in the stream, in bytes."""
        if self.control:
            self.control.took(8 * size)

    @property
    def state(self) -> Any:
        """The decoder's state after the last frame, on the way that is the cheapest so far."""
        return _cheapest(self.ways).state

    def error(self, source: Any) -> float:
        """How far the picture of that state is from its source."""
        return self.networks.error(self.state, source)

    def _keyframe(self, frame: Frame, source: Any) -> _Way:
        rate, coder = rate_point(self.base, 0, keyframe=self.keyframe), SymbolEncoder()
        state = self.networks.keyframe(source, rate, coder, self.effort.refinement(0))
        return _Way(state).then(_Coded(frame, source, state, rate, True, False, coder.finish()), 0.0)

    def _follow(self, frame: Frame, source: Any) -> list[_Way]:
        """All ways worth following, one P-frame on."""
        ways = [longer for way in self.ways for longer in self._continue(way, frame, source)]
        if not isinstance(self.decision, LookAhead):
            return ways
        ends = [[way for way in ways if way.open[-1].filtered == filtered] for filtered in (False, True)]
        return [_cheapest(end) for end in ends]

    def _continue(self, way: _Way, frame: Frame, source: Any) -> list[_Way]:
        """A way with one more P-frame: with the flag that is decided on, or with both."""
        rate, coder, decision = rate_point(self.base, self.since), SymbolEncoder(), self.decision
        last = way.open[-1] if way.open else self.last
        older = sorted(range(1, min(len(self.rates), self.effort.references)), key=lambda age: (self.rates[age], age))[: self.effort.older]
        unfiltered = self.networks.frame(self.search, source, way.state, rate, older, coder, self.effort.refinement(self.since))
        written = beside(coder.finish)
        if isinstance(decision, bool):
            state = self.networks.finish(unfiltered, decision)
            return [way.then(_Coded(frame, source, state, rate, False, decision, written()), 0.0)]
        states, payload = [self.networks.finish(unfiltered, flag) for flag in (False, True)], written()
        off, on = errors = [self.networks.error(state, source) for state in states]
        moment = Moment(off, on, self.since, self.base, last is not None and last.filtered)
        coded = [_Coded(frame, source, state, rate, False, bool(flag), payload, moment) for flag, state in enumerate(states)]
        if not isinstance(decision, LookAhead):
            return [way.then(coded[decision(moment)], 0.0)]
        weight = lagrangian(float(rate)) * frame.coded_samples
        return [way.then(c, 8 * len(payload) + weight * error) for c, error in zip(coded, errors)]

    def _decided(self) -> list[Encoded]:
        """Frames on which all ways agree, or that have been open for long enough."""
        done, patience = [], self.decision.frames if isinstance(self.decision, LookAhead) else 0
        while first := self.ways[0].open[:1]:
            if any(way.open[0] is not first[0] for way in self.ways):
                if len(self.ways[0].open) <= patience:
                    break
                chosen = _cheapest(self.ways).open[0]
                self.ways = [way for way in self.ways if way.open[0] is chosen]
            done.append(self._packed(self.ways[0].open[0]))
            self.ways = [_Way(way.state, way.cost, way.open[1:]) for way in self.ways]
        return done

    def _packed(self, coded: _Coded) -> Encoded:
        height, width = coded.frame.y.shape
        picture = replace(self.networks.shown(coded.state, width, height), time=coded.frame.time)
        packet = Packet(
            keyframe=coded.keyframe,
            rate=coded.rate,
            filtered=coded.filtered,
            refresh=False,
            enhance_last=self._enhance(coded),
            payload=coded.payload,
            checksum=picture_checksum(picture),
            time=coded.frame.time,
        )
        self.last = coded
        return Encoded(packet, picture, coded.moment)

    def _enhance(self, following: _Coded) -> bool:
        """Whether the out-of-loop filter, which knows the following picture, is to be used on the last one."""
        if self.last is None:
            return False
        if following.keyframe:
            self.trusted = 0
            if self.effort.refining or following.rate != rate_point(self.base, 0):
                return self.helps_before(following.frame)
            return self._enhancer_helps(self.last, following.state, following.rate)
        if self.trusted:
            self.trusted -= 1
            return True
        helps = self._enhancer_helps(self.last, following.state, following.rate)
        self.trusted = self.effort.trust if helps else 0
        return helps

    def helps_before(self, keyframe: Frame) -> bool:
        """Whether the out-of-loop filter is to be used on the last frame that was given out, if this one comes next as a keyframe.

        It is judged by a keyframe as it comes without trial or refinement, so that it can be told without the frames that follow it.
        """
        if self.last is None:
            return False
        rate = rate_point(self.base, 0)
        state = self.networks.keyframe(self.networks.source(keyframe), rate, SymbolEncoder(), None)
        return self._enhancer_helps(self.last, state, rate)

    def _enhancer_helps(self, coded: _Coded, following: Any, rate: int) -> bool:
        """Whether it brings a picture closer to its source; `following` is the next state, `rate` the next one's."""
        return self.networks.enhanced_error(coded.state, coded.rate, following, rate, coded.source) < self.networks.error(coded.state, coded.source)


def _cheapest(ways: list[_Way]) -> _Way:
    return min(ways, key=lambda way: way.cost)


def _networks(model: Model | EncoderModel) -> Any:
    """What encodes with a model; sources, states and searches are for that to know."""
    if isinstance(model, EncoderModel):
        return EncodingInLoops(model.codec)
    from nvc_cli.tensors import EncodingInTorch

    return EncodingInTorch(model.codec, next(model.codec.parameters()).device)
