"""Work for all cores: compiled loops let other threads run."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_count: int | None = None


def use_threads(count: int) -> None:
    """So many from now on, in PyTorch too where it is loaded."""
    global _count
    _count = count
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def threads() -> int:
    """How many are in use: as many as PyTorch has where it is loaded, else what was said, or one for every core."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        count: int = torch.get_num_threads()
        return count
    return _count or cores()


@lru_cache(maxsize=1)
def cores() -> int:
    """Those that this process may use; logical ones that share what computes count as one."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    try:
        return len({Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text() for cpu in allowed})
    except OSError:
        return len(allowed)


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "nvc-kernels")


def spread(count: int, part: Callable[[int, int], object], least: int = 1) -> None:
    """Call `part` with the first and last of a range of `count` items, in as many threads as are in use, for no fewer than `least` at a time."""
    parts = max(1, min(threads(), count // least))
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
    if threads() == 1:
        done = work()
        return lambda: done
    return _pool().submit(work).result
