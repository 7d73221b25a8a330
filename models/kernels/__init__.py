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
    """A function that is compiled for arguments of one kind, when it is called first: by then all kernels of the modules that are loaded are, by several processes."""

    announce: Callable[[], None] | None = None
    """Called before anything is compiled that was not kept: it takes seconds."""
    known: "list[Kernel]" = []
    """All kernels of the modules that are loaded."""

    def __init__(self, function: Function, signature: str):
        self.function, self.signature = function, signature
        self.shared = False  # whether other processes were asked for it
        self.__doc__ = function.__doc__
        Kernel.known.append(self)

    def __call__(self, *arguments: Any) -> Any:
        return self.compiled(*arguments)

    @cached_property
    def compiled(self) -> Function:
        """The function for the processor."""
        try:
            if not self.is_kept:
                self._say()
                self._share()
            made = self._keeping
            made.compile(self.signature)
        except (OSError, RuntimeError):  # there is no folder to keep it in, or no space
            self._say()
            made = numba.njit(nogil=True)(self.function)
            made.compile(self.signature)
        made.disable_compile()
        function: Function = made
        return function

    @property
    def is_kept(self) -> bool:
        """Whether it was compiled before.

        Raises:
            RuntimeError: there is no folder to keep it in.
        """
        return any(Path(str(self._keeping.stats.cache_path)).glob(f"*{self.function.__qualname__}-*.nbi"))

    @cached_property
    def _keeping(self) -> Any:
        """What compiles it, and keeps the result."""
        self.function.__qualname__ = f"{self.function.__name__}_{_version()}"  # names the file
        return numba.njit(cache=True, nogil=True)(self.function)

    def _say(self) -> None:
        announce, Kernel.announce = Kernel.announce, None
        if announce:
            announce()

    def _share(self) -> None:
        if not self.shared:
            from models.kernels import compilation

            compilation.share([kernel for kernel in Kernel.known if not kernel.shared and not kernel.is_kept])


def kernel(signature: str) -> Callable[[Function], Kernel]:
    """Compile a function for arguments of these types, or take what was compiled before."""
    return lambda function: Kernel(function, signature)


def helper(function: Function) -> Function:
    """Compile a function as part of those that call it."""
    made: Function = numba.njit(nogil=True)(function)
    return made


written: Any = intrinsic
"""For functions that write the processor's instructions themselves, as part of those that call them."""
