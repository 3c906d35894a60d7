"""The fully connected layer: tinynet/kernels/linear.py on a GPU, with the same products and
letters.
"""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.add_to_columns import add_to_columns, column_sums
from tinynet.kernels.cuda.elementwise import relu_backward  # type: ignore[attr-defined]
from tinynet.kernels.cuda.gemm import gemm
from tinynet.kernels.cuda.launch import batch_first, batch_last
from tinynet.kernels.cuda.rows import add_to_rows, add_to_rows_backward


def linear_forward(x: Any, weight: Any, bias: Any, relu: bool = False) -> Any:
    """(..., I), (O, I), (O,) -> (..., O)."""
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
    """a @ b with NumPy's rules. Two matrices go to `gemm`; anything else to CuPy, which ignores
    `set_tf32`.
    """
    if a.ndim == b.ndim == 2 and a.dtype == b.dtype and a.dtype.kind == "f":
        return _product(_straight(a), _straight(b))
    return cupy.matmul(a, b)


def _product(a: Any, b: Any) -> Any:
    out = cupy.empty((a.shape[0], b.shape[1]), a.dtype)
    gemm(a, b, out)
    return out


def _straight(matrix: Any) -> Any:
    flags = matrix.flags
    return matrix if flags.c_contiguous or flags.f_contiguous else cupy.ascontiguousarray(matrix)
