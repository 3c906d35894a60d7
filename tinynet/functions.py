"""torch's functions of tensors, `tinynet.exp(x)`: most are the methods of that name.

Three differ from the methods, which have NumPy's meaning: `transpose` exchanges two axes, and the
second argument of `max` and `min` is torch's `dim`, so `values, indices = tinynet.max(x, 1)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinynet import arithmetic
from tinynet.arithmetic import (
    add,
    concat,
    div,
    einsum,
    matmul,
    maximum,
    minimum,
    mul,
    pow,
    sub,
    where,
)
from tinynet.arithmetic.operands import axis_of, check_tensor
from tinynet.functional import log_softmax, relu, sigmoid, softmax, tanh
from tinynet.operators import axis_or_dim
from tinynet.tensors import Tensor

__all__ = [
    "abs", "add", "all", "any", "argmax", "argmin", "cat", "clamp", "clip", "concat", "cos",
    "cumsum", "div", "einsum", "erf", "exp", "flatten", "log", "log_softmax", "matmul", "max",
    "maximum", "mean", "min", "minimum", "mul", "norm", "permute", "pow", "prod", "relu", "reshape",
    "sigmoid", "sin", "softmax", "split", "sqrt", "squeeze", "stack", "std", "sub", "sum", "tanh",
    "transpose", "unsqueeze", "var", "where",
]  # fmt: skip

abs = Tensor.abs
all = Tensor.all
any = Tensor.any
argmax = Tensor.argmax
argmin = Tensor.argmin
clamp = clip = Tensor.clip
cos = Tensor.cos
cumsum = Tensor.cumsum
erf = Tensor.erf
exp = Tensor.exp
flatten = Tensor.flatten
log = Tensor.log
mean = Tensor.mean
norm = Tensor.norm
permute = Tensor.permute
prod = Tensor.prod
reshape = Tensor.reshape
sin = Tensor.sin
split = Tensor.split
sqrt = Tensor.sqrt
squeeze = Tensor.squeeze
std = Tensor.std
sum = Tensor.sum
unsqueeze = Tensor.unsqueeze
var = Tensor.var


def cat(tensors: Sequence[Tensor], axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """Tensors side by side along an axis (0)."""
    return concat(tensors, axis_or_dim("cat", axis, dim) or 0)


def stack(tensors: Sequence[Tensor], axis: int | None = None, *, dim: int | None = None) -> Tensor:
    """Tensors of one shape along a new axis (0)."""
    return arithmetic.stack(tensors, axis_or_dim("stack", axis, dim) or 0)


def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged."""
    check_tensor("transpose", x)
    order = list(range(x.ndim))
    a, b = (axis_of("transpose", dim, x.ndim) for dim in (dim0, dim1))
    order[a], order[b] = b, a
    return x.permute(order)


def max(x: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Any:
    """max(x): the largest; max(x, dim): (values, indices) along it; max(x, y): `maximum`."""
    if isinstance(dim, Tensor):
        return maximum(x, dim)
    return Tensor.max(x) if dim is None else Tensor.max(x, dim=dim, keepdim=keepdim)


def min(x: Tensor, dim: int | Tensor | None = None, keepdim: bool = False) -> Any:
    """min(x): the smallest; min(x, dim): (values, indices) along it; min(x, y): `minimum`."""
    if isinstance(dim, Tensor):
        return minimum(x, dim)
    return Tensor.min(x) if dim is None else Tensor.min(x, dim=dim, keepdim=keepdim)
