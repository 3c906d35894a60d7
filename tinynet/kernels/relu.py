"""The rectifier.

    y = max(x, 0)        dx = dy where y > 0, else 0

The derivative is taken from the output, so x need not be kept and y may take its place in memory.
At 0 it is 0. A NaN comes out as NaN.

Source: Nair and Hinton, ICML 2010; Krizhevsky et al. 2012, section 3.1.
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.memory import pool
from tinynet.kernels.layout import batch_first, batch_last, elementwise, select


def relu_forward(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Any shape. `out` may be x itself: then y takes its place."""
    x_ = batch_last(x)
    y = pool.empty(x_.shape, x_.dtype) if out is None else batch_last(out)
    elementwise(lambda x, y: np.maximum(x, 0, out=y), x_, y)
    if out is not None and not np.may_share_memory(y, out):
        np.copyto(out, batch_first(y))
    return batch_first(y) if out is None else out


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dy, y of one shape -> dx."""
    dy, y = batch_last(dy), batch_last(y)
    dx = pool.empty(y.shape, y.dtype)
    elementwise(lambda dy, y, dx: select(y > 0, dy, out=dx), dy, y, dx)
    return batch_first(dx)
