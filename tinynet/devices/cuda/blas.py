"""cuBLAS: a handle for each lane, and the precision of its float32 products.

A handle of its own for each stream keeps the results the same bits every run: two streams that
share a workspace may be given different algorithms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinynet.devices.cuda.installation import cupy
from tinynet.errors import OutOfMemoryError

_DEFAULT, _TF32 = 0, 3  # CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
_NO_MEMORY = (1, 3)  # CUBLAS_STATUS_NOT_INITIALIZED, ..._ALLOC_FAILED
_wanted = _DEFAULT


def set_tf32(on: bool) -> None:
    """Let float32 matrix products round their inputs to TF32 (10 bits of mantissa): several times
    quicker on GPUs from 2020 on, with errors around 1e-3 instead of 1e-7. Off at the start. Nothing
    but matrix products is affected.
    """
    global _wanted
    _wanted = _TF32 if on else _DEFAULT


class Blas:
    """One cuBLAS handle, of the GPU that is current when it is made."""

    def __init__(self) -> None:
        self._handle = call(cupy.cuda.cublas.create)
        self._mode = _DEFAULT

    def handle(self) -> int:
        """The handle, set to the precision that `set_tf32` asked for."""
        if self._mode != _wanted:
            cupy.cuda.cublas.setMathMode(self._handle, _wanted)
            self._mode = _wanted
        return self._handle


def call(routine: Callable[..., Any], *arguments: Any) -> Any:
    """routine(*arguments), of cuBLAS. OutOfMemoryError if its workspace found no room."""
    try:
        return routine(*arguments)
    except cupy.cuda.cublas.CUBLASError as error:
        if error.status not in _NO_MEMORY:
            raise
        gpu, (free, total) = cupy.cuda.runtime.getDevice(), cupy.cuda.runtime.memGetInfo()
        raise OutOfMemoryError(
            f"cuda:{gpu}: cuBLAS found no memory for its workspace ({error}): {free >> 20} of "
            f"{total >> 20} MiB are free; use a smaller batch size"
        ) from None
