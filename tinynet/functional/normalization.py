"""Normalisation by the values nearby."""

from __future__ import annotations

from typing import Any

from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.tensor import Tensor


class LocalResponseNorm(Function):
    """y = x s^-b, s = k + a sum x^2        dx = dy s^-b - 2 a b x sum(dy x s^-b-1)"""

    @staticmethod
    def forward(ctx: Context, x: Any, **options: Any) -> Any:
        ctx.save_for_backward(x)
        ctx.options = options
        return ctx.kernels.local_response_norm_forward(x, **options)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.kernels.local_response_norm_backward(dy, x, **ctx.options)


@operation(LocalResponseNorm)
def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """y = x / (k + alpha/size * sum of x^2 over `size` neighbouring channels)^beta; x (N, C, ...),
    C the channels.

    alpha is divided by size, as in PyTorch, Caffe and the program of 2012: the paper's (section
    3.3) literal 1e-4 on the plain sum is alpha=5e-4 with size=5. Kernel:
    tinynet/kernels/local_response_norm.py.
    """
    checks.floats("local_response_norm", x=x)
    if x.ndim < 2:
        raise ValueError(f"local_response_norm: expected x of shape (N, C, ...), got {x.shape}")
    size = checks.integer("local_response_norm", "size", size, 1)
    options = checks.numbers("local_response_norm", alpha=alpha, beta=beta, k=k)
    return LocalResponseNorm.apply(x, size=size, **options)


class SpatialResponseNorm(Function):
    """y = x s^-b, s = k + a sum x^2        dx = dy s^-b - 2 a b x sum(dy x s^-b-1)"""

    @staticmethod
    def forward(ctx: Context, x: Any, **options: Any) -> Any:
        ctx.save_for_backward(x)
        ctx.options = options
        return ctx.kernels.spatial_response_norm_forward(x, **options)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.kernels.spatial_response_norm_backward(dy, x, **ctx.options)


@operation(SpatialResponseNorm)
def spatial_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """y = x / (k + alpha/size^2 * sum of x^2 over the size x size patch of the same map)^beta; x
    (N, C, H, W).

    Source: cuda-convnet's rnorm layer. Kernel: tinynet/kernels/spatial_response_norm.py.
    """
    checks.floats("spatial_response_norm", x=x)
    checks.rank("spatial_response_norm", "x", x, "(N, C, H, W)")
    size = checks.integer("spatial_response_norm", "size", size, 1)
    options = checks.numbers("spatial_response_norm", alpha=alpha, beta=beta, k=k)
    return SpatialResponseNorm.apply(x, size=size, **options)
