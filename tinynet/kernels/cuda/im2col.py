"""im2col and col2im: tinynet/kernels/im2col.py on a GPU."""

from __future__ import annotations

import sys
from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import Source, at_once, batch_first, batch_last
from tinynet.kernels.cuda.row_columns import row_columns
from tinynet.kernels.im2col import Pair, output_size

_col2im = Source("col2im.cu").col2im


def im2col(x: Any, kernel: Pair, stride: Pair, padding: Pair) -> Any:
    """(N, C, H, W) -> (C*kh*kw, OH*OW*N): the columns of row_columns.py, written out."""
    N, C, H, W = x.shape
    OH, OW = output = output_size((H, W), kernel, stride, padding)
    ((_, col),) = row_columns(batch_last(x), kernel, stride, padding, output, sys.maxsize)
    col = col.reshape(OH, *kernel, C, OW * N).transpose(3, 1, 2, 0, 4)  # (C, kh, kw, OH, OW*N)
    return cupy.ascontiguousarray(col).reshape(C * kernel[0] * kernel[1], OH * OW * N)


def col2im(
    col: Any, x_shape: tuple[int, int, int, int], kernel: Pair, stride: Pair, padding: Pair
) -> Any:
    """(C*kh*kw, OH*OW*N) -> (N, C, H, W)."""
    N, C, H, W = x_shape
    dx = cupy.zeros((C, H, W, N), col.dtype)
    OH, _ = output_size((H, W), kernel, stride, padding)
    add_columns(cupy.ascontiguousarray(col), dx, kernel, stride, padding, slice(0, OH))
    return batch_first(dx)


def add_columns(col: Any, dx: Any, kernel: Pair, stride: Pair, padding: Pair, rows: slice) -> None:
    """Add to dx (C, H, W, N) what col (C*kh*kw, rows*OW*N) has for it."""
    C, H, W, N = dx.shape
    (kh, _), (sh, _), (ph, _) = kernel, stride, padding
    _, OW = output_size((H, W), kernel, stride, padding)
    first = max(rows.start * sh - ph, 0)  # the rows of dx that these windows touch
    height = min((rows.stop - 1) * sh - ph + kh, H) - first
    few = at_once(N, col, dx)
    _col2im(
        (max(height, 0) * W * N // few, C), col, dx, C, N // few, H, W, *kernel, *stride, *padding,
        OW, rows.start, rows.stop - rows.start, first, height, AT_ONCE=few,
    )  # fmt: skip
