"""Work on a GPU that is recorded once and replayed (CUDA graphs): a training step has ten thousand kernels, and starting them one by one
takes three times as long as running them.

What is recorded reads and writes the same memory at every replay. So its inputs are copied into the tensors of the first call, and nothing
in it may wait for the device or depend on its numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

WARM = 2
"""Calls before the recording: kernels are chosen and compiled in these."""


@dataclass(frozen=True)
class Shared:
    """What recordings can share that are replayed one after the other, and whose results are copied before the next."""

    pool: Any  # of memory
    stream: torch.cuda.Stream  # on which they are recorded


class Recording:
    """Calls `work`, or replays it.

    Args:
        work: on tensors that stay where they are.
        release: gives back what earlier calls of `work` have kept, before memory is set aside for the recording.
        failed: is told why, if the work cannot be recorded; it is then done as it is.
        shared: memory, and the stream that goes with it, of several recordings; what one leaves there does not outlive the next.
    """

    def __init__(self, work: Callable[[], None], release: Callable[[], None], failed: Callable[[str], None], shared: Shared | None = None):
        self.work, self.release, self.failed = work, release, failed
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.pool: Any = None
        self.stream: torch.cuda.Stream | None = None
        if shared:
            self.pool, self.stream = shared.pool, shared.stream
        elif torch.cuda.is_available():
            self.stream = torch.cuda.Stream()

    def __call__(self) -> None:
        self.calls += 1
        if self.graph:
            self.graph.replay()
        elif self.stream is None:
            self.work()
        elif self.calls <= WARM:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.work()
            torch.cuda.current_stream().wait_stream(self.stream)
        else:
            self._record(self.stream)

    def _record(self, stream: torch.cuda.Stream) -> None:
        self.release()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.stream(torch.cuda.current_stream()):  # is the current one again, whatever becomes of the recording
                with torch.cuda.graph(graph, self.pool, stream, capture_error_mode="thread_local"):
                    self.work()
        except RuntimeError as error:
            self.failed(str(error).splitlines()[0])
            self.stream = None
            torch.cuda.synchronize()
            self.work()
            return
        self.graph = graph
        graph.replay()
