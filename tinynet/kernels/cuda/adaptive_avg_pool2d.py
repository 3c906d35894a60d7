"""Average pooling to a wanted size: tinynet/kernels/adaptive_avg_pool2d.py on a GPU."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import Source, batch_first, batch_last
from tinynet.kernels.im2col import Pair

_cu = Source("adaptive_avg_pool2d.cu")


def adaptive_avg_pool2d_forward(x: Any, size: Pair) -> Any:
    """(N, C, H, W) -> (N, C, *size)."""
    N, C, H, W = x.shape
    y = cupy.empty((C, *size, N), x.dtype)
    _cu.adaptive_avg_pool2d_forward((size[0] * size[1] * N, C), batch_last(x), y, C, N, H, W, *size)
    return batch_first(y)


def adaptive_avg_pool2d_backward(dy: Any, x_shape: tuple[int, int, int, int], size: Pair) -> Any:
    """dy (N, C, *size) -> dx (N, C, H, W)."""
    N, C, H, W = x_shape
    dx = cupy.empty((C, H, W, N), dy.dtype)
    _cu.adaptive_avg_pool2d_backward((H * W * N, C), batch_last(dy), dx, C, N, H, W, *size)
    return batch_first(dx)
