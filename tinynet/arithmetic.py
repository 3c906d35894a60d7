"""The arithmetic of tensors: what +, *, @, sum, reshape, indexing and their like do, forward and
backward.

Each Function stands beside the name that a user calls. y is the result, dy the gradient that
arrives, dx the one that leaves. At the end, the operators and methods of Tensor are bound to these.
"""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from tinynet.devices import Device
from tinynet.devices import device as find_device
from tinynet.function import Context, Function
from tinynet.operations import operation
from tinynet.tensor import Tensor, as_array, tensor


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


class Add(Function):
    """y = a + b        da = dy, db = dy"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        ctx.shapes = a.shape, b.shape
        return a + b

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (a, b), (need_a, need_b) = ctx.shapes, ctx.needs_input_grad
        return unbroadcast(dy, a) if need_a else None, unbroadcast(dy, b) if need_b else None


class Sub(Function):
    """y = a - b        da = dy, db = -dy"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        ctx.shapes = a.shape, b.shape
        return a - b

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (a, b), (need_a, need_b) = ctx.shapes, ctx.needs_input_grad
        return unbroadcast(dy, a) if need_a else None, unbroadcast(-dy, b) if need_b else None


class Mul(Function):
    """y = a b        da = dy b, db = dy a"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        need_a, need_b = ctx.needs_input_grad
        ctx.save_for_backward(a if need_b else None, b if need_a else None)
        ctx.shapes = a.shape, b.shape
        return a * b

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (a, b), (a_shape, b_shape) = ctx.saved_tensors, ctx.shapes
        da = None if b is None else unbroadcast(dy * b, a_shape)
        return da, None if a is None else unbroadcast(dy * a, b_shape)


class Div(Function):
    """y = a / b        da = dy / b, db = -dy a / b^2"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return a / b

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (a, b), (need_a, need_b) = ctx.saved_tensors, ctx.needs_input_grad
        return (
            unbroadcast(dy / b, a.shape) if need_a else None,
            unbroadcast(-dy * a / (b * b), b.shape) if need_b else None,
        )


class Neg(Function):
    """y = -x        dx = -dy"""

    @staticmethod
    def forward(ctx: Context, x: Any) -> Any:
        return -x

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return -dy


class Pow(Function):
    """y = x^p, p a number        dx = dy p x^(p-1)"""

    @staticmethod
    def forward(ctx: Context, x: Any, p: float) -> Any:
        ctx.save_for_backward(x)
        ctx.p = p
        return x**p

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        return (dy * ctx.p * x ** (ctx.p - 1) if ctx.p != 0 else ctx.xp.zeros_like(dy)), None


class Exp(Function):
    """y = e^x        dx = dy y"""

    @staticmethod
    def forward(ctx: Context, x: Any) -> Any:
        y = ctx.xp.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (y,) = ctx.saved_tensors
        return dy * y


class Log(Function):
    """y = ln x        dx = dy / x"""

    @staticmethod
    def forward(ctx: Context, x: Any) -> Any:
        ctx.save_for_backward(x)
        return ctx.xp.log(x)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        return dy / x


class Maximum(Function):
    """y = max(a, b) element by element        da = dy where a > b; of equals each gets half

    As in torch a NaN comes out as NaN, and both a and b get dy there.
    """

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return ctx.xp.maximum(a, b)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (a, b), (need_a, need_b), xp = ctx.saved_tensors, ctx.needs_input_grad, ctx.xp
        zeros = xp.zeros_like(dy)

        def share(mine: Any, other: Any) -> Any:
            shared = xp.where(mine == other, dy / 2, dy)
            return unbroadcast(xp.where(mine < other, zeros, shared), mine.shape)

        return share(a, b) if need_a else None, share(b, a) if need_b else None


