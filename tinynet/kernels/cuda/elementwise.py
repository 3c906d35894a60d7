"""Element-wise operations on a GPU: the files of these names in tinynet/kernels/.

Each kernel of elementwise.cu becomes a function here, whose arguments are the arrays that the
kernel reads, then its numbers. So a new one is written there, and nowhere else in this folder. The
rows of tinynet/kernels/elementwise.py become such kernels as well: `rows_as_cuda`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.devices.layout import memory_order
from tinynet.kernels.cuda.launch import LIMIT, Kernel, Source, dense
from tinynet.kernels.dropout import dropout_scale
from tinynet.kernels.elementwise import ROWS


def rows_as_cuda() -> str:
    """A forward and a backward kernel for each row. `x` in a formula is `x[i]` here."""
    text = "\n#define where(condition, yes, no) ((condition) ? (yes) : (no))\n"
    for name, row in ROWS.items():
        for kernel, read, written, formula in (
            (f"{name}_forward", ("x",), "y", row.y),
            (f"{name}_backward", ("dy", row.kept), "dx", row.dx),
        ):
            parameters = [f"const REAL* {array}" for array in read]
            parameters += [f"REAL* {written}", *(f"REAL {number}" for number in row.numbers)]
            formula = re.sub(r"\b(x|y|dy)\b", r"\1[i]", formula)
            text += (
                f'\nextern "C" __global__ void {kernel}({", ".join(parameters)}, long long count)\n'
                f"{{\n    ELEMENT_OR_RETURN\n    {written}[i] = {formula};\n}}\n"
            )
    return text


_cu = Source("elementwise.cu", rows_as_cuda())


def launch(kernel: Kernel, *arguments: Any) -> None:
    """Run an element-wise kernel over arrays of the first one's size; its last parameter is their
    number of elements.
    """
    count = arguments[0].size
    rows = -(-count // LIMIT)  # more elements than threads fit along x go on along y
    kernel((-(-count // max(rows, 1)), rows), *arguments, count)


def along_memory(kernel: Kernel, *arrays: Any, out: Any = None, numbers: tuple = ()) -> Any:
    """A kernel (arrays it reads, the array it writes, numbers, count) on arrays of one shape.

    The order in memory is that of the last array, which is x or what forward kept, also for the
    result; others that lie otherwise are copied to it. `out` may be x: then y takes its place.
    """
    order, back = memory_order(arrays[-1].strides)
    inputs = [dense(a.transpose(order)) for a in arrays]
    if out is None:
        y = cupy.empty(inputs[0].shape, arrays[-1].dtype)
    else:
        y = dense(out.transpose(order))
    launch(kernel, *inputs, y, *numbers)
    y = y.transpose(back)
    if out is None:
        return y
    if y.data.ptr != out.data.ptr:  # out has gaps in memory: y is a copy of it
        out[...] = y
    return out


def _function(kernel: Kernel) -> Callable[..., Any]:
    read = [label for _, star, label in kernel.parameters if star][:-1]  # the last is written
    numbers = [label for _, star, label in kernel.parameters if not star][:-1]  # the last: count

    def function(*given: Any) -> Any:
        arrays = given[: len(read)]
        return along_memory(kernel, *arrays, numbers=given[len(read) :])

    labels = [*read, *numbers]
    keywords = [
        inspect.Parameter(label, inspect.Parameter.POSITIONAL_OR_KEYWORD) for label in labels
    ]
    function.__name__ = kernel.name
    function.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    return function


_functions = {
    name: _function(kernel)
    for name, kernel in vars(_cu).items()
    if name.endswith(("_forward", "_backward"))
}
globals().update(_functions)
__all__ = list(_functions)


def relu_forward(x: Any, out: Any = None) -> Any:
    """Any shape; into `out` if given, which may be x itself."""
    return along_memory(_cu.relu_forward, x, out=out)


def dropout_backward(dy: Any, mask: Any, p: float, inverted: bool = True) -> Any:
    """dy * mask * scale: forward and backward are the same linear map."""
    scale = dropout_scale(p, inverted)
    return along_memory(_cu.dropout_backward, mask, dy, numbers=(scale,))
