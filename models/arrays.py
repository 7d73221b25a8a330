"""What is written once for PyTorch's tensors and NumPy's arrays.

Networks learn and search with tensors. A stream's vectors are read in many small steps, each of which takes several times as long in
PyTorch as in NumPy. Most of what they need are operators and methods that both have; here is the rest.
"""

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


def taken(values: Values, where: Values) -> Values:
    """Those at the places `where` (n,) of the last dimension: (..., m) -> (..., n)."""
    return values.index_select(-1, where) if isinstance(values, Tensor) else values.take(where, -1)


def whole(values: Values) -> Values:
    """As int32."""
    return values.int() if isinstance(values, Tensor) else values.astype(np.int32)


def least(a: Values, b: Values) -> Values:
    """The lesser of each two."""
    return torch.minimum(a, b) if isinstance(a, Tensor) else np.minimum(a, b)


def most(a: Values, b: Values) -> Values:
    """The greater of each two."""
    return torch.maximum(a, b) if isinstance(a, Tensor) else np.maximum(a, b)


def array(values: Tensor | Array) -> Array:
    """An array on the processor."""
    return values.cpu().numpy() if isinstance(values, Tensor) else values
