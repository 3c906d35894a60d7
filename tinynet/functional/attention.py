"""Sequences of words: their vectors, and attention, by which each place looks at the others."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.arithmetic.shapes import Index
from tinynet.function import Context, Function
from tinynet.functional import checks
from tinynet.operations import operation
from tinynet.tensors import Tensor


class Attention(Function):
    """Y = P V, P = softmax(Q K^T / sqrt d)        dV = P^T dY, dS = P (dP - sum of dP P)"""

    @staticmethod
    def forward(ctx: Context, q: Any, k: Any, v: Any, heads: int, mask: Any) -> Any:
        if isinstance(mask, np.ndarray):  # no tensor's, or on the host
            mask = ctx.device.upload(mask)
        y, p = ctx.kernels.attention_forward(q, k, v, heads, mask)
        ctx.save_for_backward(q, k, v, p)
        return y

    @staticmethod
    def backward(ctx: Context, dy: Any) -> Any:
        return *ctx.kernels.attention_backward(dy, *ctx.saved_tensors), None, None


@operation(Attention)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int = 1,
    mask: Any = None,
    causal: bool = False,
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v: q (N, T, D), k (N, S, D), v (N, S, E) -> (N, T, E).

    heads: so many times side by side, each on its part of D and of E; d = D / heads. mask: bool,
    (T, S) or (N, T, S), True where query t may look at key s; every query must have one. causal:
    query t looks at keys 0 ... t alone. Kernel: tinynet/kernels/attention.py.
    """
    checks.floats("attention", q=q, k=k, v=v)
    for name, x, form in (("q", q, "(N, T, D)"), ("k", k, "(N, S, D)"), ("v", v, "(N, S, E)")):
        checks.rank("attention", name, x, form)
    heads = checks.integer("attention", "heads", heads, 1)
    (N, T, D), (_, S, E) = q.shape, v.shape
    if k.shape != (N, S, D) or len(v) != N or S < 1:
        raise ValueError(
            f"attention: expected q (N, T, D), k (N, S, D), v (N, S, E) with S of at least 1, got "
            f"{q.shape}, {k.shape} and {v.shape}"
        )
    if D % heads or E % heads:
        raise ValueError(f"attention: expected D and E divisible by heads={heads}, got {D} and {E}")
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.device != q.device:
            mask = np.asarray(mask.numpy() if isinstance(mask, Tensor) else mask)
        if mask.dtype != bool or mask.shape not in ((T, S), (N, T, S)):
            raise ValueError(
                f"attention: expected a mask of bool, {(T, S)} or {(N, T, S)}, got {mask.dtype} "
                f"{mask.shape}"
            )
    if causal:
        below = np.tri(T, S, dtype=bool)
        mask = below if mask is None else mask & below
    seen = mask.numpy() if isinstance(mask, Tensor) else mask
    if seen is not None and not seen.any(axis=-1).all():
        raise ValueError(
            "attention: expected a mask that lets every query look at one key at least, got a row "
            "without; pad with a key that may be seen, and leave its result out of the loss"
        )
    if mask is not None and mask.ndim == 3:
        mask = mask[:, None]  # the same for all heads
    return Attention.apply(q, k, v, heads, mask)


@operation(Index)
def embedding(tokens: Any, weight: Tensor) -> Tensor:
    """y = weight[tokens]: tokens (...) of integers 0 ... K - 1, weight (K, D) -> (..., D).

    A row gets the sum of the gradients of all places where its token stands.
    """
    checks.floats("embedding", weight=weight)
    checks.rank("embedding", "weight", weight, "(K, D)")
    numbers = np.asarray(tokens.numpy() if isinstance(tokens, Tensor) else tokens)
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"embedding: expected tokens to be integers, got {numbers.dtype}")
    if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(weight):
        raise ValueError(
            f"embedding: expected tokens from 0 to {len(weight) - 1}, got {numbers.min()} to "
            f"{numbers.max()}"
        )
    if isinstance(tokens, Tensor) and tokens.device == weight.device:
        return Index.apply(weight, tokens)  # a trace sees where they come from
    return Index.apply(weight, weight.device.upload(numbers))
