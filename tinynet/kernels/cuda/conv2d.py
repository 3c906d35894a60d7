"""Convolution: tinynet/kernels/conv2d.py on a GPU, with the same letters.

    y[oh] = w @ col[oh] + b        dw = sum over oh of dy[oh] @ col[oh]^T        dx: see below

One product for each output row oh, all of a layer in one call of cuBLAS. The columns of
neighbouring rows overlap, so they are expanded along the row only (row_columns.cu): a step of
AlexNet at batch 128 moves 5.8 GB of columns where whole ones are 15.9. They are made again in
backward.

With stride 1 the gradient of the picture is itself a convolution, of dy with the kernels turned by
half a circle and padded by k - 1 - p:

    dx[c, h, w] = sum over o, i, j of w[o, c, kh-1-i, kw-1-j] dy[o, h + i - (kh-1-ph), ...]

With other strides it is dx = col2im(w^T @ dy). Bias and rectifier follow all products in one
launch, and go before them in backward.

Several convolutions of the same x share its columns: each has products of its own, so its bits are
those that it has alone. `conv2d_forward` and `conv2d_backward` are the case of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.devices.threads import ranges
from tinynet.kernels.cuda.gemm import gemm
from tinynet.kernels.cuda.im2col import add_columns
from tinynet.kernels.cuda.launch import batch_first, batch_last, dense, some
from tinynet.kernels.cuda.row_columns import for_rows, row_columns, sum_of_rows, turned_for_rows
from tinynet.kernels.cuda.rows import add_to_rows, add_to_rows_backward
from tinynet.kernels.im2col import Pair, output_size

# Of columns made at once. Small pieces stay in the GPU's L2 cache (50 MB on an H200), large ones
# keep all its processors busy: conv3's product for one row has 26 tiles of 128 x 128 for 132
# processors. A guess for the large side; `python benchmarks/gpu.py` measures it.
COLUMN_BYTES = 256 << 20


def conv2d_forward(
    x: Any, weight: Any, bias: Any, stride: Pair, padding: Pair, groups: int, relu: bool = False
) -> Any:
    """(N, C, H, W), (O, C/groups, kh, kw), (O,) -> (N, O, OH, OW)."""
    (y,) = conv2d_each_forward(x, [weight], [bias], stride, padding, groups, relu)
    return y


def conv2d_each_forward(
    x: Any,
    weights: Sequence[Any],
    biases: Sequence[Any],
    stride: Pair,
    padding: Pair,
    groups: int,
    relu: bool = False,
) -> list[Any]:
    """A y for each weight, of the same x; the kernels have one size."""
    (N, _, H, W), (_, _, *kernel) = x.shape, weights[0].shape
    output = output_size((H, W), kernel, stride, padding)
    x, ws = batch_last(x), [for_rows(dense(weight)) for weight in weights]
    ys = [cupy.empty((len(w), *output, N), x.dtype) for w in ws]
    for x_, *of_group in _groups(groups, x, *ws, *ys):
        _convolve(x_, of_group[: len(ws)], of_group[len(ws) :], kernel, stride, padding)
    for y, bias in zip(ys, biases, strict=True):
        add_to_rows(y.reshape(len(y), -1), bias, relu)
    return [batch_first(y) for y in ys]


def _convolve(
    x: Any, ws: Sequence[Any], ys: Sequence[Any], kernel: Pair, stride: Pair, padding: Pair
) -> None:
    """Each y (O, OH, OW, N) of x (C, H, W, N) and its w (O, kh*kw*C)."""
    output = ys[0].shape[1:3]
    by_rows = [y.reshape(len(y), output[0], -1).swapaxes(0, 1) for y in ys]  # (OH, O, OW*N)
    for rows, col in row_columns(x, kernel, stride, padding, output, COLUMN_BYTES):
        for w, y in zip(ws, by_rows, strict=True):
            gemm(w, col, out=some(y, rows))  # (O, K) @ (rows, K, P) -> (rows, O, P)


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
    (gradients,) = conv2d_each_backward([dy], x, [weight], stride, padding, groups, [needs], [y])
    return gradients


def conv2d_each_backward(
    dys: Sequence[Any],
    x: Any,
    weights: Sequence[Any],
    stride: Pair,
    padding: Pair,
    groups: int,
    needs: Sequence[tuple[bool, bool, bool]],
    ys: Sequence[Any],
) -> list[tuple[Any, Any, Any]]:
    """(dx, dw, db) of each convolution of the same x, as conv2d_backward has them."""
    found, with_dw = [], []
    for dy, weight, need, y in zip(dys, weights, needs, ys, strict=True):
        N, O, OH, OW = dy.shape
        dy, weight = batch_last(dy).reshape(O, OH * OW * N), dense(weight)
        dy, db = add_to_rows_backward(dy, None if y is None else batch_last(y), need[2])
        dy = dy.reshape(O, OH, OW, N)
        dx = _pictures_gradient(dy, x.shape, weight, stride, padding, groups) if need[0] else None
        dw = cupy.empty(weight.shape, x.dtype) if need[1] else None
        found.append((dx, dw, db))
        with_dw += [(dy, dw)] if need[1] else []
    if with_dw:
        dys, dws = zip(*with_dw, strict=True)
        for x_, *of_group in _groups(groups, batch_last(x), *dys, *dws):
            _kernels_gradients(of_group[: len(dys)], x_, of_group[len(dys) :], stride, padding)
    return found


def _kernels_gradients(
    dys: Sequence[Any], x: Any, dws: Sequence[Any], stride: Pair, padding: Pair
) -> None:
    """Each dw (O, C, kh, kw), by a product for each output row, and their sum in the order of
    rows.
    """
    output, kernel = dys[0].shape[1:3], dws[0].shape[2:]
    by_rows = [dy.reshape(len(dy), output[0], -1).swapaxes(0, 1) for dy in dys]  # (OH, O, OW*N)
    for rows, col in row_columns(x, kernel, stride, padding, output, COLUMN_BYTES):
        for dy, dw in zip(by_rows, dws, strict=True):
            O, K = len(dw), col.shape[1]
            most = max(1, COLUMN_BYTES // max(1, dw.nbytes))  # rows whose products are kept
            for few in ranges(len(col), most):
                dy_, col_ = some(some(dy, rows), few), some(col, few)
                parts = cupy.empty((len(dy_), O, K), dw.dtype)
                gemm(dy_, col_.swapaxes(1, 2), out=parts)  # (rows, O, P) @ (rows, P, K)
                sum_of_rows(parts, dw, add=rows.start + few.start > 0)
                del parts  # or those of two pieces are there at once


def _pictures_gradient(
    dy: Any, x_shape: tuple, weight: Any, stride: Pair, padding: Pair, groups: int
) -> Any:
    N, C, H, W = x_shape
    by_group = _dx_as_convolution if stride == (1, 1) else _dx_from_columns
    dx = cupy.empty((C, H, W, N), dy.dtype)
    for dy_, w_, dx_ in _groups(groups, dy, weight, dx):
        by_group(dy_, w_, dx_, stride, padding)
    return batch_first(dx)


def _dx_as_convolution(dy: Any, w: Any, dx: Any, stride: Pair, padding: Pair) -> None:
    kernel = w.shape[2:]
    inner = tuple(k - 1 - p for k, p in zip(kernel, padding, strict=True))  # may be negative
    _convolve(dy, [turned_for_rows(w)], [dx], kernel, stride, inner)


def _dx_from_columns(dy: Any, w: Any, dx: Any, stride: Pair, padding: Pair) -> None:
    (O, OH, OW, N), (_, C, *kernel) = dy.shape, w.shape
    K, row = C * kernel[0] * kernel[1], OW * N
    dy, w = dy.reshape(O, OH * row), w.reshape(O, K)
    dx.fill(0)
    at_once = max(1, COLUMN_BYTES // max(1, K * row * dy.itemsize))
    for rows in ranges(OH, min(OH, at_once)):
        part = dy[:, rows.start * row : rows.stop * row]
        col = cupy.empty((K, part.shape[1]), dy.dtype)
        gemm(w.T, part, out=col)  # (K, O) @ (O, P) -> (K, P)
        add_columns(col, dx, kernel, stride, padding, rows)
        del col  # or those of two pieces are there at once


def _groups(groups: int, *arrays: Any) -> list[tuple]:
    """For each group, its parts of the arrays' first axes: views."""
    if groups == 1:
        return [arrays]
    return [
        tuple(a[g * (len(a) // groups) : (g + 1) * (len(a) // groups)] for a in arrays)
        for g in range(groups)
    ]
