"""Optional compilation of functions that are many small element-wise steps.

`@fused` marks them; nothing changes until `enable()` is called, which the trainer does where a C++ compiler or a GPU is
at hand. Compilation costs a minute, so coding does not use it.
"""

import shutil
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_enabled = False


def enable() -> bool:
    """Compile marked functions from now on; False, with no change, where there is nothing to compile with."""
    global _enabled
    import torch

    if torch.cuda.is_available() or shutil.which("g++") or shutil.which("c++"):
        torch._dynamo.config.recompile_limit = 64
        torch._dynamo.config.suppress_errors = True  # what a broken compiler cannot build runs as it is
        _enabled = True
    return _enabled


def enabled() -> bool:
    """Whether marked functions are compiled."""
    return _enabled


def fused(function: Function) -> Function:
    """Mark a function for compilation, one version for each shape."""
    return _marked(function, dynamic=False, cuda=True)


def fused_for_any_shape(function: Function) -> Function:
    """Mark a function for compilation that is called with many shapes."""
    return _marked(function, dynamic=None, cuda=True)


def fused_on_cpu(function: Function) -> Function:
    """Mark a function that a GPU runs as well as it is."""
    return _marked(function, dynamic=False, cuda=False)


def _marked(function: Function, dynamic: bool | None, cuda: bool) -> Function:
    compiled: Callable[..., Any] | None = None

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal compiled
        if not _enabled or (not cuda and args[0].is_cuda):
            return function(*args, **kwargs)
        if compiled is None:
            import torch

            compiled = torch.compile(function, dynamic=dynamic)
        return compiled(*args, **kwargs)

    return cast(Function, call)
