"""Operations that move elements: other shapes, parts, several side by side, other devices.

y is the result, dy the gradient that arrives, dx the one that leaves.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tinynet.arithmetic.operands import axes_of, axis_of, check_tensor
from tinynet.devices import Device, find_device
from tinynet.devices.layout import memory_order
from tinynet.function import Context, Function
from tinynet.operations import operation
from tinynet.tensors import Tensor, as_array


class Reshape(Function):
    """y = x with another shape, in C order        dx = dy with x's"""

    @staticmethod
    def forward(ctx: Context, x: Any, shape: tuple[int, ...]) -> Any:
        ctx.x_shape = x.shape
        return x.reshape(shape)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return dy.reshape(ctx.x_shape), None


@operation(Reshape)
def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape; one -1 stands for what is left."""
    check_tensor("reshape", x)
    shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    try:
        np.broadcast_to(np.empty(()), x.shape).reshape(shape)
    except (ValueError, TypeError):
        raise ValueError(
            f"reshape: expected a shape of {x.size} elements, got {x.shape} -> {shape}"
        ) from None
    return Reshape.apply(x, shape)


class Transpose(Function):
    """y's axis i is x's axis axes[i]        dx = dy with the axes back in their places"""

    @staticmethod
    def forward(ctx: Context, x: Any, axes: tuple[int, ...]) -> Any:
        ctx.axes = axes
        return x.transpose(axes)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return dy.transpose(np.argsort(ctx.axes).tolist()), None


@operation(Transpose)
def transpose(x: Tensor, *axes: Any) -> Tensor:
    """The axes in another order; reversed if none is given."""
    check_tensor("transpose", x)
    axes = tuple(axes[0]) if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    axes = axes or tuple(range(x.ndim))[::-1]
    try:
        order = axes_of(axes, x.ndim)
    except ValueError:
        order = ()
    if len(order) < max(x.ndim, len(axes)):
        two = len(order) == 2
        hint = f"; to exchange two axes write x.permute{_exchanged(order, x.ndim)}" if two else ""
        raise ValueError(f"transpose: expected each of the {x.ndim} axes once, got {axes}{hint}")
    return Transpose.apply(x, order)


def _exchanged(two: tuple[int, ...], ndim: int) -> tuple[int, ...]:
    order, (a, b) = list(range(ndim)), two
    order[a], order[b] = b, a
    return tuple(order)


@operation(Reshape)
def flatten(x: Tensor, start_axis: int = 0) -> Tensor:
    """All axes from `start_axis` on as one."""
    check_tensor("flatten", x)
    start = start_axis + x.ndim if start_axis < 0 else start_axis
    if not 0 <= start <= max(x.ndim - 1, 0):
        raise ValueError(f"flatten: expected a start axis of a {x.ndim}-d tensor, got {start_axis}")
    return reshape(x, (*x.shape[:start], int(np.prod(x.shape[start:]))))


class Index(Function):
    """y = x[key]        dx = dy added into zeros at key"""

    @staticmethod
    def forward(ctx: Context, x: Any, key: Any) -> Any:
        ctx.x_shape, ctx.strides = x.shape, x.strides
        # Backward needs it as it is now: a copy, since it may be a tensor's own array.
        ctx.key = key.copy() if isinstance(key, ctx.xp.ndarray) else key
        return x[key]

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        parts = ctx.key if isinstance(ctx.key, tuple) else (ctx.key,)
        if any(isinstance(part, (np.ndarray, ctx.xp.ndarray)) for part in parts):
            return ctx.kernels.index_backward(dy, ctx.key, ctx.x_shape), None
        # Where others add to this gradient they lie as x does: in C order a sum takes ten times as
        # long.
        order, back = memory_order(ctx.strides)
        shape = tuple(ctx.x_shape[axis] for axis in order)
        dx = ctx.device.empty(shape, dy.dtype).transpose(back)
        dx[...] = 0
        dx[ctx.key] = dy
        return dx, None


@operation(Index)
def index(x: Tensor, key: Any) -> Tensor:
    """x[key] with NumPy's rules; index arrays may be tensors, or arrays of the host."""

    def array(part: Any) -> Any:
        """A copy, since backward needs it as it is now."""
        if isinstance(part, Tensor):
            return x.device.copy_from(part.data, part.device)
        if isinstance(part, list):
            part = as_array("index", part)
            part = part if part.size else part.astype(np.intp)  # [] is an index, its dtype none
        return x.device.upload(part) if isinstance(part, np.ndarray) else part

    parts = key if isinstance(key, tuple) else (key,)
    arrays = tuple(array(part) for part in parts)
    try:
        return Index.apply(x, arrays if isinstance(key, tuple) else arrays[0])
    except IndexError as error:
        raise IndexError(f"index: tensor of shape {x.shape}: {error}") from None


class Concat(Function):
    """y = the arguments side by side along an axis        each gets its part of dy"""

    @staticmethod
    def forward(ctx: Context, *arrays: Any, axis: int) -> Any:
        ctx.axis, ctx.sizes = axis, [a.shape[axis] for a in arrays]
        if axis == 0:
            return ctx.xp.concatenate(arrays)
        # the batch stays innermost: CuPy's concatenate would put it first
        return ctx.xp.moveaxis(
            ctx.xp.concatenate([ctx.xp.moveaxis(a, 0, -1) for a in arrays], axis=axis - 1), -1, 0
        )

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return tuple(ctx.xp.split(dy, np.cumsum(ctx.sizes)[:-1].tolist(), axis=ctx.axis))


