"""Sums, extremes and what is made of them, over an axis, several, or all.

y is the result, dy the gradient that arrives, dx the one that leaves.
"""

from __future__ import annotations

import builtins
import math
from typing import Any, ClassVar, NamedTuple

import numpy as np

from tinynet.arithmetic.binary import Div, Mul, Pow, Sub, mul
from tinynet.arithmetic.comparisons import argmax, argmin
from tinynet.arithmetic.elementwise import Abs, NormRoot, abs, norm_root
from tinynet.arithmetic.operands import axes_of, axis_of, check_tensor
from tinynet.function import Context, Function
from tinynet.kernels.order import inner_axes, order_of, reordered, restored
from tinynet.operations import operation
from tinynet.tensors import Tensor


def _without(y: Any, axes: tuple[int, ...]) -> Any:
    """y without these axes, whose length is 1."""
    return y.reshape([n for i, n in enumerate(y.shape) if i not in axes])


class Sum(Function):
    """y = sum of x over axes        dx = dy, repeated along them"""

    @staticmethod
    def forward(ctx: Context, x: Any, axis: Any, keepdims: bool) -> Any:
        ctx.x_shape, ctx.axes = x.shape, axes_of(axis, x.ndim)
        ctx.order = order_of(ctx.device, [x])
        inner = inner_axes(ctx.axes, ctx.order)
        y = restored(reordered(x, ctx.order).sum(axis=inner, keepdims=True), ctx.order)
        return y if keepdims else _without(y, ctx.axes)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        dy = dy.reshape([1 if i in ctx.axes else n for i, n in enumerate(ctx.x_shape)])
        dx = reordered(ctx.xp.broadcast_to(dy, ctx.x_shape), ctx.order).copy()
        return restored(dx, ctx.order), None, None


