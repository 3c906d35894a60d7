"""The fully connected layer: tinynet/kernels/linear.py on a GPU, with the same products and
letters.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.add_to_columns import add_to_columns, column_sums
from tinynet.kernels.cuda.elementwise import relu_backward  # type: ignore[attr-defined]
from tinynet.kernels.cuda.gemm import gemm
from tinynet.kernels.cuda.launch import batch_first, batch_last
from tinynet.kernels.cuda.rows import add_to_rows, add_to_rows_backward


def linear_forward(x: Any, weight: Any, bias: Any, relu: bool = False) -> Any:
    """(..., I), (O, I), (O,) -> (..., O)."""
    weight = _straight(weight)
    if x.ndim != 2:
        O, I = weight.shape
        y = _product(cupy.ascontiguousarray(x).reshape(-1, I), weight.T)  # (M, I) @ (I, O)
        add_to_columns(y, bias, relu)
        return y.reshape(*x.shape[:-1], O)
    y = _product(weight, batch_last(x))  # (O, I) @ (I, N) -> (O, N)
    add_to_rows(y, bias, relu)
    return batch_first(y)


def linear_backward(
    dy: Any, x: Any, weight: Any, needs: tuple[bool, bool, bool], y: Any = None
) -> tuple[Any, Any, Any]:
    """dy (..., O) -> (dx, dw, db), None for each one that `needs` does not ask for. y: the
    forward's, with relu.
    """
    weight = _straight(weight)
    if x.ndim != 2:
        return _rows_backward(dy if y is None else relu_backward(dy, y), x, weight, needs)
    dy, db = add_to_rows_backward(
        batch_last(dy), None if y is None else batch_last(y), needs[2]
    )  # (O, N)
    dx = batch_first(_product(weight.T, dy)) if needs[0] else None  # (I, O) @ (O, N) -> (I, N)
    dw = _product(dy, batch_last(x).T) if needs[1] else None  # (O, N) @ (N, I) -> (O, I)
    return dx, dw, db


def _rows_backward(
    dy: Any, x: Any, weight: Any, needs: tuple[bool, bool, bool]
) -> tuple[Any, Any, Any]:
    """The same for sequences, whose M vectors are the rows of a matrix."""
    O, I = weight.shape
    rows, dy = cupy.ascontiguousarray(x).reshape(-1, I), cupy.ascontiguousarray(dy).reshape(-1, O)
    dx = _product(dy, weight).reshape(x.shape) if needs[0] else None  # (M, O) @ (O, I) -> (M, I)
    dw = _product(dy.T, rows) if needs[1] else None  # (O, M) @ (M, I) -> (O, I)
    return dx, dw, column_sums(dy) if needs[2] else None


def matmul(a: Any, b: Any) -> Any:
    """a @ b with NumPy's rules; whole numbers go to CuPy, which adds them in integers.

    Batches are one call of cuBLAS as well, so that they obey `set_tf32` and keep their bits:
    CuPy's own would share one handle, and so a workspace, among all streams of a GPU.
    """
    if a.dtype.kind == "c" or b.dtype.kind == "c":
        raise TypeError(f"matmul: expected float32 or float64, got {a.dtype} and {b.dtype}")
    dtype = np.result_type(a.dtype, b.dtype)
    if dtype.kind != "f":
        return cupy.matmul(a, b)
    a2 = _straight((a[None, :] if a.ndim == 1 else a).astype(dtype, copy=False))
    b2 = _straight((b[:, None] if b.ndim == 1 else b).astype(dtype, copy=False))
    pairs = np.broadcast_shapes(a2.shape[:-2], b2.shape[:-2])
    count = () if not pairs else (prod(pairs),)
    out = cupy.empty((*count, a2.shape[-2], b2.shape[-1]), dtype)
    gemm(_paired(a2, pairs), _paired(b2, pairs), out)
    rows, columns = a.shape[-2:-1], b.shape[-1:] if b.ndim > 1 else ()  # a vector has none
    return out.reshape((*pairs, *rows, *columns))


def _paired(x: Any, pairs: tuple[int, ...]) -> Any:
    """x (..., M, K) with one axis for all pairs, or with none if it is the same in all."""
    if prod(x.shape[:-2]) == 1:
        return x.reshape(x.shape[-2:])
    if x.shape[:-2] != pairs:
        x = cupy.broadcast_to(x, (*pairs, *x.shape[-2:]))
    return x.reshape(prod(pairs), *x.shape[-2:])


def _product(a: Any, b: Any) -> Any:
    out = cupy.empty((a.shape[0], b.shape[1]), a.dtype)
    gemm(a, b, out)
    return out


def _straight(x: Any) -> Any:
    """x (..., M, K), copied unless its matrices lie by rows or by columns, one after the other."""
    if x.flags.c_contiguous or x.swapaxes(-1, -2).flags.c_contiguous:
        return x
    return cupy.ascontiguousarray(x)
