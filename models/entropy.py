"""The entropy model: Laplace and Bernoulli symbols, their bits in training, their integer tables in a stream.

A symbol is coded with one of a fixed set of integer frequency tables. Which one is chosen by an index that both sides
derive from what is already decoded, so the coder itself knows no floating point. The coder is rANS (Duda 2013) as
implemented by CompressAI; its extension is loaded by file, since importing the package costs seconds. The coders of
constriction were measured beside it: as small, and they decode 50,000 symbols in 2 to 3 ms instead of 5 to 6, but they
take probabilities as floating point, and tables of integers are what a stream needs to mean the same everywhere.
"""

import importlib.machinery
import importlib.util
import math
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from models.arrays import Values, whole
from models.fusion import fused
from models.kernels import usable
from models.stages import staged
from models.tables import BYTES, FIRST, FLAG_STEP, FLAGS, LAST, PRECISION, SCALES, STEP, load

TOO_MANY = "the payload holds more symbols than a picture of this size can have"

SKIP = 2
"""Symbols with a table index under this are zero and cost nothing: they are not in the stream."""


def scale_index(raw: Values) -> Values:
    """Raw network output (logarithm of the scale) -> table index 0..SCALES-1."""
    return whole(((raw - FIRST) / STEP).round().clip(0, SCALES - 1))


