"""Every operation on tensors that a network is made of: each a thin Function over a kernel, and the
name a user calls.

Arguments, defaults and meaning are those of torch.nn.functional. The formulas stand in
tinynet/kernels, one file an operation. What a user gets wrong raises ValueError (or TypeError) that
names the argument, what was expected, what came.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import random
from tinynet.arithmetic import concat, exp, log, maximum
from tinynet.function import Context, Function
from tinynet.kernels.im2col import output_size
from tinynet.kernels.max_pool2d import pool_output_size
from tinynet.tensor import Tensor, is_grad_enabled

__all__ = [
    "avg_pool2d",
    "concat",
    "conv2d",
    "cross_entropy",
    "dropout",
    "exp",
    "linear",
    "local_response_norm",
    "log",
    "log_softmax",
    "max_pool2d",
    "maximum",
    "pad",
    "relu",
    "sigmoid",
    "softmax",
    "spatial_response_norm",
    "tanh",
]


class Conv2d(Function):
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
    _floats("conv2d", x=x, weight=weight, bias=bias)
    _rank("conv2d", "x", x, "(N, C, H, W)")
    _rank("conv2d", "weight", weight, "(O, C/groups, kh, kw)")
    stride, padding = _pair("conv2d", "stride", stride, 1), _pair("conv2d", "padding", padding, 0)
    groups = _integer("conv2d", "groups", groups, 1)
    (_, C, H, W), (O, C_group, *kernel) = x.shape, weight.shape
    if C % groups or O % groups or C // groups != C_group:
        raise ValueError(
            f"conv2d: expected weight (O, C/groups, kh, kw) with C = {C} channels of x and O both "
            f"divisible by "
            f"groups = {groups}, got weight {weight.shape}"
        )
    if bias is not None and bias.shape != (O,):
        raise ValueError(f"conv2d: expected bias of shape ({O},), got {bias.shape}")
    if min(kernel) < 1 or min(output_size((H, W), kernel, stride, padding)) < 1:
        raise ValueError(
            f"conv2d: expected a kernel of at least 1x1 that fits the padded picture, got kernel "
            f"{tuple(kernel)} on "
            f"{H}x{W} with padding {padding}"
        )
    return Conv2d.apply(
        x, weight, bias, relu=bool(relu), stride=stride, padding=padding, groups=groups
    )


class MaxPool2d(Function):
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
    @staticmethod
    def forward(ctx: Context, x: Any, *geometry: Any) -> Any:
        ctx.x_shape, ctx.geometry = x.shape, geometry
        return ctx.kernels.avg_pool2d_forward(x, *geometry)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return [ctx.kernels.avg_pool2d_backward(dy, ctx.x_shape, *ctx.geometry)]


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


class LocalResponseNorm(Function):
    @staticmethod
    def forward(ctx: Context, x: Any, **options: Any) -> Any:
        ctx.save_for_backward(x)
        ctx.options = options
        return ctx.kernels.local_response_norm_forward(x, **options)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.kernels.local_response_norm_backward(dy, x, **ctx.options)


def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """y = x / (k + alpha/size * sum of x^2 over `size` neighbouring channels)^beta; x (N, C, ...),
    C the channels.

    alpha is divided by size, as in PyTorch, Caffe and the program of 2012: the paper's (section
    3.3) literal 1e-4 on the plain sum is alpha=5e-4 with size=5. Kernel:
    tinynet/kernels/local_response_norm.py.
    """
    _floats("local_response_norm", x=x)
    if x.ndim < 2:
        raise ValueError(f"local_response_norm: expected x of shape (N, C, ...), got {x.shape}")
    size = _integer("local_response_norm", "size", size, 1)
    options = _numbers("local_response_norm", alpha=alpha, beta=beta, k=k)
    return LocalResponseNorm.apply(x, size=size, **options)


class SpatialResponseNorm(Function):
    @staticmethod
    def forward(ctx: Context, x: Any, **options: Any) -> Any:
        ctx.save_for_backward(x)
        ctx.options = options
        return ctx.kernels.spatial_response_norm_forward(x, **options)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (x,) = ctx.saved_tensors
        return ctx.kernels.spatial_response_norm_backward(dy, x, **ctx.options)


def spatial_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """y = x / (k + alpha/size^2 * sum of x^2 over the size x size patch of the same map)^beta; x
    (N, C, H, W).

    Source: cuda-convnet's rnorm layer. Kernel: tinynet/kernels/spatial_response_norm.py.
    """
    _floats("spatial_response_norm", x=x)
    _rank("spatial_response_norm", "x", x, "(N, C, H, W)")
    size = _integer("spatial_response_norm", "size", size, 1)
    options = _numbers("spatial_response_norm", alpha=alpha, beta=beta, k=k)
    return SpatialResponseNorm.apply(x, size=size, **options)


class ReLU(Function):
    @staticmethod
    def forward(ctx: Context, x: Any, inplace: bool) -> Any:
        y = ctx.kernels.relu_forward(x, out=x if inplace else None)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (y,) = ctx.saved_tensors
        return ctx.kernels.relu_backward(dy, y), None


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0). inplace: the result takes x's place in memory, and x must not be used any more.

    A tensor that requires a gradient and is a leaf cannot be overwritten: RuntimeError.
    """
    _floats("relu", x=x)
    if inplace and x.requires_grad and x.node is None and is_grad_enabled():
        raise RuntimeError(
            "relu: a leaf that requires a gradient cannot be changed in place; use inplace=False"
        )
    return ReLU.apply(x, bool(inplace))