class MatMul(Function):
    """y = a b, batched over leading axes        da = dy b^T, db = a^T dy"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return ctx.kernels.matmul(a, b)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (a, b), (need_a, need_b) = ctx.saved_tensors, ctx.needs_input_grad
        matmul = ctx.kernels.matmul
        # a vector is a matrix of one row (a) or one column (b), and dy lacks that axis
        a2 = a[None, :] if a.ndim == 1 else a
        b2 = b[:, None] if b.ndim == 1 else b
        dy = dy[..., None] if b.ndim == 1 else dy
        dy = dy[..., None, :] if a.ndim == 1 else dy
        return (
            unbroadcast(matmul(dy, b2.swapaxes(-1, -2)), a2.shape).reshape(a.shape)
            if need_a
            else None,
            unbroadcast(matmul(a2.swapaxes(-1, -2), dy), b2.shape).reshape(b.shape)
            if need_b
            else None,
        )


class Sum(Function):
    """y = sum of x over axes        dx = dy, repeated along them"""

    @staticmethod
    def forward(ctx: Context, x: Any, axis: Any, keepdims: bool) -> Any:
        ctx.x_shape, ctx.axes = x.shape, _axes(axis, x.ndim)
        return x.sum(axis=ctx.axes, keepdims=keepdims)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        dy = dy.reshape([1 if i in ctx.axes else n for i, n in enumerate(ctx.x_shape)])
        return ctx.xp.broadcast_to(dy, ctx.x_shape).copy(), None, None


class Max(Function):
    """y = max of x over axes        dx = dy shared equally among the largest

    As in torch's max a NaN comes out, and then dy is shared among the NaNs.
    """

    @staticmethod
    def forward(ctx: Context, x: Any, axis: Any, keepdims: bool) -> Any:
        ctx.axes = _axes(axis, x.ndim)
        y = x.max(axis=ctx.axes, keepdims=True)
        ctx.save_for_backward(x, y)
        return y if keepdims else y.reshape([n for i, n in enumerate(x.shape) if i not in ctx.axes])

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        x, y = ctx.saved_tensors
        won = (x == y) | (x != x)  # x != x: a NaN, and then y is one
        return won * (dy.reshape(y.shape) / won.sum(axis=ctx.axes, keepdims=True)), None, None


class Reshape(Function):
    """y = x with another shape, in C order        dx = dy with x's"""

    @staticmethod
    def forward(ctx: Context, x: Any, shape: tuple[int, ...]) -> Any:
        ctx.x_shape = x.shape
        return x.reshape(shape)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return dy.reshape(ctx.x_shape), None


class Transpose(Function):
    """y's axis i is x's axis axes[i]        dx = dy with the axes back in their places"""

    @staticmethod
    def forward(ctx: Context, x: Any, axes: tuple[int, ...]) -> Any:
        ctx.axes = axes
        return x.transpose(axes)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return dy.transpose(np.argsort(ctx.axes).tolist()), None


class Index(Function):
    """y = x[key]        dx = dy added into zeros at key"""

    @staticmethod
    def forward(ctx: Context, x: Any, key: Any) -> Any:
        ctx.x_shape, ctx.key = x.shape, key
        return x[key]

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        dx = ctx.xp.zeros(ctx.x_shape, dy.dtype)
        parts = ctx.key if isinstance(ctx.key, tuple) else (ctx.key,)
        if any(isinstance(part, (np.ndarray, ctx.xp.ndarray)) for part in parts):
            ctx.xp.add.at(dx, ctx.key, dy)  # an element that was taken twice gets both gradients
        else:
            dx[ctx.key] = dy
        return dx, None


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


# What a user calls. An operand that is a number stays one; an array or list becomes a tensor on the
# other's device.