def flag_index(logit: Values) -> Values:
    """Log-odds -> table index SCALES..SCALES+FLAGS-1."""
    return whole(((logit / FLAG_STEP + FLAGS / 2) // 1).clip(0, FLAGS - 1)) + SCALES


@fused
def laplace_bits(x: Tensor, raw: Tensor) -> Tensor:
    """Bits of symbols `x` (integers, or integers plus uniform noise) under a zero-mean Laplace of log-scale `raw`."""
    scale = raw.float().clamp(FIRST, LAST).exp()
    x, half = x.float().abs(), 0.5 / scale
    tail = -x / scale + half + torch.log(-torch.expm1(-2 * half)) - math.log(2)
    centre = torch.log1p(-(torch.exp(-half) * torch.cosh(x.clamp(max=0.5) / scale)).clamp(max=1 - 1e-6))
    return torch.where(x < 0.5, centre, tail.clamp(min=-PRECISION * math.log(2))) / -math.log(2)


def flag_bits(flag: Tensor, logit: Tensor) -> Tensor:
    """Bits of binary symbols under log-odds `logit`."""
    bound = FLAGS / 2 * FLAG_STEP
    flags, logits = torch.broadcast_tensors(flag.float(), logit.float().clamp(-bound, bound))
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, flags, reduction="none") / math.log(2)


@lru_cache(maxsize=1)
def _rans() -> ModuleType:
    """CompressAI's rANS extension."""
    package = importlib.util.find_spec("compressai")
    if package is None or not package.submodule_search_locations:
        raise ImportError("the package compressai is missing; install it with `pip install compressai`")
    finder = importlib.machinery.FileFinder(
        package.submodule_search_locations[0],
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    )
    spec = finder.find_spec("ans")
    if spec is None or spec.loader is None:
        raise ImportError("the package compressai has no entropy coder for this Python; install it again with `pip install compressai`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def integers(values: Tensor | np.ndarray) -> np.ndarray:
    """Any integers as a flat array of int32 on the processor."""
    if isinstance(values, Tensor):
        return values.reshape(-1).to("cpu", torch.int32).numpy()
    return values.reshape(-1).astype(np.int32, copy=False)


def _check(indexes: np.ndarray) -> None:
    """Refuse what names no table: the coder itself would read out of bounds."""
    if len(indexes) and indexes.view(np.uint32).max() > BYTES:
        raise ValueError("a symbol has no table of frequencies")


@dataclass(frozen=True)
class _Asked:
    """Those tables only that indexes name: the coder copies all that it is given at every call."""

    names: list[int]  # ascending
    places: np.ndarray  # uint8, for each symbol, among the names

    @classmethod
    def of(cls, indexes: np.ndarray) -> "_Asked":
        names = np.bincount(indexes).nonzero()[0]
        place = np.zeros(BYTES + 1, np.uint8)
        place[names] = np.arange(len(names))
        return cls(names.tolist(), place[indexes])

    def tables(self) -> tuple[list[int], list[list[int]], list[int], list[int]]:
        """As the coder takes them: which one each symbol has, cumulative frequencies, their counts, and the smallest symbols."""
        tables = load()
        return (
            list(self.places.tobytes()),
            [tables.cumulative[name] for name in self.names],
            [tables.lengths[name] for name in self.names],
            [tables.offsets[name] for name in self.names],
        )


class SymbolSink(Protocol):
    """What the networks write symbols to: a `SymbolEncoder`, or nothing at all."""

    def write(self, symbols: Tensor | np.ndarray, indexes: Tensor | np.ndarray) -> None: ...


class SymbolSource(Protocol):
    """What the networks read symbols from: a `SymbolDecoder`, or zeros."""

    def take(self, indexes: np.ndarray) -> np.ndarray: ...

    def read(self, indexes: Tensor) -> Tensor: ...


class SymbolEncoder:
    """Collects the symbols of one frame, in the order in which they will be decoded, and turns them into bytes."""

    def __init__(self) -> None:
        self._symbols: list[np.ndarray] = []
        self._indexes: list[np.ndarray] = []

    def write(self, symbols: Tensor | np.ndarray, indexes: Tensor | np.ndarray) -> None:
        """Append integer symbols of 16 bits, each with the index of its table; both of any one shape.

        Raises:
            ValueError: a symbol or an index is out of range, as when networks do not give numbers.
        """
        values, index = integers(symbols), integers(indexes)
        _check(index)
        if len(values) and not -(1 << 15) <= values.min() <= values.max() < 1 << 15:
            raise ValueError("a symbol does not fit 16 bits")
        reach = load().reaches[index]
        escaped = np.abs(values) > reach
        self._append(np.where(escaped, reach + 1, values), index)
        if escaped.any():
            extra = np.ascontiguousarray(values[escaped], "<i2").view(np.uint8)
            self._append(extra.astype(np.int32), np.full(len(extra), BYTES, np.int32))

    def _append(self, symbols: np.ndarray, indexes: np.ndarray) -> None:
        self._symbols.append(symbols)
        self._indexes.append(indexes)

    @staged("entropy coding")
    def finish(self) -> bytes:
        """The payload. A frame has at least the symbols of z, which is more than the coder's smallest safe input of four."""
        symbols, indexes = np.concatenate(self._symbols), np.concatenate(self._indexes)
        if usable():
            from models.kernels.coding import write_symbols

            tables = load()
            words = np.empty(len(symbols) + 2, np.uint32)  # each takes 16 bits at most
            first = write_symbols(symbols - tables.smallest[indexes], indexes, *tables.arrays[:2], words)
            return words[first:].astype("<u4").tobytes()
        return _rans().RansEncoder().encode_with_indexes(symbols.tolist(), *_Asked.of(indexes).tables())


@dataclass(frozen=True)
class Source:
    """What compiled loops read symbols from (`models/kernels/reading.py`)."""

    state: np.ndarray  # (1,) uint64, the coder's
    place: np.ndarray  # (2,) int64: the next word, and how many symbols are still allowed
    words: np.ndarray  # uint32, the payload after the first state

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        """As they take them, with the tables."""
        tables = load()
        return self.state, self.place, self.words, *tables.arrays, tables.reaches


class SymbolDecoder:
    """Reads the symbols of one frame back, in the order in which they were written.

    Args:
        payload: from `SymbolEncoder.finish`.
        most: no more symbols than this are ever read, the bytes of escapes not counted; of these there are at most as
            many as the payload has bytes. The coder takes up to 16 bits a symbol and knows no end, so that many zeros
            are put behind the payload: damage gives wrong symbols, never a read out of bounds.

    Raises:
        ValueError: no payload begins like this one.
    """

    def __init__(self, payload: bytes, most: int):
        state = int.from_bytes(payload[:8], "little")
        if len(payload) < 8 or not 1 << 31 <= state < 1 << 63:
            raise ValueError("the payload does not begin with a valid state of the entropy coder")
        self.source: Source | None = None
        self._left = most + len(payload)
        if usable():
            words = np.frombuffer(payload[8:] + bytes(-len(payload) % 4), "<u4").astype(np.uint32)
            self.source = Source(np.array([state], np.uint64), np.array([0, self._left]), words)
        else:
            self._decoder = _rans().RansDecoder()
            self._decoder.set_stream(payload + bytes(2 * self._left + 16))

    def take(self, indexes: np.ndarray) -> np.ndarray:
        """Symbols, as int32 in the shape of `indexes`.

        Raises:
            ValueError: more symbols than a frame can have, or an index is out of range, as when networks do not give numbers.
        """
        index = integers(indexes)
        _check(index)
        if not len(index):
            return np.zeros(indexes.shape, np.int32)
        if self.source:
            return self._read(self.source, index).reshape(indexes.shape)
        asked = _Asked.of(index)
        found = self._next(asked)
        if asked.names[0] >= SCALES:  # flags and bytes are as they are
            return found.astype(np.int32).reshape(indexes.shape)
        reach = load().reaches[asked.names].astype(found.dtype)[asked.places]
        symbols = np.subtract(found, reach, dtype=np.int32)
        escaped = symbols > reach
        if escaped.any():
            extra = self._next(_Asked.of(np.full(2 * int(escaped.sum()), BYTES, np.int32)))
            symbols[escaped] = extra.astype(np.uint8).view("<i2")
        return symbols.reshape(indexes.shape)

    def read(self, indexes: Tensor) -> Tensor:
        """`take` for a tensor; symbols are where it is."""
        return torch.from_numpy(self.take(indexes.to("cpu", torch.int32).numpy())).to(indexes.device)

    @staged("entropy coding")
    def _read(self, source: "Source", indexes: np.ndarray) -> np.ndarray:
        """By a compiled loop."""
        from models.kernels.coding import read_symbols

        found = np.empty(len(indexes), np.int32)
        if not read_symbols(*source.arrays, np.ascontiguousarray(indexes), found):
            raise ValueError(TOO_MANY)
        return found

    @staged("entropy coding")
    def _next(self, asked: _Asked) -> np.ndarray:
        """Symbols, counted from the smallest one of their table."""
        self._left -= len(asked.places)
        if self._left < 0:
            raise ValueError(TOO_MANY)
        places, cumulative, lengths, _ = asked.tables()
        symbols = self._decoder.decode_stream(places, cumulative, lengths, [0] * len(lengths))
        # None is negative, and most fit bytes: lists become arrays fastest that way.
        return np.frombuffer(bytes(symbols), np.uint8) if max(lengths) <= 256 else np.array(symbols, np.int32)
