"""Max and average pooling: tinynet/kernels/max_pool2d.py and avg_pool2d.py on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import Source, at_once, batch_first, batch_last
from tinynet.kernels.im2col import Pair
from tinynet.kernels.max_pool2d import pool_output_size

_max, _avg = Source("max_pool2d.cu"), Source("avg_pool2d.cu")


def max_pool2d_forward(
    x: Any, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool
) -> tuple[Any, Any]:
    """(N, C, H, W) -> y and the winners' positions, both (N, C, OH, OW)."""
    N, C, H, W = x.shape
    OH, OW = pool_output_size((H, W), kernel, stride, padding, ceil_mode)
    x, y = batch_last(x), cupy.empty((C, OH, OW, N), x.dtype)
    winner = cupy.empty(y.shape, np.min_scalar_type(kernel[0] * kernel[1]))
    few = at_once(N, x, y, winner)
    _max.max_pool2d_forward(
        (OH * OW * N // few, C), x, y, winner, C, N // few, H, W, *kernel, *stride, *padding,
        OH, OW, AT_ONCE=few,
    )  # fmt: skip
    return batch_first(y), batch_first(winner)


def max_pool2d_backward(
    dy: Any,
    winner: Any,
    x_shape: tuple[int, int, int, int],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
) -> Any:
    """dy, winner (N, C, OH, OW) -> dx (N, C, H, W)."""
    N, C, H, W = x_shape
    OH, OW = dy.shape[2:]
    dx = cupy.empty((C, H, W, N), dy.dtype)
    dy, winner = batch_last(dy), batch_last(winner)
    few = at_once(N, dy, winner, dx)
    _max.max_pool2d_backward(
        (H * W * N // few, C), dy, winner, dx, C, N // few, H, W, *kernel, *stride, *padding,
        OH, OW, AT_ONCE=few,
    )  # fmt: skip
    return batch_first(dx)


def avg_pool2d_forward(
    x: Any, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool, count_include_pad: bool
) -> Any:
    """(N, C, H, W) -> (N, C, OH, OW)."""
    N, C, H, W = x.shape
    OH, OW = pool_output_size((H, W), kernel, stride, padding, ceil_mode)
    y = cupy.empty((C, OH, OW, N), x.dtype)
    _avg.avg_pool2d_forward(
        (OH * OW * N, C),
        batch_last(x),
        y,
        C,
        N,
        H,
        W,
        *kernel,
        *stride,
        *padding,
        OH,
        OW,
        count_include_pad,
    )
    return batch_first(y)


def avg_pool2d_backward(
    dy: Any,
    x_shape: tuple[int, int, int, int],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Any:
    """dy (N, C, OH, OW) -> dx (N, C, H, W)."""
    N, C, H, W = x_shape
    OH, OW = dy.shape[2:]
    dx = cupy.empty((C, H, W, N), dy.dtype)
    _avg.avg_pool2d_backward(
        (H * W * N, C),
        batch_last(dy),
        dx,
        C,
        N,
        H,
        W,
        *kernel,
        *stride,
        *padding,
        OH,
        OW,
        count_include_pad,
    )
    return batch_first(dx)
