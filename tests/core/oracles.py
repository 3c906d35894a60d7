"""Backward from a definition of forward, not derived by hand a second time.

The definition of every kernel, in plain loops, stands beside it in tinynet/kernels:
`..._definition`. Where it is linear, backward is the transposed matrix; elsewhere the derivative is
taken numerically.
"""

from __future__ import annotations

import numpy as np


def transposed(linear_map, x_shape, dy):
    """A^T dy of a linear map A given as a function: one column of A for each element of x."""
    dx = np.zeros(x_shape)
    for index in np.ndindex(x_shape):
        unit = np.zeros(x_shape)
        unit[index] = 1
        dx[index] = (linear_map(unit) * dy).sum()
    return dx


def derivative(function, x, dy, eps=1e-6):
    """The gradient of <dy, function(x)> by central differences."""
    dx = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        values = []
        for step in (eps, -eps):
            moved = x.copy()
            moved[index] += step
            values.append(function(moved))
        dx[index] = (dy * (values[0] - values[1])).sum() / (2 * eps)
    return dx
