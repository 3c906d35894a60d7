"""Wrong backwards, each with the words of the check that finds it; and right ones that pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import GradcheckError, gradcheck, nn
from tinynet.gradcheck import PrecisionWarning, consistency
from tinynet.gradcheck.numerical import Numerical
from tinynet.recording import is_grad_enabled

X = np.array([[0.7, -1.3, 0.9], [-0.6, 1.1, 1.4], [0.8, -0.9, -1.2], [1.5, 0.5, -0.7]])
W = np.array([[0.3, -1.1, 0.8], [1.2, 0.4, -0.5], [-0.9, 0.6, 0.2]])
BIAS = np.array([0.4, -0.8, 1.3])
TIES = np.array([1.0, 2.0, 2.0, 0.5])
STEEP = np.array([1.0, 1e-3])


def operation(forward: Callable, backward: Callable) -> Callable:
    """An operation of forward(*arrays) and backward(ctx, saved arrays, *dy)."""

    class Operation(tinynet.Function):
        kept: dict = {}  # what no Function should have

        @staticmethod
        def forward(ctx: Any, *arrays: Any) -> Any:
            ctx.save_for_backward(*arrays)
            ctx.own = 2 * arrays[0]
            ctx.kept = Operation.kept
            Operation.kept["x"] = arrays[0].copy()
            Operation.kept.setdefault("stack", []).append(arrays[0].copy())
            return forward(*arrays)

        @staticmethod
        def backward(ctx: Any, *dy: Any) -> Any:
            return backward(ctx, *ctx.saved_tensors, *dy)

    return lambda *tensors: Operation.apply(*tensors)


def square(backward: Callable) -> Callable:
    """x * x; backward(ctx, x, dy), where 2 * x * dy is right."""
    return operation(lambda x: x * x, backward)


def real(forward: Callable) -> Callable:
    """The same function, which takes no complex numbers."""

    def only_real(*arrays: Any) -> Any:
        if any(x.dtype.kind == "c" for x in arrays):
            raise TypeError
        return forward(*arrays)

    return only_real


class Wrong(NamedTuple):
    name: str
    words: str  # of the error
    fn: Callable
    inputs: list


def in_place_if(flag: Callable) -> Callable:
    def backward(ctx: Any, x: Any, dy: Any) -> Any:
        if not flag(dy):
            return 2 * x * dy
        dy *= 2 * x
        return dy

    return square(backward)


def innermost(a: np.ndarray) -> bool:
    return a.flags.f_contiguous and not a.flags.c_contiguous


def lost_write(ctx: Any, x: Any, dy: Any) -> Any:
    dx = np.zeros_like(x)
    dx.reshape(-1)[:] = (2 * x * dy).reshape(-1)  # a copy, where x is not C-contiguous
    return dx


def empty_ctx(ctx: Any, x: Any, dy: Any) -> Any:
    dx = ctx.own * dy
    ctx.own = 0 * ctx.own
    return dx


def overwrite_own(ctx: Any, x: Any, dy: Any) -> Any:
    ctx.own *= dy
    return ctx.own


def cache(ctx: Any, x: Any, dy: Any) -> Any:
    return ctx.kept.setdefault((x.shape, x.dtype), 2 * x) * dy


def cache_single(ctx: Any, x: Any, dy: Any) -> Any:
    if dy.dtype == np.float32:
        ctx.kept["single"] = 2 * x
    return ctx.kept.get("single", 2 * x) * dy


def scaled(factor: float, forward: Callable = lambda x: x * x) -> Callable:
    return operation(forward, lambda ctx, x, dy: factor * 2 * x * dy)


def mean(factor: float, forward: Callable = np.mean) -> Callable:
    return operation(forward, lambda ctx, x, dy: np.full(x.shape, factor * dy / x.size, x.dtype))


def two_outputs(backward: Callable) -> Callable:
    return operation(lambda x: (2 * x, 3 * x), backward)


def linear(backward: Callable) -> Callable:
    return operation(lambda x, w, b: x @ w + b, backward)


def linear_right(x: Any, w: Any, dy: Any) -> list:
    return [dy @ w.T, x.T @ dy, dy.sum(0)]


def wrong_for(*needs: bool) -> Callable:
    def backward(ctx: Any, x: Any, w: Any, b: Any, dy: Any) -> Any:
        factor = 2 if ctx.needs_input_grad == needs else 1
        return [factor * g for g in linear_right(x, w, dy)]

    return linear(backward)


class Frozen(nn.Module):
    """x * w + b, whose bias is wrong where x requires no gradient: a first layer."""

    def __init__(self) -> None:
        self.w, self.b = (nn.Parameter(np.array([v, v, v], np.float32)) for v in (2, 3))

    def forward(self, x: Any) -> Any:
        def backward(ctx: Any, x: Any, w: Any, b: Any, dy: Any) -> Any:
            factor = 1 if ctx.needs_input_grad[0] else 3
            return dy * w, (dy * x).sum(0), factor * dy.sum(0)

        return operation(lambda x, w, b: x * w + b, backward)(x, self.w, self.b)


def scale_and_abs(scale: float, factor: float) -> Callable:
    return operation(
        lambda x: np.stack([scale * x[0], np.abs(x[1])]),
        lambda ctx, x, dy: np.stack([scale * dy[0], factor * np.sign(x[1].real) * dy[1]]),
    )


def at_zero(value: float) -> Callable:
    return operation(
        lambda x: np.maximum(x, 0),
        lambda ctx, x, dy: dy * np.where(x == 0, x.dtype.type(value), x > 0),
    )


LAYOUT = "is another one with inputs in"
LINEAR = "when two upstream gradients are added: backward is not linear in dy"
ONES = "when the upstream gradient is all ones, a read-only view of one number"
TWICE = "in a second backward through the same graph"
AGAIN = "when the function is called again and its graph is sent back"
OUTPUT = "when each output is used alone"
SINGLE = "is another one in float32"
WRONG = "is wrong: analytical"
BIG = np.linspace(-1, 1, 90_000).reshape(300, 300)

TABLE = [
    # in which memory things lie
    Wrong("dy in place, C", "changed in place", in_place_if(lambda d: d.flags.c_contiguous), [X]),
    Wrong("dy in place, batch innermost", "changed in place", in_place_if(innermost), [X]),
    Wrong("dy in place, backwards", "'backwards'", in_place_if(lambda d: d.strides[0] < 0), [X]),
    Wrong(
        "dy taken in its own order",
        LAYOUT,
        square(lambda ctx, x, dy: ((2 * x).ravel() * dy.ravel("K")).reshape(x.shape)),
        [X],
    ),
    Wrong(
        "x taken in its own order",
        LAYOUT,
        square(lambda ctx, x, dy: ((2 * x).ravel("K") * dy.ravel()).reshape(x.shape)),
        [X],
    ),
    Wrong("written into a reshaped copy", LAYOUT, square(lost_write), [X]),
    Wrong(
        "another value for x in another order",
        "another value with inputs",
        operation(
            lambda x: x * (1 if x.flags.c_contiguous else 2),
            lambda ctx, x, dy: dy * (1 if x.flags.c_contiguous else 2),
        ),
        [X],
    ),
    Wrong(
        "dy of stride 0", ONES, square(lambda ctx, x, dy: 2 * x * dy * (1 + (0 in dy.strides))), [X]
    ),
    Wrong(
        "both batch innermost",
        LAYOUT,
        square(lambda ctx, x, dy: 2 * x * dy * (1 + (innermost(x) and innermost(dy)))),
        [X],
    ),
    Wrong(
        "x backwards", LAYOUT, square(lambda ctx, x, dy: 2 * x * dy * (1 + (x.strides[0] < 0))), [X]
    ),
    Wrong(
        "batch innermost, in an input whose gradient is the smaller one",
        LAYOUT,
        operation(
            lambda x, y: 1e6 * x + y,
            lambda ctx, x, y, dy: (1e6 * dy, dy * (1 + 1e-6 * innermost(dy))),
        ),
        [X, X[::-1].copy()],
    ),
    # linear in dy
    Wrong("dy clipped", LINEAR, square(lambda ctx, x, dy: 2 * x * np.clip(dy, -3, 3)), [X]),
    Wrong("dy added to", WRONG, square(lambda ctx, x, dy: 2 * x * dy + 1), [X]),
    Wrong("wrong where dy is 0", LINEAR, square(lambda ctx, x, dy: 2 * x * dy + (dy == 0)), [X]),
    Wrong(
        "divided by dy", "when two upstream", square(lambda ctx, x, dy: 2 * x * dy * dy / dy), [X]
    ),
    Wrong(
        "wrong for ones", ONES, square(lambda ctx, x, dy: 2 * x * dy * (1 + (dy == 1).all())), [X]
    ),
    Wrong(
        "wrong for equal numbers",
        "read-only view of one number: exp",
        square(lambda ctx, x, dy: 2 * x * dy * (1 + (dy == 0.25).all())),
        [X],
    ),
    Wrong(
        "small dy made 0",
        "9e-10 times",
        square(lambda ctx, x, dy: 2 * x * dy * (abs(dy) > 1e-6)),
        [X],
    ),
    Wrong(
        "large dy cut",
        "1e+09 times",
        square(lambda ctx, x, dy: 2 * x * np.clip(dy, -1e3, 1e3)),
        [X],
    ),
    # kept between calls
    Wrong("ctx is used up", TWICE, square(empty_ctx), [X]),
    Wrong("ctx is written to", TWICE, square(overwrite_own), [X]),
    Wrong(
        "x of the last call",
        AGAIN + " before",
        square(lambda ctx, x, dy: 2 * ctx.kept["x"] * dy),
        [X],
    ),
    Wrong(
        "a stack of calls",
        AGAIN + " after",
        square(lambda ctx, x, dy: 2 * ctx.kept["stack"].pop() * dy),
        [X],
    ),
    Wrong("a cache by shape", "is wrong with other values", square(cache), [X]),
    Wrong(
        "a cache made in float32", "in float64 after a call in float32", square(cache_single), [X]
    ),
    # outputs and inputs alone
    Wrong(
        "an output alone",
        OUTPUT,
        two_outputs(lambda ctx, x, a, b: 2 * a + (3 if a.any() else 4) * b),
        [X],
    ),
    Wrong(
        "x alone", "when input 0 alone requires one", wrong_for(True, False, False), [X, W, BIAS]
    ),
    Wrong(
        "the bias alone",
        "when input 2 alone requires one",
        wrong_for(False, False, True),
        [X, W, BIAS],
    ),
    Wrong(
        "the weight frozen",
        "when input 1 requires none",
        wrong_for(True, False, True),
        [X, W, BIAS],
    ),
    Wrong("a first layer", "when x requires none", Frozen(), [X]),
    Wrong(
        "a later output that ones would not see",
        WRONG,
        operation(lambda x: (2 * x, np.exp(x) / np.exp(x).sum()), lambda ctx, x, a, b: 2 * a),
        [X],
    ),
    # precision
    Wrong("[1e4 x0, |x1|] without the second", WRONG, scale_and_abs(1e4, 0), [TIES[:2]]),
    Wrong("[1e8 x0, |x1|] without the second", WRONG, scale_and_abs(1e8, 0), [TIES[:2]]),
    Wrong("a factor of 1.001", WRONG, scaled(1.001), [X]),
    Wrong("a factor of 1.000001", WRONG, scaled(1 + 1e-6), [X]),
    Wrong("the same, not complex", WRONG, scaled(1 + 1e-6, real(np.square)), [X]),
    Wrong("a mean's gradient 0", WRONG, mean(0), [BIG]),
    Wrong("a mean's gradient negative", WRONG, mean(-1), [BIG[:20, :20]]),
    Wrong("a mean's gradient twice", WRONG, mean(2), [BIG[:20, :20]]),
    Wrong("the same, not complex", WRONG, mean(2, real(np.mean)), [BIG[:20, :20]]),
    Wrong(
        "a second input of little weight",
        WRONG,
        operation(lambda x, b: x * x + 1e-10 * b, lambda ctx, x, b, dy: (2 * x * dy, 0 * dy)),
        [X, X],
    ),
    Wrong(
        "a second output of small values",
        WRONG,
        operation(lambda x: (1e12 * x, x * x), lambda ctx, x, a, b: 1e12 * a),
        [X],
    ),
    Wrong(
        "wrong in float32 alone",
        SINGLE,
        square(lambda ctx, x, dy: 2 * x * dy * (1.01 if x.dtype == np.float32 else 1)),
        [X],
    ),
    Wrong(
        "float16 within",
        SINGLE,
        square(lambda ctx, x, dy: (2 * x * dy).astype(np.float16 if x.itemsize < 8 else float)),
        [X],
    ),
    Wrong(
        "too large for float32",
        SINGLE,
        square(lambda ctx, x, dy: 2 * x * (dy * x.dtype.type(1e38)) * 1e3 / 1e38 / 1e3),
        [X],
    ),
    Wrong(
        "float32 within",
        WRONG,
        square(lambda ctx, x, dy: (2 * x * dy).astype(np.float32).astype(x.dtype)),
        [X],
    ),
    Wrong(
        "forward is another one when recorded",
        "gives another value",
        lambda x: x * x if is_grad_enabled() else x * x + x.detach() * 0 + 1,
        [X],
    ),
    Wrong(
        "a small gradient beside a large one, by 1e-7 of itself",
        "[1] is wrong: analytical",
        operation(
            lambda x: (STEEP * x).sum(), lambda ctx, x, dy: dy * STEEP * (1 + 1e-7 * (STEEP < 1))
        ),
        [np.array([0.7, -0.4])],
    ),
    # kinks
    Wrong(
        "every one of equal maxima",
        "all inputs together",
        operation(np.max, lambda ctx, x, dy: dy * (x == x.max())),
        [TIES],
    ),
    Wrong(
        "both of two equal maxima, far above the others",
        "all inputs together",
        operation(np.max, lambda ctx, x, dy: dy * (x == x.max())),
        [np.array([2.0, 2.0, 0.5])],
    ),
    Wrong(
        "both of equal inputs",
        "all inputs together",
        operation(np.maximum, lambda ctx, a, b, dy: (dy * (a >= b), dy * (b >= a))),
        [TIES, TIES],
    ),
    Wrong("5 at a kink", "at a kink: numerical from", at_zero(5), [np.array([0.0, 1, -1])]),
    Wrong("NaN at a kink", "analytical nan, at a kink", at_zero(np.nan), [np.array([0.0, 1, -1])]),
    # what cannot be checked
    Wrong(
        "rounded within",
        "cannot be checked: central differences give",
        operation(real(lambda x: (x + 1e7) - 1e7), lambda ctx, x, dy: dy),
        [X],
    ),
    Wrong(
        "the derivative is infinite",
        "gives NaN or infinity next to",
        operation(
            real(np.sqrt),
            lambda ctx, x, dy: dy * np.where(x == 0, 1e9, 0.5 / np.sqrt(x + (x == 0))),
        ),
        [np.array([0.0, 1.0])],
    ),
    Wrong(
        "NaN at the point",
        "the function gives nan (element 1 of 2",
        operation(real(np.log), lambda ctx, x, dy: dy / x),
        [np.array([1.0, -1.0])],
    ),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("wrong", TABLE, ids=lambda wrong: wrong.name)
def test_a_wrong_backward_is_found_by_its_check(wrong: Wrong) -> None:
    with pytest.raises(GradcheckError) as caught:
        gradcheck(wrong.fn, wrong.inputs)
    assert wrong.words in str(caught.value)
    assert all(p.requires_grad for p in getattr(wrong.fn, "parameters", list)())


@pytest.mark.parametrize("check", consistency.CHECKS, ids=lambda check: check.__name__)
def test_each_check_is_needed(check: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consistency, "CHECKS", [c for c in consistency.CHECKS if c != check])
    for wrong in TABLE:
        if wrong.inputs[0] is BIG:
            continue
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                gradcheck(wrong.fn, wrong.inputs)
            except GradcheckError as error:
                if wrong.words in str(error):
                    continue
        return
    pytest.fail("no wrong backward of the table needs this check")


def bent(factor: float) -> Callable:
    return operation(real(lambda x: factor * x * x), lambda ctx, x, dy: factor * 2 * x * dy)


half_real = operation(
    lambda x: x + 1e-8 * np.array(x, x.real.dtype), lambda ctx, x, dy: dy * (1 + 1e-8)
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
    "all of it rounding": (
        lambda x: F.batch_norm(x, None, None, training=True, eps=0.5).sum(),
        [X],
    ),
    "a large constant": (lambda x: x + 1e8, [X]),
    "steep": (lambda x: (x * 50).exp(), [np.array([0.1, -0.2])]),
    "badly conditioned": (lambda x: (x - 1.0000001).log(), [np.array([1.0001, 1.1])]),
    "one of equal maxima": (lambda x: x.max(), [TIES]),
    "ReLU near its kinks": (lambda x, w: F.relu(x @ w).sum(), [X, W]),
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_backward_passes(name: str) -> None:
    assert gradcheck(*RIGHT[name])


def test_a_large_input_is_checked_along_several_directions(monkeypatch: Any) -> None:
    """A gradient that is wrong at a right angle to the first direction is right along it."""
    seen = []
    slope = Numerical.slope
    monkeypatch.setattr(Numerical, "slope", lambda self, u: seen.append(u) or slope(self, u))
    x = np.linspace(0.5, 1.5, 400)
    assert gradcheck(scaled(1), [x])
    first = seen[0][0]
    wrong = np.random.default_rng(1).standard_normal(x.shape)
    wrong -= (wrong @ first) / (first @ first) * first
    blind = square(lambda ctx, x, dy: 2 * x * dy + wrong.reshape(x.shape))
    with pytest.raises(GradcheckError, match=r"of input 0.* is wrong"):
        gradcheck(blind, [x])


def test_what_float32_cannot_hold_is_told() -> None:
    with pytest.warns(PrecisionWarning, match="not compared in float32, where fn has other values"):
        assert gradcheck(lambda x: (x * 100).exp(), [np.array([1.0, 2.0])])
    with pytest.warns(PrecisionWarning, match="not checked in float32: only float64"):

        def picky(x: Any) -> Any:
            if x.dtype == np.float32:
                raise TypeError("only float64")
            return x * x

        assert gradcheck(picky, [X])


def test_looser_tolerances_hold_for_all_checks() -> None:
    coarse = operation(
        lambda x: x * x,
        lambda ctx, x, dy: (2 * x * dy).astype(np.float32).astype(x.dtype) * (1 + 1e-6 * (dy > 0)),
    )
    with pytest.raises(GradcheckError, match=WRONG):
        gradcheck(coarse, [X])
    assert gradcheck(coarse, [X], rtol=1e-3) and gradcheck(coarse, [X], eps=1e-6, atol=1e-5)
