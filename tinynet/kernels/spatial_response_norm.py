"""Response normalisation over a patch of the same map.

    s = k + a * sum of x^2 over the size x size patch around the pixel        a = alpha / size^2
    y = x * s^-beta

The patch is clipped at the picture's edges. The formulas, forward and backward, are those of
local_response_norm.py with the patch in place of the channel window; its sum goes down the rows,
then along the columns.

Source: `akrizhevsky/cuda-convnet`'s rnorm layer; the second normalisation after conv2 in the
program of 2012 (cfg 145).
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import parallel_for
from tinynet.kernels.layout import batch_first, batch_last
from tinynet.kernels.local_response_norm import power, window_sum

_squares = Scratch()
_s = Scratch()
_rows = Scratch()
_q = Scratch()
_sums = Scratch()


def spatial_response_norm_definition(
    x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """The formulas at the top, one output at a time."""
    y, before, after = np.zeros_like(x), size // 2, (size - 1) // 2
    for n, c, h, w in np.ndindex(x.shape):
        top, left = max(h - before, 0), max(w - before, 0)
        patch = x[n, c, top : h + after + 1, left : w + after + 1]
        s = k + alpha / size**2 * sum(u**2 for u in patch.ravel())
        y[n, c, h, w] = x[n, c, h, w] * s**-beta
    return y


def spatial_response_norm_forward(
    x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """(N, C, H, W) -> the same shape."""
    x = batch_last(x)
    y = pool.empty(x.shape, x.dtype)

    def piece(channel: int) -> None:
        s = _scale(x[channel], size, alpha, k)
        np.divide(x[channel], power(s, beta), out=y[channel])

    parallel_for(piece, range(len(x)))
    return batch_first(y)


def spatial_response_norm_backward(
    dy: np.ndarray, x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """dy, x (N, C, H, W) -> dx."""
    x, dy = batch_last(x), batch_last(dy)
    dx = pool.empty(x.shape, x.dtype)
    factor = x.dtype.type(-2 * beta * alpha / size**2)

    def piece(channel: int) -> None:
        x_, dx_ = x[channel], dx[channel]
        s = _scale(x_, size, alpha, k)
        np.divide(dy[channel], power(s, beta), out=dx_)  # dy s^-beta
        q = np.multiply(dx_, x_, out=_q.array(x_.shape, x.dtype))
        q /= s  # dy x s^(-beta-1)
        sums = _patch_sum(q, (size - 1) // 2, size // 2, _sums.array(x_.shape, x.dtype))
        sums *= x_
        sums *= factor
        dx_ += sums

    parallel_for(piece, range(len(x)))
    return batch_first(dx)


def _scale(x: np.ndarray, size: int, alpha: float, k: float) -> np.ndarray:
    """s (H, W, N) of one channel, in this thread's buffer."""
    squares = np.multiply(x, x, out=_squares.array(x.shape, x.dtype))
    s = _patch_sum(squares, size // 2, (size - 1) // 2, _s.array(x.shape, x.dtype))
    s *= x.dtype.type(alpha / size**2)
    s += x.dtype.type(k)
    return s


def _patch_sum(a: np.ndarray, before: int, after: int, out: np.ndarray) -> np.ndarray:
    """out[h, w] = sum of a[h - before ... h + after, w - before ... w + after], clipped, a (H, W,
    N).
    """
    rows = window_sum(a, before, after, _rows.array(a.shape, a.dtype))
    window_sum(rows.swapaxes(0, 1), before, after, out.swapaxes(0, 1))
    return out
