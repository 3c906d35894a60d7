"""Cases of what has no gradient: the values alone are compared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet import arithmetic
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.gradcheck.cases.table import Case, cases
from tinynet.tensors import Tensor


def _whole(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """-1, 0 and 1 as floats, each as often: of two arrays some are less, equal, greater."""
    values = np.arange(np.prod(shape)) % 3 - 1.0
    return layouts(rng, rng.permutation(values).reshape(shape))


def _of_two(name: str) -> None:
    @cases(name, accepts=("integers", "arrays"))
    def make(rng: np.random.Generator) -> Iterator[Case]:
        function = getattr(arithmetic, name)
        yield function, [_whole(rng, 3, 4), _whole(rng, 3, 4)]
        yield function, [_whole(rng, 2, 1, 4), _whole(rng, 3, 1)]
        yield lambda x: function(x, 0), [_whole(rng, 3, 4)]


for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    _of_two(_name)


def _bits(x: Any) -> Any:
    """Whole numbers, whatever they come in."""
    if isinstance(x, Tensor):
        return x.long()
    return np.asarray(x).astype(np.int64) if isinstance(x, (np.ndarray, list)) else x


@cases("logical_and", accepts=("integers", "arrays"))
def _logical_and(rng: np.random.Generator) -> Iterator[Case]:
    yield (
        lambda a, b: arithmetic.logical_and(_bits(a), _bits(b)),
        [_whole(rng, 3, 4), _whole(rng, 3, 4)],
    )
    yield lambda a, b: (a > 0) & (b > 0), [_whole(rng, 3, 4), _whole(rng, 4)]


@cases("logical_or", accepts=("integers", "arrays"))
def _logical_or(rng: np.random.Generator) -> Iterator[Case]:
    yield (
        lambda a, b: arithmetic.logical_or(_bits(a), _bits(b)),
        [_whole(rng, 3, 4), _whole(rng, 3, 4)],
    )
    yield lambda a, b: (a > 0) | (b > 0), [_whole(rng, 3, 4), _whole(rng, 4)]


@cases("remainder", accepts=("integers", "arrays"))
def _remainder(rng: np.random.Generator) -> Iterator[Case]:
    yield (
        lambda a, b: arithmetic.remainder(_bits(a), _bits(b)),
        [np.arange(-6.0, 6).reshape(3, 4), np.array([3.0, -3, 2, 5])],
    )


@cases("floor_divide", accepts=("integers", "arrays"))
def _floor_divide(rng: np.random.Generator) -> Iterator[Case]:
    yield (
        lambda a, b: arithmetic.floor_divide(_bits(a), _bits(b)),
        [np.arange(-6.0, 6).reshape(3, 4), np.array([3.0, -3, 2, 5])],
    )


@cases("logical_not", accepts=("integers",))
def _logical_not(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: ~(x > 0), [_whole(rng, 3, 4)]


@cases("all", accepts=("integers",))
def _all(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [(None, False), (1, False), ((0, 2), True)]:
        yield lambda x, a=axis, k=keepdims: (x < 1).all(a, k), [_whole(rng, 2, 3, 4)]


@cases("any", accepts=("integers",))
def _any(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [(None, False), (1, False), ((0, 2), True)]:
        yield lambda x, a=axis, k=keepdims: (x > 0).any(a, k), [_whole(rng, 2, 3, 4)]


@cases("argmax", accepts=("integers",))
def _argmax(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [(None, False), (1, False), (-1, True), (None, True)]:
        yield lambda x, a=axis, k=keepdims: x.argmax(a, k), [_whole(rng, 2, 3, 4)]


@cases("argmin", accepts=("integers",))
def _argmin(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [(None, False), (1, False), (-1, True), (None, True)]:
        yield lambda x, a=axis, k=keepdims: x.argmin(a, k), [_whole(rng, 2, 3, 4)]
