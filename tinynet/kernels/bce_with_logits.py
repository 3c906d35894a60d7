"""Binary cross-entropy of a logit: each element a yes-or-no question by itself.

    p_i = 1 / (1 + exp(-x_i))                                     the probability of yes
    loss_i = -t_i log p_i - (1 - t_i) log(1 - p_i)                t_i in 0 ... 1

With L = log(1 + exp(-x)), log p = -L and log(1 - p) = -x - L, so that

    loss_i = x_i - x_i t_i + L_i        dL/dx = -exp(-x) / (1 + exp(-x)) = p - 1
    dx_i = dloss_i (p_i - t_i)          dt_i = -dloss_i x_i

exp(-x) overflows for a very negative x. There L = -x + log(1 + exp(x)); for any x, then,

    loss_i = max(x_i, 0) - x_i t_i + log(1 + exp(-|x_i|))
"""

from __future__ import annotations

import numpy as np

from tinynet.kernels.sigmoid import sigmoid_forward


def bce_with_logits_forward(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """x, target of one shape -> losses."""
    losses = np.log1p(np.exp(-np.maximum(x, -x)))  # -|x|, in a form for gradcheck's complex x too
    losses += np.maximum(x, 0) - x * target  # first: a small L would be lost beside a large x
    return losses


def bce_with_logits_backward(
    dlosses: np.ndarray, x: np.ndarray, target: np.ndarray, needs: tuple[bool, bool]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """dlosses -> (dx, dtarget), None for each one that `needs` does not ask for."""
    dx = (sigmoid_forward(x) - target) * dlosses if needs[0] else None
    return dx, -dlosses * x if needs[1] else None
