"""Softmax and its logarithm along one axis.

    softmax:      y_i = exp(x_i) / sum of exp(x_j)       dx_i = y_i (dy_i - sum of dy_j y_j)      dy_i/dx_j = y_i (d_ij - y_j)
    log-softmax:  y_i = x_i - log(sum of exp(x_j))       dx_i = dy_i - exp(y_i) sum of dy_j

The largest x is subtracted first, which changes nothing in exact arithmetic and keeps exp from
overflowing.
"""

from __future__ import annotations

import numpy as np


def softmax_forward(x: np.ndarray, axis: int) -> np.ndarray:
    """Any shape; sums to 1 along `axis`."""
    y = np.exp(x - x.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return y


def softmax_backward(dy: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """dy, y of one shape -> dx."""
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax_forward(x: np.ndarray, axis: int) -> np.ndarray:
    """Any shape."""
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def log_softmax_backward(dy: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """dy, y of one shape -> dx."""
    return dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)
