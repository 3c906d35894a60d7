"""Matrix products by cuBLAS: in place, on slices of larger arrays, and added to what is there."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tinynet.devices.cuda import blas, cupy, current_lane
from tinynet.kernels.cuda.launch import check_device

# What cuBLAS calls the product of one pair of matrices, and of many pairs at equal distances.
_ROUTINES: dict[np.dtype, tuple[str, str]] = {
    np.dtype(np.float32): ("sgemm", "sgemmStridedBatched"),
    np.dtype(np.float64): ("dgemm", "dgemmStridedBatched"),
}
_SCALARS = {dtype: np.array([0, 1], dtype) for dtype in _ROUTINES}  # alpha and beta point here
Kind = tuple[tuple[int, ...], tuple[int, ...], np.dtype, int]  # shape, strides, type, GPU


def gemm(a: Any, b: Any, out: Any, add: bool = False) -> None:
    """out = a @ b, or out += a @ b with `add`: a (M, K), b (K, N), out (M, N), or with an axis of G
    pairs before these in `out` and in a, b or both. All of one type, with the rows of out, and rows
    or columns of a and b, contiguous. The matrices of a or b may overlap in memory.

    cuBLAS thinks in columns, and a matrix by columns is the transpose of the same memory by rows:
    so it is asked for out^T = b^T @ a^T, and no transpose is ever copied.
    """
    lane = current_lane()
    kinds = [(x.shape, x.strides, x.dtype, x.data.device_id) for x in (a, b, out)]
    how = _checked(lane.gpu.id, *kinds)
    if how is None:  # there are no numbers to multiply
        if out.size and not add:
            out.fill(0)
        return
    routine, scalars, size, before, (a_step, b_step, out_step), after = how
    blas.call(
        getattr(cupy.cuda.cublas, routine), lane.blas.handle(), *before, scalars + size,
        b.data.ptr, *b_step, a.data.ptr, *a_step, scalars + size * add, out.data.ptr, *out_step,
        *after,
    )  # fmt: skip


@functools.lru_cache(1 << 12)
def _checked(gpu: int, a: Kind, b: Kind, out: Kind) -> tuple | None:
    """What cuBLAS is told of matrices of these kinds: (routine, address of 0 and 1 in their type,
    bytes of a number, what comes before the matrices, the steps of each, what comes after them).
    Found once, since a step multiplies the same shapes as the step before.
    """
    given = dict(a=a, b=b, out=out)
    (*_, M, K), (*_, K_b, N), dtype = a[0], b[0], out[2]
    for label, (_, _, its_dtype, where) in given.items():
        check_device("gemm", label, where, gpu)
        if its_dtype != dtype or dtype not in _ROUTINES:
            raise TypeError(f"gemm: expected float32 or float64 throughout, {label} is {its_dtype}")
    pairs = out[0][:-2]
    if K_b != K or out[0][-2:] != (M, N) or len(pairs) > 1 or any(
        shape[:-2] not in ((), pairs) for shape, *_ in (a, b)
    ):  # fmt: skip
        raise ValueError(f"gemm: shapes {a[0]} @ {b[0]} -> {out[0]} do not fit")
    if 0 in (*out[0], K):
        return None
    size = dtype.itemsize
    layouts = {label: _layout(kind[0][-2:], kind[1][-2:], size) for label, kind in given.items()}
    if layouts["out"][0]:
        raise ValueError("gemm: the rows of out must be contiguous")
    steps = {label: [step] for label, (_, step) in layouts.items()}
    if pairs:
        for label, (_, strides, *_) in given.items():
            steps[label].append(strides[0] // size if len(strides) > 2 else 0)
    before = layouts["b"][0], layouts["a"][0], N, M, K
    return (
        _ROUTINES[dtype][bool(pairs)], _SCALARS[dtype].ctypes.data, size, before,
        tuple(steps.values()), pairs,
    )  # fmt: skip


def _layout(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> tuple[int, int]:
    """(0, elements from row to row) for a matrix that lies by rows, (1, from column to column) by
    columns.
    """
    (rows, columns), (down, right) = shape, strides
    if (columns == 1 or right == size) and (rows == 1 or down >= columns * size):
        return 0, down // size if rows > 1 else columns
    if (rows == 1 or down == size) and right >= rows * size:
        return 1, right // size
    raise ValueError(f"gemm: neither rows nor columns are contiguous (strides {strides})")
