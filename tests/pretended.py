"""A GPU that is pretended, so that what runs on one is tested where there is none.

Tensors say that they are on a GPU, and the processor computes them. As on a GPU, they do not mix with those of the processor, NumPy does not see
them, and work that is recorded may not ask for numbers: it leaves none behind, and a replay reads and writes the memory of the recording.
How long anything takes, and how a GPU rounds, this does not tell.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda:0"), torch.device("cpu")

HOST_ONLY = ("item", "is_nonzero", "_local_scalar_dense", "nonzero", "equal")
"""Operators that wait for a GPU to know its numbers."""

MOVES = ("to", "_to_copy", "copy_")
"""Operators that go from one device to the other."""


class OnGpu(Tensor):
    """A tensor that says it is on a GPU."""

    held: Tensor  # the numbers

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        with torch.inference_mode(held.is_inference()):
            made: OnGpu = Tensor._make_wrapper_subclass(
                cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype, device=GPU
            )  # fmt: skip
        made.held = held
        return made

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        raise RuntimeError("a tensor has outlived the pretended GPU")


@dataclass
class Graph:
    """A recording: what was called, on which memory, and where it left its results."""

    calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], list[Tensor]]] = field(default_factory=list)
    replays: int = 0

    def add(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Note a call; one that gives another view of what it is given need not be made again."""
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        made = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.untyped_storage().data_ptr() not in given]
        if made or func._schema.is_mutable:
            self.calls.append((func, args, kwargs, made))

    def forget_numbers(self) -> None:
        """A recording computes nothing."""
        for *_, made in self.calls:
            for tensor in made:
                tensor.fill_(float("nan") if tensor.is_floating_point() else 99)

    def replay(self) -> None:
        """Do all of it again."""
        self.replays += 1
        for func, args, kwargs, made in self.calls:
            again = [t for t in tree_leaves(func(*args, **kwargs)) if isinstance(t, Tensor)]
            for memory, numbers in zip(made, again):
                memory.copy_(numbers)


class PretendedGpu(TorchDispatchMode):
    """What runs, and what has been recorded, while it is there."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # lets PyTorch ask for no driver

    def __init__(self) -> None:
        super().__init__()
        self.capturing: Graph | None = None
        self.graphs: list[Graph] = []
        self.started: Counter[str] = Counter()
        """Operators that were called one by one on a GPU's tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        name, named = func.overloadpacket.__name__, kwargs or {}
        given = [t for t in tree_leaves((args, named)) if isinstance(t, Tensor)]
        there = [t for t in given if isinstance(t, OnGpu)]
        wanted = next((x for x in (*args, *named.values()) if isinstance(x, torch.device)), None)
        if there and name not in MOVES and any(t.dim() for t in given if not isinstance(t, OnGpu)):
            raise RuntimeError(f"{name} has tensors on two devices")
        if name in ("pin_memory", "_pin_memory"):
            return args[0]
        outer = {id(t.held): t for t in there}
        args, named = tree_map(_inner, args), {key: _inner(value) for key, value in named.items() if key != "pin_memory"}
        out = func(*args, **named)
        result_there = wanted.type == "cuda" if wanted else bool(there)
        if name == "copy_":
            out = given[0].held if isinstance(given[0], OnGpu) else given[0]
            result_there = isinstance(given[0], OnGpu)
        if there or result_there:
            self.started[name] += 1
            if self.capturing:
                crossing = name in MOVES and (len(there) < len(given) or not result_there)
                if name in HOST_ONLY or crossing:
                    raise RuntimeError(f"{name} waits for the device, which is not permitted in a recording")
                self.capturing.add(func, args, named, out)
        if not result_there:
            return out
        return tree_map(lambda x: (outer[id(x)] if id(x) in outer else OnGpu(x)) if isinstance(x, Tensor) else x, out)

    @contextlib.contextmanager
    def graph(self, graph: Graph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global") -> Iterator[None]:
        """As torch.cuda.graph."""
        self.capturing = graph
        try:
            yield
        finally:
            self.capturing = None
        graph.forget_numbers()
        self.graphs.append(graph)


def _inner(value: Any) -> Any:
    if isinstance(value, OnGpu):
        return value.held
    return CPU if isinstance(value, torch.device) else value


class _Stream:
    def __init__(self, device: Any = None) -> None: ...

    def wait_stream(self, other: Any) -> None: ...

    def synchronize(self) -> None: ...


@contextlib.contextmanager
def pretended_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PretendedGpu]:
    """PyTorch finds a GPU from now on, until the end."""
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    if not all(hasattr(torch._C, name) for name in ("_ensureCUDADeviceGuardSet", "_only_lift_cpu_tensors", "_TorchDispatchModeKey")):
        pytest.skip("this version of PyTorch cannot pretend")
    gpu = PretendedGpu()
    torch._C._ensureCUDADeviceGuardSet()
    for name, function in {
        "is_available": lambda: True, "Stream": _Stream, "current_stream": _Stream, "synchronize": lambda device=None: None,
        "stream": lambda stream: contextlib.nullcontext(), "device": lambda device: contextlib.nullcontext(), "empty_cache": lambda: None, "CUDAGraph": Graph, "graph": gpu.graph,
        "graph_pool_handle": lambda: (0, 0), "is_bf16_supported": lambda *args: True, "is_current_stream_capturing": lambda: gpu.capturing is not None,
    }.items():  # fmt: skip
        monkeypatch.setattr(torch.cuda, name, function)
    lifts, overwrites = torch._C._only_lift_cpu_tensors(), torch.__future__.get_overwrite_module_params_on_conversion()
    torch._C._set_only_lift_cpu_tensors(True)
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with gpu:
            yield gpu
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)
        torch.__future__.set_overwrite_module_params_on_conversion(overwrites)
