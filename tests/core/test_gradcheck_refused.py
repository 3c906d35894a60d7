"""What gradcheck refuses to check, and what it tells instead of checking it."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import GradcheckError, gradcheck, nn
from tinynet.gradcheck import KinkWarning, PrecisionWarning, UncheckedWarning


@pytest.fixture
def x(rng):
    return rng.choice([-1, 1], (3, 4)) * rng.uniform(0.5, 1.5, (3, 4))


def test_what_changes_its_input_is_refused():
    def change(x):
        x.data += 1
        return x * 2

    with pytest.raises(
        GradcheckError,
        match="expected x as it was given, got it changed in place by the function; change a copy",
    ):
        gradcheck(change, [np.ones(3)])

    class ChangesInBackward(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.x = x
            return 2 * x

        @staticmethod
        def backward(ctx, dy):
            ctx.x += 1
            return 2 * dy

    with pytest.raises(
        GradcheckError,
        match="expected x as it was given, got it changed in place by the function; change a copy",
    ):
        gradcheck(lambda x: ChangesInBackward.apply(x), [np.ones(3)])


def test_an_output_that_backward_overwrites_is_refused():
    class Overwrites(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.y = np.exp(x)
            return ctx.y

        @staticmethod
        def backward(ctx, dy):
            dx = dy * ctx.y
            ctx.y *= 1 + 1e-15  # too little for dx to be another one
            return dx

    with pytest.raises(GradcheckError, match="backward changed in place an output of the function"):
        gradcheck(Overwrites.apply, [np.ones(3)])


def test_leaves_that_were_not_given_are_told(x):
    """Their gradients are not checked, and stay what they were."""
    w = tinynet.tensor(np.ones((4, 2)), requires_grad=True)
    b = tinynet.tensor(np.ones(2), requires_grad=True)
    b.grad = tinynet.tensor([7.0, 8.0], dtype=np.float64)
    words = r"depends on leaves that it was not given \(2 of shapes \((4, 2|2,)\), \((4, 2|2,)\)\)"
    with pytest.warns(UncheckedWarning, match=words):
        assert gradcheck(lambda x: F.tanh(x @ w + b) @ w.T * b.sum(), [x])
    assert w.grad is None and b.grad.tolist() == [7, 8]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UncheckedWarning)
        w.requires_grad = b.requires_grad = False
        with pytest.warns(PrecisionWarning, match="dtype float32 for .*, got float64"):
            assert gradcheck(lambda x: F.tanh(x @ w + b) * x.sum(), [x])


def not_in_float32(x):
    if x.dtype == np.float32:
        raise TypeError
    return x * x


@pytest.mark.parametrize(
    "kind, fn",
    [
        (KinkWarning, lambda x: F.relu(x - 1)),
        (PrecisionWarning, not_in_float32),
        (PrecisionWarning, lambda x: x * np.arange(2.0)),
        (PrecisionWarning, lambda x: (x * 100).exp()),
        (UncheckedWarning, lambda x: x * tinynet.tensor(2.0, requires_grad=True)),
    ],
)
def test_a_warning_points_at_the_line_that_called(kind, fn):
    with pytest.warns(kind) as told:
        gradcheck(fn, [np.array([1.0, 2.0])])
    assert [w.filename for w in told] == [__file__]


@pytest.mark.parametrize("count", [1, 10, 11])
def test_of_many_leaves_that_were_not_given_all_are_counted(count):
    """And the shapes of ten are told."""
    leaves = [tinynet.tensor(np.ones(3), requires_grad=True) for _ in range(count)]
    with pytest.warns(UncheckedWarning) as told:
        assert gradcheck(lambda x: sum((x * leaf for leaf in leaves), x), [np.ones(3)])
    assert f"leaves that it was not given ({count} of shapes (3,)" in str(told[0].message)
    assert str(told[0].message).count("(3,)") == min(count, 10) and len(told) == 1


@pytest.mark.parametrize("at_0", [np.inf, np.nan, 0.0, 1.0])
@pytest.mark.parametrize(
    "forward",
    [
        np.cbrt,
        lambda x: abs(x) ** 0.5,
        lambda x: abs(x) ** 0.9,
        lambda x: x * np.log(abs(x) + (x == 0)),
        lambda x: abs(np.minimum(x, 0)) ** 0.5,
        np.sign,
        lambda x: 1.0 * (x == 0),
    ],
)
@pytest.mark.parametrize("x", [np.zeros(1), np.arange(3.0), np.where(np.arange(300) % 99, 2, 0.0)])
def test_an_infinite_slope_is_neither_wrong_nor_right(forward, at_0, x):
    """As backward gives infinity there, or a number that the complex step finds, too."""

    class Infinite(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.x = x
            return forward(x)

        @staticmethod
        def backward(ctx, dy):
            next_to = [forward(np.where(ctx.x == 0, 1, ctx.x * f)) for f in (1 + 1e-7, 1 - 1e-7)]
            slope = (next_to[0] - next_to[1]) / np.where(ctx.x == 0, 1, ctx.x * 2e-7)
            return np.where(ctx.x == 0, at_0, slope) * dy

    words = r"expected a finite slope at .* got one that grows without end as steps become smaller"
    with pytest.raises(GradcheckError, match=words):
        gradcheck(Infinite.apply, [x])


def test_what_cannot_be_checked_is_refused():
    calls = []

    def random(x):
        calls.append(0)
        return x * len(calls)

    with pytest.raises(GradcheckError, match="not deterministic"):
        gradcheck(random, [np.ones(3)])
    with pytest.raises(GradcheckError, match="float64 for inputs of that dtype, got float32"):
        gradcheck(lambda x: tinynet.tensor(x, dtype=np.float32), [np.ones(3)])
    with pytest.raises(GradcheckError, match="got complex128; return the real and the imaginary"):
        gradcheck(lambda x: tinynet.tensor(x.numpy() * 1j), [np.ones(3)])
    with pytest.raises(GradcheckError, match="expected an output of floats, got none"):
        gradcheck(lambda x: x.argmax(), [np.ones(3)])
    with pytest.raises(GradcheckError, match="no output requires a gradient"):
        gradcheck(lambda x: x.detach(), [np.ones(3)])
    with pytest.raises(TypeError, match="to return a tensor or several"):
        gradcheck(lambda x: 3, [np.ones(3)])
    with pytest.raises(TypeError, match="to return a tensor or several"):
        gradcheck(lambda x: [], [np.ones(3)])
    for fn, got in ((3, "int"), (nn.Linear, "the class Linear"), (tinynet.Function, "the class F")):
        with pytest.raises(
            TypeError, match=f"expected a function of tensors or a Module, got {got}"
        ):
            gradcheck(fn, [np.ones(3)])
    for inputs in ([], [3], [tinynet.tensor([1.0])], [np.ones(3, int)], [np.ones((0, 3))]):
        got = (
            r", got (none|int|Tensor of float32 \(1,\)|ndarray of int64 \(3,\)|.*float64 \(0, 3\))$"
        )
        with pytest.raises(ValueError, match="at least one input that requires a gradient.*" + got):
            gradcheck(lambda *x: x[0] * 2, inputs)


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "a", [1], 1j])
def test_what_is_no_size_of_a_step_or_an_error_is_refused(value):
    for name, least in (("eps", "above 0"), ("atol", "from 0 on"), ("rtol", "from 0 on")):
        words = f"gradcheck: expected a number {least} for {name}, got {value!r}"
        with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
            gradcheck(lambda x: x * 2, [np.ones(3)], **{name: value})
    with pytest.raises(ValueError, match="above 0 for eps, got 0"):
        gradcheck(lambda x: x * 2, [np.ones(3)], eps=0)


def test_what_is_changed_is_told_by_its_name():
    """As forward names it; what forward does not name, by its place."""

    class Changes(tinynet.Function):
        @staticmethod
        def forward(ctx, first, *others):
            (first, *others)[-1][:] = 1
            return 2 * first

        @staticmethod
        def backward(ctx, dy):
            raise AssertionError

    for inputs, name in (([np.zeros(3)], "first"), ([np.zeros(3), np.zeros(2)], "input 1")):
        with pytest.raises(
            GradcheckError, match=f"expected {name} as it was given, got it changed"
        ):
            gradcheck(Changes.apply, inputs)
