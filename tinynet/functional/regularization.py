"""Dropout."""

from __future__ import annotations

from typing import Any

from tinynet import random
from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.tensor import Tensor


class Dropout(Function):
    """y = x m / (1 - p), m = 0 with probability p, else 1        dx = dy m / (1 - p)"""

    @staticmethod
    def forward(ctx: Context, x: Any, p: float, seed: int, call: int) -> Any:
        y, mask = ctx.kernels.dropout_forward(x, p, seed, call)
        ctx.save_for_backward(mask)
        ctx.p = p
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (mask,) = ctx.saved_tensors
        return ctx.kernels.dropout_backward(dy, mask, ctx.p), None, None, None


@operation(Dropout)
def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, each element becomes 0 with probability p, and is divided by 1 - p otherwise;
    else x itself.

    The mask depends on `tinynet.manual_seed` and on how many random draws came before, not on the
    device. p is rounded to 1/65536. Kernel: tinynet/kernels/dropout.py.
    """
    checks.floats("dropout", x=x)
    p = checks.probability("dropout", p)
    return Dropout.apply(x, p, *random.next_call()) if training and p > 0 else x
