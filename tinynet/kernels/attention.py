"""Attention: each query takes a mean of the values, weighted by how well its key fits.

    S = Q K^T / sqrt(d)           (T, S): how well query t fits key s
    P = softmax of S along s      weights, from 0 to 1, of sum 1; 0 where the mask says no
    Y = P V                       (T, e)

Q holds T queries of d numbers, K the S keys of d, V the S values of e. A dot product of random
vectors of d numbers has variance d. The division by sqrt(d) brings it back to 1, where softmax is
not yet all or nothing. Backward is that of two matrix products with a softmax between (softmax.py):

    dV = P^T dY
    dP = dY V^T
    dS = P (dP - sum along s of dP P)                 0 where the mask says no, since P is 0
    dQ = dS K / sqrt(d)           dK = dS^T Q / sqrt(d)

With several heads each has its own part of the last axis: the first D / heads numbers, the next
ones, and so on. The results stand side by side in the same way. So no head is copied out: its part
is a view, and the products read and write it where it lies.

Source: Vaswani et al. 2017, arXiv 1706.03762, section 3.2.
"""

from __future__ import annotations

import math

import numpy as np

from tinynet.devices.memory import pool
from tinynet.devices.threads import parallel_for, pieces_of
from tinynet.kernels.layout import PIECE, dense


def attention_definition(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, mask: np.ndarray
) -> np.ndarray:
    """The formulas at the top, one query of one head at a time; mask (N, T, S)."""
    (N, T, D), (_, S, E) = q.shape, v.shape
    y, d, e = np.zeros((N, T, E)), D // heads, E // heads
    for n, t, h in np.ndindex(N, T, heads):
        own, values = slice(h * d, (h + 1) * d), slice(h * e, (h + 1) * e)
        seen = [s for s in range(S) if mask[n, t, s]]
        fits = [math.exp(q[n, t, own] @ k[n, s, own] / math.sqrt(d)) for s in seen]
        for s, fit in zip(seen, fits, strict=True):
            y[n, t, values] += fit / sum(fits) * v[n, s, values]
    return y


def attention_forward(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, heads: int, mask: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """q (N, T, D), k (N, S, D), v (N, S, E) -> y (N, T, E) and P (N, heads, T, S).

    mask, of bool: (T, S) or (N, 1, T, S), True where a query may look.
    """
    N, T, D = q.shape
    S, scale = k.shape[1], (D // heads) ** -0.5
    y, p = pool.empty((N, T, v.shape[2]), q.dtype), pool.empty((N, heads, T, S), q.dtype)
    Q, K, V, Y = (by_head(dense(a), heads) for a in (q, k, v, y))
    closed = None if mask is None else np.where(mask, 0, -np.inf).astype(q.real.dtype)

    def piece(batch: slice) -> None:
        s = np.matmul(Q[batch], K[batch].swapaxes(2, 3), out=p[batch])
        s *= scale
        if closed is not None:
            s += closed if closed.ndim == 2 else closed[batch]
        s -= s.max(axis=3, keepdims=True)
        np.exp(s, out=s)
        s /= s.sum(axis=3, keepdims=True)
        np.matmul(s, V[batch], out=Y[batch])

    # Whole products of some of the batch, so that any number of threads gives the same bits.
    parallel_for(piece, pieces_of(len(p), each=p[:1].size, most=PIECE))
    return y, p


def attention_backward(
    dy: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray, p: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dy (N, T, E), P of forward -> (dq, dk, dv)."""
    heads, scale = p.shape[1], (q.shape[2] // p.shape[1]) ** -0.5
    dq, dk, dv = (pool.empty(a.shape, a.dtype) for a in (q, k, v))
    Q, K, V, dY, dQ, dK, dV = (by_head(dense(a), heads) for a in (q, k, v, dy, dq, dk, dv))

    def piece(batch: slice) -> None:
        P = p[batch]
        np.matmul(P.swapaxes(2, 3), dY[batch], out=dV[batch])
        dS = np.matmul(dY[batch], V[batch].swapaxes(2, 3))
        dS -= np.einsum("nhts,nhts->nht", dS, P)[..., None]
        dS *= P
        dS *= scale
        np.matmul(dS, K[batch], out=dQ[batch])
        np.matmul(dS.swapaxes(2, 3), Q[batch], out=dK[batch])

    parallel_for(piece, pieces_of(len(p), each=p[:1].size, most=PIECE))
    return dq, dk, dv


def by_head(x: np.ndarray, heads: int) -> np.ndarray:
    """(N, T, D) -> a view (N, heads, T, D / heads)."""
    N, T, D = x.shape
    return x.reshape(N, T, heads, D // heads).swapaxes(1, 2)
