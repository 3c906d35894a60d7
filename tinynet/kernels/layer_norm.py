"""Layer normalisation: each row gets mean 0 and variance 1, then a scale and a shift by column.

    m = 1/D sum of x_i        v = 1/D sum of (x_i - m)^2        r = 1 / sqrt(v + eps)
    y_i = w_i h_i + b_i       h_i = (x_i - m) r

for each row of D values by itself: one word of a sentence, say. Nothing depends on the other rows,
so there is no difference between training and use. As in batch_norm.py,

    dh_i/dx_j = r (d_ij - 1/D - 1/D h_i h_j)            d_ij = 1 if i = j, else 0

and the chain rule collects dL/dx_j = sum over i of g_i dh_i/dx_j with g_i = w_i dy_i. Here w stays
inside the sums, since it differs along the row:

    dx_j = r (g_j - 1/D sum of g_i - h_j 1/D sum of g_i h_i)
    db_i = sum over rows of dy_i          dw_i = sum over rows of dy_i h_i

Source: Ba, Kiros and Hinton 2016, arXiv 1607.06450, section 3.
"""

from __future__ import annotations

import math

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import parallel_for, pieces_of
from tinynet.kernels.layout import PIECE, dense

_normal = Scratch()  # h of a piece
_weighted = Scratch()  # g of a piece


def layer_norm_definition(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float
) -> np.ndarray:
    """The formulas at the top, one row at a time: x (R, D) -> y."""
    y, (R, D) = np.zeros_like(x), x.shape
    for row in range(R):
        m = math.fsum(x[row]) / D
        v = math.fsum((u - m) ** 2 for u in x[row]) / D
        for i in range(D):
            y[row, i] = weight[i] * (x[row, i] - m) / math.sqrt(v + eps) + bias[i]
    return y


def layer_norm_forward(
    x: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None, eps: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x (R, D), weight and bias (D,) -> y (R, D), m (R,), r (R,)."""
    x = dense(x)
    (R, D), dtype = x.shape, x.dtype
    y, mean, inverse = pool.empty((R, D), dtype), np.empty(R, dtype), np.empty(R, dtype)
    mean_of = np.full(D, 1 / D, dtype) if D else np.empty(0, dtype)

    def piece(rows: slice) -> None:
        x_, y_ = x[rows], y[rows]
        # Sums along rows by BLAS: a fourth of the time that numpy.mean takes.
        mean[rows] = x_ @ mean_of
        np.subtract(x_, mean[rows, None], out=y_)
        inverse[rows] = 1 / np.sqrt(_dot(y_, y_) / D + eps)
        y_ *= inverse[rows, None]
        if weight is not None:
            y_ *= weight
        if bias is not None:
            y_ += bias

    parallel_for(piece, pieces_of(R, each=D, most=PIECE))
    return y, mean, inverse


def layer_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    inverse: np.ndarray,
    needs: tuple[bool, bool, bool],
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dy, x (R, D); mean, inverse: m and r of forward -> (dx, dw, db), None for each one that
    `needs` does not ask for.
    """
    x, dy = dense(x), dense(dy)
    (R, D), dtype = x.shape, x.dtype
    dx = pool.empty((R, D), dtype)
    pieces = pieces_of(R, each=D, most=PIECE)
    # One row a piece, added at the end: the same bits for any number of threads.
    dw, db = np.zeros((2, len(pieces), D), np.result_type(dtype, np.float64))
    numbers = {rows.start: k for k, rows in enumerate(pieces)}

    def piece(rows: slice) -> None:
        dy_, dx_, r = dy[rows], dx[rows], inverse[rows, None]
        h = np.subtract(x[rows], mean[rows, None], out=_normal.array(dy_.shape, dtype))
        h *= r
        k, ones = numbers[rows.start], np.ones(len(dy_), dtype)
        if needs[1]:
            dw[k] = ones @ np.multiply(dy_, h, out=dx_)
        if needs[2]:
            db[k] = ones @ dy_
        if not needs[0]:
            return
        g = dy_
        if weight is not None:
            g = np.multiply(dy_, weight, out=_weighted.array(dy_.shape, dtype))
        share = _dot(g, h) / D
        np.subtract(g, (g @ np.full(D, 1 / D, dtype))[:, None], out=dx_)
        h *= share[:, None]
        dx_ -= h
        dx_ *= r

    parallel_for(piece, pieces)
    gradients = dx, dw.sum(axis=0).astype(dtype), db.sum(axis=0).astype(dtype)
    x_, w_, b_ = (g if needed else None for g, needed in zip(gradients, needs, strict=True))
    return x_, w_, b_


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The products of the rows of a with those of b -> (R,)."""
    return np.matmul(a[:, None, :], b[:, :, None])[:, 0, 0]
