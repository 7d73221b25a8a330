"""The optimiser: Muon for the matrices of the networks, AdamW for all else.

Muon (Jordan et al. 2024) makes the momentum of every weight matrix orthogonal before it is applied. On this codec it
needs about two thirds of the steps of AdamW alone for the same loss, and a step costs a fifth more.
"""

from collections import defaultdict

import torch
from torch import Tensor, nn

from models.machine import training_dtype

SMALLEST = 32
"""Matrices with fewer rows or columns are AdamW's."""

MOMENTUM, BETAS = 0.95, (0.9, 0.98)
"""Of Muon, and of AdamW, which has no weight decay."""


def orthogonal(batch: Tensor) -> Tensor:
    """Nearly the closest orthogonal matrices, by five Newton-Schulz steps in the type that is trained in: (K, M, N) -> (K, M, N)."""
    tall = batch.shape[1] > batch.shape[2]
    x = batch.mT if tall else batch
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(training_dtype(batch.device))
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (2.0315 * (square @ square) - 4.7750 * square) @ x
    return (x.mT if tall else x).float()


class Optimizer:
    """Both optimisers as one. Learning rates are in a tensor, so that a recorded step can be replayed with others.

    Args:
        model: its parameters are divided by shape; convolution kernels count as matrices (outputs, all else).
        matrix, other: learning rates of Muon and of AdamW at `scale(1)`.
    """

    def __init__(self, model: nn.Module, matrix: float = 1e-2, other: float = 1e-3):
        self.matrix, self.other = matrix, other
        self.matrices: dict[str, nn.Parameter] = {}
        self.others: dict[str, nn.Parameter] = {}
        for name, p in model.named_parameters():
            large = p.ndim == 4 and p.shape[1] > 1 and min(p.shape[0], p[0].numel()) >= SMALLEST
            (self.matrices if large else self.others)[name] = p
        self.factor = torch.ones((), device=next(model.parameters()).device)
        self.state = {f"momentum {name}": torch.zeros_like(p) for name, p in self.matrices.items()}
        for name, p in self.others.items():
            self.state |= {f"mean {name}": torch.zeros_like(p), f"square {name}": torch.zeros_like(p), f"steps {name}": torch.zeros_like(self.factor)}

    def scale(self, factor: float) -> None:
        """Set both learning rates to a part of their highest."""
        self.factor.fill_(factor)

    def zero_grad(self) -> None:
        for p in (*self.matrices.values(), *self.others.values()):
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the parameters that have gradients."""
        self._muon()
        self._adam()

    def _muon(self) -> None:
        alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
        for name, p in self.matrices.items():
            if p.grad is not None:
                momentum = self.state[f"momentum {name}"]
                momentum.lerp_(p.grad, 1 - MOMENTUM)
                update = p.grad.lerp(momentum, MOMENTUM).flatten(1)
                alike[update.shape[0], update.shape[1]].append((p, update))
        for (rows, columns), members in alike.items():
            updates = orthogonal(torch.stack([update for _, update in members])) * (self.factor * (self.matrix * max(1.0, rows / columns) ** 0.5))
            torch._foreach_sub_([p for p, _ in members], [update.reshape(p.shape) for (p, _), update in zip(members, updates)])

    def _adam(self) -> None:
        names = [name for name, p in self.others.items() if p.grad is not None]
        if not names:
            return
        parameters: list[Tensor] = [self.others[name] for name in names]
        gradients = [p.grad for p in parameters if p.grad is not None]
        means, squares, steps = ([self.state[f"{kind} {name}"] for name in names] for kind in ("mean", "square", "steps"))
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(means, gradients, 1 - BETAS[0])
        torch._foreach_mul_(squares, BETAS[1])
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - BETAS[1])
        count = steps[0]  # what has a gradient has had one as often as the others, or learns on its own
        sizes = torch._foreach_sqrt(squares)
        torch._foreach_div_(sizes, (1 - BETAS[1] ** count).sqrt())
        torch._foreach_add_(sizes, 1e-8)
        updates = list(torch._foreach_div(means, sizes))
        torch._foreach_mul_(updates, self.factor * self.other / (1 - BETAS[0] ** count))
        torch._foreach_sub_(parameters, updates)

    def state_dict(self) -> dict[str, Tensor]:
        return self.state

    def load_state_dict(self, saved: dict[str, Tensor]) -> None:
        """Raises KeyError or RuntimeError where it is of another model."""
        for name, tensor in self.state.items():
            tensor.copy_(saved[name])