def _operand(name: str, x: Any, other: Any) -> Tensor:
    """x as a tensor on the other operand's device."""
    if isinstance(x, Tensor):
        return x
    if not isinstance(other, Tensor):
        raise TypeError(
            f"{name}: expected a tensor among its operands, got {type(x).__name__} and "
            f"{type(other).__name__}"
        )
    try:
        return tensor(x, device=other.device)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _binary(function: type[Function], name: str, a: Any, b: Any) -> Tensor:
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
        a, b = _beside(name, a, b), _beside(name, b, a)
    try:
        return function.apply(a, b)
    except ValueError:
        try:
            np.broadcast_shapes(a.shape, b.shape)
        except ValueError:
            raise ValueError(
                f"{name}: expected shapes that broadcast together, got {a.shape} and {b.shape}"
            ) from None
        raise


def _beside(name: str, x: Any, other: Any) -> Tensor:
    """An operand as a tensor. A number takes the other's dtype, as an array without axes: so
    forward and backward see arrays alone.
    """
    if not isinstance(x, (bool, int, float, complex)) or not isinstance(other, Tensor):
        return _operand(name, x, other)
    dtype = other.dtype
    if isinstance(x, (float, complex)) and dtype.kind in "biu":
        dtype = np.dtype(np.float32)
    return Tensor(other.device.upload(np.asarray(x, dtype)), other.device)


@operation(Add)
def add(a: Any, b: Any) -> Tensor:
    """a + b"""
    return _binary(Add, "add", a, b)


@operation(Sub)
def sub(a: Any, b: Any) -> Tensor:
    """a - b"""
    return _binary(Sub, "sub", a, b)


@operation(Mul)
def mul(a: Any, b: Any) -> Tensor:
    """a b, element by element"""
    return _binary(Mul, "mul", a, b)


@operation(Div)
def div(a: Any, b: Any) -> Tensor:
    """a / b, element by element"""
    return _binary(Div, "div", a, b)


@operation(Maximum)
def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, element by element; where they are equal each gets half of the
    gradient.
    """
    return _binary(Maximum, "maximum", a, b)


@operation(Neg)
def neg(x: Tensor) -> Tensor:
    """-x"""
    return Neg.apply(x)


@operation(Pow)
def pow(x: Tensor, p: float) -> Tensor:
    """x^p for a number p."""
    if isinstance(p, bool) or not isinstance(p, (int, float, np.integer, np.floating)):
        raise TypeError(f"pow: expected a number as exponent, got {type(p).__name__}")
    return Pow.apply(x, p)


@operation(Exp)
def exp(x: Tensor) -> Tensor:
    """e^x"""
    return Exp.apply(x)


@operation(Log)
def log(x: Tensor) -> Tensor:
    """The natural logarithm."""
    return Log.apply(x)


@operation(MatMul)
def matmul(a: Any, b: Any) -> Tensor:
    """a @ b with NumPy's rules: (..., n, k) @ (..., k, m) -> (..., n, m).

    A vector is a row on the left and a column on the right.
    """
    a, b = _operand("matmul", a, b), _operand("matmul", b, a)
    fits = a.ndim > 0 and b.ndim > 0 and a.shape[-1] == b.shape[-2:][0]
    try:
        np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"matmul: expected shapes (..., n, k) and (..., k, m), got {a.shape} and {b.shape}"
        )
    return MatMul.apply(a, b)


@operation(Sum)
def sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over an axis, several, or all (None)."""
    return Sum.apply(x, axis, keepdims)


