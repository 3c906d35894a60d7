"""Convolution: tinynet/kernels/conv2d.py on a GPU, with the same products and letters.

    y = w @ col + b        dw = dy @ col^T        dx = col2im(w^T @ dy)

Columns are made in pieces of whole output rows, in one buffer, and made again in backward. Bias and
rectifier follow all products in one launch, and go before them in backward.
"""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.devices.threads import ranges
from tinynet.kernels.cuda.gemm import gemm
from tinynet.kernels.cuda.im2col import add_columns, write_columns
from tinynet.kernels.cuda.launch import batch_first, batch_last
from tinynet.kernels.cuda.rows import add_to_rows, add_to_rows_backward
from tinynet.kernels.im2col import Pair, output_size

# Of columns made at once. Small pieces stay in the GPU's L2 cache (50 MB on an H200), large ones
# keep all its processors busy: conv2's product on 16 MB of columns has 27 tiles of 128 x 128 for
# 132 processors. A guess for the large side; `python benchmarks/gpu.py` measures it.
COLUMN_BYTES = 256 << 20


def conv2d_forward(
    x: Any, weight: Any, bias: Any, stride: Pair, padding: Pair, groups: int, relu: bool = False
) -> Any:
    """(N, C, H, W), (O, C/groups, kh, kw), (O,) -> (N, O, OH, OW)."""
    N, _, H, W = x.shape
    O, _, *kernel = weight.shape
    OH, OW = output_size((H, W), kernel, stride, padding)
    x = batch_last(x)
    y = cupy.empty((O, OH * OW * N), x.dtype)
    for x_, w_, y_ in _groups(groups, x, weight.reshape(O, -1), y):
        col, pieces = _buffer(w_.shape[1], OH, OW * N, x.dtype)
        for rows, pixels in pieces:
            col_ = col[: w_.shape[1] * (pixels.stop - pixels.start)].reshape(w_.shape[1], -1)
            write_columns(x_, col_, kernel, stride, padding, rows)
            gemm(w_, col_, out=y_[:, pixels])  # (O/G, K) @ (K, P) -> (O/G, P)
    add_to_rows(y, bias, relu)
    return batch_first(y.reshape(O, OH, OW, N))


def conv2d_backward(
    dy: Any,
    x: Any,
    weight: Any,
    stride: Pair,
    padding: Pair,
    groups: int,
    needs: tuple[bool, bool, bool],
    y: Any = None,
) -> tuple[Any, Any, Any]:
    """dy (N, O, OH, OW) -> (dx, dw, db), None for each one that `needs` does not ask for. y: the
    forward's, with relu.
    """
    N, C, H, W = x.shape
    O, _, *kernel = weight.shape
    _, _, OH, OW = dy.shape
    x, dy = batch_last(x), batch_last(dy).reshape(O, OH * OW * N)
    dy, db = add_to_rows_backward(dy, None if y is None else batch_last(y), needs[2])
    w = weight.reshape(O, -1)
    dx = cupy.zeros((C, H, W, N), x.dtype) if needs[0] else None
    dw: Any = cupy.zeros(w.shape, x.dtype) if needs[1] else None
    for g in range(groups):
        x_, w_, dy_, dx_, dw_ = (_group(a, g, groups) for a in (x, w, dy, dx, dw))
        col, pieces = _buffer(w_.shape[1], OH, OW * N, x.dtype)
        for rows, pixels in pieces:
            col_ = col[: w_.shape[1] * (pixels.stop - pixels.start)].reshape(w_.shape[1], -1)
            if needs[1]:
                write_columns(x_, col_, kernel, stride, padding, rows)
                gemm(dy_[:, pixels], col_.T, out=dw_, add=True)  # (O/G, P) @ (P, K) -> (O/G, K)
            if needs[0]:
                gemm(w_.T, dy_[:, pixels], out=col_)  # (K, O/G) @ (O/G, P) -> (K, P)
                add_columns(col_, dx_, kernel, stride, padding, rows)
    return (
        batch_first(dx) if needs[0] else None,
        dw.reshape(weight.shape) if needs[1] else None,
        db,
    )


def _group(a: Any, g: int, groups: int) -> Any:
    """The g-th of `groups` equal parts of the first axis, a view."""
    return None if a is None else a[g * (len(a) // groups) : (g + 1) * (len(a) // groups)]


def _groups(groups: int, *arrays: Any) -> list[tuple]:
    return [tuple(_group(a, g, groups) for a in arrays) for g in range(groups)]


def _buffer(K: int, OH: int, row: int, dtype: Any) -> tuple[Any, list[tuple[slice, slice]]]:
    """A buffer for the columns of a piece, and the pieces: (output rows, their pixels in OH*OW*N).

    The buffer is flat: a shorter last piece uses its beginning.
    """
    at_once = max(1, min(OH, COLUMN_BYTES // max(1, K * row * dtype.itemsize)))
    at_once = -(-OH // -(-OH // at_once))  # pieces of even size
    pieces = [(rows, slice(rows.start * row, rows.stop * row)) for rows in ranges(OH, at_once)]
    return cupy.empty(K * at_once * row, dtype), pieces
