"""First values of parameters. Each initialiser is a function from a shape to an array; randomness
is `tinynet.random`'s.

fan_in is the number of inputs that one output sums over, fan_out the number of outputs that one
input goes to: for weights (out, in, *kernel) they are in * prod(kernel) and out * prod(kernel).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tinynet import random
from tinynet.instead import INIT, missing

Initialiser = Callable[[tuple[int, ...]], np.ndarray]


def normal(sigma: float) -> Initialiser:
    """N(0, sigma^2). Krizhevsky et al. 2012, section 5: sigma = 0.01."""
    return lambda shape: random.generator().normal(0.0, sigma, shape).astype(np.float32)


def constant(value: float) -> Initialiser:
    """The same value everywhere."""
    return lambda shape: np.full(shape, value, np.float32)


def he() -> Initialiser:
    """N(0, 2 / fan_in): keeps the size of signals through layers with ReLU. He et al., ICCV 2015,
    section 2.2.
    """
    return lambda shape: normal(math.sqrt(2 / fans(shape)[0]))(shape)


def xavier() -> Initialiser:
    """U(-a, a), a = sqrt(6 / (fan_in + fan_out)). Glorot and Bengio, AISTATS 2010, equation 16."""

    def uniform(shape: tuple[int, ...]) -> np.ndarray:
        a = math.sqrt(6 / sum(fans(shape)))
        return random.generator().uniform(-a, a, shape).astype(np.float32)

    return uniform


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of weights (out, in, *kernel)."""
    if len(shape) < 2:
        raise ValueError(f"fans: expected weights of shape (out, in, ...), got {shape}")
    kernel = math.prod(shape[2:])
    return shape[1] * kernel, shape[0] * kernel


if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name):
        """Python comes here for what is not there."""
        raise missing("tinynet.nn.init", name, INIT)
