"""Loops over arrays, compiled for the processor: what PyTorch would need many passes for, and NumPy many more.

All of them compute with integers, or with floating point where it is exact, and give what the layers beside them give in
PyTorch, which are what runs on a GPU and in training. Numba compiles each at its first call and keeps the result, beside
this file where that can be written to, in the user's cache otherwise.

What is kept is known by all sources here, by those that constants come from, and by the instructions in use.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numba
from numba.extending import intrinsic

from models.kernels.processor import FORM, ROUGH

Function = Callable[..., Any]


@lru_cache(maxsize=1)
def _version() -> str:
    """Of the sources: Numba itself looks at the file of a function alone."""
    folder = Path(__file__).parent
    sources = sorted(folder.glob("*.py")) + [folder.parent / name for name in ("pyramid.py", "tables.py", "vectors.py")]
    return sha256(b"".join(source.read_bytes() for source in sources) + f"{FORM} {ROUGH}".encode()).hexdigest()[:8]


class Kernel:
    """A function that is compiled for arguments of one kind, when it is called first."""

    announce: Callable[[], None] | None = None
    """Called before anything is compiled that was not kept: it takes seconds."""

    def __init__(self, function: Function, signature: str):
        self.function, self.signature = function, signature
        self.__doc__ = function.__doc__

    def __call__(self, *arguments: Any) -> Any:
        return self.compiled(*arguments)

    @cached_property
    def compiled(self) -> Function:
        """The function for the processor."""
        return self._make()

    def _make(self) -> Function:
        try:
            self.function.__qualname__ = f"{self.function.__name__}_{_version()}"  # names the file
            made = numba.njit(cache=True, nogil=True)(self.function)
            kept = any(Path(str(made.stats.cache_path)).glob(f"*{self.function.__qualname__}-*.nbi"))
            self._compile(made, kept)
        except (OSError, RuntimeError):  # there is no folder to keep it in, or no space
            made = numba.njit(nogil=True)(self.function)
            self._compile(made, False)
        function: Function = made
        return function

    def _compile(self, made: Any, kept: bool) -> None:
        announce = Kernel.announce
        if announce and not kept:
            Kernel.announce = None
            announce()
        made.compile(self.signature)
        made.disable_compile()


def kernel(signature: str) -> Callable[[Function], Kernel]:
    """Compile a function for arguments of these types, or take what was compiled before."""
    return lambda function: Kernel(function, signature)


def helper(function: Function) -> Function:
    """Compile a function as part of those that call it."""
    made: Function = numba.njit(nogil=True)(function)
    return made


written: Any = intrinsic
"""For functions that write the processor's instructions themselves, as part of those that call them."""
