"""One step of RMSprop, in place.

    g' = g + d w
    s <- s + c (g'^2 - s)            c = 1 - alpha: the mean of past squares, newer ones weigh more
    u <- m u + g' / (sqrt(s) + eps)
    w <- w - lr u

Centered: the mean n of past gradients is taken off, so that s - n^2 is their variance:

    n <- n + c (g' - n)
    u <- m u + g' / (sqrt(s - n^2) + eps)

Source: Hinton 2012, "Neural networks for machine learning", lecture 6e; centered and with momentum:
Graves 2013, "Generating sequences with recurrent neural networks", equations 38 to 41. As in
PyTorch, eps is outside of the root and the rate outside of u.
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.scratch import Scratch
from tinynet.kernels.layout import elementwise
from tinynet.kernels.steps.mean import move

_decayed = Scratch()
_squared = Scratch()
_step = Scratch()


def rmsprop_step(
    weight: np.ndarray,
    grad: np.ndarray,
    square: np.ndarray,
    velocity: np.ndarray,
    lr: float,
    c: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Update weight, square (s), velocity (u); all of one shape."""
    numbers = (lr, c, eps, momentum, weight_decay)
    lr, c, eps, m, d = (weight.dtype.type(number) for number in numbers)

    def piece(w: np.ndarray, g: np.ndarray, s: np.ndarray, u: np.ndarray) -> None:
        t = _step.array(w.shape, w.dtype)
        g = _squares(w, g, s, c, d, t)
        np.sqrt(s, out=t)
        _finish(w, g, u, t, lr, eps, m)

    elementwise(piece, weight, grad, square, velocity)


def rmsprop_centered_step(
    weight: np.ndarray,
    grad: np.ndarray,
    square: np.ndarray,
    velocity: np.ndarray,
    mean: np.ndarray,
    lr: float,
    c: float,
    eps: float,
    momentum: float,
    weight_decay: float,
) -> None:
    """Update weight, square (s), velocity (u), mean (n); all of one shape."""
    numbers = (lr, c, eps, momentum, weight_decay)
    lr, c, eps, m, d = (weight.dtype.type(number) for number in numbers)

    def piece(w: np.ndarray, g: np.ndarray, s: np.ndarray, u: np.ndarray, n: np.ndarray) -> None:
        t = _step.array(w.shape, w.dtype)
        g = _squares(w, g, s, c, d, t)
        move(n, g, c, t)
        np.multiply(n, n, out=t)
        np.subtract(s, t, out=t)
        np.maximum(t, 0, out=t)  # rounding may take a variance of 0 below it
        np.sqrt(t, out=t)
        _finish(w, g, u, t, lr, eps, m)

    elementwise(piece, weight, grad, square, velocity, mean)


def _squares(
    w: np.ndarray, g: np.ndarray, s: np.ndarray, c: float, d: float, t: np.ndarray
) -> np.ndarray:
    """g' = g + d w, and s <- s + c (g'^2 - s); returns g'."""
    if d:
        g = np.add(g, np.multiply(w, d, out=t), out=_decayed.array(w.shape, w.dtype))
    move(s, np.multiply(g, g, out=_squared.array(w.shape, w.dtype)), c, t)
    return g


def _finish(
    w: np.ndarray, g: np.ndarray, u: np.ndarray, t: np.ndarray, lr: float, eps: float, m: float
) -> None:
    """With the root in t: u <- m u + g' / (t + eps), w <- w - lr u."""
    t += eps
    np.divide(g, t, out=t)
    u *= m
    u += t
    np.multiply(u, lr, out=t)
    w -= t
