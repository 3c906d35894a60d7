"""Average pooling, windows overlapping or not.

    y[n, c, oh, ow] = 1/D sum over i, j of x[n, c, oh*sh + i - ph, ow*sw + j - pw]

where x is 0 outside the picture. D[oh, ow] is the number of the window's pixels inside the padded
picture (count_include_pad), or inside the picture. y is linear in x; its adjoint gives each pixel
an equal share of every window that covers it:

    dx[n, c, h, w] = sum over the windows that cover (h, w) of dy[n, c, oh, ow] / D[oh, ow]
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.threads import parallel_for, pieces_of
from tinynet.kernels.im2col import Pair
from tinynet.kernels.layout import batch_first, batch_last
from tinynet.kernels.max_pool2d import (
    PIECE,
    pool_output_size,
    window_parts,
    windows_definition,
)


def window_sizes(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, out: Pair, count_include_pad: bool
) -> np.ndarray:
    """D (OH, OW)."""
    counts = []
    for n, k, s, p, o in zip(size, kernel, stride, padding, out, strict=True):
        start = np.arange(o) * s - p
        stop = np.minimum(start + k, n + p)
        counts.append(
            stop - start if count_include_pad else np.minimum(stop, n) - np.maximum(start, 0)
        )
    return np.outer(*counts)


def avg_pool2d_definition(
    x: np.ndarray,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> np.ndarray:
    """The formula at the top, one output at a time."""
    (N, C, H, W), (ph, pw) = x.shape, padding
    rows = windows_definition(H, kernel[0], stride[0], ph, ceil_mode)
    columns = windows_definition(W, kernel[1], stride[1], pw, ceil_mode)
    y = np.zeros((N, C, len(rows), len(columns)), x.dtype)
    for n, c, oh, ow in np.ndindex(y.shape):
        window = [(h, w) for h in rows[oh] for w in columns[ow]]
        inside = [x[n, c, h, w] for h, w in window if 0 <= h < H and 0 <= w < W]
        padded = [1 for h, w in window if h < H + ph and w < W + pw]
        y[n, c, oh, ow] = sum(inside) / len(padded if count_include_pad else inside)
    return y


def avg_pool2d_forward(
    x: np.ndarray,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> np.ndarray:
    """(N, C, H, W) -> (N, C, OH, OW)."""
    N, C, H, W = x.shape
    OH, OW = out = pool_output_size((H, W), kernel, stride, padding, ceil_mode)
    x = batch_last(x)
    y = pool.empty((C, OH, OW, N), x.dtype)
    divisor = window_sizes((H, W), kernel, stride, padding, out, count_include_pad).astype(x.dtype)
    parts = list(window_parts((H, W), kernel, stride, padding, slice(0, OH), OW))

    def piece(channels: slice) -> None:
        y_, x_ = y[channels], x[channels]
        y_[...] = 0
        for _, outputs, inputs in parts:
            y_[outputs] += x_[inputs]
        y_ /= divisor[:, :, None]

    parallel_for(piece, pieces_of(C, each=OH * OW * N, most=PIECE))
    return batch_first(y)


def avg_pool2d_backward(
    dy: np.ndarray,
    x_shape: tuple[int, int, int, int],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> np.ndarray:
    """dy (N, C, OH, OW) -> dx (N, C, H, W)."""
    N, C, H, W = x_shape
    dy = batch_last(dy)
    _, OH, OW, _ = dy.shape
    dx = pool.empty((C, H, W, N), dy.dtype)
    divisor = window_sizes((H, W), kernel, stride, padding, (OH, OW), count_include_pad)
    parts = list(window_parts((H, W), kernel, stride, padding, slice(0, OH), OW))

    def piece(channels: slice) -> None:
        dx_, share = dx[channels], dy[channels] / divisor[:, :, None].astype(dy.dtype)
        dx_[...] = 0
        for _, outputs, inputs in parts:
            dx_[inputs] += share[outputs]

    parallel_for(piece, pieces_of(C, each=OH * OW * N, most=PIECE))
    return batch_first(dx)
