"""The rectifier.

    y = max(x, 0)        dx = 0 where y <= 0, else dy

The derivative is taken from the output, so x need not be kept and y may take its place in memory.
At 0 it is 0. A NaN comes out as NaN, and its dy passes, as in torch.

Source: Nair and Hinton, ICML 2010; Krizhevsky et al. 2012, section 3.1.
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.layout import along_memory, cut_to_zero, reject


def relu_forward(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Any shape. `out` may be x itself: then y takes its place."""
    return along_memory(cut_to_zero, x, out=out)


def relu_backward(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
    """dy, y of one shape -> dx."""
    return along_memory(lambda y, dy, dx: reject(y <= 0, dy, out=dx), y, dy)