class Tanh(Function):
    @staticmethod
    def forward(ctx: Context, x: Any) -> Any:
        y = ctx.kernels.tanh_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.tanh_backward(dy, *ctx.saved_tensors)


def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    _floats("tanh", x=x)
    return Tanh.apply(x)


class Sigmoid(Function):
    @staticmethod
    def forward(ctx: Context, x: Any) -> Any:
        y = ctx.kernels.sigmoid_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.sigmoid_backward(dy, *ctx.saved_tensors)


def sigmoid(x: Tensor) -> Tensor:
    """The logistic function 1 / (1 + exp(-x))."""
    _floats("sigmoid", x=x)
    return Sigmoid.apply(x)


class Dropout(Function):
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


def dropout(x: Tensor, p: float = 0.5, training: bool = True) -> Tensor:
    """In training, each element becomes 0 with probability p, and is divided by 1 - p otherwise;
    else x itself.

    The mask depends on `tinynet.manual_seed` and on how many random draws came before, not on the
    device. p is rounded to 1/65536. Kernel: tinynet/kernels/dropout.py.
    """
    _floats("dropout", x=x)
    (p,) = _numbers("dropout", p=p).values()
    if not 0 <= p <= 1:
        raise ValueError(f"dropout: expected a probability p in 0 ... 1, got {p}")
    return Dropout.apply(x, p, *random.next_call()) if training and p > 0 else x


class Linear(Function):
    @staticmethod
    def forward(ctx: Context, x: Any, weight: Any, bias: Any, relu: bool) -> Any:
        y = ctx.kernels.linear_forward(x, weight, bias, relu)
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        x, weight, y = ctx.saved_tensors
        return ctx.kernels.linear_backward(dy, x, weight, ctx.needs_input_grad, y)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """x w^T + b: x (N, in), weight (out, in), bias (out,) -> (N, out); its maximum with 0 if
    relu=True.

    Kernel: tinynet/kernels/linear.py.
    """
    _floats("linear", x=x, weight=weight, bias=bias)
    _rank("linear", "x", x, "(N, in)")
    _rank("linear", "weight", weight, "(out, in)")
    if x.shape[1] != weight.shape[1]:
        raise ValueError(
            f"linear: expected x (N, {weight.shape[1]}) for weight {weight.shape}, got x {x.shape}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear: expected bias of shape {weight.shape[:1]}, got {bias.shape}")
    return Linear.apply(x, weight, bias, relu=bool(relu))


class Softmax(Function):
    @staticmethod
    def forward(ctx: Context, x: Any, axis: int) -> Any:
        y = ctx.kernels.softmax_forward(x, axis)
        ctx.save_for_backward(y)
        ctx.axis = axis
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.softmax_backward(dy, *ctx.saved_tensors, ctx.axis), None


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """exp(x) / sum of exp(x) along axis `dim`."""
    return Softmax.apply(x, _dim("softmax", x, dim))


class LogSoftmax(Function):
    @staticmethod
    def forward(ctx: Context, x: Any, axis: int) -> Any:
        y = ctx.kernels.log_softmax_forward(x, axis)
        ctx.save_for_backward(y)
        ctx.axis = axis
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.log_softmax_backward(dy, *ctx.saved_tensors, ctx.axis), None


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """x - log(sum of exp(x)) along axis `dim`."""
    return LogSoftmax.apply(x, _dim("log_softmax", x, dim))


class CrossEntropy(Function):
    @staticmethod
    def forward(ctx: Context, logits: Any, target: Any) -> Any:
        losses, probabilities = ctx.kernels.cross_entropy_forward(logits, target)
        ctx.save_for_backward(probabilities, target)
        return losses

    @staticmethod
    def backward(ctx: Context, dlosses: Any) -> Any:
        return ctx.kernels.cross_entropy_backward(dlosses, *ctx.saved_tensors), None


