"""Average pooling to a wanted size: the windows follow from it.

    y[n, c, i, j] = mean of x[n, c, h, w] over the rows h of window i, the columns w of window j

Of H rows and OH windows, window i holds rows floor(i H / OH) ... ceil((i + 1) H / OH) - 1. Every
row is covered. Windows are disjoint where OH divides H, and share rows elsewhere. y is linear in x;
its adjoint gives each pixel an equal share of every window that covers it. With D[i, j] the number
of pixels of a window,

    dx[n, c, h, w] = sum over the windows that cover (h, w) of dy[n, c, i, j] / D[i, j]

A size of 1 is the mean of each map: the global average pooling of Lin, Chen and Yan, ICLR 2014,
section 3.2.
"""

from __future__ import annotations

import math

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.threads import parallel_for, pieces_of
from tinynet.kernels.im2col import Pair
from tinynet.kernels.layout import PIECE, batch_first, batch_last


def adaptive_windows(n: int, out: int) -> list[slice]:
    """The windows of n rows, `out` of them."""
    return [slice(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]


def adaptive_avg_pool2d_definition(x: np.ndarray, size: Pair) -> np.ndarray:
    """The formula at the top, one output at a time."""
    (N, C, H, W), (OH, OW) = x.shape, size
    y = np.zeros((N, C, OH, OW), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        rows = range(math.floor(i * H / OH), math.ceil((i + 1) * H / OH))
        columns = range(math.floor(j * W / OW), math.ceil((j + 1) * W / OW))
        y[n, c, i, j] = np.mean([x[n, c, h, w] for h in rows for w in columns])
    return y


def adaptive_avg_pool2d_forward(x: np.ndarray, size: Pair) -> np.ndarray:
    """(N, C, H, W) -> (N, C, *size)."""
    x = batch_last(x)
    C, H, W, N = x.shape
    y = pool.empty((C, *size, N), x.dtype)
    rows, columns = adaptive_windows(H, size[0]), adaptive_windows(W, size[1])

    def piece(channels: slice) -> None:
        for i, h in enumerate(rows):
            for j, w in enumerate(columns):
                np.mean(x[channels, h, w], axis=(1, 2), out=y[channels, i, j])

    parallel_for(piece, pieces_of(C, each=H * W * N, most=PIECE))
    return batch_first(y)


def adaptive_avg_pool2d_backward(
    dy: np.ndarray, x_shape: tuple[int, int, int, int], size: Pair
) -> np.ndarray:
    """dy (N, C, *size) -> dx (N, C, H, W)."""
    N, C, H, W = x_shape
    dy = batch_last(dy)
    dx = pool.empty((C, H, W, N), dy.dtype)
    rows, columns = adaptive_windows(H, size[0]), adaptive_windows(W, size[1])
    disjoint = H % size[0] == W % size[1] == 0

    def piece(channels: slice) -> None:
        if not disjoint:
            dx[channels] = 0
        for i, h in enumerate(rows):
            for j, w in enumerate(columns):
                share = dy[channels, i, j] / ((h.stop - h.start) * (w.stop - w.start))
                if disjoint:
                    dx[channels, h, w] = share[:, None, None]
                else:
                    dx[channels, h, w] += share[:, None, None]

    parallel_for(piece, pieces_of(C, each=H * W * N, most=PIECE))
    return batch_first(dx)
