"""ReLU, tanh, sigmoid and dropout's gradient: the files of these names in tinynet/kernels/, on a GPU."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import LIMIT, Kernel, Source, batch_first, batch_last

_cu = Source("elementwise.cu")


def launch(kernel: Kernel, *arguments: Any) -> None:
    """Run an element-wise kernel over arrays of the first one's size; its last parameter is their
    number of elements.
    """
    count = arguments[0].size
    rows = -(-count // LIMIT)  # more elements than threads fit along x go on along y
    kernel((-(-count // max(rows, 1)), rows), *arguments, count)


def relu_forward(x: Any, out: Any = None) -> Any:
    """Any shape; into `out` if given, which may be x itself."""
    x_ = batch_last(x)
    y = cupy.empty(x_.shape, x_.dtype) if out is None else batch_last(out)
    launch(_cu.relu_forward, x_, y)
    if (
        out is not None and y.data.ptr != out.data.ptr
    ):  # `out` lies otherwise in memory: y is a copy of it
        out[...] = batch_first(y)
        return out
    return batch_first(y)


def relu_backward(dy: Any, y: Any) -> Any:
    """dy, y of one shape -> dx."""
    return _backward(_cu.relu_backward, dy, y)


def tanh_forward(x: Any) -> Any:
    """Any shape."""
    return cupy.tanh(x)


def tanh_backward(dy: Any, y: Any) -> Any:
    """dy, y of one shape -> dx."""
    return _backward(_cu.tanh_backward, dy, y)


def sigmoid_forward(x: Any) -> Any:
    """Any shape; by tanh, which does not overflow for any x."""
    return (cupy.tanh(x / 2) + 1) / 2


def sigmoid_backward(dy: Any, y: Any) -> Any:
    """dy, y of one shape -> dx."""
    return _backward(_cu.sigmoid_backward, dy, y)


def dropout_backward(dy: Any, mask: Any, p: float) -> Any:
    """dy * mask / (1 - p)."""
    dy, mask = batch_last(dy), batch_last(mask)
    dx = cupy.empty(dy.shape, dy.dtype)
    launch(_cu.dropout_backward, dy, mask, dx, 1 / (1 - p) if p < 1 else 0)
    return batch_first(dx)


def _backward(kernel: Kernel, dy: Any, y: Any) -> Any:
    dy, y = batch_last(dy), batch_last(y)
    dx = cupy.empty(y.shape, y.dtype)
    launch(kernel, dy, y, dx)
    return batch_first(dx)
