"""Functions of one number, element by element: rows of tinynet/kernels/elementwise.py as
operations.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar

import numpy as np

from tinynet.arithmetic.operands import check_tensor
from tinynet.arithmetic.shapes import astype
from tinynet.function import Context, Function
from tinynet.kernels.elementwise import ROWS
from tinynet.operations import operation
from tinynet.tensors import Tensor


class Elementwise(Function):
    """y = f(x, numbers), f the row of the subclass's name        dx = dy f'(x)"""

    row: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.row = re.sub("(?<=[a-z])(?=[A-Z])", "_", cls.__name__).lower()  # NormRoot: norm_root

    @classmethod
    def forward(cls, ctx: Context, x: Any, *numbers: float) -> Any:
        y = getattr(ctx.kernels, f"{cls.row}_forward")(x, *numbers)
        ctx.save_for_backward(y if ROWS[cls.row].kept == "y" else x)
        ctx.numbers = numbers
        return y

    @classmethod
    def backward(cls, ctx: Context, dy: Any) -> Any:
        (kept,) = ctx.saved_tensors
        backward = getattr(ctx.kernels, f"{cls.row}_backward")
        return (backward(dy, kept, *ctx.numbers), *[None] * len(ctx.numbers))


def _floats(name: str, x: Tensor) -> Tensor:
    """x; whole numbers and booleans as float32."""
    check_tensor(name, x)
    return x if x.dtype.kind in "fc" else astype(x, np.float32)


class Exp(Elementwise):
    """y = e^x        dx = dy y"""


@operation(Exp)
def exp(x: Tensor) -> Tensor:
    """e^x"""
    return Exp.apply(_floats("exp", x))


class Log(Elementwise):
    """y = ln x        dx = dy / x"""


@operation(Log)
def log(x: Tensor) -> Tensor:
    """The natural logarithm."""
    return Log.apply(_floats("log", x))


class Sqrt(Elementwise):
    """y = x^(1/2)        dx = dy / (2 y)"""


@operation(Sqrt)
def sqrt(x: Tensor) -> Tensor:
    """The square root."""
    return Sqrt.apply(_floats("sqrt", x))


class NormRoot(Elementwise):
    """y = x^(1/2)        dx = dy / (2 y), 0 where y = 0"""


def norm_root(x: Tensor) -> Tensor:
    """The square root with gradient 0 at 0, where it has none: for norms and deviations."""
    return NormRoot.apply(_floats("norm_root", x))


class Sin(Elementwise):
    """y = sin x        dx = dy cos x"""


@operation(Sin)
def sin(x: Tensor) -> Tensor:
    """The sine."""
    return Sin.apply(_floats("sin", x))


class Cos(Elementwise):
    """y = cos x        dx = -dy sin x"""


@operation(Cos)
def cos(x: Tensor) -> Tensor:
    """The cosine."""
    return Cos.apply(_floats("cos", x))


class Erf(Elementwise):
    """y = erf(x), the error function        dx = dy 2 / sqrt(pi) exp(-x^2)"""


@operation(Erf)
def erf(x: Tensor) -> Tensor:
    """2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x."""
    return Erf.apply(_floats("erf", x))


class Abs(Elementwise):
    """y = |x|        dx = dy where x > 0, -dy where x < 0, 0 where x = 0"""


@operation(Abs)
def abs(x: Tensor) -> Tensor:
    """The absolute value; whole numbers stay whole."""
    check_tensor("abs", x)
    return Abs.apply(astype(x, np.int64) if x.dtype.kind == "b" else x)


class Clip(Elementwise):
    """y = x, at least `least` and at most `most`        dx = dy where least <= x <= most, else 0"""


@operation(Clip)
def clip(x: Tensor, least: float | None = None, most: float | None = None) -> Tensor:
    """x, but `least` where it is smaller and `most` where it is larger; None is no limit.

    torch's names are min and max: `x.clip(min=0)`. A NaN stays one, and is no limit. Whole numbers
    stay whole if the limits are whole or infinite.
    """
    check_tensor("clip", x)
    given = [limit for limit in (least, most) if limit is not None]
    if not given:
        raise ValueError("clip: expected least, most or both (min, max), got none")
    for limit in given:
        if isinstance(limit, bool) or not isinstance(limit, (int, float, np.number)):
            raise TypeError(
                f"clip: expected limits that are numbers, got {type(limit).__name__}; for one "
                f"limit an element write minimum(maximum(x, least), most)"
            )
        if limit != limit:
            raise ValueError("clip: expected limits that are numbers, got a NaN")
    if x.dtype.kind == "b" or (
        x.dtype.kind in "iu" and any(limit % 1 for limit in given if -np.inf < limit < np.inf)
    ):
        x = astype(x, np.float32)
    ends: Any = np.iinfo(x.dtype) if x.dtype.kind in "iu" else None
    lowest, highest = (ends.min, ends.max) if ends else (-np.inf, np.inf)
    # a limit outside of what whole numbers can be is no limit, or one that none of them passes
    least = lowest if least is None else max(lowest, min(least, highest))
    most = highest if most is None else max(lowest, min(most, highest))
    # numbers of x's kind, which 2.0 is not beside whole ones
    return Clip.apply(x, *((int(least), int(most)) if ends else (least, most)))
