"""What is done to the rows of a matrix product: adding the bias, the rectifier, and their
gradients.
"""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import relu_forward
from tinynet.kernels.cuda.launch import THREADS, Kernel, Source, dense

_add_to_rows, _cu = Source("add_to_rows.cu").add_to_rows, Source("row_sums.cu")
# Elements that one block adds up: few enough that few rows are blocks for all processors, many
# enough that little is left to the second launch. A guess; `python benchmarks/gpu.py` measures it.
RUN = 1 << 12


def add_to_rows(y: Any, bias: Any, relu: bool) -> None:
    """y (O, P) += bias (O,) or None; then, if asked for, y = max(y, 0). In place."""
    O, P = y.shape
    if bias is not None:
        _add_to_rows((P, O), y, dense(bias), relu, O, P)
    elif relu:
        relu_forward(y.T, out=y.T)


def add_to_rows_backward(dy: Any, y: Any, needs_bias: bool) -> tuple[Any, Any]:
    """dy (O, P), y the result with relu, else None -> the gradients of the product and, if asked
    for, of the bias.
    """
    if y is None:
        return dy, _sums(_cu.row_sums, dy) if needs_bias else None
    dz = cupy.empty(dy.shape, dy.dtype)
    db = _sums(_cu.relu_row_sums, dy, y.reshape(dy.shape), dz)
    return dz, db if needs_bias else None


def _sums(kernel: Kernel, *arrays: Any) -> Any:
    """Sums of rows (O, P) -> (O,)."""
    O, P = arrays[0].shape
    runs = max(1, -(-P // RUN))
    sums = cupy.empty((O, runs), arrays[0].dtype)
    kernel((runs * THREADS, O), *arrays, sums, O, P, RUN)
    return sums.reshape(O) if runs == 1 else _sums(_cu.row_sums, sums)
