"""Where time goes: the stages of coding a frame, each timed without those inside it.

Nothing is measured until `start()` is called, as `--profile` does. On CUDA a stage ends when the device has done its work, so that
a profile tells where time is spent, but the whole takes longer.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from time import perf_counter
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass
class Stage:
    """What one stage has taken so far."""

    calls: int = 0
    seconds: float = 0.0


@dataclass
class Profile:
    """All stages by name, in the order in which they were first met. Each thread goes through stages of its own."""

    stages: dict[str, Stage] = field(default_factory=dict)
    _thread: threading.local = field(default_factory=threading.local)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is done inside, less the stages inside it."""
        inner: list[float] = self._thread.__dict__.setdefault("inner", [])  # seconds spent in stages inside, for every open one
        names: list[str] = self._thread.__dict__.setdefault("names", [])
        if names and names[-1] == name:  # two forms of one function, of which one calls the other
            yield
            return
        _wait()
        begin = perf_counter()
        inner.append(0.0)
        names.append(name)
        try:
            yield
        finally:
            names.pop()
            _wait()
            took = perf_counter() - begin
            mine = took - inner.pop()
            if inner:
                inner[-1] += took
            with self._lock:
                stage = self.stages.setdefault(name, Stage())
                stage.calls += 1
                stage.seconds += mine


_profile: Profile | None = None


def start() -> Profile:
    """Measure from now on."""
    global _profile
    _profile = Profile()
    return _profile


def stop() -> None:
    """Measure no more."""
    global _profile
    _profile = None


def staged(name: str) -> Callable[[Callable[Parameters, Result]], Callable[Parameters, Result]]:
    """Mark a function as a stage."""

    def mark(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
        @wraps(function)
        def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
            if _profile is None:
                return function(*args, **kwargs)
            with _profile.stage(name):
                return function(*args, **kwargs)

        return call

    return mark


def _wait() -> None:
    torch = sys.modules.get("torch")  # reading and writing need none of it
    if torch is not None and torch.cuda.is_initialized() and not torch.cuda.is_current_stream_capturing():
        torch.cuda.synchronize()