@operation(Sum, Div)
def mean(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean over an axis, several, or all (None)."""
    count = int(np.prod([x.shape[i] for i in _axes(axis, x.ndim)]))
    return sum(x, axis, keepdims) / count


@operation(Max)
def max(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The maximum over an axis, several, or all (None); equal maxima share the gradient."""
    if any(x.shape[i] == 0 for i in _axes(axis, x.ndim)):
        raise ValueError(
            f"max: expected at least one element along axis {axis}, got shape {x.shape}"
        )
    return Max.apply(x, axis, keepdims)


@operation(Reshape)
def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The same elements in another shape; one -1 stands for what is left."""
    shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape
    try:
        np.broadcast_to(np.empty(()), x.shape).reshape(shape)
    except (ValueError, TypeError):
        raise ValueError(
            f"reshape: expected a shape of {x.size} elements, got {x.shape} -> {shape}"
        ) from None
    return Reshape.apply(x, shape)


@operation(Transpose)
def transpose(x: Tensor, *axes: Any) -> Tensor:
    """The axes in another order; reversed if none is given."""
    axes = tuple(axes[0]) if len(axes) == 1 and isinstance(axes[0], (tuple, list)) else axes
    axes = axes or tuple(range(x.ndim))[::-1]
    if sorted(a % x.ndim if x.ndim else a for a in axes) != list(range(x.ndim)):
        raise ValueError(f"transpose: expected each of the {x.ndim} axes once, got {axes}")
    return Transpose.apply(x, tuple(a % x.ndim for a in axes))


def flatten(x: Tensor, start_axis: int = 0) -> Tensor:
    """All axes from `start_axis` on as one."""
    start = start_axis + x.ndim if start_axis < 0 else start_axis
    if not 0 <= start <= builtins.max(x.ndim - 1, 0):
        raise ValueError(f"flatten: expected a start axis of a {x.ndim}-d tensor, got {start_axis}")
    return reshape(x, (*x.shape[:start], int(np.prod(x.shape[start:]))))


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


@operation(Concat)
def concat(tensors: Any, axis: int = 0) -> Tensor:
    """Tensors side by side along `axis`; their other axes must be equal."""
    tensors = list(tensors)
    if not tensors or not all(isinstance(t, Tensor) for t in tensors):
        raise ValueError("concat: expected at least one tensor, and nothing but tensors")
    ndim = tensors[0].ndim
    if not -ndim <= axis < ndim:
        raise ValueError(f"concat: expected an axis of a {ndim}-d tensor, got {axis}")
    rests = {
        t.shape[: axis % ndim] + t.shape[axis % ndim + 1 :] if t.ndim == ndim else t.shape
        for t in tensors
    }
    if len(rests) > 1 or any(t.ndim != ndim for t in tensors):
        shapes = ", ".join(str(t.shape) for t in tensors)
        raise ValueError(
            f"concat: expected shapes that differ along axis {axis} only, got {shapes}"
        )
    return Concat.apply(*tensors, axis=axis % ndim)


@operation(Copy)
def to(x: Tensor, device: str | Device) -> Tensor:
    """x on another device; its gradient is copied back. x itself if it is there already."""
    target = find_device(device)
    return x if target == x.device else Copy.apply(x, target)


def _axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """An axis argument as a tuple of axes; ValueError if one is out of range."""
    axes = range(ndim) if axis is None else axis if isinstance(axis, (tuple, list)) else (axis,)
    valid = all(
        isinstance(a, (int, np.integer)) and not isinstance(a, bool) and -ndim <= a < ndim
        for a in axes
    )
    if not valid or len({a % ndim for a in axes}) < len(axes):
        raise ValueError(
            f"axis: expected different axes of a {ndim}-d tensor, {-ndim} ... {ndim - 1}, got "
            f"{axis}"
        )
    return tuple(a % ndim for a in axes)


for name, method in {
    "__add__": add,
    "__radd__": add,
    "__sub__": sub,
    "__rsub__": lambda b, a: sub(a, b),
    "__mul__": mul,
    "__rmul__": mul,
    "__truediv__": div,
    "__rtruediv__": lambda b, a: div(a, b),
    "__matmul__": matmul,
    "__rmatmul__": lambda b, a: matmul(a, b),
    "__neg__": neg,
    "__pow__": pow,
    "__getitem__": index,
    "sum": sum,
    "mean": mean,
    "max": max,
    "exp": exp,
    "log": log,
    "reshape": reshape,
    "transpose": transpose,
    "flatten": flatten,
    "to": to,
}.items():
    setattr(Tensor, name, method)
