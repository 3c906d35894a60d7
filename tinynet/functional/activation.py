"""Activations: element by element, and softmax along an axis."""

from __future__ import annotations

from typing import Any

from tinynet.arithmetic.elementwise import Elementwise
from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.recording import is_grad_enabled
from tinynet.tensors import Tensor


class ReLU(Function):
    """y = max(x, 0)        dx = 0 where y <= 0, else dy"""

    @staticmethod
    def forward(ctx: Context, x: Any, inplace: bool) -> Any:
        y = ctx.kernels.relu_forward(x, out=x if inplace else None)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        (y,) = ctx.saved_tensors
        return ctx.kernels.relu_backward(dy, y), None


@operation(ReLU)
def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """max(x, 0). inplace: the result takes x's place in memory, and x must not be used any more.

    A tensor that requires a gradient and is a leaf cannot be overwritten: RuntimeError.
    """
    checks.floats("relu", x=x)
    if inplace and x.requires_grad and x.node is None and is_grad_enabled():
        raise RuntimeError(
            "relu: a leaf that requires a gradient cannot be changed in place; use inplace=False"
        )
    return ReLU.apply(x, bool(inplace))


class LeakyRelu(Elementwise):
    """y = x above 0, else s x        dx = dy where x > 0, else s dy"""


@operation(LeakyRelu)
def leaky_relu(x: Tensor, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope * x: a unit that is off still learns.

    Kernel: tinynet/kernels/elementwise.py. Source: Maas, Hannun, Ng, "Rectifier nonlinearities
    improve neural network acoustic models", 2013, section 2.
    """
    checks.floats("leaky_relu", x=x)
    (slope,) = checks.numbers("leaky_relu", negative_slope=negative_slope).values()
    return LeakyRelu.apply(x, slope)


class Elu(Elementwise):
    """y = x above 0, else a (e^x - 1)        dx = dy where x > 0, else dy a e^x"""


@operation(Elu)
def elu(x: Tensor, alpha: float = 1.0) -> Tensor:
    """x where x > 0, else alpha (e^x - 1): smooth for alpha = 1, and never below -alpha.

    Kernel: tinynet/kernels/elementwise.py. Source: Clevert, Unterthiner, Hochreiter, "Fast and
    accurate deep network learning by exponential linear units", 2015, equation 15.
    """
    checks.floats("elu", x=x)
    (alpha,) = checks.numbers("elu", alpha=alpha).values()
    return Elu.apply(x, alpha)


class Tanh(Function):
    """y = tanh(x)        dx = dy (1 - y^2)"""

    @staticmethod
    def forward(ctx: Context, x: Any) -> Any:
        y = ctx.kernels.tanh_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.tanh_backward(dy, *ctx.saved_tensors)


@operation(Tanh)
def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    checks.floats("tanh", x=x)
    return Tanh.apply(x)


class Sigmoid(Function):
    """y = 1 / (1 + exp(-x))        dx = dy y (1 - y)"""

    @staticmethod
    def forward(ctx: Context, x: Any) -> Any:
        y = ctx.kernels.sigmoid_forward(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.sigmoid_backward(dy, *ctx.saved_tensors)


@operation(Sigmoid)
def sigmoid(x: Tensor) -> Tensor:
    """The logistic function 1 / (1 + exp(-x))."""
    checks.floats("sigmoid", x=x)
    return Sigmoid.apply(x)


class GELU(Function):
    """y = x Phi(x), Phi of the normal distribution        dx = dy (Phi(x) + x Phi'(x))"""

    @staticmethod
    def forward(ctx: Context, x: Any, approximate: str) -> Any:
        ctx.save_for_backward(x)
        ctx.approximate = approximate
        kernels = ctx.kernels
        return (kernels.gelu_tanh_forward if approximate == "tanh" else kernels.gelu_forward)(x)

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        tanh, kernels = ctx.approximate == "tanh", ctx.kernels
        backward = kernels.gelu_tanh_backward if tanh else kernels.gelu_backward
        return backward(dy, *ctx.saved_tensors), None


@operation(GELU)
def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x Phi(x), with Phi(x) = (1 + erf(x / sqrt 2)) / 2 the distribution of a normal number.

    approximate="tanh": a tanh in place of erf; the result differs by less than 0.0005. Kernel:
    tinynet/kernels/gelu.py.
    """
    checks.floats("gelu", x=x)
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: expected approximate 'none' or 'tanh', got {approximate!r}")
    return GELU.apply(x, approximate)


class Softmax(Function):
    """y = exp(x) / sum exp(x)        dx = y (dy - sum(dy y))"""

    @staticmethod
    def forward(ctx: Context, x: Any, axis: int) -> Any:
        y = ctx.kernels.softmax_forward(x, axis)
        ctx.save_for_backward(y)
        ctx.axis = axis
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.softmax_backward(dy, *ctx.saved_tensors, ctx.axis), None


@operation(Softmax)
def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """exp(x) / sum of exp(x) along axis `dim`."""
    return Softmax.apply(x, checks.axis("softmax", x, dim))


class LogSoftmax(Function):
    """y = x - log(sum exp(x))        dx = dy - exp(y) sum(dy)"""

    @staticmethod
    def forward(ctx: Context, x: Any, axis: int) -> Any:
        y = ctx.kernels.log_softmax_forward(x, axis)
        ctx.save_for_backward(y)
        ctx.axis = axis
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return ctx.kernels.log_softmax_backward(dy, *ctx.saved_tensors, ctx.axis), None


@operation(LogSoftmax)
def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """x - log(sum of exp(x)) along axis `dim`."""
    return LogSoftmax.apply(x, checks.axis("log_softmax", x, dim))
