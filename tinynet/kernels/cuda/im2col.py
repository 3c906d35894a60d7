"""im2col and col2im: tinynet/kernels/im2col.py on a GPU."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import Source, batch_first, batch_last
from tinynet.kernels.im2col import Pair, output_size

_im2col, _col2im = Source("im2col.cu").im2col, Source("col2im.cu").col2im


def im2col(x: Any, kernel: Pair, stride: Pair, padding: Pair) -> Any:
    """(N, C, H, W) -> (C*kh*kw, OH*OW*N)."""
    N, C, H, W = x.shape
    OH, OW = output_size((H, W), kernel, stride, padding)
    col = cupy.empty((C * kernel[0] * kernel[1], OH * OW * N), x.dtype)
    write_columns(batch_last(x), col, kernel, stride, padding, slice(0, OH))
    return col


def col2im(
    col: Any, x_shape: tuple[int, int, int, int], kernel: Pair, stride: Pair, padding: Pair
) -> Any:
    """(C*kh*kw, OH*OW*N) -> (N, C, H, W)."""
    N, C, H, W = x_shape
    dx = cupy.zeros((C, H, W, N), col.dtype)
    OH, _ = output_size((H, W), kernel, stride, padding)
    add_columns(cupy.ascontiguousarray(col), dx, kernel, stride, padding, slice(0, OH))
    return batch_first(dx)


def write_columns(x: Any, col: Any, kernel: Pair, stride: Pair, padding: Pair, rows: slice) -> None:
    """Fill col (C*kh*kw, rows*OW*N) from x (C, H, W, N), for some output rows."""
    C, H, W, N = x.shape
    _, OW = output_size((H, W), kernel, stride, padding)
    # 16 bytes at once where the batch divides by 4 (by 2 in double): a quarter of the instructions
    # for the same bytes.
    wide = 16 // x.dtype.itemsize
    if N % wide == 0 and x.data.ptr % 16 == 0:
        x, col, N = x.view("complex128"), col.view("complex128"), N // wide
    count = rows.stop - rows.start
    _im2col(
        (count * OW * N, C), x, col, C, N, H, W, *kernel, *stride, *padding, OW, rows.start, count
    )


def add_columns(col: Any, dx: Any, kernel: Pair, stride: Pair, padding: Pair, rows: slice) -> None:
    """Add to dx (C, H, W, N) what col (C*kh*kw, rows*OW*N) has for it."""
    C, H, W, N = dx.shape
    (kh, _), (sh, _), (ph, _) = kernel, stride, padding
    _, OW = output_size((H, W), kernel, stride, padding)
    first = max(rows.start * sh - ph, 0)  # the rows of dx that these windows touch
    height = min((rows.stop - 1) * sh - ph + kh, H) - first
    _col2im(
        (max(height, 0) * W * N, C), col, dx, C, N, H, W, *kernel, *stride, *padding, OW,
        rows.start, rows.stop - rows.start, first, height,
    )  # fmt: skip
