"""Losses.

Classes stand on the last axis: logits (N, K) as in torch, and (N, T, K) for sequences, where torch
wants (N, K, T).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.tensors import Tensor


class CrossEntropy(Function):
    """y = -sum of q log softmax(x)        dx = dy (softmax(x) - q), q = [k = target] smoothed"""

    @staticmethod
    def forward(ctx: Context, logits: Any, target: Any, label_smoothing: float) -> Any:
        losses, probabilities = ctx.kernels.cross_entropy_forward(logits, target, label_smoothing)
        ctx.save_for_backward(probabilities, target)
        ctx.label_smoothing = label_smoothing
        return losses

    @staticmethod
    def backward(ctx: Context, dlosses: Any) -> Any:
        dlogits = ctx.kernels.cross_entropy_backward(
            dlosses, *ctx.saved_tensors, ctx.label_smoothing
        )
        return dlogits, None, None


@operation(CrossEntropy)
def cross_entropy(
    logits: Tensor, target: Any, reduction: str = "mean", label_smoothing: float = 0.0
) -> Tensor:
    """-log softmax(logits)[..., target]: logits (..., K), target (...) of integer classes in 0 ...
    K-1 -> a scalar.

    Classes are the last axis, for any number of axes. torch has them second, (N, K, d1, ...):
    transpose such logits. reduction: "mean" or "sum" over all targets, or "none" for losses (...).
    label_smoothing e in 0 ... 1: 1 - e of the target is its class, e is spread over all K classes.
    Targets given as a host array or list are checked; those that live on a GPU already are not,
    since that would wait for it. Kernel: tinynet/kernels/cross_entropy.py.
    """
    checks.floats("cross_entropy", logits=logits)
    (e,) = checks.numbers("cross_entropy", label_smoothing=label_smoothing).values()
    if not 0 <= e <= 1:
        raise ValueError(f"cross_entropy: expected label_smoothing in 0 ... 1, got {e}")
    target = _classes("cross_entropy", "logits", logits, target, reduction)
    return _reduced(CrossEntropy.apply(logits, target, e), reduction)


class NLLLoss(Function):
    """y = -x[target]        dx = -dy [k = target]"""

    @staticmethod
    def forward(ctx: Context, x: Any, target: Any) -> Any:
        ctx.save_for_backward(x, target)
        return ctx.kernels.nll_loss_forward(x, target)

    @staticmethod
    def backward(ctx: Context, dlosses: Any) -> Any:
        return ctx.kernels.nll_loss_backward(dlosses, *ctx.saved_tensors), None


@operation(NLLLoss)
def nll_loss(log_probabilities: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """-log_probabilities[..., target]: log_probabilities (..., K), target (...) of integer classes
    in 0 ... K-1 -> a scalar.

    Axes, reduction and checks are those of cross_entropy, which is this after log_softmax. Kernel:
    tinynet/kernels/nll_loss.py.
    """
    checks.floats("nll_loss", log_probabilities=log_probabilities)
    target = _classes("nll_loss", "log_probabilities", log_probabilities, target, reduction)
    return _reduced(NLLLoss.apply(log_probabilities, target), reduction)


class MSELoss(Function):
    """y = (x - t)^2        dx = 2 dy (x - t), dt = -dx"""

    @staticmethod
    def forward(ctx: Context, x: Any, target: Any) -> Any:
        ctx.save_for_backward(x, target)
        return ctx.kernels.mse_loss_forward(x, target)

    @staticmethod
    def backward(ctx: Context, dlosses: Any) -> Any:
        return ctx.kernels.mse_loss_backward(dlosses, *ctx.saved_tensors, ctx.needs_input_grad)


@operation(MSELoss)
def mse_loss(input: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """(input - target)^2, both of one shape: the mean or the sum over all elements, or "none".

    Both may require a gradient. Kernel: tinynet/kernels/mse_loss.py.
    """
    _alike("mse_loss", "input", input, target, reduction)
    return _reduced(MSELoss.apply(input, target), reduction)


class BCEWithLogits(Function):
    """y = max(x, 0) - x t + log(1 + exp(-|x|))        dx = dy (sigmoid(x) - t), dt = -dy x"""

    @staticmethod
    def forward(ctx: Context, x: Any, target: Any) -> Any:
        ctx.save_for_backward(x, target)
        return ctx.kernels.bce_with_logits_forward(x, target)

    @staticmethod
    def backward(ctx: Context, dlosses: Any) -> Any:
        return ctx.kernels.bce_with_logits_backward(
            dlosses, *ctx.saved_tensors, ctx.needs_input_grad
        )


@operation(BCEWithLogits)
def bce_with_logits(logits: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    """-t log p - (1 - t) log(1 - p), p = sigmoid(logits), t the targets in 0 ... 1: the mean or the
    sum over all elements, or "none".

    Exact for logits of any size. Both may require a gradient. torch's name for it is
    binary_cross_entropy_with_logits. Kernel: tinynet/kernels/bce_with_logits.py.
    """
    _alike("bce_with_logits", "logits", logits, target, reduction)
    return _reduced(BCEWithLogits.apply(logits, target), reduction)


def _reduced(losses: Tensor, reduction: str) -> Tensor:
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def _reduction(operation: str, reduction: Any) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(
            f"{operation}: expected reduction 'mean', 'sum' or 'none', got {reduction!r}"
        )


def _alike(operation: str, name: str, x: Any, target: Any, reduction: Any) -> None:
    checks.floats(operation, **{name: x, "target": target})
    _reduction(operation, reduction)
    if x.shape != target.shape:
        raise ValueError(
            f"{operation}: expected {name} and target of one shape, got {x.shape} and "
            f"{target.shape}; reshape one of them"
        )


def _classes(operation: str, name: str, x: Tensor, target: Any, reduction: Any) -> Tensor:
    """The target as a tensor of integers, one for each row of x (..., K)."""
    if x.ndim < 1:
        raise ValueError(f"{operation}: expected {name} of shape (..., K), got {x.shape}")
    _reduction(operation, reduction)
    rows, K = x.shape[:-1], x.shape[-1]
    if not isinstance(target, Tensor) or target.device.kind == "cpu":
        target = _check_range(operation, target, rows, K, name, x)
    if target.shape != rows or target.dtype.kind not in "iu":
        second = x.ndim > 2 and target.shape == x.shape[:1] + x.shape[2:]
        raise ValueError(
            f"{operation}: expected target of shape {rows} and an integer dtype, got "
            f"{target.shape} {target.dtype}"
            + second
            * f"; move the classes of {name} from the second axis to the last one"
        )
    return target


def _check_range(
    operation: str, target: Any, rows: tuple[int, ...], K: int, name: str, x: Tensor
) -> Tensor:
    if isinstance(target, Tensor):
        labels, where = target.data, target.device
    else:
        labels, where = np.asarray(target), x.device
    if (
        labels.shape == rows
        and labels.dtype.kind in "iu"
        and labels.size
        and not 0 <= labels.min() <= labels.max() < K
    ):
        worst = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(
            f"{operation}: expected targets in 0 ... {K - 1}, the {K} classes of {name}, got "
            f"{worst}"
        )
    return target if isinstance(target, Tensor) else Tensor(where.upload(labels), where)
