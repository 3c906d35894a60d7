"""The gradient of indexing with arrays: tinynet/kernels/index.py on a GPU.

Without atomics, so that the sums have one order: the places of dy are sorted by the row of x that
they came from, and a thread adds up the run of one row. The sort is stable, so it is NumPy's order.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import Source

_cu = Source("index.cu")


def index_backward(dy: Any, key: Any, x_shape: tuple[int, ...]) -> Any:
    """dy of the shape of x[key] -> dx."""
    rows, row_shape = _rows(key, x_shape)
    order = cupy.argsort(rows)
    dx = cupy.zeros(x_shape, dy.dtype)
    D, count = prod(row_shape), rows.size
    _cu.sum_runs((D, count), cupy.ascontiguousarray(dy), order, rows[order], dx, D, count)
    return dx


def _rows(key: Any, x_shape: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """The number of the row of x that each row of x[key] is, and the shape of a row.

    A row is what lies behind the axes that the key speaks of, where it holds nothing but arrays of
    whole numbers; a single element otherwise.
    """
    given = key if isinstance(key, tuple) else (key,)
    parts = [cupy.asarray(part) if isinstance(part, list) else part for part in given]
    whole = all(
        isinstance(part, (int, np.integer))
        or (isinstance(part, cupy.ndarray) and part.dtype.kind in "iu")
        for part in parts
    )
    axes = len(parts) if whole else len(x_shape)
    numbers = cupy.arange(prod(x_shape[:axes])).reshape(x_shape[:axes])
    return numbers[tuple(parts)].reshape(-1), x_shape[axes:]
