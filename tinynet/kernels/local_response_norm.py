"""Local response normalisation across channels.

    s_c = k + a * sum of x_j^2 over the window of c        a = alpha / size
    y_c = x_c * s_c^-beta

for every pixel by itself. The window of c is c - size//2 ... c + (size-1)//2, clipped at the ends.

Backward. x_m acts on y_m directly, and through s_c on every y_c whose window holds m.

    derivative of s_c by x_m:    2 a x_m                      if the window of c holds m, else 0
    derivative of y_c by s_c:    -beta x_c s_c^(-beta-1)

The chain rule adds the direct way and all the others (dy_c is dL/dy_c, dx_m is dL/dx_m):

    dx_m = dy_m s_m^-beta + sum over c of  dy_c * (-beta x_c s_c^(-beta-1)) * 2 a x_m
         = dy_m s_m^-beta - 2 a beta x_m * sum over c of  dy_c x_c s_c^(-beta-1)

Here c runs over the channels whose window holds m. That is the mirrored window,
m - (size-1)//2 ... m + size//2.

Source: Krizhevsky et al. 2012, section 3.3, with alpha divided by the window as in their program
(and in PyTorch, Caffe, ONNX): the paper's literal alpha = 1e-4 with n = 5 is alpha = 5e-4 here.

Forward makes some ten passes over its data and backward some twenty, so both work on a few thousand
pixels at a time, which stay in the cache: twice as quick as pass after pass over the whole.
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import parallel_for, pieces_of
from tinynet.kernels.layout import batch_first, batch_last

PIECE = 1 << 18  # elements of x handled at once: 1 MB of float32 in each of the five arrays in use
PIXELS = 64  # at least, of however many channels

_squares = Scratch()
_s = Scratch()
_power = Scratch()
_root = Scratch()
_q = Scratch()
_sums = Scratch()


def local_response_norm_definition(
    x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """The formulas at the top, one output at a time."""
    y = np.zeros_like(x)
    for n, c, *pixel in np.ndindex(x.shape):
        first, last = max(c - size // 2, 0), c + (size - 1) // 2
        place, window = (n, c, *pixel), (n, slice(first, last + 1), *pixel)
        s = k + alpha / size * sum(u**2 for u in x[window])
        y[place] = x[place] * s**-beta
    return y


def local_response_norm_forward(
    x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """(N, C, ...) -> the same shape."""
    x = batch_last(x)
    y = pool.empty(x.shape, x.dtype)
    x2, y2 = x.reshape(len(x), -1), y.reshape(len(x), -1)  # (C, pixels)

    def piece(pixels: slice) -> None:
        x_, y_ = x2[:, pixels], y2[:, pixels]
        s = _scale(x_, size, alpha, k)
        np.divide(x_, power(s, beta), out=y_)

    parallel_for(piece, pieces_of(x2.shape[1], each=len(x2), most=PIECE, least=PIXELS))
    return batch_first(y)


def local_response_norm_backward(
    dy: np.ndarray, x: np.ndarray, size: int, alpha: float, beta: float, k: float
) -> np.ndarray:
    """dy, x (N, C, ...) -> dx. s is computed again: that is cheaper than the memory to keep it."""
    x, dy = batch_last(x), batch_last(dy)
    dx = pool.empty(x.shape, x.dtype)
    x2, dy2, dx2 = (array.reshape(len(x), -1) for array in (x, dy, dx))  # (C, pixels)
    factor = x.dtype.type(-2 * beta * alpha / size)

    def piece(pixels: slice) -> None:
        x_, dy_, dx_ = x2[:, pixels], dy2[:, pixels], dx2[:, pixels]
        s = _scale(x_, size, alpha, k)
        np.divide(dy_, power(s, beta), out=dx_)  # dy s^-beta
        q = np.multiply(dx_, x_, out=_q.array(x_.shape, x.dtype))
        q /= s  # dy x s^(-beta-1)
        sums = window_sum(q, (size - 1) // 2, size // 2, _sums.array(x_.shape, x.dtype))
        sums *= x_
        sums *= factor
        dx_ += sums

    parallel_for(piece, pieces_of(x2.shape[1], each=len(x2), most=PIECE, least=PIXELS))
    return batch_first(dx)


def window_sum(a: np.ndarray, before: int, after: int, out: np.ndarray) -> np.ndarray:
    """out[c] = sum of a[c - before ... c + after] along the first axis, clipped at its ends."""
    np.copyto(out, a)
    for shift in range(1, before + 1):
        out[shift:] += a[:-shift]
    for shift in range(1, after + 1):
        out[:-shift] += a[shift:]
    return out


def power(s: np.ndarray, beta: float) -> np.ndarray:
    """s^beta, for beta = 0.75 by two square roots: eight times quicker than the general power."""
    out = _power.array(s.shape, s.dtype)
    if beta != 0.75:
        return np.power(s, s.dtype.type(beta), out=out)
    np.sqrt(s, out=out)
    root = np.sqrt(out, out=_root.array(s.shape, s.dtype))
    return np.multiply(out, root, out=out)


def _scale(x: np.ndarray, size: int, alpha: float, k: float) -> np.ndarray:
    """s (C, pixels), in this thread's buffer."""
    squares = np.multiply(x, x, out=_squares.array(x.shape, x.dtype))
    s = window_sum(squares, size // 2, (size - 1) // 2, _s.array(x.shape, x.dtype))
    s *= x.dtype.type(alpha / size)
    s += x.dtype.type(k)
    return s
