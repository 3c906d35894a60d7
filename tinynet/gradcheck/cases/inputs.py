"""Inputs for cases: kept off kinks, and in memory of other orders than C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet.tensors import tensor


def apart(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random values of both signs, no two closer than 0.05, none closer to 0 than 0.02; and no two
    of opposite signs have sizes closer than 0.013.
    """
    n = int(np.prod(shape))
    return (rng.permutation(n) - n // 2 + rng.uniform(0.3, 0.4)).reshape(shape) / 15


def off_kinks(
    rng: np.random.Generator, function: Callable[..., Any], *shapes: tuple[int, ...]
) -> list[np.ndarray]:
    """Random arguments for which no value of the function is near 0, where a ReLU after it has its
    kink.
    """
    while True:
        arguments = [layouts(rng, rng.normal(size=shape)) for shape in shapes]
        if np.abs(function(*map(tensor, arguments)).numpy()).min() > 0.01:
            return arguments


def away_from_zero(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.choice([-1, 1], shape) * rng.uniform(0.5, 2, shape)


def layouts(rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """The same values in memory of a random order: some axes swapped, some backwards."""
    axes = rng.permutation(x.ndim)
    back = tuple(slice(None, None, rng.choice([-1, 1])) for _ in x.shape)
    swapped = np.array(x.transpose(axes)[tuple(back[a] for a in axes)], order="C")
    return swapped.transpose(np.argsort(axes))[back]
