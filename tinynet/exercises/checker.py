"""The checks of an exercise.

1. The tiny example, in float32, and probes in float64: type, shape, dtype and values of the
   result, and whether the arguments are what they were.
2. If something is wrong: is it one of the mistakes that many make? The learner's function and the
   wrong versions of the exercise get the same arguments; the one that gives the same is named.
3. The function takes tinynet's place, and gradcheck tries every case of the operation.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from tinynet.exercises.exercise import Exercise, Function, Wrong
from tinynet.exercises.learner import Learner, NotWritten, TooSlow, in_words

Say = Callable[[str], object]
RTOL = 1e-6  # of the largest value expected
ARRAY = (np.ndarray, np.generic)
LARGEST = 2000  # values in a case: Python's loops over more would take minutes
CELLS = 64  # a larger array is not shown as a grid


class Outcome(NamedTuple):
    """What a call gave: its results, and its array arguments afterwards; or why there are none."""

    results: list
    arguments: list[np.ndarray]
    error: str = ""


def check(exercise: Exercise, learner: Learner, say: Say) -> bool:
    """Whether the learner's function is right; what is not is said."""
    probes = [_as_float32(exercise.example()), *exercise.probes(np.random.default_rng(7))]
    outcomes, wrong = [], None
    for number, probe in enumerate(probes):
        outcomes.append(outcome(exercise, learner.function, probe, learner))
        try:
            _compare(exercise, outcomes[-1], probe)
        except Wrong as error:
            if wrong is None:
                wrong, first, printed = error, number, learner.tell_printed()
    if wrong is None:
        for line in learner.tell_printed():
            say(line)
        say(f"right: the example and {len(probes) - 1} probes (shapes, dtypes, values)")
        return _try(exercise, learner, say)
    say("WRONG in the example" if first == 0 else f"WRONG in probe {first} (the example is right)")
    for line in [*_arguments(exercise, probes[first]), str(wrong), *printed]:
        say(line)
    hint = named(exercise, probes, outcomes)
    known = textwrap.fill(f"A known mistake: {hint}", 96)
    more = f"For a hint: python -m tinynet.exercises --hint {exercise.name}"
    say(f"\n{known if hint else more}")
    return False


def named(exercise: Exercise, probes: list[tuple], outcomes: list[Outcome]) -> str:
    """The hint of the mistake that is wrong in the same way; empty if none is."""
    rights = [outcome(exercise, exercise.solution, probe) for probe in probes]
    best, found = 0, ""
    for mistake, hint in exercise.mistakes.items():
        theirs = [outcome(exercise, mistake, probe) for probe in probes]
        same = [_same(a, b) for a, b in zip(outcomes, theirs, strict=True)]
        wrong = [not _same(a, b) for a, b in zip(theirs, rights, strict=True)]
        # Where the learner's fails it tells little; but once both must be wrong in the same way.
        fits = all(s or a.error for s, a in zip(same, outcomes, strict=True))
        if fits and any(s and w for s, w in zip(same, wrong, strict=True)) and sum(same) > best:
            best, found = sum(same), hint
    return found


def _try(exercise: Exercise, learner: Learner, say: Say) -> bool:
    """The learner's function in tinynet's place."""
    every = exercise.trials(learner.function)
    trials = [trial for trial in every if trial.values <= LARGEST]
    where = f"in the place of {exercise.ours}" if exercise.places else "in use"
    with exercise.in_place(learner.function):
        for number, trial in enumerate(trials, 1):
            try:
                with learner.supervised():
                    trial.run()
            except Exception as error:  # whatever a wrong result leads to
                wrong = error if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
                say(f"WRONG with your function {where}, case {number} of {len(trials)}:\n{wrong}")
                return False
    left = f"; {len(every) - len(trials)} left out, too large for Python's loops"
    left = left if len(every) > len(trials) else ""
    say(f"right: your function {where}, {len(trials)} cases{left}")
    return True


def outcome(
    exercise: Exercise, function: Function, probe: tuple, learner: Learner | None = None
) -> Outcome:
    """learner: whose function it is; left out for one of the exercise's own."""
    arguments = tuple(_copied(argument) for argument in probe)
    try:
        if learner is None:
            with np.errstate(all="ignore"):
                given = exercise.call(function, *arguments)
        else:
            with learner.supervised():
                given = exercise.call(function, *arguments)
    except (NotWritten, TooSlow):
        raise
    except Wrong as wrong:
        return Outcome([], [], str(wrong))
    except Exception as error:  # of a wrong version: a learner's has a line in front
        return Outcome([], [], in_words(error))
    results = [given] if len(exercise.results) == 1 else given
    return Outcome(results, list(_arrays(arguments)))


def _compare(exercise: Exercise, given: Outcome, probe: tuple) -> None:
    """Wrong unless what was given is that of the solution."""
    if given.error:
        raise Wrong(given.error)
    names, right = exercise.results, outcome(exercise, exercise.solution, probe)
    if not isinstance(given.results, (tuple, list)) or len(given.results) != len(names):
        raise Wrong(f"Expected to get {', '.join(names)}, got {_kind(given.results)}.")
    for name, got, expected in zip(names, given.results, right.results, strict=True):
        _compare_result(name, got, expected)
    for before, after in zip(_arrays(probe), given.arguments, strict=True):
        if not np.array_equal(before, after):
            raise Wrong(
                "The results are right, but your function changed one of its arguments:\n"
                + "\n".join(_grids(after, before))
                + "\nOthers may still need it. Work on a copy."
            )


