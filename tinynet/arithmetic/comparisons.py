"""Comparisons, logic, remainders, where the largest is: results without a gradient.

On whole tensors, element by element: `(logits.argmax(dim=1) == labels).sum()` counts the right
ones. So no code may look for a tensor by `in`; `is` compares two tensors themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from tinynet.arithmetic.operands import axes_of, axis_of, check_tensor, operands, without_gradient
from tinynet.kernels.order import along_memory
from tinynet.operations import operation
from tinynet.tensors import Tensor


def _compare(name: str, function: Callable[[Any, Any], Any], a: Any, b: Any) -> Tensor:
    return _along_memory(name, function, operands(name, a, b))


def _along_memory(name: str, function: Callable[..., Any], tensors: list[Tensor]) -> Tensor:
    device = tensors[0].device
    return without_gradient(name, partial(along_memory, device, function), *tensors)


@operation()
def eq(a: Any, b: Any) -> Tensor:
    """y = True where a = b"""
    return _compare("eq", operator.eq, a, b)


@operation()
def ne(a: Any, b: Any) -> Tensor:
    """y = True where a is not b"""
    return _compare("ne", operator.ne, a, b)


@operation()
def lt(a: Any, b: Any) -> Tensor:
    """y = True where a < b"""
    return _compare("lt", operator.lt, a, b)


@operation()
def le(a: Any, b: Any) -> Tensor:
    """y = True where a <= b"""
    return _compare("le", operator.le, a, b)


@operation()
def gt(a: Any, b: Any) -> Tensor:
    """y = True where a > b"""
    return _compare("gt", operator.gt, a, b)


@operation()
def ge(a: Any, b: Any) -> Tensor:
    """y = True where a >= b"""
    return _compare("ge", operator.ge, a, b)


@operation()
def remainder(a: Any, b: Any) -> Tensor:
    """y = a % b of whole numbers, of b's sign"""
    return _logic("remainder", operator.mod, a, b)


@operation()
def floor_divide(a: Any, b: Any) -> Tensor:
    """y = a // b of whole numbers, rounded down"""
    return _logic("floor_divide", operator.floordiv, a, b)


def _logic(name: str, function: Callable[..., Any], *given: Any) -> Tensor:
    tensors = operands(name, *given)
    for t in tensors:
        if t.dtype.kind not in "biu":
            raise TypeError(
                f"{name}: expected booleans or whole numbers, got {t.dtype}; write (x > 0) & "
                f"(x < 1) with comparisons, x.long() % 2 with a cast"
            )
    return _along_memory(name, function, tensors)


@operation()
def logical_and(a: Any, b: Any) -> Tensor:
    """y = a & b; of whole numbers, bit by bit"""
    return _logic("logical_and", operator.and_, a, b)


@operation()
def logical_or(a: Any, b: Any) -> Tensor:
    """y = a | b; of whole numbers, bit by bit"""
    return _logic("logical_or", operator.or_, a, b)


@operation()
def logical_not(x: Tensor) -> Tensor:
    """y = ~x; of whole numbers, bit by bit"""
    return _logic("logical_not", operator.invert, x)


@operation()
def all(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """y = True where nothing along the axes is 0 or False"""
    check_tensor("all", x)
    axes = axes_of(axis, x.ndim)
    return without_gradient("all", lambda x: x.all(axis=axes, keepdims=keepdims), x)


@operation()
def any(x: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """y = True where something along the axes is neither 0 nor False"""
    check_tensor("any", x)
    axes = axes_of(axis, x.ndim)
    return without_gradient("any", lambda x: x.any(axis=axes, keepdims=keepdims), x)


def _place(name: str, x: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    """The index of the extreme: along an axis, or in the flattened tensor (None)."""
    check_tensor(name, x)
    along = None if axis is None else axis_of(name, axis, x.ndim)
    if (x.size if along is None else x.shape[along]) == 0:
        raise ValueError(
            f"{name}: expected at least one element along axis {axis}, got shape {x.shape}"
        )

    def find(x: Any) -> Any:
        y = getattr(x, name)(axis=along)
        if not keepdims:
            return y
        return y.reshape([1 if along in (None, i) else n for i, n in enumerate(x.shape)])

    return without_gradient(name, find, x)


@operation()
def argmax(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """y = the index of the largest; of equals the first, and a NaN is the largest"""
    return _place("argmax", x, axis, keepdims)


@operation()
def argmin(x: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """y = the index of the smallest; of equals the first, and a NaN is the smallest"""
    return _place("argmin", x, axis, keepdims)
