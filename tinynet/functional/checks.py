"""Checks of arguments, each with one message that says what was expected and what came."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from tinynet.tensors import Tensor

FLOATS = {np.dtype(name) for name in ("float32", "float64", "complex64", "complex128")}


def tensor(operation: str, name: str, x: Any) -> None:
    """A tensor of any dtype."""
    if not isinstance(x, Tensor):
        write = f"; write tinynet.tensor({name})" if hasattr(x, "__array__") else ""
        raise TypeError(
            f"{operation}: expected {name} to be a tensor, got {type(x).__name__}{write}"
        )


def floats(operation: str, optional: Collection[str] = (), **tensors: Any) -> None:
    """All tensors, and of one floating dtype; those named in `optional` may be None."""
    given = {name: t for name, t in tensors.items() if t is not None or name not in optional}
    for name, t in given.items():
        tensor(operation, name, t)
    dtypes = {t.dtype for t in given.values()}
    if len(dtypes) > 1 or not dtypes <= FLOATS:
        came = ", ".join(f"{name} {t.dtype}" for name, t in given.items())
        raise ValueError(
            f"{operation}: expected one dtype, float32 or float64, for all, got {came}; write "
            f"{_cast(given)}"
        )


def _cast(given: dict[str, Tensor]) -> str:
    """The first tensor that is not as the last is, cast: x.float()."""
    floating = [t.dtype for t in given.values() if t.dtype in (np.float32, np.float64)]
    wanted = floating[-1] if floating else np.dtype(np.float32)
    name = next(name for name, t in given.items() if t.dtype != wanted)
    return f"{name}.float()" if wanted == np.float32 else f"{name}.astype('{wanted}')"


def probability(operation: str, p: Any) -> float:
    """A number from 0 to 1."""
    (p,) = numbers(operation, p=p).values()
    if not 0 <= p <= 1:
        raise ValueError(f"{operation}: expected a probability p in 0 ... 1, got {p}")
    return p


def rank(operation: str, name: str, x: Tensor, form: str) -> None:
    if x.ndim != form.count(",") + 1:
        raise ValueError(f"{operation}: expected {name} of shape {form}, got {x.shape}")


def integer(operation: str, name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(
            f"{operation}: expected {name} to be an integer of at least {least}, got {value!r}"
        )
    return int(value)


def pair(operation: str, name: str, value: Any, least: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(
            f"{operation}: expected {name} to be an integer or a pair of them, got {value!r}"
        )
    first, second = (integer(operation, name, v, least) for v in pair)
    return first, second


def numbers(operation: str, **values: Any) -> dict[str, float]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(
                f"{operation}: expected {name} to be a number, got {type(value).__name__}"
            )
    return {name: float(value) for name, value in values.items()}


def axis(operation: str, x: Tensor, dim: Any) -> int:
    tensor(operation, "x", x)
    floats(operation, x=x)
    if (
        isinstance(dim, bool)
        or not isinstance(dim, (int, np.integer))
        or not -x.ndim <= dim < x.ndim
    ):
        raise ValueError(
            f"{operation}: expected dim to be an axis of a tensor of shape {x.shape}, got {dim!r}"
        )
    return int(dim) % x.ndim
