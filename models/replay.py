"""Functions that a GPU replays while it codes: a frame is some hundred small kernels, and starting them one by one takes longer than running them.

`@recorded` marks them. What they compute must follow from their arguments, and from what never changes; nothing in them waits for the device.
Tensors that they make once and keep are to be kept for ever, since a recording reads them where they are.
"""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from threading import Lock, local
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from models.recording import Recording, Shared

Function = TypeVar("Function", bound=Callable[..., Any])

MOST = 16
"""Recordings of one function that are kept, for as many sizes and models; the one last used is the last to go."""

_lock = Lock()


class _Here(local):
    """What a thread is in the middle of."""

    recording = False


_here = _Here()
_forgotten: list[Callable[[], None]] = []


class _Replayed:
    """A function of tensors of some shapes, whose other arguments stay as they are."""

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...]):
        self.function, self.args = function, tuple(arg.clone() if isinstance(arg, Tensor) else arg for arg in args)
        self.inputs = [arg for arg in self.args if isinstance(arg, Tensor)]
        self.out: Any = None
        self.recording = Recording(self._work, lambda: None, _unrecorded, _shared(self.inputs[0].device))

    def __call__(self, args: tuple[Any, ...]) -> Any:
        torch._foreach_copy_(self.inputs, [arg for arg in args if isinstance(arg, Tensor)])
        self.recording()
        return tuple(part.clone() for part in self.out) if isinstance(self.out, tuple) else self.out.clone()

    def _work(self) -> None:
        self.out = self.function(*self.args)


def recorded(function: Function) -> Function:
    """Mark a function of tensors, None, and what can be hashed, whose result is a tensor or a tuple of tensors. It is replayed on a GPU, in inference mode, and called elsewhere."""
    kept: OrderedDict[Hashable, _Replayed] = OrderedDict()
    _forgotten.append(kept.clear)

    @wraps(function)
    def call(*args: Any) -> Any:
        device = next((arg.device for arg in args if isinstance(arg, Tensor) and arg.is_cuda), None)
        if device is None or _here.recording or not torch.is_inference_mode_enabled():
            return function(*args)
        key = tuple((arg.shape, arg.stride(), arg.dtype, arg.device) if isinstance(arg, Tensor) else arg for arg in args)
        with _lock, torch.cuda.device(device):  # threads take turns with the memory of a recording
            if key not in kept:
                kept[key] = _Replayed(function, args)
                if len(kept) > MOST:
                    kept.popitem(last=False)
            kept.move_to_end(key)
            _here.recording = True
            try:
                return kept[key](args)
            finally:
                _here.recording = False

    return cast(Function, call)


def forget() -> None:
    """Record all anew: weights have changed."""
    with _lock:
        for forgotten in _forgotten:
            forgotten()


@lru_cache(maxsize=None)
def _shared(device: torch.device) -> Shared:
    """Of all recordings on a device."""
    return Shared(torch.cuda.graph_pool_handle(), torch.cuda.Stream(device))


def _unrecorded(why: str) -> None:
    warnings.warn(f"a GPU's work is not recorded, and takes longer ({why})", stacklevel=2)
