"""The gradient of indexing with arrays.

    y = x[key]        dx[e] = sum of dy over all places of y that hold x[e]

An element that was taken twice gets both gradients, one that was not taken gets 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def index_backward(dy: np.ndarray, key: Any, x_shape: tuple[int, ...]) -> np.ndarray:
    """dy of the shape of x[key] -> dx. The sums run in the order of dy."""
    dx = np.zeros(x_shape, dy.dtype)
    np.add.at(dx, key, dy)
    return dx
