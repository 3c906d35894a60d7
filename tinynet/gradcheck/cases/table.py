"""Where the cases of every operation are kept, by the operation's name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tinynet.operations import OPERATIONS

Case = tuple[Callable[..., Any], list]  # a function of tensors, and its arguments
Maker = Callable[[np.random.Generator], Iterator[Case]]


class Cases(NamedTuple):
    """The cases of one operation, and what it takes besides tensors of floats."""

    make: Maker
    accepts: tuple[str, ...]  # "integers": tensors of integers; "arrays": arrays and lists


CASES: dict[str, Cases] = {}


def cases(name: str, accepts: tuple[str, ...] = ()) -> Callable[[Maker], Maker]:
    """Put a generator of cases into the table. Wrong calls are made from the first case."""

    def add(make: Maker) -> Maker:
        CASES[name] = Cases(make, accepts)
        return make

    return add


def has_gradient(name: str) -> bool:
    """Whether there is one to check: not of comparisons. What is no operation is a network."""
    return name not in OPERATIONS or bool(OPERATIONS[name].functions)
