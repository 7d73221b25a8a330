"""Work for all cores: compiled loops let other threads run."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from typing import TypeVar

import torch

Result = TypeVar("Result")


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "nvc-kernels")


def spread(count: int, part: Callable[[int, int], object], least: int = 1) -> None:
    """Call `part` with the first and last of a range of `count` items, in as many threads as PyTorch uses, for no fewer than `least` at a time."""
    parts = max(1, min(torch.get_num_threads(), count // least))
    if parts == 1:
        part(0, count)
        return
    ends = [count * k // parts for k in range(parts + 1)]
    others = [_pool().submit(part, first, last) for first, last in zip(ends[1:], ends[2:])]
    part(0, ends[1])
    wait(others)
    for other in others:
        other.result()  # raises its error


def beside(work: Callable[[], Result]) -> Callable[[], Result]:
    """Begin what another core can do; the result comes when it is asked for, or its error."""
    if torch.get_num_threads() == 1:
        done = work()
        return lambda: done
    return _pool().submit(work).result
