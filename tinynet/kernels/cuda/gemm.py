"""Matrix products by cuBLAS: in place, on slices of larger arrays, and added to what is there."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.devices.cuda import blas, cupy, current_lane
from tinynet.kernels.cuda.launch import check_device

# What cuBLAS calls the product of one pair of matrices, and of many pairs at equal distances.
_ROUTINES: dict[np.dtype, tuple[str, str]] = {
    np.dtype(np.float32): ("sgemm", "sgemmStridedBatched"),
    np.dtype(np.float64): ("dgemm", "dgemmStridedBatched"),
}
_SCALARS = {
    dtype: np.array([0, 1], dtype) for dtype in _ROUTINES
}  # cuBLAS reads beta and alpha from host memory


def gemm(a: Any, b: Any, out: Any, add: bool = False) -> None:
    """out = a @ b, or out += a @ b with `add`: a (M, K), b (K, N), out (M, N), or with an axis of G
    pairs before these in `out` and in a, b or both. All of one type, with the rows of out, and rows
    or columns of a and b, contiguous. The matrices of a or b may overlap in memory.

    cuBLAS thinks in columns, and a matrix by columns is the transpose of the same memory by rows:
    so it is asked for out^T = b^T @ a^T, and no transpose is ever copied.
    """
    (M, K), N, gpu = a.shape[-2:], b.shape[-1], current_lane().gpu.id
    for label, matrix in (("a", a), ("b", b), ("out", out)):
        check_device("gemm", label, matrix, gpu)
        if matrix.dtype != out.dtype or out.dtype not in _ROUTINES:
            raise TypeError(
                f"gemm: expected float32 or float64 throughout, {label} is {matrix.dtype}"
            )
    pairs = out.shape[:-2]
    if b.shape[-2] != K or out.shape[-2:] != (M, N) or len(pairs) > 1 or any(
        x.shape[:-2] not in ((), pairs) for x in (a, b)
    ):  # fmt: skip
        raise ValueError(f"gemm: shapes {a.shape} @ {b.shape} -> {out.shape} do not fit")
    if out.size == 0:
        return
    if K == 0:
        if not add:
            out.fill(0)
        return
    a_transposed, a_step = _layout(a)
    b_transposed, b_step = _layout(b)
    out_transposed, out_step = _layout(out)
    if out_transposed:
        raise ValueError("gemm: the rows of out must be contiguous")
    one, many = _ROUTINES[out.dtype]
    scalars, size = _SCALARS[out.dtype].ctypes.data, out.dtype.itemsize
    handle = current_lane().blas.handle()
    alpha, beta = scalars + size, scalars + size * add
    if not pairs:
        blas.call(
            getattr(cupy.cuda.cublas, one), handle, b_transposed, a_transposed, N, M, K, alpha,
            b.data.ptr, b_step, a.data.ptr, a_step, beta, out.data.ptr, out_step,
        )  # fmt: skip
    else:
        a_far, b_far, out_far = (x.strides[0] // size if x.ndim > 2 else 0 for x in (a, b, out))
        blas.call(
            getattr(cupy.cuda.cublas, many), handle, b_transposed, a_transposed, N, M, K, alpha,
            b.data.ptr, b_step, b_far, a.data.ptr, a_step, a_far, beta, out.data.ptr, out_step,
            out_far, *pairs,
        )  # fmt: skip


def _layout(matrix: Any) -> tuple[int, int]:
    """(0, elements from row to row) for a matrix that lies by rows, (1, from column to column) by
    columns.
    """
    (rows, columns), (down, right) = matrix.shape[-2:], matrix.strides[-2:]
    size = matrix.dtype.itemsize
    if columns == 1 or right == size:
        if rows == 1 or down >= columns * size:
            return 0, down // size if rows > 1 else columns
    if rows == 1 or (down == size and right >= rows * size):
        return 1, right // size if columns > 1 else rows
    raise ValueError(f"gemm: neither rows nor columns are contiguous (strides {matrix.strides})")
