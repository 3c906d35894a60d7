"""Functions of one number, element by element: a row each, which gives the CPU's and the GPU's
kernels.

    name    y            dx

A formula is text that Python and C++ read alike: of x, of the numbers that the row names, for dx
also of dy, and of y in the place of x. where(condition, a, b) is a where the condition holds, else
b; REAL(1.5) is a constant of x's type. Here the text becomes NumPy's functions, in
tinynet/kernels/cuda/elementwise.py a CUDA kernel.

    sqrt(x)         y = x^(1/2)      dy/dx = 1/2 x^(-1/2) = 1 / (2 y)
    erf(x)          y = 2 / sqrt(pi) times the integral of exp(-t^2), t = 0 ... x
    norm_root(x)    sqrt(x), but with gradient 0 at x = 0, where sqrt has none: for norms, whose
                    smallest value is 0
    leaky_relu(x)   x above 0, s x elsewhere, s the negative_slope: dy/dx = 1 or s; at 0 it is s
    elu(x)          x above 0, a (e^x - 1) elsewhere: dy/dx = 1 or a e^x. exp and expm1 (e^x - 1,
                    exact near 0) see min(x, 0), so that what is not taken does not overflow

NumPy has no erf. Near 0 it is its Maclaurin series, elsewhere 1 - erfc by tinynet/kernels/gelu.py:
1 - erfc alone would lose the last digits of small values.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tinynet.kernels.gelu import normal_distribution
from tinynet.kernels.layout import along_memory


class Row(NamedTuple):
    """y and dx as text; the names of further numbers."""

    y: str
    dx: str
    numbers: tuple[str, ...] = ()

    @property
    def kept(self) -> str:
        """What backward needs of forward: "x", or "y" where its formula is of y."""
        return "y" if re.search(r"\by\b", self.dx) else "x"


ROWS = {
    "exp": Row("exp(x)", "dy * y"),
    "log": Row("log(x)", "dy / x"),
    "sqrt": Row("sqrt(x)", "dy / (2 * y)"),
    "norm_root": Row("sqrt(x)", "where(y > 0, dy, 0) / where(y > 0, 2 * y, 1)"),
    "sin": Row("sin(x)", "dy * cos(x)"),
    "cos": Row("cos(x)", "-dy * sin(x)"),
    "erf": Row("erf(x)", "dy * REAL(1.1283791670955126) * exp(-x * x)"),  # 2 / sqrt(pi)
    "abs": Row("where(x > 0, x, 0 - x)", "where(x > 0, dy, where(x < 0, -dy, 0))"),
    "clip": Row(
        "where(x < least, least, where(x > most, most, x))",
        "where(x < least, 0, where(x > most, 0, dy))",
        ("least", "most"),
    ),
    "leaky_relu": Row(
        "where(x > 0, x, negative_slope * x)",
        "where(x > 0, dy, negative_slope * dy)",
        ("negative_slope",),
    ),
    "elu": Row(
        "where(x > 0, x, alpha * expm1(where(x > 0, 0, x)))",
        "dy * where(x > 0, 1, alpha * exp(where(x > 0, 0, x)))",
        ("alpha",),
    ),
}

# 2 / sqrt(pi) times the sum over n of (-1)^n x^(2n+1) / (n! (2n+1)); the last term is 1e-18 at 1/2.
MACLAURIN = [
    (-1) ** n * 2 / math.sqrt(math.pi) / (math.factorial(n) * (2 * n + 1)) for n in range(13)
]


def erf(x: np.ndarray) -> np.ndarray:
    """The error function; complex x near the real axis too."""
    square, near = x * x, np.abs(x.real) < 0.5
    series = np.full_like(x, MACLAURIN[-1])
    for term in MACLAURIN[-2::-1]:  # Horner's rule
        series *= np.where(near, square, 0)
        series += term
    series *= x
    far = 2 * normal_distribution(x * 2**0.5)[0] - 1
    return np.where(near, series, far)


_NAMES = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "sqrt": np.sqrt, "sin": np.sin,
    "cos": np.cos, "erf": erf, "where": np.where, "REAL": float,
}  # fmt: skip


def _function(text: str, names: tuple[str, ...]) -> Callable[..., np.ndarray]:
    return eval(f"lambda {', '.join(names)}: {text}", dict(_NAMES))


def _forward(name: str, row: Row) -> Callable[..., np.ndarray]:
    y_of = _function(row.y, ("x", *row.numbers))

    def forward(x: np.ndarray, *numbers: float) -> np.ndarray:
        return along_memory(lambda x, y: np.copyto(y, y_of(x, *numbers)), x)

    return _named(f"{name}_forward", f"y = {row.y}", forward, ("x", *row.numbers))


def _backward(name: str, row: Row) -> Callable[..., np.ndarray]:
    dx_of = _function(row.dx, ("dy", row.kept, *row.numbers))

    def backward(dy: np.ndarray, kept: np.ndarray, *numbers: float) -> np.ndarray:
        return along_memory(lambda kept, dy, dx: np.copyto(dx, dx_of(dy, kept, *numbers)), kept, dy)

    return _named(f"{name}_backward", f"dx = {row.dx}", backward, ("dy", row.kept, *row.numbers))


def _named(
    name: str, formula: str, kernel: Callable[..., np.ndarray], labels: tuple[str, ...]
) -> Callable[..., np.ndarray]:
    """The kernel under its name, with the names of its arguments."""
    parameters = [inspect.Parameter(label, inspect.Parameter.POSITIONAL_ONLY) for label in labels]
    kernel.__name__, kernel.__doc__ = name, formula
    kernel.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return kernel


_kernels = {f"{name}_forward": _forward(name, row) for name, row in ROWS.items()} | {
    f"{name}_backward": _backward(name, row) for name, row in ROWS.items()
}
globals().update(_kernels)
__all__ = list(_kernels)
