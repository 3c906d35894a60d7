"""Batch normalisation: each channel gets mean 0 and variance 1 over the batch, then its own scale
and shift.

    m = 1/P sum of x_i        v = 1/P sum of (x_i - m)^2        r = 1 / sqrt(v + eps)
    y_i = w h_i + b           h_i = (x_i - m) r

for every channel by itself. i runs over all P values of the channel: the batch, and the pixels if
there are any. In use, m and v are the running ones, plain constants. In training they depend on
every x_j. Step by step, with d_ij = 1 if i = j, else 0:

    dm/dx_j = 1/P
    dv/dx_j = 2/P (x_j - m)                        what m adds to it is 0: the sum of x_i - m is 0
    dr/dx_j = -1/2 r^3 dv/dx_j = -1/P r^2 h_j
    dh_i/dx_j = (d_ij - 1/P) r + (x_i - m) dr/dx_j = r (d_ij - 1/P - 1/P h_i h_j)

The chain rule collects dL/dx_j = sum over i of dy_i w dh_i/dx_j:

    db = sum of dy_i          dw = sum of dy_i h_i
    dx_j = w r (dy_j - db/P - h_j dw/P)            in use: w r dy_j

A channel is a row in memory, (C, P) as a whole. Rows are taken in blocks that stay in the cache. A
block is shifted by its own mean, m_k, right into the result's memory; there it gives its sum of
squares q_k, and there it is scaled later. So x is read once, and nothing cancels. Block k has n_k
values:

    m = 1/P sum of n_k m_k        v = 1/P sum of (q_k + n_k (m_k - m)^2)

Where several ranks share a batch, each has a part of it, and parts combine as blocks do. `gather`
brings what each rank has.

Sources: Ioffe and Szegedy, ICML 2015, algorithm 1; Chan, Golub and LeVeque, The American
Statistician 37 (1983) 242, for the variance from blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import parallel_for, pieces_of, ranges
from tinynet.kernels.layout import batch_first, batch_last, cut_to_zero, reject

# Values in a block: 1 MB of float32. Smaller ones would fit a nearer cache, and lose more than that
# to threads that hand the interpreter lock to each other.
BLOCK = 1 << 18
Gather = Callable[[Any], list[Any]]  # a value -> those of all ranks
_passed = Scratch()  # what a rectifier lets through of dy


def batch_norm_definition(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray | None,
    var: np.ndarray | None,
    eps: float,
) -> np.ndarray:
    """The formulas at the top, one channel at a time. mean, var (C,): the running ones, or None in
    training.
    """
    y = np.zeros_like(x)
    for c in range(x.shape[1]):
        values = x[:, c].ravel().tolist()
        m = math.fsum(values) / len(values) if mean is None else mean[c]
        v = math.fsum((u - m) ** 2 for u in values) / len(values) if var is None else var[c]
        for n, *pixel in np.ndindex(x[:, c].shape):
            place = (n, c, *pixel)
            h = (x[place] - m) / math.sqrt(v + eps)
            y[place] = weight[c] * h + bias[c]
    return y


def batch_norm_forward(
    x: np.ndarray,
    weight: np.ndarray | None,
    bias: np.ndarray | None,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    relu: bool = False,
    gather: Gather | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, C, ...) -> y, its negative values cut to 0 if `relu`; m (C,); r (C,).

    In training the running arrays (C,), if any, move to m and P/(P-1) v by the share `momentum`.
    gather: m, v and P are those of all ranks.
    """
    x = batch_last(x)
    C, dtype, wide = len(x), x.dtype, np.result_type(x.dtype, np.float64)
    y = pool.empty(x.shape, dtype)
    x2, y2 = x.reshape(C, -1), y.reshape(C, -1)  # (C, P)
    P = x2.shape[1]
    ones, blocks = np.ones(min(P, BLOCK), dtype), ranges(P, BLOCK)
    if training:
        mean, var = np.empty((2, C), wide)
    else:
        mean, var = running_mean.astype(wide), running_var.astype(wide)

    shifts = np.empty((len(blocks), C), wide)

    def centre(channels: slice) -> None:
        x_, y_ = x2[channels], y2[channels]
        if training:
            shifts[:, channels], mean[channels], var[channels] = _centre(x_, y_, blocks, ones)
        else:
            np.subtract(x_, mean[channels, None].astype(dtype), out=y_)
            shifts[:, channels] = mean[channels]

    def scale(channels: slice) -> None:
        y_ = y2[channels]
        scale = 1 / np.sqrt(var[channels] + eps)
        if weight is not None:
            scale = scale * weight[channels]
        for block, shift in zip(blocks, shifts[:, channels], strict=True):
            y_block, offset = y_[:, block], (shift - mean[channels]) * scale
            if bias is not None:
                offset = offset + bias[channels]
            y_block *= scale[:, None].astype(dtype)
            y_block += offset[:, None].astype(dtype)
            if relu:
                cut_to_zero(y_block, y_block)

    def piece(channels: slice) -> None:
        centre(channels)
        scale(channels)

    pieces = pieces_of(C, each=P, most=BLOCK)
    if gather is None:
        parallel_for(piece, pieces)
    else:
        parallel_for(centre, pieces)
        P, mean, var = combined(gather, P, mean, var)
        parallel_for(scale, pieces)
    if training and running_mean is not None:
        # Their real part: gradcheck calls with complex x, and a running mean takes no gradient.
        for running, now in ((running_mean, mean), (running_var, var * (P / (P - 1)))):
            running[...] = (1 - momentum) * running + momentum * now.real
    return batch_first(y), mean.astype(dtype), (1 / np.sqrt(var + eps)).astype(dtype)


