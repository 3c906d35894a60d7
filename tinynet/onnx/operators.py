"""A node of an ONNX file, and the table of what tinynet reads: `READERS[operator]`.

An operator that is not in the table, or an attribute that its row does not name, is refused when a
file is loaded. Older versions of the standard are read as they were meant: Node.opset.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tinynet.tensors import Tensor


@dataclass
class Node:
    """One operator of a file. training: the net learns now."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 0
    training: bool = False

    def get(self, name: str, default: Any) -> Any:
        """An attribute."""
        return self.attributes.get(name, default)

    def axis(self, default: int, ndim: int) -> int:
        """The attribute of that name, counted from the front."""
        return axis_of(self.get("axis", default), ndim)


class Reader(NamedTuple):
    """What an operator does, (node, *tensors) -> tensor; its attributes and their types."""

    call: Callable[..., Any]
    attributes: dict[str, type]

    def takes(self, count: int) -> bool:
        """Whether it can have so many inputs."""
        try:
            inspect.signature(self.call).bind(*range(count + 1))
        except TypeError:
            return False
        return True


READERS: dict[str, Reader] = {}


def reads(*operators: str, **attributes: type) -> Callable:
    def add(function: Callable) -> Callable:
        READERS.update(dict.fromkeys(operators, Reader(function, attributes)))
        return function

    return add


def need(condition: bool, expected: str, got: Any) -> None:
    if not condition:
        raise ValueError(f"expected {expected}, got {got}")


def numbers(x: Tensor) -> list[int]:
    """An input that is a list of whole numbers: a shape, axes."""
    need(x.dtype.kind in "iu" and x.ndim <= 1, "whole numbers", f"{x.dtype} {x.shape}")
    return [int(n) for n in x.numpy().reshape(-1)]


def axis_of(axis: int, ndim: int) -> int:
    need(-ndim <= axis < max(ndim, 1), f"an axis of {ndim}", axis)
    return axis % ndim if ndim else 0
