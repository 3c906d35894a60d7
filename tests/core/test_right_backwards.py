"""Right backwards that gradcheck must pass, and what it tells of them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from backwards import (
    BIG,
    TIES,
    W,
    X,
    mean,
    operation,
    real,
    scale_and_abs,
    scaled,
    square,
)

import tinynet
import tinynet.functional as F
from tinynet import GradcheckError, gradcheck
from tinynet.gradcheck import KinkWarning, PrecisionWarning
from tinynet.gradcheck.numerical import Numerical
from tinynet.gradcheck.subject import borrowed


def bent(factor: float) -> Callable:
    return operation(real(lambda x: factor * x * x), lambda ctx, x, dy: factor * 2 * x * dy)


half_real = operation(
    lambda x: x + 1e-8 * np.array(x, x.real.dtype), lambda ctx, x, dy: dy * (1 + 1e-8)
)


def cut_log(end: Callable) -> Callable:
    """1 + log(p * 2^33) below or above its 1; 1 on the other side. A large step leads to NaN."""
    return operation(
        real(lambda p: 1 + end(np.log(p * 2.0**33), 0)),
        lambda ctx, p, dy: dy * (end(np.log(p * 2.0**33), 0) != 0) / p,
    )


RIGHT = {
    "[1e4 x0, |x1|]": (scale_and_abs(1e4, 1), [np.array([1.0, -2.0])]),
    "1e8 x^2 at and near 0": (bent(1e8), [np.array([0.0, 1e-4, 0.1])]),
    "at 1e8": (bent(1), [np.array([1e8, 1.0])]),
    "a small part that takes no complex numbers": (half_real, [X]),
    "a small factor": (lambda x: x * x * 1e-30, [X]),
    "a large factor": (lambda x: x * x * 1e30, [X]),
    "a mean": (mean(1), [BIG]),
    "a mean, not complex": (mean(1, real(np.mean)), [BIG[:20, :20]]),
    "next to log's end": (
        operation(real(np.log), lambda ctx, x, dy: dy / x),
        [np.array([1e-5, 1e-3, 1e3])],
    ),
    "a gradient that cancels": (lambda x: F.softmax(x).sum(), [X]),
    "the same, not complex": (
        operation(
            real(lambda x: (np.exp(x) / np.exp(x).sum()).sum()), lambda ctx, x, dy: 0 * x * dy
        ),
        [X],
    ),
    "the same at 0": (lambda x: F.softmax(x).sum(), [0 * X]),
    "the same, of size 1e-200": (lambda x: F.softmax(x).sum() * 1e-200, [X]),
    "all of it rounding": (
        lambda x: F.batch_norm(x, None, None, training=True, eps=0.5).sum(),
        [X],
    ),
    "a large constant": (lambda x: x + 1e8, [X]),
    "steep": (lambda x: (x * 50).exp(), [np.array([0.1, -0.2])]),
    "so steep that differences see few digits": (
        lambda x: functools.reduce(lambda x, _: 3.9 * x * (1 - x), range(26), x),
        [np.array([0.3, 0.6])],
    ),
    "badly conditioned": (lambda x: (x - 1.0000001).log(), [np.array([1.0001, 1.1])]),
    "0 at a kink between 1 and 2": (
        operation(
            real(lambda x: np.where(x > 0, 2 * x, x)),
            lambda ctx, x, dy: dy * np.where(x > 0, 2, x < 0).astype(x.dtype),
        ),
        [np.array([0.0, 1, -1])],
    ),
    "logarithms that are not there for values in other places": (
        lambda x: (x - np.arange(4.0)).log(),
        [np.arange(4) + 0.5],
    ),
    "an exponential too large for float32": (lambda x: (x * 100).exp(), [np.array([1.0, 2.0])]),
    "inputs too large for float32": (lambda x: x * 1e-39, [1e39 * X]),
    "a root that is left out beyond its end": (
        operation(
            lambda x, m: x * np.where(m.real > 1, 0, np.sqrt(1 - m)),
            lambda ctx, x, m, dy: (dy * np.where(m > 1, 0, np.sqrt(1 - m)), None),
        ),
        [X[0], tinynet.tensor([1.0, 0.5, 0.25])],
    ),
    "a mask": (
        lambda x, m: F.softmax(x + m),
        [X[:3], tinynet.tensor(np.where(np.tri(3), 0, -np.inf))],
    ),
    "a mask of the lowest float there is": (
        lambda x, m: F.softmax(x + m),
        [X[:3], tinynet.tensor(np.where(np.tri(3), 0, np.finfo(float).min))],
    ),
    "a mask that is no number in the complex step": (
        lambda x, m: F.softmax(x + 2 * m),
        [X[:3], tinynet.tensor(np.where(np.tri(3), 0, -np.inf))],
    ),
    "NaN that is not used": (lambda x, m: x * x, [X, tinynet.tensor([np.nan])]),
    "outputs of 1e-40": (lambda x: x * 1e-40, [X]),
    "outputs of 1e-300": (lambda x: (x - 700).exp(), [X]),
    "inputs of 1e-30": (lambda x: x * x, [X * 1e-30]),
    "small probabilities": (lambda p: p * p.log(), [np.array([1e-10, 0.5, 1e-3])]),
    "a norm next to 0": (lambda x: (x * x).sum().sqrt(), [X * 1e-9]),
    "steep next to 0": (lambda x: x / (abs(x) + 1e-12), [X * 1e-12]),
    "a net that is sure": (
        lambda x: F.cross_entropy(x, [0, 1]),
        [np.array([[50.0, 0, 0], [0, 60, 1]])],
    ),
    "a few of many at a kink": (F.relu, [np.where(np.arange(400) % 100, 1.5, 0.0)]),
    "many of many at a kink": (F.relu, [np.where(np.arange(400) % 2, 1.5, 0.0)]),
    "whole numbers beside": (lambda x: (x * x, x.argmax()), [X]),
    "one of equal maxima": (lambda x: x.max(), [TIES]),
    "flat on the right, as the smaller steps alone see": (
        cut_log(np.minimum),
        [2.0**-33 * np.array([1, 0.5])],
    ),
    "flat on the left, as the smaller steps alone see": (
        cut_log(np.maximum),
        [2.0**-33 * np.array([1, 2])],
    ),
    "flat at 0, as the smaller steps alone see": (
        lambda p: F.relu(p.log() + 20),
        [np.array([1e-10, 0.5])],
    ),
    "flat, as the smaller steps alone see, of small values": (
        operation(
            real(lambda x: 1e-10 * (1 + np.maximum(x, 0))), lambda ctx, x, dy: 1e-10 * dy * (x > 0)
        ),
        [np.array([-5e-5, -5e-4, 1.0])],
    ),
    "steeper than the first steps": (lambda x: F.tanh(x * 1e6), [np.array([0.0, 1e-7])]),
    "an infinite slope, for values in other places": (
        operation(
            real(lambda x: np.cbrt(x[:1]) * x[1:]),
            lambda ctx, x, dy: np.concatenate(
                [dy @ x[1:] / np.cbrt(x[:1]) ** 2 / 3, np.cbrt(x[:1]) * dy]
            ),
        ),
        [np.array([0.3, 0.0, 0.0, 0.5])],
    ),
    "ReLU near its kinks": (lambda x, w: F.relu(x @ w).sum(), [X, W]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_backward_passes(name: str) -> None:
    """And what is tried on the way is not told: a logarithm beyond its end, a square too large."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert gradcheck(*RIGHT[name])
    assert {w.category for w in told} <= {KinkWarning, PrecisionWarning}


