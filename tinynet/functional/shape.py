"""Shapes."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.tensors import Tensor


class Pad(Function):
    """y = x with a border        dx = dy without the border"""

    @staticmethod
    def forward(ctx: Context, x: Any, widths: list[tuple[int, int]], value: float) -> Any:
        ctx.inner = tuple(
            slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True)
        )
        shape = tuple(
            before + n + after for (before, after), n in zip(widths, x.shape, strict=True)
        )
        y = ctx.device.empty(shape[1:] + shape[:1], x.dtype)  # batch innermost, and filled so:
        y.fill(value)  # CuPy goes along the axes as they are written
        y[ctx.inner[1:] + ctx.inner[:1]] = ctx.xp.moveaxis(x, 0, -1)
        return ctx.xp.moveaxis(y, -1, 0)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return dy[ctx.inner], None, None


@operation(Pad)
def pad(x: Tensor, pad: tuple[int, ...], value: float = 0.0) -> Tensor:
    """x with a border of `value`. pad: (before, after) of the last axis, then of the one before it,
    and so on.
    """
    checks.tensor("pad", "x", x)
    widths = list(pad) if isinstance(pad, (tuple, list)) else []
    if len(widths) % 2 or not 2 <= len(widths) <= 2 * x.ndim:
        raise ValueError(
            f"pad: expected 2 to {2 * x.ndim} widths, in pairs from the last axis on, got {pad!r}"
        )
    widths = [checks.integer("pad", "pad", w, 0) for w in widths]
    checks.numbers("pad", value=int(value) if isinstance(value, bool) else value)
    if x.dtype.kind in "biu":
        least, most = (
            (0, 1) if x.dtype.kind == "b" else (np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
        )
        if not least <= value <= most or value % 1:
            raise ValueError(
                f"pad: expected a value that {x.dtype} can hold, got {value!r}; write x.float()"
            )
    pairs = [(0, 0)] * (x.ndim - len(widths) // 2) + list(
        zip(widths[::2], widths[1::2], strict=True)
    )[::-1]
    return Pad.apply(x, pairs, value)
