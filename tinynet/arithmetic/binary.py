"""Operations on two tensors: + - * / ** @, the larger, the smaller, a choice between the two.

y is the result, dy the gradient that arrives; da and db are the gradients that leave, summed over
the axes along which a or b was repeated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.arithmetic.operands import binary, on_device_of, operands, unbroadcast
from tinynet.function import Context, Function
from tinynet.kernels.layout import PIECE
from tinynet.kernels.order import add as add_arrays
from tinynet.kernels.order import elementwise
from tinynet.operations import operation
from tinynet.tensors import Tensor


@elementwise
class Add(Function):
    """y = a + b        da = dy, db = dy"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        ctx.shapes = a.shape, b.shape
        return a + b if a.size <= PIECE else add_arrays(ctx.device, a, b)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (a, b), (need_a, need_b) = ctx.shapes, ctx.needs_input_grad
        return unbroadcast(dy, a) if need_a else None, unbroadcast(dy, b) if need_b else None


@operation(Add)
def add(a: Any, b: Any) -> Tensor:
    """a + b"""
    return binary(Add, "add", a, b)


@elementwise
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


@operation(Sub)
def sub(a: Any, b: Any) -> Tensor:
    """a - b"""
    return binary(Sub, "sub", a, b)


@elementwise
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


@operation(Mul)
def mul(a: Any, b: Any) -> Tensor:
    """a b, element by element"""
    return binary(Mul, "mul", a, b)


@elementwise
class Div(Function):
    """y = a / b        da = dy / b, db = -dy a / b^2"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a if ctx.needs_input_grad[1] else None, b)
        ctx.shape = a.shape
        return a / b

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        a, b = ctx.saved_tensors
        da = unbroadcast(dy / b, ctx.shape) if ctx.needs_input_grad[0] else None
        return da, None if a is None else unbroadcast(-dy * a / (b * b), b.shape)


@operation(Div)
def div(a: Any, b: Any) -> Tensor:
    """a / b, element by element"""
    return binary(Div, "div", a, b)


@elementwise
class Neg(Function):
    """y = -x        dx = -dy"""

    @staticmethod
    def forward(ctx: Context, x: Any) -> Any:
        return -x

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return -dy


@operation(Neg)
def neg(x: Tensor) -> Tensor:
    """-x"""
    return Neg.apply(x)


@elementwise
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


@elementwise
class Power(Function):
    """y = a^b        da = dy b a^(b-1), db = dy y ln a; where b = 0, da = 0; where a = 0, db = 0"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        y = a**b
        ctx.save_for_backward(a, b, y)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (a, b, y), (need_a, need_b), xp = ctx.saved_tensors, ctx.needs_input_grad, ctx.xp
        da = db = None
        if need_a:
            da = unbroadcast(dy * b * a ** xp.where(b == 0, 0, b - 1), a.shape)
        if need_b:
            db = unbroadcast(dy * y * xp.log(xp.where(a == 0, 1, a)), b.shape)
        return da, db


@operation(Pow, Power)
def pow(x: Any, p: Any) -> Tensor:
    """y = x^p: p a number, or a tensor of exponents; x a number if p is a tensor.

    A whole number may not have a negative exponent: write x.float(). The gradient by an exponent is
    0 where x = 0, and a NaN where x < 0.
    """
    number = isinstance(p, (int, float, np.integer, np.floating)) and not isinstance(p, bool)
    if not number and (isinstance(p, bool) or not isinstance(p, (Tensor, np.ndarray, list))):
        raise TypeError(f"pow: expected a number or a tensor as exponent, got {type(p).__name__}")
    try:
        return Pow.apply(x, p) if number else binary(Power, "pow", x, p)
    except ValueError as error:  # NumPy's
        if "negative integer powers" not in str(error):
            raise
        raise ValueError(
            "pow: expected exponents of at least 0 for whole numbers, got negative ones; write "
            "x.float()"
        ) from None


