"""Memory layout of activations, and cutting element-wise work into pieces.

A user sees (N, C, H, W); memory holds (C, H, W, N): the batch is innermost. So the values of one
pixel for all pictures lie side by side, and every shift by a pixel, a row or a channel is a shift
of long contiguous runs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.threads import parallel_for, ranges

PIECE = 1 << 17  # elements of an element-wise piece


def batch_last(x: np.ndarray) -> np.ndarray:
    """(N, ...) -> C-contiguous (..., N): a view where memory lies so already, else a copy."""
    moved = x if x.ndim < 2 else np.moveaxis(x, 0, -1)
    if moved.flags.c_contiguous:
        return moved
    copy = pool.empty(moved.shape, moved.dtype)
    np.copyto(copy, moved)
    return copy


def batch_first(x: np.ndarray) -> np.ndarray:
    """(..., N) -> (N, ...), a view: the inverse of `batch_last`."""
    return x if x.ndim < 2 else np.moveaxis(x, -1, 0)


def elementwise(function: Callable[..., object], *arrays: np.ndarray) -> None:
    """Call `function` on matching 1-D pieces of C-contiguous arrays of one size, on several
    threads.
    """
    flat = [a.reshape(-1) for a in arrays]
    pieces = ranges(flat[0].size, PIECE)
    if len(pieces) == 1:
        function(*flat)
    else:
        parallel_for(lambda piece: function(*(a[piece] for a in flat)), pieces)


def select(mask: np.ndarray, values: np.ndarray, out: np.ndarray) -> np.ndarray:
    """out = values where mask, else 0. By their bits: seven times quicker than numpy.where, and
    exact for infinities.
    """
    bits = np.dtype(f"i{values.itemsize}")
    np.copyto(out.view(bits), mask.view(np.int8))  # 0 or 1
    np.negative(out.view(bits), out=out.view(bits))  # no bits or all bits
    np.bitwise_and(out.view(bits), values.view(bits), out=out.view(bits))
    return out
