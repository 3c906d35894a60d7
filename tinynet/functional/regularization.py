"""Dropout."""

from __future__ import annotations

from typing import Any

from tinynet import random, sharing
from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.tensors import Tensor


class Dropout(Function):
    """y = s x m, m = 0 with probability p, else 1; s = 1 / (1 - p) or 1        dx = s dy m"""

    @staticmethod
    def forward(
        ctx: Context, x: Any, p: float, seed: int, call: int, inverted: bool, **share: Any
    ) -> Any:
        y, mask = ctx.kernels.dropout_forward(x, p, seed, call, inverted, **share)
        ctx.save_for_backward(mask)
        ctx.p, ctx.inverted = p, inverted
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (mask,) = ctx.saved_tensors
        dx = ctx.kernels.dropout_backward(dy, mask, ctx.p, ctx.inverted)
        return dx, None, None, None, None


@operation(Dropout)
def dropout(x: Tensor, p: float = 0.5, training: bool = True, inverted: bool = True) -> Tensor:
    """In training, each element becomes 0 with probability p, and is divided by 1 - p otherwise; in
    use, x itself.

    inverted=False is dropout as it was in 2012: the elements that stay are not divided in training;
    in use all are multiplied by 1 - p. Both forms are right in use, but they train in different
    ways: with the same rate, the weights that follow an inverted dropout learn 1 / (1 - p)^2 times
    as fast (p = 0.5: four times). PyTorch has the inverted form alone.

    The mask depends on `tinynet.manual_seed` and on how many random draws came before, not on the
    device. p is rounded to 1/65536. Kernel: tinynet/kernels/dropout.py.
    """
    checks.floats("dropout", x=x)
    p = checks.probability("dropout", p)
    if p == 0:
        return x
    if training:
        share, rows = sharing.current(), {}
        if share and x.shape:
            rows = dict(zip(("rows", "total"), share.rows("dropout", len(x)), strict=True))
        return Dropout.apply(x, p, *random.next_call(), inverted, **rows)
    return x if inverted else x * (1 - p)
