"""One step of gradient descent with momentum and weight decay, in place.

    v <- m v - lr (g + d w)
    w <- w + v

The learning rate is inside the velocity, so a change of it acts on later gradients only.

Nesterov's momentum takes the gradient at the point that the velocity is about to reach. With t the
weights behind that point, t + m v, the rule is

    v <- m v - lr (gradient at t + m v)
    t <- t + v

The weights that are stored are w = t + m v, since the gradient is taken there. With v' the new
velocity, w' - w = (t + v' + m v') - (t + m v) = v' - m v + m v', and v' - m v = -lr (g + d w):

    v <- m v - lr (g + d w)
    s <- m v - lr (g + d w)
    w <- w + s

Source: Krizhevsky et al. 2012, section 5 (m = 0.9, d = 0.0005). Nesterov: Sutskever et al. 2013,
"On the importance of initialization and momentum in deep learning", section 2; in terms of w by
Bengio et al. 2013, "Advances in optimizing recurrent networks", section 3.5.
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.scratch import Scratch
from tinynet.kernels.layout import elementwise

_step = Scratch()


def sgd_step_definition(
    weight: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> tuple[np.ndarray, np.ndarray]:
    """The first rule at the top, one weight at a time: the new weights, the new velocity."""
    weight, velocity = weight.copy(), velocity.copy()
    for i in np.ndindex(weight.shape):
        velocity[i] = momentum * velocity[i] - lr * (grad[i] + weight_decay * weight[i])
        weight[i] += velocity[i]
    return weight, velocity


def sgd_step(
    weight: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Update `weight` and `velocity`, both C-contiguous, of one shape with grad."""
    lr, m, d = [weight.dtype.type(value) for value in (lr, momentum, weight_decay)]

    def piece(w: np.ndarray, g: np.ndarray, v: np.ndarray) -> None:
        step = np.multiply(w, d, out=_step.array(w.shape, w.dtype))
        step += g
        step *= lr
        v *= m
        v -= step
        w += v

    elementwise(piece, weight, grad, velocity)


def nesterov_step(
    weight: np.ndarray,
    grad: np.ndarray,
    velocity: np.ndarray,
    step: np.ndarray,
    lr: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Update `weight` and `velocity`; `step` becomes s, by which the weights changed."""
    lr, m, d = [weight.dtype.type(value) for value in (lr, momentum, weight_decay)]

    def piece(w: np.ndarray, g: np.ndarray, v: np.ndarray, s: np.ndarray) -> None:
        downhill = np.multiply(w, d, out=_step.array(w.shape, w.dtype))
        downhill += g
        downhill *= lr
        v *= m
        v -= downhill
        np.multiply(v, m, out=s)
        s -= downhill
        w += s

    elementwise(piece, weight, grad, velocity, step)