def test_a_large_input_is_checked_along_several_directions(monkeypatch: Any) -> None:
    """A gradient that is wrong at a right angle to the first two is right along these."""
    seen = []
    slope = Numerical.slope
    monkeypatch.setattr(Numerical, "slope", lambda self, u: seen.append(u) or slope(self, u))
    x = np.linspace(0.5, 1.5, 400)
    assert gradcheck(scaled(1), [x])
    wrong = np.random.default_rng(1).standard_normal(x.shape)
    for u in (seen[0][0], seen[1][0]):
        wrong -= (wrong @ u) / (u @ u) * u
    blind = square(lambda ctx, x, dy: 2 * x * dy + wrong.reshape(x.shape))
    with pytest.raises(GradcheckError, match=r"of input 0.* is wrong"):
        gradcheck(blind, [x])


def test_where_nothing_is_allowed_what_is_exact_passes() -> None:
    assert gradcheck(lambda x: x * 2, [np.array(0.5)], atol=0, rtol=0)


def test_what_float32_cannot_hold_is_told() -> None:
    with pytest.warns(PrecisionWarning, match="not compared in float32, where fn has other values"):
        assert gradcheck(lambda x: (x * 100).exp(), [np.array([1.0, 2.0])])
    coarse = operation(lambda x: x * x + 0.01 * (x.itemsize == 4), lambda ctx, x, dy: 2 * x * dy)
    for outputs in (lambda x: (1e9 * x, coarse(x)), lambda x: (coarse(x), 1e9 * x)):
        with pytest.warns(PrecisionWarning, match="where fn has other values"):
            assert gradcheck(outputs, [X])
    with pytest.warns(PrecisionWarning, match="not checked in float32: only float64"):

        def picky(x: Any) -> Any:
            if x.dtype == np.float32:
                raise TypeError("only float64")
            return x * x

        assert gradcheck(picky, [X])


