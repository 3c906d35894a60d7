"""Adding a bias to the rows of a matrix, and the sums of rows: a bias and its gradient."""

from __future__ import annotations

from typing import Any

from tinynet.cuda import cupy
from tinynet.kernels.cuda.launch import THREADS, Source

_add_to_rows, _row_sums = Source("add_to_rows.cu").add_to_rows, Source("row_sums.cu").row_sums
RUN = 1 << 14  # elements that one block adds up: enough blocks for all processors even for few rows


def add_to_rows(y: Any, bias: Any) -> None:
    """y (O, P) += bias (O,), in place."""
    O, P = y.shape
    _add_to_rows((P, O), y, bias, P)


def row_sums(x: Any) -> Any:
    """(O, P) -> (O,)."""
    O, P = x.shape
    runs = max(1, -(-P // RUN))
    sums = cupy.empty((O, runs), x.dtype)
    _row_sums((runs * THREADS, O), x, sums, P, RUN)
    return sums.reshape(O) if runs == 1 else row_sums(sums)
