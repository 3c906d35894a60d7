"""cuBLAS: column by column, on raw pointers, checked against the blocks they point into."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from fake_cupy.machine import machine
from fake_cupy.memory import Block, block_at
from fake_cupy.streams import current_gpu, current_stream, numbers, operate


class Blas:
    CUBLAS_OP_N, CUBLAS_OP_T = 0, 1
    modes: dict[int, int] = {}
    gpus: dict[int, int] = {}  # handle -> the GPU it was made for

    class CUBLASError(RuntimeError):
        def __init__(self, status: int):
            super().__init__(f"CUBLAS_STATUS_{status}")
            self.status = status

    def create(self) -> int:
        if not machine.cublas_memory:
            raise self.CUBLASError(1)
        handle = next(numbers)
        self.modes[handle], self.gpus[handle] = 0, current_gpu()
        return handle

    def setMathMode(self, handle: int, mode: int) -> None:
        self.modes[handle] = mode

    def sgemm(self, *args: Any) -> None:
        self._gemm(np.float32, *args)

    def dgemm(self, *args: Any) -> None:
        self._gemm(np.float64, *args)

    def sgemmStridedBatched(self, *args: Any) -> None:
        self._gemms(np.float32, *args)

    def dgemmStridedBatched(self, *args: Any) -> None:
        self._gemms(np.float64, *args)

    def _gemms(self, *args: Any) -> None:
        self._each(*args)

    def _gemm(self, *args: Any) -> None:
        self._product(*args)

    def _operate(self, *blocks: Block) -> None:
        operate("gemm", current_stream(), [*blocks], [blocks[-1]])
        machine.launches["gemm"] += 1

    def _each(
        self, dtype: Any, handle: int, transa: int, transb: int, m: int, n: int, k: int,
        alpha: int, a: int, lda: int, far_a: int, b: int, ldb: int, far_b: int, beta: int, c: int,
        ldc: int, far_c: int, count: int,
    ) -> None:  # fmt: skip
        size = np.dtype(dtype).itemsize
        reach = (n - 1) * ldc + m  # the elements from the first to the last of one result
        assert count > 0 and (count == 1 or far_c >= reach or (far_c >= m and ldc >= count * far_c))
        for i in range(count):
            places = a + i * far_a * size, b + i * far_b * size, c + i * far_c * size
            self._product(
                dtype, handle, transa, transb, m, n, k, alpha, places[0], lda, places[1], ldb,
                beta, places[2], ldc,
            )  # fmt: skip
        machine.launches["gemm"] -= count - 1

    def _product(
        self, dtype: Any, handle: int, transa: int, transb: int, m: int, n: int, k: int,
        alpha: int, a: int, lda: int, b: int, ldb: int, beta: int, c: int, ldc: int,
    ) -> None:  # fmt: skip
        if not machine.cublas_memory:
            raise self.CUBLASError(3)
        assert self.gpus[handle] == current_gpu(), "gemm by the handle of another GPU"
        assert all(isinstance(v, int) and 0 < v < 2**31 for v in (m, n, k, lda, ldb, ldc))
        A, block_a = self._matrix(dtype, a, lda, *((k, m) if transa else (m, k)))
        B, block_b = self._matrix(dtype, b, ldb, *((n, k) if transb else (k, n)))
        C, block_c = self._matrix(dtype, c, ldc, m, n)
        number = ctypes.c_float if dtype == np.float32 else ctypes.c_double
        alpha, beta = (dtype(number.from_address(p).value) for p in (alpha, beta))
        self._operate(block_a, block_b, block_c)
        A, B = A.T if transa else A, B.T if transb else B
        if self.modes[handle] == 3 and dtype == np.float32:
            A, B = tf32(A), tf32(B)
        product = alpha * (A @ B)
        C[...] = product if beta == 0 else product + beta * C

    def _matrix(
        self, dtype: Any, pointer: int, ld: int, rows: int, columns: int
    ) -> tuple[np.ndarray, Block]:
        assert ld >= rows, f"gemm: leading dimension {ld} for {rows} rows"
        block, size = block_at(pointer), np.dtype(dtype).itemsize
        assert block.device_id == current_gpu(), "gemm on another GPU's memory"
        assert pointer + ((columns - 1) * ld + rows) * size <= block.ptr + block.nbytes, (
            "gemm: past the end of an array"
        )
        matrix = np.ndarray(
            (rows, columns), dtype, block.bytes, pointer - block.ptr, (size, ld * size)
        )
        return matrix, block


def tf32(a: np.ndarray) -> np.ndarray:
    """Rounded to 10 bits of mantissa."""
    bits = np.array(a, np.float32, order="C").view(np.uint32)
    return ((bits + 0x1000) & 0xFFFFE000).astype(np.uint32).view(np.float32)
