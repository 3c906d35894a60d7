"""Batch normalisation: tinynet/kernels/batch_norm.py on a GPU, with the same letters."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import THREADS, Source, batch_first, batch_last

_cu = Source("batch_norm.cu")
RUN = 1 << 12  # values that one block of threads adds up. A guess, that of rows.py


def batch_norm_forward(
    x: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    relu: bool = False,
) -> tuple[Any, Any, Any]:
    """(N, C, ...) -> y, m (C,), r (C,). In training the running arrays, if any, move in place."""
    x = batch_last(x)
    C, P = len(x), x.size // max(1, len(x))
    y = cupy.empty(x.shape, x.dtype)
    if training:
        mean, inverse = cupy.empty(C, x.dtype), cupy.empty(C, x.dtype)
        runs = -(-P // RUN)
        means, squares = cupy.empty((C, runs), x.dtype), cupy.empty((C, runs), x.dtype)
        _cu.batch_norm_moments((runs * THREADS, C), x, means, squares, C, P, RUN)
        update = running_mean is not None
        running = (running_mean, running_var) if update else (mean, inverse)
        _cu.batch_norm_statistics(
            (C, 1), means, squares, mean, inverse, *running, C, P, RUN, runs, momentum, eps, update
        )
    else:
        mean, inverse = running_mean.copy(), (running_var + eps) ** -0.5
    w = cupy.ones(C, x.dtype) if weight is None else weight
    b = cupy.zeros(C, x.dtype) if bias is None else bias
    _cu.batch_norm_forward((P, C), x, mean, inverse, w, b, y, C, P, relu)
    return batch_first(y), mean, inverse


def batch_norm_backward(
    dy: Any,
    x: Any,
    weight: Any,
    mean: Any,
    inverse: Any,
    training: bool,
    needs: tuple[bool, bool, bool],
    y: Any = None,
) -> tuple[Any, Any, Any]:
    """dy (N, C, ...) -> (dx, dw, db), None for each one that `needs` does not ask for. y: the
    forward's, with relu.
    """
    x, dy = batch_last(x), batch_last(dy)
    C, P, relu = len(x), x.size // max(1, len(x)), y is not None
    y = batch_last(y) if relu else dy
    runs = -(-P // RUN)
    sums, products = cupy.empty((C, runs), x.dtype), cupy.empty((C, runs), x.dtype)
    dw, db = cupy.empty(C, x.dtype), cupy.empty(C, x.dtype)
    _cu.batch_norm_sums((runs * THREADS, C), dy, y, x, mean, sums, products, C, P, RUN, relu)
    _cu.batch_norm_gradients((C, 1), sums, products, inverse, dw, db, C, runs)
    dx = None
    if needs[0]:
        dx = cupy.empty(x.shape, x.dtype)
        w = cupy.ones(C, x.dtype) if weight is None else weight
        _cu.batch_norm_backward(
            (P, C), dy, y, x, mean, inverse, w, dw, db, dx, C, P, relu, training
        )
        dx = batch_first(dx)
    return dx, dw if needs[1] else None, db if needs[2] else None
