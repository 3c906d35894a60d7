"""Columns expanded along the row alone, and kernels in their order: what convolutions multiply."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.devices.threads import ranges
from tinynet.kernels.cuda.launch import Source, at_once
from tinynet.kernels.im2col import Pair

_columns, _order = Source("row_columns.cu").row_columns, Source("kernel_order.cu")


def row_columns(
    x: Any, kernel: Pair, stride: Pair, padding: Pair, output: Pair, most: int
) -> Iterator[tuple[slice, Any]]:
    """For pieces of the output's rows: (which rows, their columns (rows, kh*kw*C, OW*N)).

    x (C, H, W, N); the columns of row oh are x[c, oh*sh + i - ph, ow*sw + j - pw, n] in the order
    ((i, j, c), (ow, n)). They overlap in memory, and the next piece takes the place of the last.
    A piece has as many rows as fit in `most` bytes, and one at least.
    """
    (C, H, W, N), (kh, kw), (sh, sw), (OH, OW) = x.shape, kernel, stride, output
    row = kw * C * OW * N  # elements from one row of the picture to the next
    tallest, pieces = _pieces(OH, kh, sh, row * x.itemsize, most)
    col = cupy.empty(tallest * row, x.dtype)
    few = at_once(N, x, col)
    for rows, top, height in pieces:
        _columns(
            (OW * N // few, height * C), x, col, C, N // few, H, W, kw, sw, padding[1], OW,
            top - padding[0], height, AT_ONCE=few,
        )  # fmt: skip
        shape = rows.stop - rows.start, kh * kw * C, OW * N
        steps = sh * row * x.itemsize, OW * N * x.itemsize, x.itemsize
        yield rows, cupy.lib.stride_tricks.as_strided(col, shape, steps)


@functools.lru_cache(1 << 10)
def _pieces(
    OH: int, kh: int, sh: int, row_bytes: int, most: int
) -> tuple[int, list[tuple[slice, int, int]]]:
    """Pieces of even size: (rows of the picture in the tallest, for each piece its output's rows,
    the first row of the padded picture that they see, how many they see).
    """
    fit = (most // max(1, row_bytes) - kh) // sh + 1
    step = -(-OH // -(-OH // max(1, min(OH, fit))))
    pieces = [
        (rows, rows.start * sh, (rows.stop - rows.start - 1) * sh + kh) for rows in ranges(OH, step)
    ]
    return pieces[0][2], pieces


def for_rows(w: Any) -> Any:
    """w (O, C, kh, kw) -> (O, kh*kw*C) in the order of the columns."""
    O, C, kh, kw = w.shape
    v = cupy.empty((O, kh * kw * C), w.dtype)
    _order.for_rows((w.size, 1), w, v, C, kh, kw, w.size)
    return v


def turned_for_rows(w: Any) -> Any:
    """w (O, C, kh, kw) -> (C, kh*kw*O): with stride 1, dx is the convolution of dy with these."""
    O, C, kh, kw = w.shape
    v = cupy.empty((C, kh * kw * O), w.dtype)
    _order.turned_for_rows((w.size, 1), w, v, O, C, kh, kw, w.size)
    return v


def sum_of_rows(parts: Any, dw: Any, add: bool) -> None:
    """dw (O, C, kh, kw) = the sum of parts (rows, O, kh*kw*C) over the rows; with `add`, +=."""
    _, C, kh, kw = dw.shape
    _order.sum_of_rows((dw.size, 1), parts, dw, len(parts), C, kh, kw, add, dw.size)
