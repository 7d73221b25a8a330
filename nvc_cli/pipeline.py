"""Threads beside the codec: reading ahead of it and writing behind it, so that its work and that of other codecs overlap.

Only for files, where nothing waits for others: a thread that is stuck in a pipe could not be ended.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

DEPTH = 4
"""Pictures that wait between two threads at most."""


def ahead(items: Iterable[Item], depth: int = DEPTH) -> Generator[Item, None, None]:
    """The items, taken by a thread before they are asked for. An error comes where its item would; closing the iterator ends the thread."""
    waiting: queue.Queue[tuple[Item] | BaseException | None] = queue.Queue(depth)
    left = threading.Event()

    def put(entry: tuple[Item] | BaseException | None) -> bool:
        while not left.is_set():
            try:
                waiting.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def take() -> None:
        try:
            for item in items:
                if not put((item,)):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=take, name="reading", daemon=True)
    thread.start()
    try:
        while (entry := waiting.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        left.set()
        thread.join()


class Behind:
    """Calls that a thread makes one after another, a few at most behind, until one fails. Its error is raised by a later `do`, or by `finish`."""

    def __init__(self, depth: int = DEPTH) -> None:
        self._pool = ThreadPoolExecutor(1, "writing")
        self._waiting: list[Future[None]] = []
        self._depth, self._failed = depth, False

    def do(self, call: Callable[[], None]) -> None:
        """Make this call later."""
        while len(self._waiting) >= self._depth:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(self._make, call))

    def _make(self, call: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            call()
        except BaseException:
            self._failed = True  # what has failed may not be fit to be used again
            raise

    def finish(self) -> None:
        """Wait until all calls are made."""
        while self._waiting:
            self._waiting.pop(0).result()
        self._pool.shutdown()

    def abandon(self) -> None:
        """Make none of the calls that wait."""
        self._pool.shutdown(cancel_futures=True)
        self._waiting.clear()
