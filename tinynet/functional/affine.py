"""The linear map."""

from __future__ import annotations

from typing import Any

from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.tensors import Tensor


class Linear(Function):
    """y = x w^T + b, maximum with 0 if relu        dx = dy w, dw = dy^T x, db = sum of dy"""

    @staticmethod
    def forward(ctx: Context, x: Any, weight: Any, bias: Any, relu: bool) -> Any:
        y = ctx.kernels.linear_forward(x, weight, bias, relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        x, weight, y = ctx.saved_tensors
        return ctx.kernels.linear_backward(dy, x, weight, ctx.needs_input_grad, y)


@operation(Linear)
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x w^T + b: x (..., in), weight (out, in), bias (out,) -> (..., out); its maximum with 0 if
    relu=True.

    Kernel: tinynet/kernels/linear.py.
    """
    checks.floats("linear", ["bias"], x=x, weight=weight, bias=bias)
    checks.rank("linear", "weight", weight, "(out, in)")
    if x.shape[-1:] != weight.shape[1:]:
        raise ValueError(
            f"linear: expected x (..., {weight.shape[1]}) for weight {weight.shape}, got x "
            f"{x.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: expected bias of shape {weight.shape[:1]}, got {bias.shape}")
    return Linear.apply(x, weight, bias, relu=bool(relu))
