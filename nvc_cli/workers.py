"""Processes that work on segments of a video, and a folder where frames wait for them or for their turn."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nvc_cli.errors import NvcError
from nvc_cli.runtime import load_decoder, load_encoder

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    from models.weights import DecoderModel, EncoderModel, Model

Result = TypeVar("Result")


class Workers:
    """`jobs` processes. Leaving the context ends them, whatever they do."""

    def __init__(self, jobs: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.jobs, self._stop = jobs, context.Event()
        self._pool = ProcessPoolExecutor(jobs, context, _begin, (self._stop,))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def results(self, calls: Iterable[Callable[[], Result]]) -> Iterator[Result]:
        """What calls return, in order. No call is taken before one of `jobs` + 1 is done.

        Raises:
            NvcError: a process ended early. What `calls` and a call raise comes through.
        """
        pending: deque[Future[Result]] = deque()
        try:
            for call in calls:
                pending.append(self._pool.submit(call))
                while len(busy := [future for future in pending if not future.done()]) > self.jobs:
                    wait(busy, return_when=FIRST_COMPLETED)
                while pending and pending[0].done():
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool:
            raise NvcError(f"one of the {self.jobs} processes ended early, perhaps for want of memory; use fewer --jobs") from None


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for what waits."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="nvc-")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NvcError(f"there is no folder to keep frames in ({reason}); set TMPDIR to one with room, or leave --jobs away") from None
    with folder as name:
        yield Path(name)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Errors of the disk that segments are kept on as an NvcError."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise NvcError(f"{tempfile.gettempdir()}: frames cannot be kept there ({reason}); set TMPDIR to a folder with more room, or leave --jobs away") from error


_stop: Event | None = None
"""Of a worker: set when nobody waits for it any more."""


def abandoned() -> bool:
    """Whether nobody waits for this worker any more."""
    return _stop is not None and _stop.is_set()


def _begin(stop: Event) -> None:
    """In a new process: leave it to the parent what Ctrl-C does, and end when it ends."""
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        parent = multiprocessing.parent_process()
        assert parent
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


@cache
def ready_encoder(name: str, device: str, threads: int | None) -> Model | EncoderModel:
    """A model to encode with; a process loads it once."""
    return load_encoder(name, device, threads)


@cache
def ready_decoder(name: str, device: str, threads: int | None, enhance: bool) -> Model | DecoderModel:
    """A model to decode with; a process loads it once."""
    return load_decoder(name, device, threads, enhance)
