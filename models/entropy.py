"""The entropy model: Laplace and Bernoulli symbols, their bits in training, their integer tables in a stream.

A symbol is coded with one of a fixed set of integer frequency tables. Which one is chosen by an index that both sides
derive from what is already decoded, so the coder itself knows no floating point. The coder is rANS (Duda 2013) as
implemented by CompressAI; its extension is loaded by file, since importing the package costs seconds.
"""

import importlib.machinery
import importlib.util
import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

SCALES = 64
"""Laplace tables, with scales in a geometric series from SMALLEST to LARGEST."""
SMALLEST, LARGEST = 0.08, 96.0
STEP = math.log(LARGEST / SMALLEST) / (SCALES - 1)
SKIP = 2
"""Symbols with a table index under this are zero and cost nothing: they are not in the stream."""

FLAGS = 64
"""Bernoulli tables, after the Laplace ones, for log-odds of one in steps of FLAG_STEP around zero."""
FLAG_STEP = 0.25

PRECISION = 16


def scale_index(raw: Tensor) -> Tensor:
    """Raw network output (logarithm of the scale) -> table index 0..SCALES-1."""
    return ((raw - math.log(SMALLEST)) / STEP).round().clamp(0, SCALES - 1).int()


def flag_index(logit: Tensor) -> Tensor:
    """Log-odds -> table index SCALES..SCALES+FLAGS-1."""
    return (logit / FLAG_STEP + FLAGS / 2).floor().clamp(0, FLAGS - 1).int() + SCALES


def laplace_bits(x: Tensor, raw: Tensor) -> Tensor:
    """Bits of symbols `x` (integers, or integers plus uniform noise) under a zero-mean Laplace of log-scale `raw`."""
    scale = raw.float().clamp(math.log(SMALLEST), math.log(LARGEST)).exp()
    x, half = x.float().abs(), 0.5 / scale
    tail = -x / scale + half + torch.log(-torch.expm1(-2 * half)) - math.log(2)
    centre = torch.log1p(-(torch.exp(-half) * torch.cosh(torch.minimum(x, x.new_tensor(0.5)) / scale)).clamp(max=1 - 1e-6))
    return torch.where(x < 0.5, centre, tail.clamp(min=-PRECISION * math.log(2))) / -math.log(2)


def flag_bits(flag: Tensor, logit: Tensor) -> Tensor:
    """Bits of binary symbols under log-odds `logit`."""
    bound = FLAGS / 2 * FLAG_STEP
    return torch.nn.functional.binary_cross_entropy_with_logits(
        logit.float().clamp(-bound, bound), flag.float(), reduction="none"
    ) / math.log(2)


def _frequencies(mass: np.ndarray) -> list[int]:
    """Probabilities, the last one the escape's, -> cumulative integer frequencies; none is zero."""
    total = 1 << PRECISION
    counts = np.maximum(np.floor(mass * (total - len(mass))).astype(np.int64) + 1, 1)
    counts[np.argmax(counts)] += total - counts.sum()
    return [0, *np.cumsum(counts).tolist()]


@lru_cache(maxsize=1)
def tables() -> tuple[list[list[int]], list[int], list[int]]:
    """Cumulative frequencies, lengths and first symbols of all tables (SCALES Laplace, then FLAGS Bernoulli)."""
    cumulative, offsets = [], []
    for index in range(SCALES):
        scale = SMALLEST * math.exp(STEP * index)
        reach = min(max(2, math.ceil(scale * 9)), 512)
        x = np.arange(1, reach + 1)
        side = np.exp(-(x - 0.5) / scale) * -np.expm1(-1 / scale) / 2
        centre = -np.expm1(-0.5 / scale)
        escape = max(0.0, 1 - centre - 2 * side.sum())
        cumulative.append(_frequencies(np.concatenate([side[::-1], [centre], side, [escape]])))
        offsets.append(-reach)
    for index in range(FLAGS):
        one = 1 / (1 + math.exp(-(index + 0.5 - FLAGS / 2) * FLAG_STEP))
        cumulative.append(_frequencies(np.array([1 - one, one, 0.0])))
        offsets.append(0)
    return cumulative, [len(table) for table in cumulative], offsets


@lru_cache(maxsize=1)
def _rans():
    """CompressAI's rANS extension."""
    package = importlib.util.find_spec("compressai")
    if package is None:
        raise ImportError("the package compressai is missing; install it with `pip install compressai`")
    finder = importlib.machinery.FileFinder(
        package.submodule_search_locations[0],
        (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    )
    spec = finder.find_spec("ans")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SymbolEncoder:
    """Collects the symbols of one frame, in the order in which they will be decoded, and turns them into bytes."""

    def __init__(self):
        self._symbols: list[np.ndarray] = []
        self._indexes: list[np.ndarray] = []

    def write(self, symbols: Tensor, indexes: Tensor) -> None:
        """Append integer symbols, each with the index of its table; both of any one shape."""
        self._symbols.append(symbols.reshape(-1).to("cpu", torch.int32).numpy())
        self._indexes.append(indexes.reshape(-1).to("cpu", torch.int32).numpy())

    def finish(self) -> bytes:
        symbols, indexes = np.concatenate(self._symbols), np.concatenate(self._indexes)
        return _rans().RansEncoder().encode_with_indexes(symbols.tolist(), indexes.tolist(), *tables())


class SymbolDecoder:
    """Reads the symbols of one frame back, in the order in which they were written."""

    def __init__(self, payload: bytes):
        self._decoder = _rans().RansDecoder()
        self._decoder.set_stream(payload)

    def read(self, indexes: Tensor) -> Tensor:
        """Symbols, as int32 in the shape and on the device of `indexes`."""
        flat = indexes.reshape(-1).to("cpu", torch.int32).tolist()
        symbols = self._decoder.decode_stream(flat, *tables()) if flat else []
        return torch.tensor(symbols, dtype=torch.int32).reshape(indexes.shape).to(indexes.device)
