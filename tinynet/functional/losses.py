"""Losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.tensor import Tensor


class CrossEntropy(Function):
    """y = -log softmax(x)[target]        dx = dy (softmax(x) - [k = target])"""

    @staticmethod
    def forward(ctx: Context, logits: Any, target: Any) -> Any:
        losses, probabilities = ctx.kernels.cross_entropy_forward(logits, target)
        ctx.save_for_backward(probabilities, target)
        return losses

    @staticmethod
    def backward(ctx: Context, dlosses: Any) -> Any:
        return ctx.kernels.cross_entropy_backward(dlosses, *ctx.saved_tensors), None


@operation(CrossEntropy)
def cross_entropy(logits: Tensor, target: Any, reduction: str = "mean") -> Tensor:
    """-log softmax(logits)[n, target[n]]: logits (N, K), target (N,) of integer classes in 0 ...
    K-1 -> a scalar.

    reduction: "mean" or "sum" over N, or "none" for losses (N,). Targets given as a host array or
    list are checked; those that live on a GPU already are not, since that would wait for it.
    Kernel: tinynet/kernels/cross_entropy.py.
    """
    checks.floats("cross_entropy", logits=logits)
    checks.rank("cross_entropy", "logits", logits, "(N, K)")
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
