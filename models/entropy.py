"""The entropy coder: Laplace and Bernoulli symbols by integer tables.

A symbol is coded with one of a fixed set of integer frequency tables. Which one is chosen by an index that both sides
derive from what is already decoded, so the coder itself knows no floating point. The coder is rANS (Duda 2013) as
implemented by CompressAI, whose own encoder, where it is installed, writes the same bytes when NVC_BACKEND asks for the plain forms; its
extension is loaded by file, since importing the package costs seconds. The loops here read arrays instead of lists, 15 times as fast,
and mix with what tells the tables of the symbols that follow.
"""

import importlib.machinery
import importlib.util
import os
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, Union

import numpy as np

from models.kernels import coding
from models.stages import staged
from models.tables import BYTES, load

if TYPE_CHECKING:
    from torch import Tensor

Integers = Union["Tensor", np.ndarray]

TOO_MANY = "the payload holds more symbols than a picture of this size can have"

LOWEST = 1 << 31
"""The state of the coder before the first symbol is written, and after the last one is read."""


def integers(values: Integers) -> np.ndarray:
    """Any integers as a flat array of int32 on the processor."""
    if isinstance(values, np.ndarray):
        return values.reshape(-1).astype(np.int32, copy=False)
    return values.reshape(-1).cpu().int().numpy()


def _check(indexes: np.ndarray) -> None:
    """Refuse what names no table: the coder itself would read out of bounds."""
    if len(indexes) and indexes.view(np.uint32).max() > BYTES:
        raise ValueError("a symbol has no table of frequencies")


class SymbolSink(Protocol):
    """What the networks write symbols to: a `SymbolEncoder`, or nothing at all."""

    def write(self, symbols: Integers, indexes: Integers) -> None: ...


class SymbolEncoder:
    """Collects the symbols of one frame, in the order in which they will be decoded, and turns them into bytes."""

    def __init__(self) -> None:
        self._groups: list[tuple[np.ndarray, np.ndarray]] = []

    def write(self, symbols: Integers, indexes: Integers) -> None:
        """Append integer symbols of 16 bits, each with the index of its table; both of any one shape.

        Raises:
            ValueError: a symbol or an index is out of range, as when networks do not give numbers.
        """
        values, index = np.ascontiguousarray(integers(symbols)), np.ascontiguousarray(integers(indexes))
        _check(index)
        if len(values) and not -(1 << 15) <= values.min() <= values.max() < 1 << 15:
            raise ValueError("a symbol does not fit 16 bits")
        self._groups.append((values, index))

    @staged("entropy coding")
    def finish(self) -> bytes:
        """The payload. A frame has at least the symbols of z, which is more than the coder's smallest safe input of four."""
        if os.environ.get("NVC_BACKEND") == "float32" and (plain := compressai_coder()):
            return plain_payload(self._groups, plain)
        tables, state = load(), np.array([LOWEST], np.uint64)
        words = np.empty(sum(len(values) for values, _ in self._groups) + 2, np.uint32)  # a symbol takes up to 16 bits, its escape as many
        first = len(words)
        for values, index in reversed(self._groups):
            first = coding.write_symbols(state, first, words, tables.flat, tables.begins, tables.reaches, values, index)
        return state.astype("<u8").tobytes() + words[first:].astype("<u4").tobytes()


def plain_payload(groups: Sequence[tuple[np.ndarray, np.ndarray]], plain: ModuleType) -> bytes:
    """The same payload by CompressAI's coder, which takes lists: groups of symbols and indexes (n,) int32."""
    tables, everything, every_index = load(), [], []
    for values, index in groups:
        reach = tables.reaches[index]
        escaped = np.abs(values) > reach
        extra = np.ascontiguousarray(values[escaped], "<i2").view(np.uint8)
        everything += [np.where(escaped, reach + 1, values), extra.astype(np.int32)]
        every_index += [index, np.full(len(extra), BYTES, np.int32)]
    symbols, indexes = (np.concatenate(arrays).tolist() for arrays in (everything, every_index))
    return plain.RansEncoder().encode_with_indexes(symbols, indexes, tables.cumulative, tables.lengths, tables.offsets)


@lru_cache(maxsize=1)
def compressai_coder() -> ModuleType | None:
    """CompressAI's rANS extension; None where it is not installed, as with versions of Python that it does not know."""
    package = importlib.util.find_spec("compressai")
    if package is None or not package.submodule_search_locations:
        return None
    finder = importlib.machinery.FileFinder(
        package.submodule_search_locations[0],
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    )
    spec = finder.find_spec("ans")
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SymbolDecoder:
    """Reads the symbols of one frame back, in the order in which they were written.

    Args:
        payload: from `SymbolEncoder.finish`.
        most: no more symbols than this are ever read, the bytes of escapes not counted; of these there are at most as
            many as the payload has bytes. Zeros follow the payload: damage gives wrong symbols, which `finish` mostly finds, never a read out of bounds.

    Raises:
        ValueError: no payload begins like this one.
    """

    def __init__(self, payload: bytes, most: int):
        state = int.from_bytes(payload[:8], "little")
        if len(payload) < 8 or not LOWEST <= state < 1 << 63:
            raise ValueError("the payload does not begin with a valid state of the entropy coder")
        self._state = np.array([state], np.uint64)
        self._place = np.array([0, most + len(payload)])  # the next word, and how many symbols are still allowed
        self._words = np.frombuffer(payload[8:] + bytes(-len(payload) % 4), "<u4").astype(np.uint32)

    @property
    def source(self) -> tuple[np.ndarray, ...]:
        """What compiled loops read from (`models/kernels/coding.py`)."""
        tables = load()
        return self._state, self._place, self._words, tables.flat, tables.begins, tables.buckets, tables.reaches

    @staged("entropy coding")
    def take(self, indexes: np.ndarray) -> np.ndarray:
        """Symbols, as int32 in the shape of `indexes`.

        Raises:
            ValueError: more symbols than a frame can have, or an index is out of range, as when networks do not give numbers.
        """
        index = np.ascontiguousarray(integers(indexes))
        _check(index)
        symbols = np.empty(len(index), np.int32)
        if not coding.read_symbols(*self.source, index, symbols):
            raise ValueError(TOO_MANY)
        return symbols.reshape(indexes.shape)

    def finish(self) -> None:
        """Check that all has been read, and the coder is back where the encoder began: damage that gave wrong symbols seldom ends so.

        Raises:
            ValueError: it is not so.
        """
        if self._state[0] != LOWEST or self._place[0] != len(self._words):
            raise ValueError("the payload does not end with its last symbol")
