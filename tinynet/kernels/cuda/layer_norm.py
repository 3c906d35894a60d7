"""Layer normalisation: tinynet/kernels/layer_norm.py on a GPU, with the same letters."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import ROWS as GRID_ROWS
from tinynet.kernels.cuda.launch import Source, dense

_cu = Source("layer_norm.cu")
WARP, ROWS = 32, 8  # as in layer_norm.cu
RUN = 64  # rows that one thread adds up for the gradients of weight and bias. A guess


def layer_norm_forward(x: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any, Any]:
    """x (R, D), weight and bias (D,) -> y (R, D), m (R,), r (R,)."""
    x, (R, D) = dense(x), x.shape
    y, mean, inverse = cupy.empty((R, D), x.dtype), cupy.empty(R, x.dtype), cupy.empty(R, x.dtype)
    w = cupy.ones(D, x.dtype) if weight is None else dense(weight)
    b = cupy.zeros(D, x.dtype) if bias is None else dense(bias)
    grid = -(-R // ROWS) * WARP, 1
    _cu.layer_norm_forward(grid, x, w, b, y, mean, inverse, R, D, eps, block=(WARP, ROWS))
    return y, mean, inverse


def layer_norm_backward(
    dy: Any, x: Any, weight: Any, mean: Any, inverse: Any, needs: tuple[bool, bool, bool]
) -> tuple[Any, Any, Any]:
    """dy, x (R, D) -> (dx, dw, db), None for each one that `needs` does not ask for."""
    x, dy, mean, inverse = (dense(a) for a in (x, dy, mean, inverse))
    R, D = x.shape
    dx = dw = db = None
    if needs[0]:
        dx = cupy.empty((R, D), x.dtype)
        w = cupy.ones(D, x.dtype) if weight is None else dense(weight)
        grid = -(-R // ROWS) * WARP, 1
        _cu.layer_norm_backward(grid, dy, x, w, mean, inverse, dx, R, D, block=(WARP, ROWS))
    if needs[1] or needs[2]:
        run = max(RUN, -(-R // GRID_ROWS))  # the grid holds so many runs
        runs = -(-R // run)
        dw, db = cupy.empty((runs, D), x.dtype), cupy.empty((runs, D), x.dtype)
        _cu.layer_norm_sums((D, runs), dy, x, mean, inverse, dw, db, R, D, run)
        dw, db = dw.sum(axis=0), db.sum(axis=0)
    return dx, dw if needs[1] else None, db if needs[2] else None
