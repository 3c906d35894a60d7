"""What is done to a matrix product of sequences, whose vectors are rows: adding the bias, the
rectifier, and the gradient of the bias. rows.py has the same for batch-innermost memory.
"""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import launch, relu_forward
from tinynet.kernels.cuda.launch import ROWS as GRID_ROWS
from tinynet.kernels.cuda.launch import Source, dense

_cu = Source("add_to_columns.cu")
RUN = 128  # rows that one thread adds up, or more where blocks would be too many. A guess


def add_to_columns(y: Any, bias: Any, relu: bool) -> None:
    """y (M, O) += bias (O,) or None; then, if asked for, y = max(y, 0). In place."""
    if bias is not None:
        launch(_cu.add_to_columns, y, dense(bias), y.shape[1], relu)
    elif relu:
        relu_forward(y.T, out=y.T)


def column_sums(x: Any) -> Any:
    """(M, O) -> (O,)."""
    M, O = x.shape
    run = max(RUN, -(-M // GRID_ROWS))
    runs = max(1, -(-M // run))
    sums = cupy.empty((runs, O), x.dtype)
    _cu.column_sums((O, runs), x, sums, M, O, run)
    return sums.reshape(O) if runs == 1 else column_sums(sums)
