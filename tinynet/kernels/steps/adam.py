"""One step of Adam or AdamW, in place.

    g' = g + l2 w                    weight decay in the gradient (Adam)
    m <- m + a (g' - m)              a = 1 - beta1: mean of past gradients, newer ones weigh more
    v <- v + b (g'^2 - v)            b = 1 - beta2: mean of their squares
    x <- max(x, v)                   amsgrad only; x is v itself otherwise
    w <- w - decay w - rate m / (sqrt(x) / root + eps)       decay beside the gradient (AdamW)

m and v begin at 0. After t steps the weights of all gradients in m add up to 1 - beta1^t, and those
of the squares in v to 1 - beta2^t. Dividing by these sums makes true means of m and v. The sums are
the same for all elements, so the caller computes them: rate = lr / (1 - beta1^t), root = sqrt(1 -
beta2^t).

Source: Kingma & Ba 2015, "Adam: a method for stochastic optimization", algorithm 1; Loshchilov &
Hutter 2019, "Decoupled weight decay regularization", algorithm 2; Reddi et al. 2018, "On the
convergence of Adam and beyond", algorithm 2 (amsgrad).
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.scratch import Scratch
from tinynet.kernels.layout import elementwise
from tinynet.kernels.steps.mean import move

_decayed = Scratch()
_squared = Scratch()
_step = Scratch()


def adam_step(
    weight: np.ndarray,
    grad: np.ndarray,
    mean: np.ndarray,
    square: np.ndarray,
    largest: np.ndarray,
    rate: float,
    a: float,
    b: float,
    root: float,
    eps: float,
    l2: float,
    decay: float,
) -> None:
    """Update weight, mean (m), square (v), largest (x, or v once more); all of one shape."""
    numbers = (rate, a, b, root, eps, l2, decay)
    rate, a, b, root, eps, l2, decay = (weight.dtype.type(number) for number in numbers)
    amsgrad = largest is not square

    def piece(w: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray, x: np.ndarray) -> None:
        t = _step.array(w.shape, w.dtype)
        if l2:
            g = np.add(g, np.multiply(w, l2, out=t), out=_decayed.array(w.shape, w.dtype))
        move(m, g, a, t)
        move(v, np.multiply(g, g, out=_squared.array(w.shape, w.dtype)), b, t)
        if amsgrad:
            np.maximum(x, v, out=x)
        np.sqrt(x, out=t)
        t /= root
        t += eps
        np.divide(m, t, out=t)
        t *= rate
        if decay:
            w -= np.multiply(w, decay, out=_decayed.array(w.shape, w.dtype))
        w -= t

    elementwise(piece, weight, grad, mean, square, largest)
