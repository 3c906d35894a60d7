"""Upsampling by repetition: tinynet/kernels/upsample2d.py on a GPU."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import Source, batch_first, batch_last
from tinynet.kernels.im2col import Pair

_cu = Source("upsample2d.cu")


def upsample2d_forward(x: Any, scale: Pair) -> Any:
    """(N, C, H, W) -> (N, C, s H, t W)."""
    N, C, H, W = x.shape
    s, t = scale
    y = cupy.empty((C, H * s, W * t, N), x.dtype)
    _cu.upsample2d_forward((H * s * W * t * N, C), batch_last(x), y, C, N, H, W, s, t)
    return batch_first(y)


def upsample2d_backward(dy: Any, scale: Pair) -> Any:
    """dy (N, C, s H, t W) -> dx (N, C, H, W)."""
    (N, C, _, _), (s, t) = dy.shape, scale
    H, W = dy.shape[2] // s, dy.shape[3] // t
    dx = cupy.empty((C, H, W, N), dy.dtype)
    _cu.upsample2d_backward((H * W * N, C), batch_last(dy), dx, C, N, H, W, s, t)
    return batch_first(dx)
