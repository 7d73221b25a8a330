"""Work for all cores: compiled loops let other threads run."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache

import torch


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "nvc-kernels")


def spread(count: int, part: Callable[[int, int], object], least: int = 1) -> None:
    """Call `part` with the first and last of a range of `count` items, in as many threads as PyTorch uses, for no fewer than `least` at a time."""
    parts = max(1, min(torch.get_num_threads(), count // least))
    ends = [count * k // parts for k in range(parts + 1)]
    others = [_pool().submit(part, first, last) for first, last in zip(ends[1:], ends[2:])]
    part(0, ends[1])
    together(others)


def together(futures: list) -> None:
    """Wait for what runs beside; errors are raised here."""
    wait(futures)
    for future in futures:
        future.result()