@operation(Sum)
def sum(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The sum over an axis, several, or all (None)."""
    return Sum.apply(x, axis, keepdims)


@operation(Sum, Div)
def mean(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The mean over an axis, several, or all (None)."""
    check_tensor("mean", x)
    return sum(x, axis, keepdims) / _count(x, axis)


class _Extreme(Function):
    """y = the largest or smallest of x over axes        dx = dy shared equally among the equals

    As in torch's max and min a NaN comes out, and then dy is shared among the NaNs.
    """

    pick: ClassVar[str]

    @classmethod
    def forward(cls, ctx: Context, x: Any, axis: Any, keepdims: bool) -> Any:
        ctx.axes, ctx.order = axes_of(axis, x.ndim), order_of(ctx.device, [x])
        x, ctx.inner = reordered(x, ctx.order), inner_axes(ctx.axes, ctx.order)
        y = getattr(x, cls.pick)(axis=ctx.inner, keepdims=True)
        ctx.save_for_backward(x, y)
        y = restored(y, ctx.order)
        return y if keepdims else _without(y, ctx.axes)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        x, y = ctx.saved_tensors
        dy = reordered(dy.reshape(restored(y, ctx.order).shape), ctx.order)
        won = (x == y) | (x != x)  # x != x: a NaN, and then y is one
        dx = won * (dy / won.sum(axis=ctx.inner, keepdims=True))
        return restored(dx, ctx.order), None, None


class Max(_Extreme):
    """y = max of x over axes        dx = dy shared equally among the largest"""

    pick = "max"


class Min(_Extreme):
    """y = min of x over axes        dx = dy shared equally among the smallest"""

    pick = "min"


class Extremes(NamedTuple):
    """What `max(dim=...)` and `min(dim=...)` give."""

    values: Tensor
    indices: Tensor


def _extreme(function: type[_Extreme], x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    check_tensor(function.pick, x)
    if builtins.any(x.shape[i] == 0 for i in axes_of(axis, x.ndim)):
        raise ValueError(
            f"{function.pick}: expected at least one element along axis {axis}, got shape {x.shape}"
        )
    return function.apply(x, axis, keepdims)


@operation(Max)
def max(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The maximum over an axis, several, or all (None); equal maxima share the gradient."""
    return _extreme(Max, x, axis, keepdims)


@operation(Min)
def min(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The minimum over an axis, several, or all (None); equal minima share the gradient."""
    return _extreme(Min, x, axis, keepdims)


@operation(Max)
def max_along(x: Tensor, dim: int, keepdims: bool = False) -> Extremes:
    """(values, indices) of the largest along an axis, as torch's `x.max(dim=1)`."""
    return Extremes(max(x, dim, keepdims), argmax(x, dim, keepdims))


@operation(Min)
def min_along(x: Tensor, dim: int, keepdims: bool = False) -> Extremes:
    """(values, indices) of the smallest along an axis, as torch's `x.min(dim=1)`."""
    return Extremes(min(x, dim, keepdims), argmin(x, dim, keepdims))


class Prod(Function):
    """y = product of x over axes        dx_i = dy times the product of all x_j but x_i"""

    @staticmethod
    def forward(ctx: Context, x: Any, axis: Any, keepdims: bool) -> Any:
        ctx.save_for_backward(x)
        ctx.axes = axes_of(axis, x.ndim)
        return x.prod(axis=ctx.axes, keepdims=keepdims)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        # not y / x_i, which is no number where x_i = 0: the product of those before i times that of
        # those after i
        (x,), xp, axes = ctx.saved_tensors, ctx.xp, ctx.axes
        kept = [i for i in range(x.ndim) if i not in axes]
        order = [*kept, *axes]
        moved = x.transpose(order)
        factors = math.prod(moved.shape[len(kept) :])
        rows = moved.reshape(dy.size, factors)
        ones = xp.ones((len(rows), 1), x.dtype)
        before = xp.concatenate([ones, rows[:, :-1]], axis=1).cumprod(axis=1)
        after = xp.concatenate([ones, rows[:, :0:-1]], axis=1).cumprod(axis=1)[:, ::-1]
        dx = dy.reshape(-1, 1) * before * after
        return dx.reshape(moved.shape).transpose(np.argsort(order).tolist()), None, None


@operation(Prod)
def prod(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """The product over an axis, several, or all (None)."""
    return Prod.apply(x, axis, keepdims)


class Cumsum(Function):
    """y_i = x_0 + ... + x_i along an axis        dx_i = dy_i + ... + dy_last"""

    @staticmethod
    def forward(ctx: Context, x: Any, axis: int) -> Any:
        ctx.axis = axis
        return x.cumsum(axis=axis)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        back = (slice(None),) * ctx.axis + (slice(None, None, -1),)
        return dy[back].cumsum(axis=ctx.axis)[back], None


@operation(Cumsum)
def cumsum(x: Tensor, axis: int) -> Tensor:
    """The running sum along an axis."""
    check_tensor("cumsum", x)
    return Cumsum.apply(x, axis_of("cumsum", axis, x.ndim))


def _count(x: Tensor, axis: Any) -> int:
    return math.prod(x.shape[i] for i in axes_of(axis, x.ndim))


@operation(Sum, Div, Sub, Pow)
def var(x: Tensor, axis: Any = None, correction: int = 1, keepdims: bool = False) -> Tensor:
    """y = sum of (x - mean)^2 / (n - correction), n the number of elements over the axes.

    correction=1 is the estimate from a sample; 0 is the mean of the squares, as NumPy's var.
    """
    check_tensor("var", x)
    count = _count(x, axis)
    if count <= correction:
        raise ValueError(
            f"var: expected more than correction={correction} elements over axis {axis}, got "
            f"{count} (shape {x.shape})"
        )
    return sum((x - mean(x, axis, True)) ** 2, axis, keepdims) / (count - correction)


@operation(Sum, Div, Sub, Pow, NormRoot)
def std(x: Tensor, axis: Any = None, correction: int = 1, keepdims: bool = False) -> Tensor:
    """y = the square root of var(x); where it is 0, the gradient is 0."""
    return norm_root(var(x, axis, correction, keepdims))


@operation(Mul, Sum, NormRoot, Abs, Max, Pow)
def norm(x: Tensor, p: float = 2, axis: Any = None, keepdims: bool = False) -> Tensor:
    """y = (sum of |x|^p)^(1/p) over an axis, several, or all (None); p = inf: the largest |x|.

    p = 2 is the length of a vector; where it is 0, the gradient is 0.
    """
    check_tensor("norm", x)
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not p > 0:
        raise ValueError(f"norm: expected p, a number above 0, got {p!r}")
    if p == 2:
        return norm_root(sum(mul(x, x), axis, keepdims))
    if p == math.inf:
        return max(abs(x), axis, keepdims)
    total = sum(abs(x) if p == 1 else abs(x) ** p, axis, keepdims)
    return total if p == 1 else total ** (1 / p)
