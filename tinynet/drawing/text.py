"""Numbers, arrays and sizes in few characters."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from tinynet.tracer import Value

FEW = 3  # elements that fit beside an arrow


def number(x: float) -> str:
    """Four digits: 0.3333, 1.235e-05. No minus before a zero."""
    return f"{x + 0:.4g}"


def array(values: Any) -> str:
    """All elements in brackets: [[1, 2], [3, 4]]."""
    if np.ndim(values) == 0:
        return number(values) if np.asarray(values).dtype.kind in "fiub" else str(values)
    return "[" + ", ".join(array(part) for part in values) + "]"


def shape(of: tuple[int, ...]) -> str:
    return "\u00d7".join(map(str, of)) if of else "1"


def is_known(value: Value) -> bool:
    """Whether the summary holds all elements."""
    return value.values.size == prod(value.shape)


def is_short(value: Value) -> bool:
    """Whether all elements fit beside an arrow."""
    return is_known(value) and value.values.size <= FEW


def brief(value: Value | None) -> str:
    """For an arrow: the elements if they are few, else the norm; nothing for nothing."""
    if value is None:
        return ""
    if is_short(value):
        return array(value.values.reshape(value.shape))
    return f"\u2016{number(value.norm)}\u2016"


def full(value: Value) -> str:
    """For the panel: the elements if they are known, else shape, norm and range."""
    if is_known(value):
        return array(value.values.reshape(value.shape))
    text = f"{shape(value.shape)}, norm {number(value.norm)}"
    if value.least is not None and value.largest is not None:
        text += f", from {number(value.least)} to {number(value.largest)}"
    return text


def listed(option: Any) -> str:
    """An option of an operation; arrays among them are Values."""
    if isinstance(option, Value):
        return full(option)
    if isinstance(option, tuple):
        return "(" + ", ".join(map(listed, option)) + ("," if len(option) == 1 else "") + ")"
    if isinstance(option, float):
        return number(option)
    text = str(option)
    return text if len(text) <= 60 else text[:59] + "\u2026"


def size(count: int) -> str:
    """Bytes: 12 bytes, 1.5 kB, 240 MB."""
    amount, units = float(count), ["bytes", "kB", "MB", "GB", "TB"]
    while amount >= 999.5 and len(units) > 1:
        amount, units = amount / 1000, units[1:]
    return f"{amount:.3g} {units[0]}"
