"""Matrix products by cuBLAS: in place, on slices of larger matrices, and added to what is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.devices.cuda import cupy, current_lane
from tinynet.kernels.cuda.launch import check_device

_ROUTINE: dict[np.dtype, str] = {np.dtype(np.float32): "sgemm", np.dtype(np.float64): "dgemm"}
_SCALARS = {
    dtype: np.array([0, 1], dtype) for dtype in _ROUTINE
}  # cuBLAS reads beta and alpha from host memory


def gemm(a: Any, b: Any, out: Any, add: bool = False) -> None:
    """out = a @ b, or out += a @ b with `add`; all of one type, 2-D, with rows (out), rows or
    columns (a, b) contiguous.

    cuBLAS thinks in columns, and a matrix by columns is the transpose of the same memory by rows:
    so it is asked for out^T = b^T @ a^T, and no transpose is ever copied.
    """
    (M, K), (_, N) = a.shape, b.shape
    gpu = current_lane().gpu.id
    for label, matrix in (("a", a), ("b", b), ("out", out)):
        check_device("gemm", label, matrix, gpu)
        if matrix.dtype != out.dtype or out.dtype not in _ROUTINE:
            raise TypeError(
                f"gemm: expected float32 or float64 throughout, {label} is {matrix.dtype}"
            )
    if b.shape[0] != K or out.shape != (M, N):
        raise ValueError(f"gemm: shapes {a.shape} @ {b.shape} -> {out.shape} do not fit")
    if M == 0 or N == 0:
        return
    if K == 0:
        if not add:
            out.fill(0)
        return
    a_transposed, a_step = _lie(a)
    b_transposed, b_step = _lie(b)
    out_transposed, out_step = _lie(out)
    if out_transposed:
        raise ValueError("gemm: the rows of out must be contiguous")
    zero, size = _SCALARS[out.dtype].ctypes.data, out.dtype.itemsize
    getattr(cupy.cuda.cublas, _ROUTINE[out.dtype])(
        current_lane().blas.handle(), b_transposed, a_transposed, N, M, K, zero + size,
        b.data.ptr, b_step, a.data.ptr, a_step, zero + size * add, out.data.ptr, out_step,
    )  # fmt: skip


def _lie(matrix: Any) -> tuple[int, int]:
    """(0, elements from row to row) for a matrix that lies by rows, (1, from column to column) by
    columns.
    """
    (rows, columns), (down, right) = matrix.shape, matrix.strides
    size = matrix.dtype.itemsize
    if columns == 1 or right == size:
        if rows == 1 or down >= columns * size:
            return 0, down // size if rows > 1 else columns
    if rows == 1 or (down == size and right >= rows * size):
        return 1, right // size if columns > 1 else rows
    raise ValueError(f"gemm: neither rows nor columns are contiguous (strides {matrix.strides})")
