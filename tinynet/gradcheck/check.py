"""gradcheck: is backward the derivative of forward?

A derivative needs one number; a function has many outputs y_k. Random upstream gradients v_k make
one number of them:

    L = sum over k of <v_k, y_k>        backward gives g = dL/dx, the analytical gradient

Random, because all ones would be blind: the softmax's outputs always sum to 1, so with ones its
true gradient is 0, and a backward that does nothing would pass.

The numerical gradient comes from forward alone: go a small step along a direction u and see how L
changes. numerical.py does that, and explains it. Then for each u

    <g, u>  must be  dL(x + t u)/dt

**Which directions?** Each element alone in a small input: u = (0, .. 1, .. 0) finds g_i. Random
directions for a large one: a single wrong g_i changes <g, u> for all of them.

**How much may they differ?** By 1e-9 of the number itself and 1e-11 of the largest in the same
input, if the numerical gradient comes from a complex step: both sides are right to 1e-15 or so, and
a backward that is wrong by a factor of 1.000001 must not pass. By 1e-7 and 1e-10 with central
differences, which are right to 1e-9 or so. Of the largest in the same input: a bias whose gradient
is 1e-5 may not hide behind a weight whose gradient is 1. On top comes what rounding makes of a
gradient that is 0 (a sum that cancels): it is measured, by moving x in its last digit.

**Kinks.** Where there is no derivative, any gradient between the slopes on the two sides is right,
and 0 is. Elements at a kink are named in a KinkWarning.

The rest of this folder: subject.py runs fn, report.py words an error, and consistency.py holds the
stricter checks, which need no numerical derivative.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from tinynet.errors import GradcheckError
from tinynet.gradcheck.consistency import Consistency, check_consistency
from tinynet.gradcheck.numerical import Direction, Numerical, Slope, direction
from tinynet.gradcheck.report import WORST, Comparison, UncheckedWarning, verdict
from tinynet.gradcheck.subject import Subject, borrowed

EPS = 1e-2  # the first step of central differences
# Allowed errors, relative to the numerical gradient itself and to the largest one of the input.
TOLERANCES = {"complex step": (1e-9, 1e-11), "central differences": (1e-7, 1e-10)}
SMALL = 256  # elements of an input up to which each of them is checked
DIRECTIONS = 8  # random directions for a larger one
TOGETHER = 2  # random directions in all inputs at once
SMALLEST = 1e-30  # of an output's size


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    eps: float = EPS,
    atol: float | None = None,
    rtol: float | None = None,
) -> bool:
    """True if fn's backward gives the derivative of its forward; raises GradcheckError with the
    details if not.

    fn: a function of tensors that returns a tensor or several, or a Module, whose parameters are
    checked as well. Its buffers are the same at the start of each call, as float64, and are in the
    end what they were. inputs: its arguments, one or a sequence. Checked are tensors that require a
    gradient and NumPy arrays of floats; all floats are taken as float64, in their memory layout
    (strides of any sign, broadcast views) and in others. Other arguments are handed on. Randomness
    from tinynet (dropout) is the same in each call of fn.

    eps: the first step of central differences, times max(1, |x|); smaller ones follow. Allowed is
    |analytical - numerical| <= atol + rtol |numerical|, as in PyTorch, if both are given. Left out,
    rtol is 1e-9 (1e-7 where fn cannot take complex numbers), and atol what rounding makes of a
    gradient of 0.

    GradcheckError also if backward depends on what it must not depend on (consistency.py: memory
    order, other calls, which inputs require a gradient ...), if fn is not deterministic or changes
    in place an input, an output or the gradient it is given, and if no numerical derivative is
    precise enough, as where the slope is infinite.
    Told are elements at a kink, where any gradient between the slopes passes, with a KinkWarning;
    what could not be compared in float32, or has another dtype there, with a PrecisionWarning;
    leaves that fn reaches without being given them, such as the weights of a layer in a lambda,
    with an UncheckedWarning. ValueError if there is nothing to check.
    """
    worst_error(fn, inputs, eps, atol, rtol)
    return True


def worst_error(
    fn: Callable[..., Any],
    inputs: Any,
    eps: float = EPS,
    atol: float | None = None,
    rtol: float | None = None,
) -> float:
    """As gradcheck; returns the largest error, relative to the input's largest gradient."""
    if not _is_number(eps) or not eps > 0:
        raise ValueError(f"gradcheck: expected a number above 0 for eps, got {eps!r}")
    for name, value in (("atol", atol), ("rtol", rtol)):
        if value is not None and not (_is_number(value) and value >= 0):
            raise ValueError(f"gradcheck: expected a number from 0 on for {name}, got {value!r}")
    rng = np.random.default_rng(0)
    with borrowed(fn, inputs if isinstance(inputs, (list, tuple)) else [inputs]) as subject:
        if subject.strangers:
            shapes = ", ".join(str(x.shape) for x in subject.strangers[:WORST])
            text = (
                "gradcheck: the function depends on leaves that it was not given "
                f"({len(subject.strangers)} of shapes {shapes}): their gradients were not checked; "
                "pass them as inputs, or the Module itself as fn"
            )
            warnings.warn(UncheckedWarning(text), stacklevel=3)
        v = _upstream(subject, rng)
        gradients, _ = subject.gradients(subject.apart(v))
        if not np.array_equal(subject.forward(subject.values), subject.outputs):
            raise GradcheckError(
                "gradcheck: expected the same values after backward, got others; backward may not "
                "change what forward reads"
            )
        numerical = Numerical(subject, v, eps, rng)
        compare = Comparer(numerical, gradients, atol, rtol, rng)
        checked = [i for i, x in enumerate(subject.variables) if x.checked and x.value.size]
        comparisons = [*(compare.input(i) for i in checked), compare.together(checked)]
        if any(c.kinks.any() for c in comparisons):  # many of either sign could excuse each other
            positive, _ = subject.gradients(subject.apart(np.abs(v)))
            upwards = Comparer(numerical.upstream(np.abs(v)), positive, atol, rtol, rng)
            comparisons.append(upwards.together(checked))
        worst = verdict(comparisons)
        check_consistency(Consistency(numerical, gradients, rng, atol, rtol))
        return worst


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and bool(np.isfinite(value))


