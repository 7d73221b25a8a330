"""What is written once for PyTorch's tensors and NumPy's arrays. Most of what both need are operators and methods that both have; here is the rest."""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]
Values = TypeVar("Values", Tensor, Array)


def joined(parts: Sequence[Values], axis: int) -> Values:
    """Concatenated along an axis."""
    every: Any = parts
    return torch.cat(every, axis) if isinstance(parts[0], Tensor) else np.concatenate(every, axis)
