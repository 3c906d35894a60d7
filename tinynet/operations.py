"""The table of operations: every operation that a user can call, with the Functions behind it.

    @operation(ReLU)
    def relu(x): ...

A row holds names alone; the mathematics is in tinynet/kernels. From the table come the names of
tinynet.functional, what gradcheck must have cases for (tinynet/gradcheck/cases), the comparison of
CPU and CUDA, and the wrong calls that every operation must refuse.

The methods of Tensor (tinynet/operators.py) find their operations here as well, as `call.relu`. An
operation is made of tensors, so it cannot be imported where the class is written.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

Call = TypeVar("Call", bound=Callable[..., Any])


class Operation(NamedTuple):
    """One row: the name, what a user calls, and the Functions that it applies.

    No Functions: its result has no gradient, as that of a comparison.
    """

    name: str
    call: Callable[..., Any]
    functions: tuple[type, ...]

    @property
    def formula(self) -> str:
        """The first line of its Function's docstring; of the call's, where there are several."""
        source = self.functions[0] if len(self.functions) == 1 else self.call
        return (source.__doc__ or "").partition("\n")[0]


OPERATIONS: dict[str, Operation] = {}
call: Any = SimpleNamespace()  # name -> what a user calls


def operation(*functions: type) -> Callable[[Call], Call]:
    """Put the decorated function into the table, with the Functions that it applies."""

    def add(function: Call) -> Call:
        name = function.__name__
        OPERATIONS[name] = Operation(name, function, functions)
        setattr(call, name, function)
        return function

    return add
