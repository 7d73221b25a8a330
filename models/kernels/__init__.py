"""Loops over arrays, compiled for the processor: what PyTorch would need many passes for, and NumPy many more.

All of them compute with integers, or with floating point where it is exact, and give what the layers beside them give in
PyTorch, which are what runs on a GPU and in training. Numba compiles each once and keeps the result, beside this file where
that can be written to, in the user's cache otherwise.

Each file is compiled by itself: a helper stands in the file that it helps.
"""

from collections.abc import Callable
from typing import Any

import numba

Function = Callable[..., Any]


def kernel(*signatures: str) -> Callable[[Function], Function]:
    """Compile a function for arguments of these types, or take what was compiled before."""

    def compiled(function: Function) -> Function:
        try:
            made: Function = numba.njit(list(signatures), cache=True, nogil=True)(function)
        except (OSError, RuntimeError):  # there is no folder to keep it in, or no space
            made = numba.njit(list(signatures), nogil=True)(function)
        return made

    return compiled


def helper(function: Function) -> Function:
    """Compile a function as part of those that call it."""
    made: Function = numba.njit(nogil=True)(function)
    return made