def cross_entropy(logits: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """-log softmax(logits)[n, target[n]]: logits (N, K), target (N,) of integer classes in 0 ...
    K-1 -> a scalar.

    reduction: "mean" or "sum" over N, or "none" for losses (N,). Targets given as a host array or
    list are checked; those that live on a GPU already are not, since that would wait for it.
    Kernel: tinynet/kernels/cross_entropy.py.
    """
    _floats("cross_entropy", logits=logits)
    _rank("cross_entropy", "logits", logits, "(N, K)")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"cross_entropy: expected reduction 'mean', 'sum' or 'none', got {reduction!r}"
        )
    N, K = logits.shape
    if not isinstance(target, Tensor) or target.device.kind == "cpu":
        target = _check_classes(target, N, K, logits)
    if target.shape != (N,) or target.dtype.kind not in "iu":
        raise ValueError(
            f"cross_entropy: expected target of shape ({N},) and an integer dtype, got "
            f"{target.shape} {target.dtype}"
        )
    losses = CrossEntropy.apply(logits, target)
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def _check_classes(target: Any, N: int, K: int, logits: Tensor) -> Tensor:
    if isinstance(target, Tensor):
        labels, where = target.data, target.device
    else:
        labels, where = np.asarray(target), logits.device
    if (
        labels.shape == (N,)
        and labels.dtype.kind in "iu"
        and N
        and not 0 <= labels.min() <= labels.max() < K
    ):
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(
            f"cross_entropy: expected targets in 0 ... {K - 1}, the {K} classes of logits, got "
            f"{worst}"
        )
    return target if isinstance(target, Tensor) else Tensor(where.upload(labels), where)


class Pad(Function):
    @staticmethod
    def forward(ctx: Context, x: Any, widths: list[tuple[int, int]], value: float) -> Any:
        ctx.inner = tuple(
            slice(before, before + n) for (before, _), n in zip(widths, x.shape, strict=True)
        )
        shape = tuple(
            before + n + after for (before, after), n in zip(widths, x.shape, strict=True)
        )
        y = ctx.device.empty(shape[1:] + shape[:1], x.dtype)  # batch innermost
        y = ctx.xp.moveaxis(y, -1, 0)
        y[...] = value
        y[ctx.inner] = x
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return dy[ctx.inner], None, None


def pad(x: Tensor, pad: tuple[int, ...], value: float = 0.0) -> Tensor:
    """x with a border of `value`. pad: (before, after) of the last axis, then of the one before it,
    and so on.
    """
    widths = list(pad) if isinstance(pad, (tuple, list)) else []
    if len(widths) % 2 or not 2 <= len(widths) <= 2 * x.ndim:
        raise ValueError(
            f"pad: expected 2 to {2 * x.ndim} widths, in pairs from the last axis on, got {pad!r}"
        )
    widths = [_integer("pad", "pad", w, 0) for w in widths]
    pairs = [(0, 0)] * (x.ndim - len(widths) // 2) + list(
        zip(widths[::2], widths[1::2], strict=True)
    )[::-1]
    return Pad.apply(x, pairs, value)


# Checks, each with one message that says what was expected and what came.


def _floats(operation: str, **tensors: Any) -> None:
    """All tensors, and of one floating dtype; None is let pass."""
    given = {name: t for name, t in tensors.items() if t is not None}
    for name, t in given.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"{operation}: expected {name} to be a tensor, got {type(t).__name__}")
    dtypes = {str(t.dtype) for t in given.values()}
    if len(dtypes) > 1 or not dtypes <= {"float32", "float64", "complex64", "complex128"}:
        came = ", ".join(f"{name} {t.dtype}" for name, t in given.items())
        raise ValueError(
            f"{operation}: expected one dtype, float32 or float64, for all, got {came}"
        )


def _rank(operation: str, name: str, x: Tensor, form: str) -> None:
    if x.ndim != form.count(",") + 1:
        raise ValueError(f"{operation}: expected {name} of shape {form}, got {x.shape}")


def _integer(operation: str, name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(
            f"{operation}: expected {name} to be an integer of at least {least}, got {value!r}"
        )
    return int(value)


def _pair(operation: str, name: str, value: Any, least: int) -> tuple[int, int]:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(
            f"{operation}: expected {name} to be an integer or a pair of them, got {value!r}"
        )
    return tuple(_integer(operation, name, v, least) for v in pair)


def _numbers(operation: str, **values: Any) -> dict[str, float]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise TypeError(
                f"{operation}: expected {name} to be a number, got {type(value).__name__}"
            )
    return {name: float(value) for name, value in values.items()}


def _dim(operation: str, x: Tensor, dim: Any) -> int:
    _floats(operation, x=x)
    if (
        isinstance(dim, bool)
        or not isinstance(dim, (int, np.integer))
        or not -x.ndim <= dim < x.ndim
    ):
        raise ValueError(
            f"{operation}: expected dim to be an axis of a tensor of shape {x.shape}, got {dim!r}"
        )
    return int(dim) % x.ndim


def _pooling(
    operation: str, x: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any
) -> tuple:
    _floats(operation, x=x)
    _rank(operation, "x", x, "(N, C, H, W)")
    kernel = _pair(operation, "kernel_size", kernel_size, 1)
    stride = kernel if stride is None else _pair(operation, "stride", stride, 1)
    padding = _pair(operation, "padding", padding, 0)
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
