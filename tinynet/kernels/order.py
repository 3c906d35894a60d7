"""Arithmetic element by element, in the order of memory.

Pictures are (N, C, H, W) to a user and (C, H, W, N) in memory. NumPy goes along memory by itself,
and its results lie as their operands do. CuPy goes along the axes as they are written, and its
results are in C order: on pictures, neighbouring threads would read numbers far apart (each costs a
transaction of 32 bytes instead of 4), and the next operation would copy the result back into our
order. So here the axes are brought into the order of memory before, and back after.

Rules read in CuPy 14's cupy/_core/_kernel.pyx.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from tinynet.devices import Device
from tinynet.devices.layout import memory_order
from tinynet.kernels import layout

Order = tuple[int, ...]
Operation = TypeVar("Operation", bound=Any)


def order_of(device: Device, arrays: Sequence[Any]) -> Order | None:
    """The axes of the largest array, the longest step in memory first; None where C order does."""
    if device.kind == "cpu" or not arrays:
        return None
    largest = max(arrays, key=lambda array: array.size)
    if largest.ndim < 2 or largest.flags.c_contiguous:
        return None
    extra = max(array.ndim for array in arrays) - largest.ndim
    return (*range(extra), *(axis + extra for axis in memory_order(largest.strides)[0]))


def reordered(x: Any, order: Order | None) -> Any:
    """A view of x with its axes in that order; x may lack leading axes, or be a number."""
    if order is None or getattr(x, "ndim", 0) == 0:
        return x
    return x.reshape((1,) * (len(order) - x.ndim) + x.shape).transpose(order)


def restored(x: Any, order: Order | None) -> Any:
    """The view of which `reordered` made x."""
    if order is None or x.ndim == 0:
        return x
    return x.transpose(sorted(range(len(order)), key=order.__getitem__))


def inner_axes(axes: tuple[int, ...], order: Order | None) -> tuple[int, ...]:
    """Where `reordered` puts these axes."""
    return axes if order is None else tuple(order.index(axis) for axis in axes)


def along_memory(device: Device, function: Callable[..., Any], *arrays: Any) -> Any:
    """function(*arrays), element by element, in the memory order of the largest."""
    if device.kind == "cpu":
        return function(*arrays)
    order = order_of(device, arrays)
    return restored(function(*(reordered(a, order) for a in arrays)), order)


def add(device: Device, a: Any, b: Any) -> Any:
    """a + b, in the memory order of a; on the CPU on several threads, if there is enough to do."""
    if device.kind != "cpu":
        with device.activate("add"):
            return along_memory(device, operator.add, a, b)
    if a.size <= layout.PIECE or a.shape != b.shape or a.dtype != b.dtype:
        return a + b
    return layout.along_memory(np.add, a, b)


def elementwise(operation: Operation) -> Operation:
    """Class decorator for a Function whose forward and backward work element by element: both see
    all arrays with their axes in the order of memory, and know nothing of it.
    """
    forward, backward = operation.forward, operation.backward

    def forward_along_memory(ctx: Any, *args: Any) -> Any:
        if ctx.device.kind == "cpu":
            return forward(ctx, *args)
        ctx.order = order = order_of(ctx.device, [a for a in args if isinstance(a, ctx.xp.ndarray)])
        if order is None:
            return forward(ctx, *args)
        ctx.outside = [getattr(a, "shape", ()) for a in args]
        return restored(forward(ctx, *(reordered(a, order) for a in args)), order)

    def backward_along_memory(ctx: Any, dy: Any) -> Any:
        if ctx.device.kind == "cpu" or ctx.order is None:
            return backward(ctx, dy)
        grads = backward(ctx, reordered(dy, ctx.order))
        grads = grads if isinstance(grads, (list, tuple)) else [grads]
        return [
            None if g is None else restored(g, ctx.order).reshape(shape)
            for g, shape in zip(grads, ctx.outside, strict=True)
        ]

    operation.forward = staticmethod(forward_along_memory)
    operation.backward = staticmethod(backward_along_memory)
    return operation
