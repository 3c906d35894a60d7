"""Softmax and cross-entropy in one: the negative log-probability of the right class.

    loss_n = log(sum over k of exp(x_nk)) - x_nt          t the target of n

d log(sum)/dx_k = exp(x_k) / sum = p_k, the softmax, and d(-x_t)/dx_k = -[k = t], so

    dx_nk  = dloss_n (p_nk - [k = t])

In one step, because then nothing overflows or cancels for logits of any size, and the gradient is
just p minus one-hot.

Label smoothing e moves a share of the target from class t to all K classes alike:

    loss_n = sum over k of q_k (log(sum) - x_nk)          q_k = (1 - e) [k = t] + e/K
           = log(sum) - (1 - e) x_nt - e/K sum over k of x_nk
    dx_nk  = dloss_n (p_nk - q_k)

Source of label smoothing: Szegedy et al., CVPR 2016, section 7.
"""

from __future__ import annotations

import math

import numpy as np


def cross_entropy_definition(
    logits: np.ndarray, target: np.ndarray, label_smoothing: float = 0.0
) -> np.ndarray:
    """The formula at the top, one target at a time: for moderate logits, since exp may overflow."""
    losses, K, e = np.zeros(target.shape), logits.shape[-1], label_smoothing
    for n in np.ndindex(target.shape):
        log_sum = math.log(sum(math.exp(v) for v in logits[n]))
        for k in range(K):
            q = (1 - e) * (k == target[n]) + e / K
            losses[n] += q * (log_sum - logits[n][k])
    return losses


def cross_entropy_forward(
    logits: np.ndarray, target: np.ndarray, label_smoothing: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Logits (..., K), target (...) of classes 0 ... K-1 -> losses (...), probabilities (..., K).

    label_smoothing is e above.
    """
    shape, K, e = target.shape, logits.shape[-1], label_smoothing
    logits, target = logits.reshape(-1, K), target.reshape(-1)  # (N, K), (N,)
    shifted = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    probabilities = np.exp(shifted)
    sums = probabilities.sum(axis=1)
    probabilities /= sums[:, None]
    right = shifted[np.arange(len(target)), target]
    if e:
        right = (1 - e) * right + e * shifted.mean(axis=1)
    losses = np.log(sums) - right
    return losses.reshape(shape), probabilities.reshape(*shape, K)


def cross_entropy_backward(
    dlosses: np.ndarray,
    probabilities: np.ndarray,
    target: np.ndarray,
    label_smoothing: float = 0.0,
) -> np.ndarray:
    """dlosses (...) -> dlogits (..., K)."""
    shape, K, e = probabilities.shape, probabilities.shape[-1], label_smoothing
    dlosses, target = dlosses.reshape(-1), target.reshape(-1)  # (N,), (N,)
    dlogits = probabilities.reshape(-1, K) * dlosses[:, None]
    if e:
        dlogits -= (e / K * dlosses)[:, None]
    dlogits[np.arange(len(target)), target] -= (1 - e) * dlosses
    return dlogits.reshape(shape)
