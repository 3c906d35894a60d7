"""Upsampling by repetition: each pixel becomes a block of s x t equal ones.

    y[n, c, i, j] = x[n, c, floor(i / s), floor(j / t)]

A pixel is read by all pixels of its block, so their gradients add up in it:

    dx[n, c, h, w] = sum of dy[n, c, i, j] over the block: i = s h ... s h + s - 1, j = t w ...
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.threads import parallel_for, pieces_of
from tinynet.kernels.im2col import Pair
from tinynet.kernels.layout import PIECE, batch_first, batch_last


def upsample2d_definition(x: np.ndarray, scale: Pair) -> np.ndarray:
    """The formula at the top, one output at a time."""
    (N, C, H, W), (s, t) = x.shape, scale
    y = np.zeros((N, C, s * H, t * W), x.dtype)
    for n, c, i, j in np.ndindex(y.shape):
        y[n, c, i, j] = x[n, c, i // s, j // t]
    return y


def upsample2d_forward(x: np.ndarray, scale: Pair) -> np.ndarray:
    """(N, C, H, W) -> (N, C, s H, t W)."""
    x, (s, t) = batch_last(x), scale
    C, H, W, N = x.shape
    y = pool.empty((C, H, s, W, t, N), x.dtype)

    def piece(channels: slice) -> None:
        y[channels] = x[channels, :, None, :, None]

    parallel_for(piece, pieces_of(C, each=H * s * W * t * N, most=PIECE))
    return batch_first(y.reshape(C, H * s, W * t, N))


def upsample2d_backward(dy: np.ndarray, scale: Pair) -> np.ndarray:
    """dy (N, C, s H, t W) -> dx (N, C, H, W)."""
    dy, (s, t) = batch_last(dy), scale
    C, N = dy.shape[0], dy.shape[-1]
    H, W = dy.shape[1] // s, dy.shape[2] // t
    dx = pool.empty((C, H, W, N), dy.dtype)

    def piece(channels: slice) -> None:
        out = dx[channels]
        np.sum(dy[channels].reshape(len(out), H, s, W, t, N), axis=(2, 4), out=out)

    parallel_for(piece, pieces_of(C, each=H * s * W * t * N, most=PIECE))
    return batch_first(dx)