def _compare_result(name: str, got: Any, expected: Any) -> None:
    if isinstance(expected, (str, dict)):
        if got != expected:
            raise Wrong("\n".join(_unlike(name, got, expected)))
        return
    if not isinstance(got, ARRAY):
        raise Wrong(f"{name}: expected an array of shape {expected.shape}, got {_kind(got)}.")
    if got.shape != expected.shape:
        raise Wrong(f"{name}: expected shape {expected.shape}, got {got.shape}.")
    if got.dtype != expected.dtype:
        raise Wrong(
            f"{name}: expected dtype {expected.dtype}, as the arguments have, got {got.dtype}. "
            f"np.zeros(shape) makes float64; give it the dtype: np.zeros(shape, dtype)."
        )
    if not _close(got, expected).all():
        raise Wrong(f"{name} is wrong.\n" + "\n".join(_grids(np.asarray(got), expected)))


def _unlike(name: str, got: Any, expected: str | dict) -> list[str]:
    """One line, or one for each key that differs."""
    if isinstance(expected, str):
        return [f"{name}: expected {expected}, got {got}"]
    keys = [key for key in {**expected, **got} if got.get(key) != expected.get(key)]
    lines = [f"    {key}: got {got.get(key)}, expected {expected.get(key)}" for key in keys]
    return [f"{name}: these are wrong", *lines]


def _same(a: Outcome, b: Outcome) -> bool:
    if a.error or b.error:  # a learner's error has the line in front of it
        return bool(a.error and b.error) and a.error.endswith(b.error)
    if not isinstance(a.results, (tuple, list)) or len(a.results) != len(b.results):
        return False
    pairs = [*zip(a.results, b.results, strict=True), *zip(a.arguments, b.arguments, strict=True)]
    for x, y in pairs:
        if isinstance(x, ARRAY) and isinstance(y, ARRAY):
            if (x.shape, x.dtype.kind) != (y.shape, y.dtype.kind) or not _close(x, y).all():
                return False
        elif type(x) is not type(y) or not np.all(x == y):
            return False
    return True


def _close(got: Any, expected: Any) -> np.ndarray:
    atol = RTOL * _largest(expected)
    return np.asarray(np.isclose(got, expected, rtol=0, atol=atol, equal_nan=True))


def _largest(array: Any) -> float:
    return np.abs(array[np.isfinite(array)]).max(initial=0)


def _kind(value: Any) -> str:
    if value is None:
        return "None (is there a return at the end?)"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _arguments(exercise: Exercise, probe: tuple) -> Iterator[str]:
    """The arguments of a call, small arrays as grids."""
    for name, value in zip(exercise.signature.parameters, probe, strict=True):
        if isinstance(value, np.ndarray):
            yield f"  {name}, shape {value.shape}"
            yield from (f"   {row}".rstrip() for row in _table(_rows(value)) if _fits(value))
        elif isinstance(value, list):
            for number, part in enumerate(value):
                yield f"  {name}[{number}]"
                yield from (f"   {row}".rstrip() for row in _table(_rows(part)))
        else:
            yield f"  {name} = {value}"


def _grids(got: np.ndarray, expected: np.ndarray) -> list[str]:
    """Got and expected side by side, wrong values marked; of a large array the first wrong one."""
    wrong = ~_close(got, expected)
    count = f"{wrong.sum()} of {wrong.size} values are wrong"
    if not _fits(expected):
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        return [f"    {count}; the first: at {list(at)} got {got[at]:.6g}, not {expected[at]:.6g}"]
    left = [" got", *_table(_rows(got, wrong, _largest(expected)))]
    right = [" expected", *_table(_rows(expected))]
    width = max(map(len, left)) + 4
    lines = [f"    {a:<{width}}{b}".rstrip() for a, b in zip_longest(left, right, fillvalue="")]
    return [*lines, f"    {count} (marked *)"]


def _fits(array: np.ndarray) -> bool:
    """Whether it can be shown as one grid."""
    return array.size <= CELLS and all(n == 1 for n in array.shape[:-2])


def _rows(
    array: np.ndarray, marked: np.ndarray | None = None, largest: float | None = None
) -> list[list[str]]:
    """Each value as text, a `*` behind those marked. What is rounding beside `largest`, or else
    beside the largest of them, is 0.
    """
    shape = (-1, array.shape[-1] if array.ndim else 1)
    marks = (np.zeros(array.shape, bool) if marked is None else marked).reshape(shape)
    shown = array.astype(float).reshape(shape)
    shown[np.abs(shown) < RTOL * (_largest(shown) if largest is None else largest)] = 0
    rows = zip(shown, marks, strict=True)
    return [[f"{v:.5g}{'*' if m else ''}" for v, m in zip(*row, strict=True)] for row in rows]


def _table(rows: list[list[str]]) -> list[str]:
    width = max((len(cell.rstrip("*")) for row in rows for cell in row), default=0)
    return [
        "".join(f"{cell.rstrip('*'):>{width + 1}}{'*' if '*' in cell else ' '}" for cell in row)
        for row in rows
    ]


def _arrays(value: Any) -> Iterator[np.ndarray]:
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _arrays(part)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(part) for part in value]
    return value.copy(order="K") if isinstance(value, np.ndarray) else value


def _as_float32(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_as_float32(part) for part in value)
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(np.float32) if floats else value