class _Extreme(Function):
    """y = the larger or smaller of a and b; of equals each gets half of dy

    As in torch a NaN comes out as NaN, and both a and b get dy there.
    """

    @staticmethod
    def share(ctx: Context, dy: Any, a_wins: Any, b_wins: Any) -> Any:
        """dy to all but the loser. a_wins, b_wins: where each is the only one."""
        (a, b), (need_a, need_b), xp = ctx.saved_tensors, ctx.needs_input_grad, ctx.xp
        shared, zeros = xp.where(a == b, dy / 2, dy), xp.zeros_like(dy)
        return (
            unbroadcast(xp.where(b_wins, zeros, shared), a.shape) if need_a else None,
            unbroadcast(xp.where(a_wins, zeros, shared), b.shape) if need_b else None,
        )


@elementwise
class Maximum(_Extreme):
    """y = max(a, b) element by element        da = dy where a > b; of equals each gets half"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return ctx.xp.maximum(a, b)

    @classmethod
    def backward(cls, ctx: Context, dy: Any) -> Any:
        a, b = ctx.saved_tensors
        return cls.share(ctx, dy, a > b, b > a)


@operation(Maximum)
def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, element by element; where they are equal each gets half of the
    gradient.
    """
    return binary(Maximum, "maximum", a, b)


@elementwise
class Minimum(_Extreme):
    """y = min(a, b) element by element        da = dy where a < b; of equals each gets half"""

    @staticmethod
    def forward(ctx: Context, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return ctx.xp.minimum(a, b)

    @classmethod
    def backward(cls, ctx: Context, dy: Any) -> Any:
        a, b = ctx.saved_tensors
        return cls.share(ctx, dy, a < b, b < a)


@operation(Minimum)
def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, element by element; where they are equal each gets half of the
    gradient.
    """
    return binary(Minimum, "minimum", a, b)


@elementwise
class Where(Function):
    """y = a where the condition is true, else b        da = dy where it is, db = dy where not"""

    @staticmethod
    def forward(ctx: Context, condition: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(condition)
        ctx.shapes = a.shape, b.shape
        return ctx.xp.where(condition, a, b)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (condition,), (a, b), (_, need_a, need_b) = (
            ctx.saved_tensors, ctx.shapes, ctx.needs_input_grad,
        )  # fmt: skip
        where = ctx.xp.where  # not dy * condition: an infinity times 0 is a NaN
        return (
            None,
            unbroadcast(where(condition, dy, 0), a) if need_a else None,
            unbroadcast(where(condition, 0, dy), b) if need_b else None,
        )


@operation(Where)
def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where the condition is true, else b, element by element; all three broadcast together.

    condition: booleans, such as x > 0. A number takes the dtype of the first tensor among a and b.
    """
    like = next((x for x in (condition, a, b) if isinstance(x, Tensor)), None)
    if like is None:
        came = ", ".join(type(x).__name__ for x in (condition, a, b))
        raise TypeError(f"where: expected a tensor among its operands, got {came}")
    condition = on_device_of("where", condition, like)
    if condition.dtype.kind != "b":
        raise ValueError(
            f"where: expected a condition of booleans, got {condition.dtype}; write x != 0"
        )
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        a = on_device_of("where", a, like)
    a, b = operands("where", a, b)
    return Where.apply(*operands("where", condition, a, b))


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


@operation(MatMul)
def matmul(a: Any, b: Any) -> Tensor:
    """a @ b with NumPy's rules: (..., n, k) @ (..., k, m) -> (..., n, m).

    A vector is a row on the left and a column on the right.
    """
    like = a if isinstance(a, Tensor) else b
    if not isinstance(like, Tensor):
        came = f"{type(a).__name__} and {type(b).__name__}"
        raise TypeError(f"matmul: expected a tensor among its operands, got {came}")
    a, b = on_device_of("matmul", a, like), on_device_of("matmul", b, like)
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