def test_a_kink_is_seen_where_the_complex_step_is_blind() -> None:
    """Behind a large constant, which hides it from the first comparison of the two."""
    relu = operation(lambda x: 1e10 + np.where(x.real > 0, x, 0), lambda ctx, x, dy: dy * (x >= 0))
    assert gradcheck(relu, [np.array([0.0])], atol=1e-11, rtol=1e-3)


def test_slopes_at_a_kink_may_be_as_coarse_as_what_lies_beside() -> None:
    """They were taken for exact, and the right one for wrong."""
    relu = operation(lambda x: 1e7 + np.maximum(x, 0), lambda ctx, x, dy: dy * (x >= 0))
    with pytest.raises(GradcheckError, match=r"input 0\[1\] cannot be checked"):
        gradcheck(relu, [np.array([0.0, 1.0])])


@pytest.mark.parametrize("x", [np.tile([1.0, -1.5, 0.5], 1000), np.zeros(3000)], ids=["", "zeros"])
def test_rounding_of_a_sum_is_that_of_its_many_values(x: np.ndarray) -> None:
    """By chance up or down they cancel; and 0 has a last digit, that of the values beside it."""
    with borrowed(lambda x: x.sum(), [x]) as subject:
        (spread,) = Numerical(subject, np.ones(1), 1e-2, np.random.default_rng(0)).spread
    assert 1e-13 < spread <= 1e-12


def test_rounding_is_measured_in_last_digits() -> None:
    """Up and down by chance, twice, and all up."""
    x = np.linspace(1, 1.9, 50)
    with borrowed(lambda x: x * 1, [x]) as subject:
        numerical = Numerical(subject, np.ones(50), 1e-2, np.random.default_rng(0))
        seen: list[np.ndarray] = []
        subject.fn = lambda x: seen.append(x.numpy()) or x * 1
        numerical._spread(np.random.default_rng(0))
    first, second, third = ((moved - x) * 2.0**52 for moved in seen)
    assert {*first} == {*second} == {-1, 1} == {*first * second} and {*third} == {1}


def test_rounding_within_that_grows_as_steps_become_smaller_is_no_infinite_slope() -> None:
    """At these values three steps after one another saw a larger slope by chance."""
    for first in (1.453, 1.648, 1.65, 1.675, 1.892, 1.897, 1.919, 1.921):
        with borrowed(lambda x: x * 1e-7 + 1 - 1, [np.array([first, 1.0])]) as subject:
            numerical = Numerical(subject, np.ones(2), 1e-2, np.random.default_rng(0))
            assert not numerical.central({0: np.array([1.0, 0.0])}).infinite
