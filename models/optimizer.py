"""The optimiser: Muon for the matrices of the networks, AdamW for all else.

Muon (Jordan et al. 2024) makes the momentum of every weight matrix orthogonal before it is applied. On this codec it
needs about two thirds of the steps of AdamW alone for the same loss, and a step costs a fifth more.
"""

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn

from models.machine import training_dtype

SMALLEST = 32
"""Matrices with fewer rows or columns are AdamW's."""


def orthogonal(batch: Tensor) -> Tensor:
    """Nearly the closest orthogonal matrices, by five Newton-Schulz steps in the type that is trained in: (K, M, N) -> (K, M, N)."""
    tall = batch.shape[1] > batch.shape[2]
    x = batch.mT if tall else batch
    x = (x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)).to(training_dtype(batch.device))
    for _ in range(5):
        square = x @ x.mT
        x = 3.4445 * x + (2.0315 * (square @ square) - 4.7750 * square) @ x
    return (x.mT if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal; convolution kernels count as matrices (outputs, all else)."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95):
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is ever given
        for group in self.param_groups:
            alike: dict[tuple[int, int], list[tuple[nn.Parameter, Tensor]]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["momentum"])
                update = p.grad.lerp(momentum, group["momentum"]).flatten(1)
                alike[tuple(update.shape)].append((p, update))
            for (rows, columns), members in alike.items():
                updates = orthogonal(torch.stack([update for _, update in members]))
                size = max(1.0, rows / columns) ** 0.5
                for (p, _), update in zip(members, updates):
                    p.add_(update.reshape(p.shape), alpha=-group["lr"] * size)


class Optimizer:
    """Both optimisers as one.

    Args:
        model: its parameters are divided by shape.
        matrix, other: learning rates of Muon and of AdamW at `scale(1)`.
    """

    def __init__(self, model: nn.Module, matrix: float = 1e-2, other: float = 1e-3):
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for p in model.parameters():
            large = p.ndim == 4 and p.shape[1] > 1 and min(p.shape[0], p[0].numel()) >= SMALLEST
            (matrices if large else others).append(p)
        self.rates = matrix, other
        self.parts = (
            Muon(matrices, matrix),
            torch.optim.AdamW(others, lr=other, betas=(0.9, 0.98), weight_decay=0.0, fused=True),
        )

    def scale(self, factor: float) -> None:
        """Set both learning rates to a part of their highest."""
        for part, rate in zip(self.parts, self.rates):
            for group in part.param_groups:
                group["lr"] = rate * factor

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states):
            part.load_state_dict(state)
