"""Training in several processes, as `torchrun` starts them: each learns from other crops, and gradients are averaged.

Whatever decides what is done next must come out the same in all processes, or one would wait for the others for ever. So all go
by one clock, that of the first, and stop when any of them is asked to.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn


@dataclass(frozen=True)
class Group:
    """The processes that train one model together, seen from one of them; by default there is no other."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def time(self, now: float) -> float:
        """The first one's time."""
        return now if self.size == 1 else self._sum(now if self.first else 0.0)

    def any(self, true: bool) -> bool:
        """Whether it is true in any of them."""
        return true if self.size == 1 else self._sum(float(true)) > 0

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients. One that a process does not have counts as zeros; where none has it, there is none."""
        if self.size == 1:
            return
        learning = [p for p in parameters if p.requires_grad]
        present = learning[0].new_tensor([float(p.grad is not None) for p in learning])
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        flat = torch.cat([*(gradient.flatten() for gradient in gradients), present])
        distributed.all_reduce(flat)
        *means, present = flat.split([*(p.numel() for p in learning), len(learning)])
        for p, gradient, mean, count in zip(learning, gradients, means, present.tolist()):
            p.grad = gradient.copy_((mean / self.size).view_as(p)) if count else None

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Make tensors what they are in the first process."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def same(self, value: int) -> bool:
        """Whether all have this number."""
        if self.size == 1:
            return True
        extremes = torch.tensor([value, -value])
        distributed.all_reduce(extremes, distributed.ReduceOp.MAX)
        return bool(extremes.sum() == 0)

    def _sum(self, value: float) -> float:
        total = torch.tensor(value, dtype=torch.float64)
        distributed.all_reduce(total)
        return float(total)


ALONE = Group()


@contextmanager
def joined(device: torch.device) -> Iterator[Group]:
    """The group of the processes that `torchrun` started this one with. On CUDA each gets a GPU of its own.

    Raises:
        ValueError: there are fewer GPUs than processes on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    if device.type == "cuda":
        place, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if place >= count:
            raise ValueError(f"--nproc-per-node is more than the {count} GPUs of this machine; start as many processes as there are GPUs")
        torch.cuda.set_device(place)
    # Small decisions go over gloo on the processor, so that no GPU has to be waited for.
    distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Group(distributed.get_rank(), size)
    finally:
        distributed.destroy_process_group()


def neighbours() -> int:
    """Processes on this machine, which share its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
