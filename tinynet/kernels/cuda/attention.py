"""Attention: tinynet/kernels/attention.py on a GPU, with the same letters."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.attention import by_head
from tinynet.kernels.cuda.launch import dense
from tinynet.kernels.cuda.linear import matmul
from tinynet.kernels.cuda.softmax import softmax_of_rows, softmax_of_rows_backward


def attention_forward(q: Any, k: Any, v: Any, heads: int, mask: Any) -> tuple[Any, Any]:
    """q (N, T, D), k (N, S, D), v (N, S, E) -> y (N, T, E) and P (N, heads, T, S)."""
    Q, K, V = (by_head(a, heads) for a in (q, k, v))
    s = matmul(Q, K.swapaxes(2, 3))
    s *= (q.shape[2] // heads) ** -0.5
    if mask is not None:
        s += cupy.where(mask, 0, -cupy.inf).astype(s.dtype)
    p = softmax_of_rows(s)
    return _side_by_side(matmul(p, V)), p


def attention_backward(dy: Any, q: Any, k: Any, v: Any, p: Any) -> tuple[Any, Any, Any]:
    """dy (N, T, E), P of forward -> (dq, dk, dv)."""
    heads = p.shape[1]
    Q, K, V, dY = (by_head(a, heads) for a in (q, k, v, dy))
    dS = softmax_of_rows_backward(matmul(dY, V.swapaxes(2, 3)), dense(p))
    dS *= (q.shape[2] // heads) ** -0.5
    gradients = matmul(dS, K), matmul(dS.swapaxes(2, 3), Q), matmul(p.swapaxes(2, 3), dY)
    return tuple(_side_by_side(g) for g in gradients)


def _side_by_side(x: Any) -> Any:
    """(N, heads, T, D / heads) -> (N, T, D)."""
    N, heads, T, d = x.shape
    return x.swapaxes(1, 2).reshape(N, T, heads * d)