def _tensors(name: str, given: Any) -> list[Tensor]:
    """A list of what is given, tensors. ValueError for anything else."""
    tensors = list(given) if isinstance(given, Iterable) else []
    if not tensors or not all(isinstance(t, Tensor) for t in tensors):
        raise ValueError(f"{name}: expected at least one tensor, and nothing but tensors")
    return tensors


@operation(Concat)
def concat(tensors: Any, axis: int = 0) -> Tensor:
    """Tensors side by side along `axis`; their other axes must be equal."""
    tensors = _tensors("concat", tensors)
    ndim = tensors[0].ndim
    place = axis_of("concat", axis, ndim)
    rests = {t.shape[:place] + t.shape[place + 1 :] if t.ndim == ndim else t.shape for t in tensors}
    if len(rests) > 1 or any(t.ndim != ndim for t in tensors):
        shapes = ", ".join(str(t.shape) for t in tensors)
        raise ValueError(
            f"concat: expected shapes that differ along axis {axis} only, got {shapes}"
        )
    return Concat.apply(*tensors, axis=place)


class Copy(Function):
    """y = x on another device        dx = dy, copied back"""

    @staticmethod
    def forward(ctx: Context, x: Any, target: Device) -> Any:
        ctx.output_device = target
        with target.activate("Copy"):
            return target.copy_from(x, ctx.device)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.device.copy_from(dy, ctx.output_device), None


@operation(Reshape, Concat)
def stack(tensors: Any, axis: int = 0) -> Tensor:
    """y = tensors of one shape along a new axis"""
    tensors = _tensors("stack", tensors)
    if len({t.shape for t in tensors}) > 1:
        shapes = ", ".join(str(t.shape) for t in tensors)
        raise ValueError(f"stack: expected tensors of one shape, got {shapes}")
    new = axis_of("stack", axis, tensors[0].ndim + 1)
    return concat([unsqueeze(t, new) for t in tensors], new)


@operation(Index)
def split(x: Tensor, sizes: int | Sequence[int], axis: int = 0) -> tuple[Tensor, ...]:
    """The parts of x along an axis: of the sizes in a list, or each of one size but the last."""
    check_tensor("split", x)
    axis = axis_of("split", axis, x.ndim)
    length = x.shape[axis]
    if isinstance(sizes, (int, np.integer)) and not isinstance(sizes, bool) and sizes > 0:
        sizes = [min(int(sizes), length - at) for at in range(0, length or 1, int(sizes))]
    if not isinstance(sizes, (list, tuple)) or sum(sizes) != length or min(sizes) < 0:
        raise ValueError(
            f"split: expected a size above 0, or sizes that add up to {length}, the length of axis "
            f"{axis}, got {sizes}"
        )
    ends = list(itertools.accumulate(sizes))
    before = (slice(None),) * axis
    return tuple(
        index(x, (*before, slice(end - size, end))) for end, size in zip(ends, sizes, strict=True)
    )


@operation(Reshape)
def squeeze(x: Tensor, axis: Any = None) -> Tensor:
    """x without its axes of length 1: all of them, or the given ones that have this length."""
    check_tensor("squeeze", x)
    axes = axes_of(axis, x.ndim)
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if n != 1 or i not in axes))


@operation(Reshape)
def unsqueeze(x: Tensor, axis: int) -> Tensor:
    """x with a new axis of length 1 at this place."""
    check_tensor("unsqueeze", x)
    axis = axis_of("unsqueeze", axis, x.ndim + 1)
    return reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


class Cast(Function):
    """y = x in another dtype, a copy        dx = dy in x's"""

    @staticmethod
    def forward(ctx: Context, x: Any, dtype: np.dtype) -> Any:
        return x.astype(dtype)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return dy, None  # Function.apply gives it x's dtype


@operation(Cast)
def astype(x: Tensor, dtype: Any) -> Tensor:
    """x in another dtype; always a copy. Whole numbers and booleans have no gradient."""
    check_tensor("astype", x)
    try:
        wanted = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"astype: expected a dtype such as 'float32', got {dtype!r}") from None
    if wanted.kind not in "biufc":
        raise ValueError(f"astype: expected a dtype of numbers, got {wanted}")
    return Cast.apply(x, wanted)


@operation(Copy, Cast)
def to(x: Tensor, target: Any) -> Tensor:
    """y = x on another device, or in another dtype; x itself if it is so already.

    target: "cuda:0", a Device, "float32", numpy.int64 ... The gradient is copied back.
    """
    check_tensor("to", x)
    dtype = _as_dtype(target)
    if dtype is not None:
        return x if dtype == x.dtype else astype(x, dtype)
    device = find_device(target)
    return x if device == x.device else Copy.apply(x, device)


def _as_dtype(target: Any) -> np.dtype | None:
    """None for what names no dtype."""
    try:
        return None if isinstance(target, Device) else np.dtype(target)
    except TypeError:
        return None
