"""The fully connected layer, and the matrix product it is made of.

    y = x w^T + b           (N, I) @ (I, O) -> (N, O)        and max(y, 0) where a ReLU follows
    dx = dy w               (N, O) @ (O, I) -> (N, I)
    dw = dy^T x             (O, N) @ (N, I) -> (O, I)
    db = sum of dy over N   (N, O) -> (O,)

Two axes lie batch-innermost in memory, and the products are those of the transposes. With any other
number of leading axes x lies in C order, and N stands for all of them.

Each product is cut into blocks of rows of its result for the threads; BLAS runs each block on one
thread, so the bits do not depend on their number.
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.threads import NO_JOB, Job, parallel_for, ranges, run_job, run_jobs
from tinynet.kernels.layout import batch_first, batch_last, cut_to_zero
from tinynet.kernels.relu import relu_backward

ROWS = 256  # of a product's block: BLAS is at full speed from about there on


def linear_definition(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """The formula at the top, one output at a time: (N, I), (O, I), (O,) -> (N, O)."""
    y = np.zeros((len(x), len(weight)), x.dtype)
    for n, o in np.ndindex(y.shape):
        y[n, o] = sum(x[n, i] * weight[o, i] for i in range(x.shape[1]))
        if bias is not None:
            y[n, o] += bias[o]
    return y


def linear_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, relu: bool = False
) -> np.ndarray:
    """(..., I), (O, I), (O,) -> (..., O), its negative values cut to 0 if `relu`."""
    if x.ndim != 2:
        return _rows_forward(x, weight, bias, relu)
    y = matmul(weight, batch_last(x))  # (O, I) @ (I, N) -> (O, N)
    if bias is not None:
        y += bias[:, None]
    if relu:
        cut_to_zero(y, y)
    return batch_first(y)


def linear_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    needs: tuple[bool, bool, bool],
    y: np.ndarray | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dy (..., O) -> (dx, dw, db), None for each one that `needs` does not ask for.

    y is what a forward with `relu` gave: dy counts 0 where y <= 0.
    """
    if y is not None:
        dy = relu_backward(dy, y)
    if x.ndim != 2:
        return _rows_backward(dy, x, weight, needs)
    dy = batch_last(dy)  # (O, N)
    jobs = [
        product(weight.T, dy) if needs[0] else NO_JOB,  # (I, O) @ (O, N) -> (I, N)
        product(dy, batch_last(x).T) if needs[1] else NO_JOB,  # (O, N) @ (N, I) -> (O, I)
    ]
    dx, dw = run_jobs(jobs, weight.size * len(x))
    db = dy.sum(axis=1) if needs[2] else None
    return None if dx is None else batch_first(dx), dw, db


def _rows_forward(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, relu: bool
) -> np.ndarray:
    """Sequences lie in C order, so their M vectors are the rows of a matrix, and stay rows."""
    O, I = weight.shape
    rows = x.reshape(-1, I)
    y = pool.empty((len(rows), O), x.dtype)

    def piece(some: slice) -> None:
        y_ = np.matmul(rows[some], weight.T, out=y[some])  # (M, I) @ (I, O) -> (M, O)
        if bias is not None:
            y_ += bias
        if relu:
            cut_to_zero(y_, y_)

    parallel_for(piece, ranges(len(rows), ROWS))
    return y.reshape(*x.shape[:-1], O)


def _rows_backward(
    dy: np.ndarray, x: np.ndarray, weight: np.ndarray, needs: tuple[bool, bool, bool]
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    O, I = weight.shape
    rows, dy = x.reshape(-1, I), dy.reshape(-1, O)
    dx = matmul(dy, weight).reshape(x.shape) if needs[0] else None  # (M, O) @ (O, I) -> (M, I)
    dw = matmul(dy.T, rows) if needs[1] else None  # (O, M) @ (M, I) -> (O, I)
    return dx, dw, dy.sum(axis=0) if needs[2] else None


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b with NumPy's rules."""
    if a.ndim != 2 or b.ndim != 2:
        products: list[np.ndarray] = []
        parallel_for(lambda ab: products.append(np.matmul(*ab)), [(a, b)])
        return products[0]
    out: np.ndarray = run_job(product(a, b))
    return out


def product(a: np.ndarray, b: np.ndarray) -> Job:
    """a @ b of matrices."""
    out = pool.empty((a.shape[0], b.shape[1]), np.result_type(a, b))
    return Job(lambda rows: np.matmul(a[rows], b, out=out[rows]), ranges(len(a), ROWS), lambda: out)
