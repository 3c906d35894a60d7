"""Batch normalisation: tinynet/kernels/batch_norm.py on a GPU, with the same letters."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.devices.cuda import cupy
from tinynet.kernels.batch_norm import Gather, combined
from tinynet.kernels.cuda.launch import THREADS, Source, batch_first, batch_last, dense

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
    gather: Gather | None = None,
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
        if gather is None:
            _cu.batch_norm_statistics(
                (C, 1), means, squares, mean, inverse, *running, C, P, RUN, runs, momentum, eps,
                update,
            )  # fmt: skip
        else:
            total, m, v = combined(gather, P, *_moments(means, squares, P))
            mean, inverse = (cupy.asarray(a.astype(x.dtype)) for a in (m, 1 / np.sqrt(v + eps)))
            if update:
                for array, now in zip(running, (m, v * (total / (total - 1))), strict=True):
                    array *= 1 - momentum
                    array += cupy.asarray((momentum * now).astype(x.dtype))
    else:
        mean, inverse = running_mean.copy(), (running_var + eps) ** -0.5
    w = cupy.ones(C, x.dtype) if weight is None else dense(weight)
    b = cupy.zeros(C, x.dtype) if bias is None else dense(bias)
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
    gather: Gather | None = None,
) -> tuple[Any, Any, Any]:
    """dy (N, C, ...) -> (dx, dw, db), None for each one that `needs` does not ask for. y: the
    forward's, with relu.
    """
    x, dy, mean, inverse = batch_last(x), batch_last(dy), dense(mean), dense(inverse)
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
        w = cupy.ones(C, x.dtype) if weight is None else dense(weight)
        every = _of_all_ranks(gather, P, dw, db) if gather and training else (dw, db)
        _cu.batch_norm_backward(
            (P, C), dy, y, x, mean, inverse, w, *every, dx, C, P, relu, training
        )
        dx = batch_first(dx)
    return dx, dw if needs[1] else None, db if needs[2] else None


def _moments(means: Any, squares: Any, P: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of whole rows from those of their runs; on the host, which gathers them."""
    means, squares = (cupy.asnumpy(a).astype(np.float64) for a in (means, squares))
    counts = np.minimum(RUN, P - RUN * np.arange(means.shape[1]))
    mean = (counts * means).sum(axis=1) / P
    return mean, (squares + counts * (means - mean[:, None]) ** 2).sum(axis=1) / P


def _of_all_ranks(gather: Gather, P: int, *sums: Any) -> list[Any]:
    """The sums of all ranks, times P over all their values: the kernel divides by P."""
    told = gather((P, *(cupy.asnumpy(each).astype(np.float64) for each in sums)))
    counts, *every = zip(*told, strict=True)
    return [cupy.asarray((sum(s) * P / sum(counts)).astype(sums[0].dtype)) for s in every]
