"""Pooling: the maximum or the mean of each window; and upsampling, which undoes its sizes."""

from __future__ import annotations

from typing import Any

from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.kernels.max_pool2d import pool_output_size
from tinynet.operations import operation
from tinynet.tensors import Tensor


class MaxPool2d(Function):
    """y = max of a window        dx: dy of each window goes to the first of its largest"""

    @staticmethod
    def forward(
        ctx: Context, x: Any, kernel: Any, stride: Any, padding: Any, ceil_mode: bool
    ) -> Any:
        y, winner = ctx.kernels.max_pool2d_forward(x, kernel, stride, padding, ceil_mode)
        ctx.save_for_backward(winner)
        ctx.geometry = x.shape, kernel, stride, padding
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (winner,) = ctx.saved_tensors
        return ctx.kernels.max_pool2d_backward(dy, winner, *ctx.geometry), None, None, None, None


@operation(MaxPool2d)
def max_pool2d(
    x: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """The maximum of each window: (N, C, H, W) -> (N, C, OH, OW). stride: kernel_size if left out.

    Padding is minus infinity. Of equal values the first takes the gradient. ceil_mode: the output
    size is rounded up, so that the last window may hang over the end. Kernel:
    tinynet/kernels/max_pool2d.py.
    """
    return MaxPool2d.apply(x, *_pooling("max_pool2d", x, kernel_size, stride, padding, ceil_mode))


class AvgPool2d(Function):
    """y = mean of a window of n        dx: each element of the window gets dy / n"""

    @staticmethod
    def forward(ctx: Context, x: Any, *geometry: Any) -> Any:
        ctx.x_shape, ctx.geometry = x.shape, geometry
        return ctx.kernels.avg_pool2d_forward(x, *geometry)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return [ctx.kernels.avg_pool2d_backward(dy, ctx.x_shape, *ctx.geometry)]


@operation(AvgPool2d)
def avg_pool2d(
    x: Tensor,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: int | tuple[int, int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window: (N, C, H, W) -> (N, C, OH, OW). stride: kernel_size if left out.

    count_include_pad: padding counts as zeros in the mean; else it does not count. Kernel:
    tinynet/kernels/avg_pool2d.py.
    """
    geometry = _pooling("avg_pool2d", x, kernel_size, stride, padding, ceil_mode)
    return AvgPool2d.apply(x, *geometry, bool(count_include_pad))


class AdaptiveAvgPool2d(Function):
    """y = mean of a window of n        dx: each element of the window gets dy / n"""

    @staticmethod
    def forward(ctx: Context, x: Any, size: tuple[int, int]) -> Any:
        ctx.x_shape, ctx.size = x.shape, size
        return ctx.kernels.adaptive_avg_pool2d_forward(x, size)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.adaptive_avg_pool2d_backward(dy, ctx.x_shape, ctx.size), None


@operation(AdaptiveAvgPool2d)
def adaptive_avg_pool2d(x: Tensor, output_size: int | tuple[int, int]) -> Tensor:
    """The mean of each of OH x OW windows: (N, C, H, W) -> (N, C, OH, OW). 1: of the whole map.

    Window i of the rows is floor(i H / OH) ... ceil((i + 1) H / OH) - 1. Kernel:
    tinynet/kernels/adaptive_avg_pool2d.py.
    """
    checks.floats("adaptive_avg_pool2d", x=x)
    checks.rank("adaptive_avg_pool2d", "x", x, "(N, C, H, W)")
    size = checks.pair("adaptive_avg_pool2d", "output_size", output_size, 1)
    if min(x.shape[2:]) < 1:
        raise ValueError(
            f"adaptive_avg_pool2d: expected a picture of at least 1x1, got x {x.shape}"
        )
    return AdaptiveAvgPool2d.apply(x, size)


class Upsample2d(Function):
    """y = each pixel as a block of equal ones        dx = the sum of dy over each block"""

    @staticmethod
    def forward(ctx: Context, x: Any, scale: tuple[int, int]) -> Any:
        ctx.scale = scale
        return ctx.kernels.upsample2d_forward(x, scale)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.upsample2d_backward(dy, ctx.scale), None


@operation(Upsample2d)
def interpolate(x: Tensor, scale_factor: int | tuple[int, int]) -> Tensor:
    """Each pixel as a block of s x t equal ones (nearest neighbours): (N, C, H, W) -> (N, C, s H,
    t W).

    Kernel: tinynet/kernels/upsample2d.py.
    """
    checks.floats("interpolate", x=x)
    checks.rank("interpolate", "x", x, "(N, C, H, W)")
    return Upsample2d.apply(x, checks.pair("interpolate", "scale_factor", scale_factor, 1))


def _pooling(
    operation: str, x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any
) -> tuple:
    checks.floats(operation, x=x)
    checks.rank(operation, "x", x, "(N, C, H, W)")
    kernel = checks.pair(operation, "kernel_size", kernel_size, 1)
    stride = kernel if stride is None else checks.pair(operation, "stride", stride, 1)
    padding = checks.pair(operation, "padding", padding, 0)
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise ValueError(
            f"{operation}: expected padding of at most half the kernel, got padding {padding} for "
            f"kernel {kernel}"
        )
    if min(pool_output_size(x.shape[2:], kernel, stride, padding, bool(ceil_mode))) < 1:
        raise ValueError(
            f"{operation}: expected a kernel that fits the padded picture, got kernel {kernel} on "
            f"{x.shape[2]}x{x.shape[3]} with padding {padding}"
        )
    return kernel, stride, padding, bool(ceil_mode)
