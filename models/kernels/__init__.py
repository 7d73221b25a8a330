"""Loops over arrays, compiled for the processor: what PyTorch would need many passes for, and NumPy many more.

All of them compute with integers, or with floating point where it is exact, and give what the layers beside them give in
PyTorch, which are what runs on a GPU and in training. Numba compiles each once and keeps the result, beside this file where
that can be written to, in the user's cache otherwise.

`usable` says whether this process has them. Each file is compiled by itself: a helper stands in the file that it helps.
"""

import importlib.util
import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])


@lru_cache(maxsize=1)
def usable() -> bool:
    """Whether there are compiled loops here: not where Numba is not, nor where NVC_BACKEND asks for plain floating point."""
    return os.environ.get("NVC_BACKEND") != "float32" and importlib.util.find_spec("numba") is not None


def kernel(*signatures: str) -> Callable[[Function], Function]:
    """Compile a function for arguments of these types, or take what was compiled before."""
    import numba

    def compiled(function: Function) -> Function:
        try:
            return cast(Function, numba.njit(list(signatures), cache=True, nogil=True)(function))
        except (OSError, RuntimeError):  # there is no folder to keep it in, or no space
            return cast(Function, numba.njit(list(signatures), nogil=True)(function))

    return compiled


def helper(function: Function) -> Function:
    """Compile a function as part of those that call it."""
    import numba

    return cast(Function, numba.njit(nogil=True)(function))
