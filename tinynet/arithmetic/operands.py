"""What the operations of this folder share: how numbers and arrays join tensors, and axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinynet import profiler
from tinynet.function import Function, common_device
from tinynet.tensors import Tensor, tensor
from tinynet.tracer import active, current


def unbroadcast(grad: Any, shape: tuple[int, ...]) -> Any:
    """The adjoint of broadcasting an array of `shape` to grad's: sum over the axes along which it
    was repeated.
    """
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1
    )
    return grad.sum(axis=axes).reshape(shape)


def binary(function: type[Function], name: str, a: Any, b: Any) -> Tensor:
    """function.apply of two operands that broadcast together; see `operands`."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a._data.shape == b._data.shape:
        return function.apply(a, b)
    return function.apply(*operands(name, a, b))


def operands(name: str, *given: Any) -> list[Tensor]:
    """Tensors, numbers, arrays and lists as tensors of one device that broadcast together.

    A number takes the first tensor's dtype, if that can hold such numbers, as an array without
    axes; an array or a list becomes a tensor of its own dtype. ValueError where the shapes do not
    fit, TypeError without any tensor.
    """
    like = next((x for x in given if isinstance(x, Tensor)), None)
    if like is None:
        came = " and ".join(type(x).__name__ for x in given)
        raise TypeError(f"{name}: expected a tensor among its operands, got {came}")
    tensors = [_operand(name, x, like) for x in given]
    shapes = [t.shape for t in tensors]
    try:
        np.broadcast_shapes(*shapes)
    except ValueError:
        came = " and ".join(str(shape) for shape in shapes)
        raise ValueError(f"{name}: expected shapes that broadcast together, got {came}") from None
    return tensors


def _operand(name: str, x: Any, like: Tensor) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if isinstance(x, (bool, int, float, complex)):
        dtype = like.dtype
        if dtype.kind in "biu" and isinstance(x, (float, complex)):
            dtype = np.dtype(np.float32)
        elif dtype.kind == "b" and not isinstance(x, bool):
            dtype = np.dtype(np.int64)  # (x > 0) * 2 is 0 or 2
        with like.device.activate(name):  # filled there: an upload costs a GPU five calls
            array = like.device.empty((), dtype)
            array.fill(x)
        return Tensor(array, like.device)
    return on_device_of(name, x, like)


def on_device_of(name: str, x: Any, like: Tensor) -> Tensor:
    """x, a tensor or what becomes one on the device of `like`. ValueError for anything else."""
    if isinstance(x, Tensor):
        return x
    try:
        return tensor(x, device=like.device)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def without_gradient(name: str, function: Callable[..., Any], *tensors: Tensor) -> Tensor:
    """function(arrays) as a tensor that is not on the tape."""
    device = common_device(name, tensors)
    arrays = [t.data for t in tensors]
    trace = current() if active else None
    seen = trace.look(name, tensors, {}) if trace and trace.whole else None
    with device.activate(name, arrays), profiler.record(name, "forward", device) as record:
        y = device.xp.asarray(function(*arrays))
        record(arrays, [y])
    found = Tensor(y, device)
    if trace and seen is not None:
        trace.note(seen, (found,))
    return found


def axes_of(axis: Any, ndim: int) -> tuple[int, ...]:
    """An axis, several, or all (None) as a tuple of axes; ValueError if one is out of range."""
    axes: Sequence[Any] = (
        range(ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    )
    valid = all(
        isinstance(a, (int, np.integer)) and not isinstance(a, bool) and -ndim <= a < ndim
        for a in axes
    )
    if not valid or len({a % ndim for a in axes}) < len(axes):
        raise ValueError(
            f"axis: expected different axes of a {ndim}-d tensor, {-ndim} ... {ndim - 1}, got "
            f"{axis!r}"
        )
    return tuple(a % ndim for a in axes)


def axis_of(name: str, axis: Any, ndim: int) -> int:
    """One axis, counted from the front. ValueError for what is none."""
    if (
        isinstance(axis, bool)
        or not isinstance(axis, (int, np.integer))
        or not -ndim <= axis < ndim
    ):
        raise ValueError(f"{name}: expected an axis of a {ndim}-d tensor, got {axis!r}")
    return int(axis) % ndim


def check_tensor(name: str, x: Any) -> None:
    """TypeError for what is no tensor."""
    if not isinstance(x, Tensor):
        write = "; write tinynet.tensor(x), and x for x.data" if hasattr(x, "__array__") else ""
        raise TypeError(f"{name}: expected a tensor, got {type(x).__name__}{write}")
