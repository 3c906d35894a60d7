"""Softmax and its logarithm along one axis.

    softmax:      y_i = exp(x_i) / sum over j of exp(x_j)
    log-softmax:  y_i = x_i - log(sum over j of exp(x_j))

Backward of softmax, with dy_i for dL/dy_i and [i = j] for 1 if i is j, else 0:

    Jacobian      the derivative of y_i by x_j is  y_i ([i = j] - y_j)
    chain rule    dx_j = sum over i of dy_i y_i ([i = j] - y_j)
    collected     dx_j = y_j (dy_j - sum over i of dy_i y_i)

Backward of log-softmax, in the same steps; exp(y_j) is the softmax:

    Jacobian      the derivative of y_i by x_j is  [i = j] - exp(y_j)
    chain rule    dx_j = sum over i of dy_i ([i = j] - exp(y_j))
    collected     dx_j = dy_j - exp(y_j) sum over i of dy_i

The largest x is subtracted first, which changes nothing in exact arithmetic and keeps exp from
overflowing.
"""

from __future__ import annotations

import math

import numpy as np


def softmax_definition(x: np.ndarray, axis: int) -> np.ndarray:
    """The formula at the top, one output at a time: for moderate x, since exp(x) may overflow."""
    y, axis = np.zeros_like(x), axis % x.ndim
    for index in np.ndindex(x.shape):
        all_j = *index[:axis], slice(None), *index[axis + 1 :]
        y[index] = math.exp(x[index]) / sum(math.exp(v) for v in x[all_j])
    return y


def softmax_forward(x: np.ndarray, axis: int) -> np.ndarray:
    """Any shape; sums to 1 along `axis`."""
    if x.size == 0:  # what has no element has no largest
        return np.empty_like(x)
    y = np.exp(x - x.max(axis=axis, keepdims=True))
    y /= y.sum(axis=axis, keepdims=True)
    return y


def softmax_backward(dy: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """dy, y of one shape -> dx."""
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax_forward(x: np.ndarray, axis: int) -> np.ndarray:
    """Any shape."""
    if x.size == 0:
        return np.empty_like(x)
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def log_softmax_backward(dy: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """dy, y of one shape -> dx."""
    return dy - np.exp(y) * dy.sum(axis=axis, keepdims=True)
