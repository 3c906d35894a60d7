"""Normalisation: by the values nearby, by those of the batch, or by those of the row."""

from __future__ import annotations

from math import prod
from typing import Any

from tinynet import sharing
from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.tensors import Tensor


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


class BatchNorm(Function):
    """y = w h + b, h = (x - mean) / std        dx = w/std (dy - mean(dy) - h mean(dy h))"""

    @staticmethod
    def forward(
        ctx: Context,
        x: Any,
        weight: Any,
        bias: Any,
        running_mean: Any,
        running_var: Any,
        training: bool,
        momentum: float,
        eps: float,
        relu: bool,
    ) -> Any:
        share = sharing.current() if training else None
        ctx.gather = share.gather if share else None
        y, mean, inverse = ctx.kernels.batch_norm_forward(
            x, weight, bias, running_mean, running_var, training, momentum, eps, relu, ctx.gather
        )
        ctx.save_for_backward(x, weight, mean, inverse, y if relu else None)
        ctx.training = training
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        x, weight, mean, inverse, y = ctx.saved_tensors
        gradients = ctx.kernels.batch_norm_backward(
            dy, x, weight, mean, inverse, ctx.training, ctx.needs_input_grad[:3], y, ctx.gather
        )
        return *gradients, None, None


@operation(BatchNorm)
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    relu: bool = False,
) -> Tensor:
    """y = weight (x - mean) / sqrt(var + eps) + bias, each channel by itself: x (N, C, ...), all
    else (C,).

    training: mean and var are those of the batch, over all axes but the second, var divided by the
    count P. The running arrays, if given, become (1 - momentum) running + momentum now, in place
    and without a gradient, with var divided by P - 1. Else mean and var are the running arrays.
    relu=True gives max(y, 0) in the same operation, which saves a pass over memory. Kernel:
    tinynet/kernels/batch_norm.py.
    """
    checks.floats("batch_norm", ["weight", "bias"], x=x, weight=weight, bias=bias)
    if x.ndim < 2:
        raise ValueError(f"batch_norm: expected x of shape (N, C, ...), got {x.shape}")
    N, C, *rest = x.shape
    running = dict(running_mean=running_mean, running_var=running_var)
    for name, t in dict(running, weight=weight, bias=bias).items():
        if t is not None and not isinstance(t, Tensor):
            raise TypeError(f"batch_norm: expected {name} to be a tensor, got {type(t).__name__}")
        if t is not None and t.shape != (C,):
            raise ValueError(
                f"batch_norm: x has {C} channels, so expected {name} of shape ({C},), got {t.shape}"
            )
    missing = [name for name, t in running.items() if t is None]
    if len(missing) == 1 or (missing and not training):
        raise ValueError(
            f"batch_norm: expected running_mean and running_var, or neither in training, got None "
            f"for {' and '.join(missing)} with training={training}"
        )
    if any(t is not None and t.requires_grad for t in running.values()):
        raise ValueError(
            "batch_norm: expected running arrays that require no gradient, got one that does; "
            "detach it"
        )
    options = checks.numbers("batch_norm", momentum=momentum, eps=eps)
    if training and N * prod(rest) < 2:
        raise ValueError(
            f"batch_norm: expected more than 1 value per channel in training, got x {x.shape}; "
            f"take a larger batch"
        )
    return BatchNorm.apply(
        x,
        weight,
        bias,
        running_mean,
        running_var,
        training=bool(training),
        relu=bool(relu),
        **options,
    )


class LayerNorm(Function):
    """y = w h + b, h = (x - mean) / std        dx = (g - mean(g) - h mean(g h)) / std, g = w dy"""

    @staticmethod
    def forward(ctx: Context, x: Any, weight: Any, bias: Any, axes: int, eps: float) -> Any:
        rows = x.reshape(prod(x.shape[:-axes]), prod(x.shape[-axes:]))
        w, b = (None if a is None else a.reshape(-1) for a in (weight, bias))
        y, mean, inverse = ctx.kernels.layer_norm_forward(rows, w, b, eps)
        ctx.save_for_backward(rows, w, mean, inverse)
        ctx.shapes = x.shape, x.shape[-axes:]
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        rows, w, mean, inverse = ctx.saved_tensors
        gradients = ctx.kernels.layer_norm_backward(
            dy.reshape(rows.shape), rows, w, mean, inverse, ctx.needs_input_grad[:3]
        )
        full, row = ctx.shapes
        shaped = zip(gradients, (full, row, row), strict=True)
        return *(None if g is None else g.reshape(shape) for g, shape in shaped), None, None


@operation(LayerNorm)
def layer_norm(
    x: Tensor,
    normalized_shape: int | tuple[int, ...],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """y = weight (x - mean) / sqrt(var + eps) + bias, by rows: x (..., *normalized_shape).

    A row is what lies along the last axes, `normalized_shape`: one word of (batch, words, D) with
    normalized_shape=D. weight and bias have that shape. var is divided by the count. Kernel:
    tinynet/kernels/layer_norm.py.
    """
    checks.floats("layer_norm", ["weight", "bias"], x=x, weight=weight, bias=bias)
    shape = normalized_shape if isinstance(normalized_shape, (tuple, list)) else [normalized_shape]
    shape = tuple(checks.integer("layer_norm", "normalized_shape", n, 1) for n in shape)
    if not shape or x.shape[-len(shape) :] != shape:
        raise ValueError(
            f"layer_norm: expected x of shape (..., {', '.join(map(str, shape))}), got {x.shape}"
        )
    for name, t in dict(weight=weight, bias=bias).items():
        if t is not None and t.shape != shape:
            raise ValueError(f"layer_norm: expected {name} of shape {shape}, got {t.shape}")
    (eps,) = checks.numbers("layer_norm", eps=eps).values()
    return LayerNorm.apply(x, weight, bias, len(shape), eps)
