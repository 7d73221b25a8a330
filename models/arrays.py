"""What is written once for PyTorch's tensors and NumPy's arrays. Most of what both need are operators and methods that both have; here is the rest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, Any]
Values = TypeVar("Values", "Tensor", Array)


def joined(parts: Sequence[Values], axis: int) -> Values:
    """Concatenated along an axis."""
    every: Any = parts
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(every, axis)
    import torch

    return torch.cat(every, axis)
