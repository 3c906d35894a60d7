"""One step of gradient descent with momentum and weight decay, in place.

    v <- m v - lr (g + d w)
    w <- w + v

The learning rate is inside the velocity, so a change of it acts on later gradients only.

Source: Krizhevsky et al. 2012, section 5 (m = 0.9, d = 0.0005).
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.scratch import Scratch
from tinynet.kernels.layout import elementwise

_step = Scratch()


def sgd_step(
    weight: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Update `weight` and `velocity`, both C-contiguous, of one shape with grad."""
    lr, m, d = (weight.dtype.type(value) for value in (lr, momentum, weight_decay))

    def piece(w: np.ndarray, g: np.ndarray, v: np.ndarray) -> None:
        step = np.multiply(w, d, out=_step.array(w.shape, w.dtype))
        step += g
        step *= lr
        v *= m
        v -= step
        w += v

    elementwise(piece, weight, grad, velocity)