def _upstream(subject: Subject, rng: np.random.Generator) -> np.ndarray:
    """Random v, in one vector; smaller for outputs of large values, which would hide the others,
    and larger for those of small ones, as far as it fits a float32.
    """
    vs = [rng.standard_normal(shape) for shape in subject.shapes]
    largest = [np.abs(y).max(initial=0) for y in subject.apart(subject.outputs)]
    sizes = [max(y, SMALLEST) if y else 1 for y in largest]
    return np.concatenate([(v / size).ravel() for v, size in zip(vs, sizes, strict=True)])


class Comparer:
    """Analytical gradients along directions, against Numerical's."""

    def __init__(
        self,
        numerical: Numerical,
        gradients: list[np.ndarray],
        atol: float | None,
        rtol: float | None,
        rng: np.random.Generator,
    ):
        self.numerical, self.gradients = numerical, gradients
        self.subject = numerical.subject
        self.atol, self.rtol, self.rng = atol, rtol, rng

    def input(self, i: int) -> Comparison:
        """Variable i: every element, or random directions."""
        shape = self.gradients[i].shape
        if self.gradients[i].size <= SMALL:
            return self._elements(i, np.ndindex(shape))
        # Two by two, each element in one of them: an element that is huge, or at a kink, hides the
        # others in half of the directions only.
        random = []
        for _ in range(DIRECTIONS // 2):
            u, half = self.rng.standard_normal(shape), self.rng.random(shape) < 0.5
            random += [u * half, u * ~half]
        whole = self._along(i, _labelled([direction({i: u}, self.subject) for u in random]))
        if not whole.wrong.any() and not whole.kinks.all():
            return whole
        # Some element is wrong: find it among the largest gradients and a random choice of others.
        # And where many lie at a kink, some do not.
        largest = np.argsort(-np.abs(self.gradients[i]), axis=None, kind="stable")[: SMALL // 2]
        others = self.rng.choice(self.gradients[i].size, SMALL // 2, replace=False)
        chosen = np.unique(np.concatenate([largest, others]))
        elements = self._elements(i, zip(*np.unravel_index(chosen, shape), strict=True))
        return whole if whole.wrong.any() and not elements.wrong.any() else elements

    def together(self, checked: list[int]) -> Comparison:
        """All inputs at once, upwards: of two equal maxima each alone may have the gradient 1, but
        both together move the maximum by 1, not by 2.
        """
        shapes = {i: self.gradients[i].shape for i in checked}
        random = [
            {i: np.abs(self.rng.standard_normal(shape)) for i, shape in shapes.items()}
            for _ in range(TOGETHER)
        ]
        return self._along(None, _labelled([direction(u, self.subject) for u in random]))

    def _elements(self, i: int, indices: Iterable[tuple[int, ...]]) -> Comparison:
        directions = []
        for index in indices:
            u = np.zeros(self.gradients[i].shape)
            u[index] = 1
            directions.append((str([int(n) for n in index]), {i: u}))
        return self._along(i, directions)

    def _along(self, i: int | None, directions: list[tuple[str, Direction]]) -> Comparison:
        """i: None for all inputs together."""
        analytical = np.array([self._analytical(u) for _, u in directions])
        slopes = [self.numerical.slope(u) for _, u in directions]
        allowed = self._allowed(slopes, directions)
        if self.numerical.method == "complex step":
            # Where it disagrees, central differences tell which of the two is wrong. At a kink they
            # are the mean of two slopes. Some that are found wrong are enough.
            apart = np.abs(analytical - [s.value for s in slopes])
            found = 0
            for n in np.flatnonzero(~(apart <= allowed)):
                exact, central = slopes[n], self.numerical.central(directions[n][1])
                near = 1e-6 * max(abs(exact.value), abs(central.value)) + 3 * central.error
                if abs(exact.value - central.value) > near:
                    slopes[n] = central
                else:
                    found += 1
                if found == WORST:
                    break
            allowed = self._allowed(slopes, directions)
        kinks = np.array([s.kink for s in slopes])
        numerical = np.array([s.value for s in slopes])
        low, high = np.array([s.low for s in slopes]), np.array([s.high for s in slopes])
        numerical = np.where(kinks, np.clip(np.nan_to_num(analytical), low, high), numerical)
        variables = self.subject.variables
        return Comparison(
            name="all inputs together" if i is None else variables[i].name,
            shape=None if i is None else variables[i].value.shape,
            labels=[label for label, _ in directions],
            slopes=slopes,
            analytical=analytical,
            numerical=numerical,
            allowed=allowed,
        )

    def _analytical(self, u: Direction) -> float:
        """<g, u>; an infinite gradient counts where u is not 0 alone."""
        parts = [(self.gradients[i][d != 0], d[d != 0]) for i, d in u.items()]
        with np.errstate(invalid="ignore"):  # inf - inf
            return float(sum((g * d).sum() for g, d in parts))

    def _allowed(self, slopes: list[Slope], directions: list[tuple[str, Direction]]) -> np.ndarray:
        values = np.nan_to_num(np.abs([s.value for s in slopes]))
        largest = values.max(initial=0)
        digits = np.array([sum(self.numerical.last_digits[i] for i in u) for _, u in directions])
        if self.numerical.method == "central differences":
            # Their rounding error is larger; where they see nothing but that, the gradient is 0.
            digits = np.where(largest <= 1e5 * digits, 1e5 * digits, digits)
        rtol, of_largest = np.array([TOLERANCES[s.method] for s in slopes]).T
        if self.rtol is not None:
            rtol, of_largest = self.rtol, 0
        return (digits if self.atol is None else self.atol) + rtol * values + of_largest * largest


def _labelled(directions: list[Direction]) -> list[tuple[str, Direction]]:
    return [(f" along random direction {n}", u) for n, u in enumerate(directions)]
