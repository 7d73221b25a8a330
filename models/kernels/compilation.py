"""Compiling kernels by several processes: Numba's compiler takes one core, and there are dozens of kernels.

    python -m models.kernels.compilation

compiles those that it is told of by lines of module and name, says a line when each is kept, and ends with its input.
"""

import os
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from subprocess import DEVNULL, PIPE, Popen
from threading import Thread

from models.kernels import Kernel
from models.kernels.threads import threads

MOST = 4
"""Processes, this one included; each takes some 200 MiB."""

LONGEST = ("luma", "stack", "wide", "chroma", "narrow", "foretell")
"""What takes longest comes first, so that nobody waits for it at the end."""


def share(kernels: Sequence[Kernel]) -> None:
    """Compile kernels in as many processes as there are threads in use, up to MOST; what another process fails at is left to whoever calls it."""
    for kernel in kernels:
        kernel.shared = True
    left = deque(sorted(kernels, key=lambda kernel: kernel.function.__name__ not in LONGEST))
    feeders = []
    with suppress(OSError):  # where there can be no other process, this one does it alone
        for _ in range(min(threads(), MOST, len(left)) - 1):
            feeders.append(Thread(target=_feed, args=(_helper(), left), daemon=True))
            feeders[-1].start()
    try:
        with suppress(IndexError):
            while True:
                left.popleft().compiled
    finally:
        left.clear()
    for feeder in feeders:
        feeder.join()


def _helper() -> "Popen[str]":
    """A process like this one.

    Raises:
        OSError: there can be none.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("this is a program of its own, which Python is a part of")
    path = os.pathsep.join(place or os.getcwd() for place in sys.path)
    return Popen([sys.executable, "-m", __name__], stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True, env={**os.environ, "PYTHONPATH": path})


def _feed(helper: "Popen[str]", left: "deque[Kernel]") -> None:
    """Give it one kernel after the other, until none is left, or it has died."""
    with suppress(IndexError, OSError), helper:
        while helper.stdin and helper.stdout:
            function = left.popleft().function
            print(function.__module__, function.__name__, file=helper.stdin, flush=True)
            if not helper.stdout.readline():
                break


def main() -> None:
    """Compile what the standard input says."""
    for line in sys.stdin:
        module, name = line.split()
        kernel: Kernel = getattr(import_module(module), name)
        kernel.shared = True
        kernel.compiled
        print(flush=True)


if __name__ == "__main__":
    main()
