"""Softmax and cross-entropy in one: the negative log-probability of the right class.

    loss_n = log(sum over k of exp(x_nk)) - x_nt          t the target of n
    dx_nk  = dloss_n (p_nk - [k = t])                     p the softmax of x

In one step, because then nothing overflows or cancels for logits of any size, and the gradient is
just p minus one-hot.
"""

from __future__ import annotations

import numpy as np


def cross_entropy_forward(logits: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K), target (N,) of classes 0 ... K-1 -> losses (N,), probabilities (N, K)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted)
    sums = probabilities.sum(axis=1)
    probabilities /= sums[:, None]
    losses = np.log(sums) - shifted[np.arange(len(target)), target]
    return losses, probabilities


def cross_entropy_backward(
    dlosses: np.ndarray, probabilities: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """dlosses (N,) -> dlogits (N, K)."""
    dlogits = probabilities * dlosses[:, None]
    dlogits[np.arange(len(target)), target] -= dlosses
    return dlogits