def batch_norm_backward(
    dy: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray | None,
    mean: np.ndarray,
    inverse: np.ndarray,
    training: bool,
    needs: tuple[bool, bool, bool],
    y: np.ndarray | None = None,
    gather: Gather | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """dy (N, C, ...) -> (dx, dw, db), None for each one that `needs` does not ask for.

    mean and inverse are m and r of forward. y is what a forward with `relu` gave: dy counts 0
    where y <= 0. gather: dx counts the sums of all ranks; dw and db are this rank's.
    """
    x, dy = batch_last(x), batch_last(dy)
    C, dtype, wide = len(x), x.dtype, np.result_type(x.dtype, np.float64)
    dx = pool.empty(x.shape, dtype)
    x2, dy2, dx2 = (a.reshape(C, -1) for a in (x, dy, dx))  # (C, P)
    y2 = None if y is None else batch_last(y).reshape(C, -1)
    P = x2.shape[1]
    ones, blocks = np.ones(min(P, BLOCK), dtype), ranges(P, BLOCK)
    dw, db = np.empty((2, C), wide)

    def passed(channels: slice) -> np.ndarray:
        if y2 is None:
            return dy2[channels]
        dy_ = _passed.array(dy2[channels].shape, dtype)
        reject(y2[channels] <= 0, dy2[channels], out=dy_)
        return dy_

    def add_up(channels: slice) -> np.ndarray:
        dx_, dy_, r = dx2[channels], passed(channels), inverse[channels].astype(wide)
        sums, products = np.empty((2, len(blocks), len(dx_)), wide)
        for k, block in enumerate(blocks):
            np.subtract(x2[channels, block], mean[channels, None], out=dx_[:, block])
            sums[k], products[k] = _dot(dy_[:, block], ones), _dot(dy_[:, block], dx_[:, block])
        db[channels] = sums.sum(axis=0)
        dw[channels] = products.sum(axis=0) * r
        return dy_

    def send(channels: slice, dy_: np.ndarray) -> None:
        dx_, r = dx2[channels], inverse[channels].astype(wide)
        scale = r if weight is None else r * weight[channels]
        for block in blocks:
            part = dx_[:, block]
            if training:
                part *= (all_dw[channels] * -r / P)[:, None].astype(dtype)
                part -= (all_db[channels] / P)[:, None].astype(dtype)
                part += dy_[:, block]
                part *= scale[:, None].astype(dtype)
            else:
                np.multiply(dy_[:, block], scale[:, None].astype(dtype), out=part)

    def piece(channels: slice) -> None:
        dy_ = add_up(channels)
        if needs[0]:
            send(channels, dy_)

    all_dw, all_db, pieces = dw, db, pieces_of(C, each=P, most=BLOCK)
    if gather is None or not training:
        parallel_for(piece, pieces)
    else:
        parallel_for(add_up, pieces)
        counts, dws, dbs = zip(*gather((P, dw, db)), strict=True)
        P, all_dw, all_db = sum(counts), sum(dws), sum(dbs)
        if needs[0]:
            parallel_for(lambda channels: send(channels, passed(channels)), pieces)
    gradients = batch_first(dx), dw.astype(dtype), db.astype(dtype)
    x_, w_, b_ = (g if needed else None for g, needed in zip(gradients, needs, strict=True))
    return x_, w_, b_


def combined(
    gather: Gather, P: int, mean: np.ndarray, var: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray]:
    """Count, mean and variance of the values of all ranks, from those of this one."""
    counts, means, variances = zip(*gather((P, mean, var)), strict=True)
    total = sum(counts)
    m = sum(n * m_k for n, m_k in zip(counts, means, strict=True)) / total
    squares = zip(counts, means, variances, strict=True)
    return total, m, sum(n * (v_k + (m_k - m) ** 2) for n, m_k, v_k in squares) / total


def _centre(
    x: np.ndarray, out: np.ndarray, blocks: list[slice], ones: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """out = x (channels, P) less the mean of each block. -> these means (blocks, channels), and the
    mean and variance of whole rows.
    """
    wide = np.result_type(x.dtype, np.float64)
    means, squares = np.empty((2, len(blocks), len(x)), wide)
    counts = np.array([[block.stop - block.start] for block in blocks], np.float64)
    for k, block in enumerate(blocks):
        # Rounded at once: the shift that is taken is the shift that is accounted for.
        shift = (_dot(x[:, block], ones) / counts[k]).astype(x.dtype)
        means[k] = shift
        part = np.subtract(x[:, block], shift[:, None], out=out[:, block])
        squares[k] = _dot(part, part)
    P = counts.sum()
    mean = (counts * means).sum(axis=0) / P
    return means, mean, (squares + counts * (means - mean) ** 2).sum(axis=0) / P


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The products of the rows of a (channels, n) with those of b, or with the vector b -> float64.

    By BLAS, three times as quick as a sum by NumPy, and as exact.
    """
    b = b[: a.shape[1], None] if b.ndim == 1 else b[:, :, None]
    return np.matmul(a[:, None, :], b)[:, 0, 0].astype(np.result_type(a.dtype, np.float64))
