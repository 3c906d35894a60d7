"""The table of operations: every operation that a user can call, with the Functions behind it.

    @operation(ReLU)
    def relu(x): ...

A row holds names alone; the mathematics is in tinynet/kernels. From the table come the names of
tinynet.functional, what gradcheck must have cases for (tinynet/gradcheck/cases), the comparison of
CPU and CUDA, and the wrong calls that every operation must refuse.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tinynet.function import Function


class Operation(NamedTuple):
    """One row: the name, what a user calls, and the Functions that it applies."""

    name: str
    call: Callable[..., Any]
    functions: tuple[type[Function], ...]

    @property
    def formula(self) -> str:
        """The first line of its Function's docstring; of the call's, where there are several."""
        source = self.functions[0] if len(self.functions) == 1 else self.call
        return (source.__doc__ or "").partition("\n")[0]


OPERATIONS: dict[str, Operation] = {}


def operation(*functions: type[Function]) -> Callable:
    """Put the decorated function into the table, with the Functions that it applies."""

    def add(call: Callable[..., Any]) -> Callable[..., Any]:
        OPERATIONS[call.__name__] = Operation(call.__name__, call, functions)
        return call

    return add
