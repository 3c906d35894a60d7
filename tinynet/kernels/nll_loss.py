"""The negative log-likelihood: of given log-probabilities, the one of the right class.

    loss_n = -x_nt                        t the target of n
    dx_nk  = -dloss_n [k = t]

After log-softmax it is the cross-entropy.
"""

from __future__ import annotations

import numpy as np


def nll_loss_forward(x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """x (..., K), target (...) of classes 0 ... K-1 -> losses (...)."""
    return -np.take_along_axis(x, target[..., None], axis=-1)[..., 0]


def nll_loss_backward(dlosses: np.ndarray, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """dlosses (...) -> dx (..., K), in the memory layout of x. The values of x do not count."""
    dx = np.zeros_like(x)
    np.put_along_axis(dx, target[..., None], -dlosses[..., None], axis=-1)
    return dx
