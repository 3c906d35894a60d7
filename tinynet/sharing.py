"""Sharing: which rows of a batch this process computes, while several processes share it.

What looks at the whole batch asks here: random numbers are drawn for all of its rows, and each
process takes those of its own; a batch's mean is that of all processes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Share:
    """Rows `first` ... `first + count - 1` of a batch of `total`.

    gather: value -> the values that all processes gave, in the order of their ranks. All must call
    it, in the same order.
    """

    first: int
    count: int
    total: int
    gather: Callable[[Any], list[Any]]

    def rows(self, where: str, length: int) -> tuple[slice, int]:
        """Of an array whose first axis has `length` = k rows for each of the batch's: which rows
        these are of all, and how many all are. ValueError if it is no such axis.
        """
        k, rest = divmod(length, self.count)
        if rest:
            raise ValueError(
                f"{where}: expected the batch along the first axis, {self.count} rows or a "
                f"multiple, since several ranks share it, got {length}"
            )
        return slice(self.first * k, (self.first + self.count) * k), self.total * k


_current: Share | None = None


def current() -> Share | None:
    """The share of this process; None where a batch is all its own."""
    return _current


@contextlib.contextmanager
def shared(share: Share | None) -> Iterator[None]:
    """While entered, `current()` is this share."""
    global _current
    before, _current = _current, share
    try:
        yield
    finally:
        _current = before
