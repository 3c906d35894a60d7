"""How the exercises' checker compares, names a mistake, and puts a function in another's place."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from tinynet.exercises import checker
from tinynet.exercises.exercise import Exercise, Wrong, gradchecks

PROBES = [(np.array([1.0, 2.0]),), (np.array([-3.0]),), (np.array([4.0, -5.0]),)]
HERE, THERE = SimpleNamespace(a=abs), SimpleNamespace(b=max)


def double(x):
    """y = 2 x"""
    return 2 * x


def triple(x):
    return 3 * x


def without_sign(x):
    return abs(2 * x)


EXERCISE = Exercise(
    solution=double, chapter=1, question="What is twice?", hint="add", ours="x * 2",
    results=("y",), mistakes={triple: "three", without_sign: "no sign"},
    example=lambda: PROBES[0], probes=lambda rng: iter(PROBES), trials=lambda function: [],
    places=((HERE, "a"), (THERE, "b")), adapt=lambda function: [function],
)  # fmt: skip


def only(*right_or_wrong):
    """A function for each probe, by its length and sign."""
    by_probe = {
        x.tobytes(): function for (x,), function in zip(PROBES, right_or_wrong, strict=True)
    }
    return lambda x: by_probe[x.tobytes()](x)


def fails(x):
    raise ValueError("no")


@pytest.mark.parametrize(
    "function, hint",
    [
        (triple, "three"),
        (without_sign, "no sign"),
        (double, ""),
        (only(triple, double, double), ""),  # in one probe as that mistake, but not in all
        (only(triple, triple, fails), "three"),  # a failure tells little
        (only(double, fails, fails), ""),  # where it is as `without_sign` that one is right
        (only(double, without_sign, fails), "no sign"),
        (fails, ""),
    ],
)
def test_a_mistake_is_named_where_all_fits_it(function, hint):
    outcomes = [checker.outcome(EXERCISE, function, probe) for probe in PROBES]
    assert checker.named(EXERCISE, PROBES, outcomes) == hint


@pytest.mark.parametrize(
    "factor, told", [(2, "The results are right, but your function changed"), (3, "y is wrong")]
)
def test_a_wrong_result_is_told_before_a_changed_argument(factor, told):
    def in_place(x):
        x *= factor
        return x

    with pytest.raises(Wrong, match=f"^{told}"):
        checker._compare(EXERCISE, checker.outcome(EXERCISE, in_place, PROBES[0]), PROBES[0])


def test_a_changed_argument_stands_beside_what_it_was():
    def in_place(x):
        x[1] *= 2
        return x * [2, 1]

    given = checker.outcome(EXERCISE, in_place, PROBES[0])
    with pytest.raises(Wrong, match="^The results are right") as caught:
        checker._compare(EXERCISE, given, PROBES[0])
    lines = [line.split() for line in str(caught.value).splitlines()]
    assert lines[1:3] == [["got", "expected"], ["1", "4*", "1", "2"]]


@pytest.mark.parametrize(
    "got, expected, close",
    [
        ([1 + 1e-7, 2.0], [1.0, 2.0], [True, True]),
        ([1 + 1e-5, 2.0], [1.0, 2.0], [False, True]),
        ([1e-9, 2e3], [0.0, 2e3], [True, True]),  # beside the largest
        ([1.1e-9, 2e-9], [1e-9, 2e-9], [False, True]),  # of small numbers too
        ([1e9, 2.5], [1.0, 2.0], [False, False]),  # the largest of those expected
        ([np.nan, 1.0, 2.5], [np.nan, 1.0, 2.0], [True, True, False]),
        ([np.inf, 1.0, 2.5], [np.inf, 1.0, 2.0], [True, True, False]),
        ([np.nan, 0.0], [1.0, np.nan], [False, False]),
    ],
)
def test_close_is_to_a_millionth_of_the_largest(got, expected, close):
    assert checker._close(np.array(got), np.array(expected)).tolist() == close


@pytest.mark.parametrize("wrong, shown", [(1e9, "1e+09*"), (np.inf, "inf*"), (np.nan, "nan*")])
def test_beside_a_huge_wrong_value_the_others_are_what_they_are(wrong, shown):
    """Right ones are no rounding, and wrong ones not near enough."""
    _, line, count = checker._grids(np.array([wrong, 2.5, 3.0]), np.array([1.0, 2.0, 3.0]))
    assert line.split() == [shown, "2.5*", "3", "1", "2", "3"]
    assert count.split()[:3] == ["2", "of", "3"]


def test_rounding_beside_the_largest_is_shown_as_0():
    _, line, _ = checker._grids(np.array([2.0, 1e-8]), np.array([1.0, -1e-7]))
    assert line.split() == ["2*", "0", "1", "0"]


def test_what_differs_in_a_dict_is_told_by_key():
    got, expected = {"a": 1, "b": 2, "d": 4}, {"a": 1, "c": 3, "d": 5}
    assert checker._unlike("g", got, expected) == [
        "g: these are wrong",
        "    c: got None, expected 3",
        "    d: got 4, expected 5",
        "    b: got 2, expected None",
    ]


def test_all_places_are_taken_and_given_back():
    for error in (None, KeyError):
        try:
            with EXERCISE.in_place(double):
                assert HERE.a == THERE.b == [double]
                if error:
                    raise error
        except KeyError:
            pass
        assert HERE.a is abs and THERE.b is max


def test_the_cases_of_all_operations_are_trials():
    one, other, both = (gradchecks(*names)(abs) for names in (["neg"], ["exp"], ["neg", "exp"]))
    assert len(both) == len(one) + len(other) and one and other
    assert all(trial.values > 0 for trial in both)


@pytest.mark.parametrize("long", range(6))
@pytest.mark.parametrize("marked", [None, 0, 4])
def test_columns_stand_below_each_other(long, marked):
    """Wherever the longest number is, and the marks."""
    values, marks = np.arange(1.0, 7).reshape(2, 3), np.zeros((2, 3), bool)
    values.flat[long] = -12.345
    if marked is not None:
        marks.flat[marked] = True
    lines = checker._table(checker._rows(values, marks))
    cells = [[line[i : i + 9] for i in range(0, len(line), 9)] for line in lines]
    shown = [
        f"{value:>8.5g}{'*' if mark else ' '}"
        for value, mark in zip(values.flat, marks.flat, strict=True)
    ]
    assert cells == [shown[:3], shown[3:]]


@pytest.mark.parametrize("shape", [(2, 2, 3), (65,), (3, 1, 1, 2), (1, 9, 8)])
def test_of_what_is_no_grid_the_first_wrong_value_is_told(shape):
    """And a grid is what has two axes longer than 1 at most, and 64 values."""
    expected = np.arange(np.prod(shape), dtype=float).reshape(shape)
    got = expected.copy()
    got.flat[[1, -1]] = -5
    at = list(np.unravel_index(1, shape))
    (line,) = checker._grids(got, expected)
    assert line == (
        f"    2 of {got.size} values are wrong; the first: at {[int(i) for i in at]} got -5, not 1"
    )
    for grid in ((1, 1, 2, 3), (8, 8), (64,), ()):
        lines = checker._grids(np.ones(grid), np.zeros(grid))
        assert len(lines) == 2 + (grid[-2] if len(grid) > 1 else 1)
