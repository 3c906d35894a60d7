"""Convolution."""

from __future__ import annotations

from typing import Any

from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.kernels.im2col import output_size
from tinynet.operations import operation
from tinynet.tensor import Tensor


class Conv2d(Function):
    """y = w * x + b, maximum with 0 if relu        dx = w^T * dy, dw = dy * x, db = sum of dy"""

    @staticmethod
    def forward(ctx: Context, x: Any, weight: Any, bias: Any, relu: bool, **options: Any) -> Any:
        y = ctx.kernels.conv2d_forward(x, weight, bias, **options, relu=relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        ctx.options = options
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        x, weight, y = ctx.saved_tensors
        return ctx.kernels.conv2d_backward(
            dy, x, weight, **ctx.options, needs=ctx.needs_input_grad, y=y
        )


@operation(Conv2d)
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    groups: int = 1,
    relu: bool = False,
) -> Tensor:
    """Convolution: y[n,o] = b[o] + sum over c,i,j of w[o,c,i,j] x[n,c, oh*stride+i-padding,
    ow*stride+j-padding].

    x (N, C, H, W), weight (O, C/groups, kh, kw), bias (O,) -> (N, O, OH, OW), OH = (H + 2 padding -
    kh) // stride + 1. Output channels of group g see the input channels of group g alone. relu=True
    gives max(y, 0) in the same operation, which saves a pass over memory. Kernel:
    tinynet/kernels/conv2d.py.
    """
    checks.floats("conv2d", x=x, weight=weight, bias=bias)
    checks.rank("conv2d", "x", x, "(N, C, H, W)")
    checks.rank("conv2d", "weight", weight, "(O, C/groups, kh, kw)")
    stride, padding = (
        checks.pair("conv2d", "stride", stride, 1),
        checks.pair("conv2d", "padding", padding, 0),
    )
    groups = checks.integer("conv2d", "groups", groups, 1)
    (_, C, H, W), (O, C_group, kh, kw) = x.shape, weight.shape
    if C != C_group * groups:
        in_groups = f" in {groups} groups" if groups > 1 else ""
        raise ValueError(
            f"conv2d: x has {C} channels, the weight wants {C_group * groups}{in_groups}; x must "
            f"be (N, C, H, W), got x {x.shape} and weight {weight.shape}"
        )
    if O % groups:
        raise ValueError(
            f"conv2d: expected weight (O, C/groups, kh, kw) with O divisible by groups = {groups}, "
            f"got weight {weight.shape}"
        )
    if bias is not None and bias.shape != (O,):
        raise ValueError(f"conv2d: expected bias of shape ({O},), got {bias.shape}")
    if min(kh, kw) < 1 or min(output_size((H, W), (kh, kw), stride, padding)) < 1:
        raise ValueError(
            f"conv2d: expected a kernel of at least 1x1 that fits the padded picture, got kernel "
            f"{kh, kw} on "
            f"{H}x{W} with padding {padding}"
        )
    return Conv2d.apply(
        x, weight, bias, relu=bool(relu), stride=stride, padding=padding, groups=groups
    )
