"""Wrong backwards, each with the words of the check that finds it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
from backwards import (
    BIAS,
    BIG,
    CUBE,
    STEEP,
    TIES,
    Frozen,
    W,
    Wrong,
    X,
    as_if_dense,
    at_zero,
    batched_matmul,
    cache,
    cache_single,
    empty_ctx,
    first_again,
    grad_by_hand,
    in_place_if,
    innermost,
    lost_write,
    mean,
    operation,
    overwrite_own,
    raise_if_not_last,
    raise_if_used,
    real,
    round_and_round,
    scale_and_abs,
    scaled,
    square,
    two_outputs,
    wrong_for,
)

import tinynet
from tinynet import GradcheckError, gradcheck
from tinynet.gradcheck import consistency
from tinynet.recording import is_grad_enabled

LAYOUT = "is another one with inputs in"
LINEAR = "when two upstream gradients are added: backward is not linear in dy"
ONES = "when the upstream gradient is all ones, a read-only view of one number"
TWICE = "in a second backward through the same graph"
AGAIN = "when the function is called again and its graph is sent back"
OUTPUT = "when each output is used alone"
SINGLE = "is another one in float32"
WRONG = "is wrong: analytical"

NEXT = np.array([0.7, 1.1, 1.6, 0.3])  # in other places some values are these

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
    Wrong("a slice taken for dense", "order 'a slice'", square(as_if_dense("x")), [X]),
    Wrong("a slice of dy", "gradients in 'a slice'", square(as_if_dense("dy")), [X]),
    Wrong(
        "gaps",
        "order 'with gaps'",
        square(lambda ctx, x, dy: 2 * x * dy * (1 + (x.itemsize < x.strides[1] < x.strides[0]))),
        [X],
    ),
    Wrong(
        "columns first, read in the order of the memory",
        "order 'columns first'",
        operation(np.matmul, batched_matmul),
        [CUBE, W],
    ),
    Wrong(
        "two gradients added as they lie in memory",
        "'batch innermost' and 'C order'",
        two_outputs(
            lambda ctx, x, a, b: (2 * a + 3 * b) * (1 + (innermost(a) and not innermost(b)))
        ),
        [X],
    ),
    Wrong(
        "one number of dy for each row",
        "each number of it along an axis",
        square(lambda ctx, x, dy: 2 * x * dy * (1 + (dy.strides[0] > dy.strides[1] == 0))),
        [X],
    ),
    Wrong(
        "one number of dy for each column",
        "each number of it along an axis",
        square(lambda ctx, x, dy: 2 * x * dy * (1 + (dy.strides[1] > dy.strides[0] == 0))),
        [X],
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
        "8e-31 times",
        square(lambda ctx, x, dy: 2 * x * dy * (abs(dy) > 1e-20)),
        [X],
    ),
    Wrong(
        "large dy cut",
        "1e+30 times",
        square(lambda ctx, x, dy: 2 * x * np.clip(dy, -1e20, 1e20)),
        [X],
    ),
    # kept between calls
    Wrong("ctx is used up", TWICE, square(empty_ctx), [X]),
    Wrong(
        "ctx is used up, and it says so",
        "gradcheck: ValueError " + TWICE + ", and else not: used up",
        square(raise_if_used),
        [X],
    ),
    Wrong("what the first backward gave", TWICE, square(first_again), [X]),
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
    Wrong(
        "x of the last call alone, and it says so",
        "gradcheck: ValueError " + AGAIN + " before this one's, and else not: not the last call",
        square(raise_if_not_last),
        [X],
    ),
    Wrong("a cache by shape", "is wrong with other values", square(cache), [X]),
    Wrong(
        "signs of the first call, where others meet a kink that the complex step does not see",
        "is wrong with values in other places",
        operation(
            lambda x: np.sqrt((x - NEXT) ** 2).sum(),
            lambda ctx, x, dy: dy * ctx.kept.setdefault("signs", np.sign(x - NEXT)),
        ),
        [np.array([0.3, 0.7, 1.1, 1.6])],
    ),
    Wrong(
        "a mask of the first call, beside a kink",
        "is wrong with values in other places",
        operation(
            lambda x: np.maximum(x, 0),
            lambda ctx, x, dy: dy * ctx.kept.setdefault((x.shape, x.dtype), x > 0),
        ),
        [np.array([0.0, 1, -1, 2, -2])],
    ),
    Wrong(
        "labels are changed",
        "expected i as it was given, got it changed in place",
        round_and_round,
        [X, np.array([0, 2])],
    ),
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
    Wrong(
        "what wants none gets one", "when x alone requires one", grad_by_hand, [X, X[::-1].copy()]
    ),
    Wrong("a first layer", "when b alone requires one", Frozen(), [X]),
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
        "of a sum that is always 1, not complex, a gradient that is not 0",
        WRONG,
        operation(
            real(lambda x: (np.exp(x) / np.exp(x).sum()).sum()), lambda ctx, x, dy: 1e-9 * x * dy
        ),
        [X],
    ),
    Wrong(
        "a second input of little weight",
        WRONG,
        operation(lambda x, b: x * x + 1e-10 * b, lambda ctx, x, b, dy: (2 * x * dy, 0 * dy)),
        [X, X],
    ),
    Wrong(
        "beside an input of tiny values, whose own gradient rounding moves far",
        "of input 0[3, 0] is wrong: analytical",
        operation(lambda x, b: x * x + b, lambda ctx, x, b, dy: (2 * x * dy * (1 + 1e-6), dy)),
        [X, 1e-12 * X],
    ),
    Wrong(
        "of a second input that takes no complex numbers, what the complex step gives",
        "of 12 of input 1 (4, 3)",
        operation(lambda x, b: x * x + b * np.conj(b), lambda ctx, x, b, dy: (2 * x * dy, 0 * dy)),
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
        "the same of a small output beside a large one",
        "gives another value for other upstream gradients: element 12 of 24 is",
        lambda x: (1e12 * x, x * x if is_grad_enabled() else x * x + x.detach() * 0 + 1),
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
    Wrong(
        "beside one of a billion",
        "of input 0 (400,)",
        square(lambda ctx, x, dy: 2 * x * dy * np.where(x < 1e6, 2, 1)),
        [np.where(np.arange(400) == 7, 1e9, 1.0)],
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
    Wrong("1.01 at a kink", "at a kink: numerical from", at_zero(1.01), [np.array([0.0, 1, -1])]),
    Wrong("NaN at a kink", "analytical nan, at a kink", at_zero(np.nan), [np.array([0.0, 1, -1])]),
    # what cannot be checked
    Wrong(
        "steeper than a large step can see",
        "cannot be checked: central differences give",
        lambda x: functools.reduce(lambda x, _: 3.9 * x * (1 - x), range(30), x),
        [np.array([0.3, 0.6])],
    ),
    Wrong(
        "rounded within",
        "cannot be checked: central differences give",
        operation(real(lambda x: (x + 1e7) - 1e7), lambda ctx, x, dy: dy),
        [X],
    ),
    Wrong(
        "rounded within, of right ones: 1 - cos(x) next to 0",
        "cannot be checked: central differences give",
        operation(real(lambda x: 1 - np.cos(x)), lambda ctx, x, dy: dy * np.sin(x)),
        [np.array([3e-7])],
    ),
    Wrong(
        "the same: 1 + tanh(x) far below 0, where no other output is larger",
        "cannot be checked: central differences give",
        operation(real(lambda x: 1 + np.tanh(x)), lambda ctx, x, dy: dy / np.cosh(x) ** 2),
        [np.array([-12.0, -13.0])],
    ),
    Wrong(
        "the derivative is infinite",
        "expected a finite slope at input 0[0], got one that grows without end as steps become",
        operation(
            real(np.sqrt),
            lambda ctx, x, dy: dy * np.where(x == 0, 1e9, 0.5 / np.sqrt(x + (x == 0))),
        ),
        [np.array([0.0, 1.0])],
    ),
    Wrong(
        "nothing, at 0",
        "the gradient is wrong with small values for 0",
        operation(lambda x: x * x * x, lambda ctx, x, dy: 0 * dy),
        [np.zeros(3)],
    ),
    Wrong(
        "nothing, where a factor is 0",
        "the gradient is wrong with small values for 0",
        operation(lambda x, y: x * y, lambda ctx, x, y, dy: (y * dy, 0 * dy)),
        [0 * X, X],
    ),
    Wrong(
        "no values on the left",
        "gives NaN or infinity next to",
        operation(real(lambda x: x * np.sqrt(x)), lambda ctx, x, dy: 1.5 * np.sqrt(x) * dy),
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
@pytest.mark.filterwarnings("ignore::tinynet.gradcheck.KinkWarning")  # some lie beside a kink
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


@pytest.mark.parametrize("frozen, without", [(0, 2), (1, 0), (3, 1)])
def test_what_is_frozen_is_none_of_those_that_are_checked(frozen: int, without: int) -> None:
    """Nobody asks for its gradient, in none of the calls; and errors name the others."""

    def of(wrong: bool) -> Callable:
        def backward(ctx: Any, *arrays: Any) -> Any:
            *xs, dy = arrays
            needs = [need for i, need in enumerate(ctx.needs_input_grad) if i != frozen]
            assert not ctx.needs_input_grad[frozen]
            factor = 2 if wrong and needs == [i != without for i in range(3)] else 1
            return [factor * dy * np.prod([*xs[:i], *xs[i + 1 :]], axis=0) for i in range(4)]

        return operation(lambda a, b, c, d: a * b * c * d, backward)

    inputs: list = [X[0], X[1], X[2], X[3]]
    inputs[frozen] = tinynet.tensor(inputs[frozen])
    assert gradcheck(of(False), inputs)
    name = [i for i in range(4) if i != frozen][without]
    with pytest.raises(GradcheckError, match=f"when input {name} requires none: expected"):
        gradcheck(of(True), inputs)


@pytest.mark.filterwarnings("ignore::tinynet.gradcheck.KinkWarning")
def test_each_tolerance_is_its_own_in_all_checks() -> None:
    """dx is wrong by 1e-5 of itself, for what is compared first or for a later check alone: atol
    alone forgives a small one, rtol alone a large one.
    """
    first = square(lambda ctx, x, dy: 2 * x * dy * (1 + 1e-5))
    later = square(lambda ctx, x, dy: 2 * x * dy * (1 + 1e-5 * innermost(dy)))
    ramp = operation(lambda x: np.maximum(x, 0), lambda ctx, x, dy: (1 - 1e-5) * dy * (x > 0))
    for fn, at in ((first, X), (later, X), (ramp, np.where(X == 0.7, 0, X))):
        for x, dx_is_small in ((1e4 * at, True), (1e-4 * at, False)):  # y, and so dy, is of size 1
            with pytest.raises(GradcheckError):
                gradcheck(fn, [x])
            assert gradcheck(fn, [x], rtol=1e-4) and gradcheck(fn, [x], atol=1.0)
            with nullcontext() if dx_is_small else pytest.raises(GradcheckError):
                assert gradcheck(fn, [x], atol=1e-4)
            with pytest.raises(GradcheckError):
                gradcheck(fn, [x], rtol=1e-7, atol=1e-12)


def test_looser_tolerances_hold_for_all_checks() -> None:
    coarse = operation(
        lambda x: x * x,
        lambda ctx, x, dy: (2 * x * dy).astype(np.float32).astype(x.dtype) * (1 + 1e-6 * (dy > 0)),
    )
    with pytest.raises(GradcheckError, match=WRONG):
        gradcheck(coarse, [X])
    assert gradcheck(coarse, [X], rtol=1e-3) and gradcheck(coarse, [X], eps=1e-6, atol=1e-5)
    assert gradcheck(scaled(1, real(np.square)), [X], eps=1e-9, atol=1e-3)  # three steps at least
