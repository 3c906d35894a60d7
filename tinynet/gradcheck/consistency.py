"""What every backward obeys, whatever its forward: checked without a numerical derivative.

A tape calls backward in ways that its author did not think of. Upstream gradients come in any
memory order; the graph is sent back twice; fn is called again before backward; only one input
requires a gradient. In all of these g must be what it was. Each check here is one such way. It
compares with the gradient that was found right already, so a check costs one or two calls of fn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import combinations, cycle

import numpy as np

from tinynet.errors import GradcheckError
from tinynet.gradcheck.layouts import LAYOUTS, backwards, like
from tinynet.gradcheck.numerical import Direction, Numerical, Slope, direction, last_digit
from tinynet.gradcheck.subject import Subject, in_a_row, read

RTOL = 1e-9  # two ways to compute the same in float64, relative to the largest
OTHER_POINT = 1e-6  # along a single direction, which may be one where most of it cancels
SINGLE = 1e-4  # and in float32
LESS_DIGITS = 2.0**29  # a float32 has 29 binary digits less than a float64

# (memory orders of the inputs, which take them in turns, () for their own; those of the upstream
# gradients), besides ((), C). Pictures lie batch innermost and their weights in C order.
ORDERS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((), ("batch innermost", "C order")),
    ((), ("backwards",)),
    (("C order",), ("C order",)),
    (("batch innermost",), ("batch innermost",)),
    (("backwards",), ("C order",)),
    (("a slice",), ("with gaps",)),
    (("columns first",), ("a slice",)),
    (("with gaps",), ("columns first",)),
    (("batch innermost", "C order"), ("batch innermost",)),
    (("batch innermost", "C order"), ("C order",)),
    (("C order", "batch innermost"), ("batch innermost",)),
    (("C order", "batch innermost"), ("C order",)),
]
SCALES = (2.0**-100, 2.0**100)  # of upstream gradients; powers of two: not a digit is lost
FEW = 4  # inputs of which any may need no gradient; of more, one alone, or all but one


class PrecisionWarning(UserWarning):
    """fn in float32 is too far from fn in float64: its gradients were not compared there. Or it
    gives another dtype.
    """


class Consistency:
    """What the checks share: the function, v and its gradients, w and its gradients."""

    def __init__(
        self,
        numerical: Numerical,
        gradients: list[np.ndarray],
        rng: np.random.Generator,
        atol: float | None,
        rtol: float | None,
    ):
        self.numerical, self.rng = numerical, rng
        self.subject, self.v, self.of_v = numerical.subject, numerical.v, gradients
        self.spread, self.last_digits = numerical.spread, numerical.last_digits
        self.atol, self.rtol = atol or 0.0, max(rtol or 0.0, RTOL)
        self.checked = [i for i, x in enumerate(self.subject.variables) if x.checked]
        # Large values and many zeros: what a ReLU sends back, and a clipped gradient does not.
        self.w = 5 * rng.standard_normal(self.v.shape) * rng.integers(0, 2, self.v.shape)
        self.of_w = self.gradients("for other upstream gradients", self.w)

    def gradients(
        self,
        when: str,
        v: np.ndarray | list,
        values: list[np.ndarray] | None = None,
        needs: list[bool] | None = None,
        same_values: bool = True,
    ) -> list[np.ndarray]:
        """dL/dx; v in one vector or, in memory of some order, one by one. same_values: those of
        the subject, so that the outputs must be its own.
        """
        upstream = v if isinstance(v, list) else self.subject.apart(v)
        with failing(when):
            gradients, y = self.subject.gradients(upstream, values, needs)
        if same_values:
            outputs = self.subject.outputs
            wrong = _far(self.subject, y, outputs, RTOL, 100 * self.spread)
            if wrong.any():
                n = int(np.argmax(wrong))
                raise GradcheckError(
                    f"gradcheck: the function gives another value {when}: element {n} of "
                    f"{outputs.size} is {y[n]:.9g}, and {outputs[n]:.9g} with nothing recorded"
                )
        return gradients

    def expect(
        self,
        when: str,
        got: Sequence[np.ndarray],
        expected: Sequence[np.ndarray],
        rtol: float = 0.0,
        digits: float = 10,
        also: Sequence[float] | None = None,
    ) -> None:
        """GradcheckError if a gradient differs. digits: so many times last_digits is allowed."""
        also = also or [self.atol] * len(got)
        rows = zip(self.subject.variables, got, expected, self.last_digits, also, strict=True)
        for x, g, e, last, more in rows:
            allowed = max(rtol, self.rtol) * np.abs(e).max(initial=0) + digits * last + more
            wrong = ~(np.abs(g - e) <= allowed)  # NaN is wrong as well
            if wrong.any():
                distance = np.nan_to_num(np.abs(g - e), nan=np.inf)
                index = np.unravel_index(np.argmax(distance), g.shape)
                raise GradcheckError(
                    f"gradcheck: the gradient of {x.name}{[int(n) for n in index]} is another one "
                    f"{when}: expected {e[index]:.9g}, got {g[index]:.9g}"
                )


@contextmanager
def failing(when: str) -> Iterator[None]:
    """What backward raises is told with the way in which it was called."""
    try:
        yield
    except GradcheckError as error:
        raise GradcheckError(f"{error}, {when}") from None
    except Exception as error:
        raise GradcheckError(
            f"gradcheck: {type(error).__name__} {when}, and else not: {error}"
        ) from error


def memory_order(c: Consistency) -> None:
    """Inputs and upstream gradients in any memory order give the same outputs and gradients."""
    s = c.subject
    for of_inputs, of_upstream in ORDERS:
        if len(of_inputs) > len(s.values):
            continue
        inputs = f"in memory order {' and '.join(map(repr, of_inputs)) or 'of their own'}"
        upstream = " and ".join(map(repr, of_upstream[: len(s.shapes)]))
        when = f"with inputs {inputs} and upstream gradients in {upstream}"
        values = _in_turns(of_inputs, s.values) or s.values
        c.expect(when, c.gradients(when, _in_turns(of_upstream, s.apart(c.v)), values), c.of_v)


def _in_turns(orders: tuple[str, ...], arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [LAYOUTS[name](x) for name, x in zip(cycle(orders), arrays, strict=False)]


def linear(c: Consistency) -> None:
    """g is linear in the upstream gradient: for v + w, for all ones, for a scale, for zeros, which
    a ReLU sends where no unit is active.

    All ones come as one number in the memory of all, which may not be written to: what the
    backward of a sum sends. The backward of a mean sends another number so, and that of a sum over
    an axis one number in the memory of each row.
    """
    s, ones = c.subject, np.ones(c.v.shape)
    both = [v + w for v, w in zip(c.of_v, c.of_w, strict=True)]
    when = "when two upstream gradients are added: backward is not linear in dy"
    c.expect(when, c.gradients(when, c.v + c.w), both)
    when = "when the upstream gradient is all ones, a read-only view of one number"
    of_ones = c.gradients(when, [np.broadcast_to(1.0, shape) for shape in s.shapes])
    both = [v + one for v, one in zip(c.of_v, of_ones, strict=True)]
    c.expect(when, both, c.gradients(when, c.v + ones))
    when = "when the upstream gradient is a read-only view of one number"
    of_quarters = c.gradients(when, [np.broadcast_to(0.25, shape) for shape in s.shapes])
    c.expect(when, [4 * g for g in of_quarters], of_ones)
    if any(len(shape) > 1 for shape in s.shapes):
        when = "when the upstream gradient is a read-only view, each number of it along an axis"
        rows, columns = (
            [np.broadcast_to(part[at], part.shape) for part in s.apart(c.v)]
            for at in ((..., slice(1)), slice(1))
        )
        both = [row + column for row, column in zip(rows, columns, strict=True)]
        added = zip(c.gradients(when, rows), c.gradients(when, columns), strict=True)
        c.expect(when, [row + column for row, column in added], c.gradients(when, both))
    for scale in SCALES:
        when = f"when the upstream gradient is {scale:.1g} times as large"
        c.expect(when, [g / scale for g in c.gradients(when, scale * c.v)], c.of_v)
    when = "when the upstream gradient is 0"
    c.expect(when, c.gradients(when, 0 * c.v), [0 * g for g in c.of_v])


def backward_twice(c: Consistency) -> None:
    """The same graph sent back with v, then with w: gradients add up."""
    when = "in a second backward through the same graph"
    s = c.subject
    with failing(when):
        leaves, outputs = s.run(s.values)
        s.backward(outputs, s.apart(c.v), retain=True)
        s.backward(outputs, s.apart(c.w))
    c.expect(when, read(leaves), [v + w for v, w in zip(c.of_v, c.of_w, strict=True)])


def another_call(c: Consistency) -> None:
    """fn is called again before backward, with other values: a layer used twice, a second thread.

    The two graphs are sent back in both orders, and neither may see the other.
    """
    for first in (True, False):
        order = "before" if first else "after"
        when = f"when the function is called again and its graph is sent back {order} this one's"
        s = c.subject
        leaves, outputs = s.run(s.values)
        with suppress(Exception), np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # and not every function takes any values
            others = s.run([backwards(x.reshape(-1)[::-1].reshape(x.shape)) for x in s.values])[1]
            if first:
                s.backward(others, s.apart(c.w))
        for leaf in leaves:  # parameters are leaves of both graphs
            leaf.grad = None
        with failing(when):
            s.backward(outputs, s.apart(c.v))
        c.expect(when, read(leaves), c.of_v)


def another_point(c: Consistency) -> None:
    """At other values the gradient belongs to these, not to the first ones: nothing of them was
    kept, no mean, no mask. They are a little smaller, or in other places; inputs that are 0, where
    those of products vanish, are not 0. Compared along one direction in all inputs.
    """
    smaller = [1 - 2.0**-8 * c.rng.random(x.shape) for x in c.subject.values]
    _at(c, "with other values", [x * f for x, f in zip(c.subject.values, smaller, strict=True)])
    shuffled = [c.rng.permutation(x.ravel()).reshape(x.shape) for x in c.subject.values]
    _at(c, "with values in other places", shuffled)
    if not all(x.any() for x in c.subject.values):
        small = [x if x.any() else c.rng.standard_normal(x.shape) / 16 for x in c.subject.values]
        _at(c, "with small values for 0", small)


def _at(c: Consistency, when: str, others: list[np.ndarray]) -> None:
    values = [like(x, other) for x, other in zip(c.subject.values, others, strict=True)]
    try:
        with np.errstate(all="ignore"):
            numerical = c.numerical.at(values)
    except Exception:  # not every function takes any values
        return
    if not np.isfinite(numerical.subject.outputs).all():
        return
    random = {i: c.rng.standard_normal(c.subject.values[i].shape) for i in c.checked}
    u = direction(random, numerical.subject)
    got = _along(c, when, values, c.v, u)

    def agrees(slope: Slope) -> bool:
        allowed = max(OTHER_POINT, c.rtol) * abs(slope.value) + c.atol + 3 * slope.error
        return bool(abs(got - slope.value) <= allowed + 100 * sum(c.last_digits[i] for i in u))

    slope = numerical.slope(u)
    if slope.kink:  # what lies at a kink is left out, and excuses nothing else
        smooth = np.where(numerical.differences(u)[2], 0, c.v)
        got, slope = _along(c, when, values, smooth, u), numerical.upstream(smooth).central(u)
    elif not agrees(slope) and np.isfinite(slope.value) and slope.method != "central differences":
        # the complex step may be blind at these values; a kink there excuses nothing
        slope = numerical.central(u)
    if np.isfinite(slope.value) and not slope.infinite and not agrees(slope):
        raise GradcheckError(
            f"gradcheck: the gradient is wrong {when}: along a random direction in all inputs "
            f"{got:.9g}, numerical {slope.value:.9g}"
        )


def _along(
    c: Consistency, when: str, values: list[np.ndarray], v: np.ndarray, u: Direction
) -> float:
    """<g, u> for g at these values."""
    with np.errstate(all="ignore"):  # nobody chose these values
        gradients = c.gradients(when, v, values, same_values=False)
    return sum(float((gradients[i] * d).sum()) for i, d in u.items())


def each_output_alone(c: Consistency) -> None:
    """A loss that uses one output alone: the gradients of all of them add up to g."""
    parts = c.subject.apart(c.v)
    if len(parts) == 1:
        return
    total = [np.zeros(g.shape) for g in c.of_v]
    for k in range(len(parts)):
        alone = [part if k == j else None for j, part in enumerate(parts)]
        found = c.gradients(f"when output {k} alone is used", alone)
        total = [a + b for a, b in zip(total, found, strict=True)]
    c.expect("when each output is used alone and the gradients are added", total, c.of_v)


def each_input_alone(c: Consistency) -> None:
    """Some inputs alone require a gradient: a frozen layer, the first layer."""
    s = c.subject
    for alone in _some_of(c.checked):
        needs = [j in alone for j in range(len(s.variables))]
        names = " and ".join(s.variables[i].name for i in alone)
        when = f"when {names} alone {'require' if len(alone) > 1 else 'requires'} one"
        if len(alone) == len(c.checked) - 1 > 1:
            (without,) = set(c.checked) - set(alone)
            when = f"when {s.variables[without].name} requires none"
        got = c.gradients(when, c.v, needs=needs)
        expected = [g * need for g, need in zip(c.of_v, needs, strict=True)]
        c.expect(when, got, expected)


def _some_of(inputs: list[int]) -> Iterator[tuple[int, ...]]:
    """Some but not all of them: any of a few, of many one or all but one."""
    count = len(inputs)
    for size in range(1, count) if count <= FEW else (1, count - 1):
        yield from combinations(inputs, size)


def single_precision(c: Consistency) -> None:
    """In float32 the gradient is the same to the digits of float32: nothing overflows, nothing is
    lost. The inputs are rounded before, for both, so that only the computing differs.

    Afterwards once more in float64, which may not be any coarser for it.
    """
    s, when = c.subject, "in float32"
    v = c.v.astype(np.float32)
    with np.errstate(all="ignore"):
        values = [x.astype(np.float32) for x in s.values]
    rounded = [x.astype(np.float64) for x in values]
    try:
        with np.errstate(all="ignore"):
            y, exact = s.forward(values), s.forward(rounded)
    except Exception as error:
        warnings.warn(PrecisionWarning(f"gradcheck: not checked in float32: {error}"), stacklevel=5)
        return
    if y.shape != exact.shape or _far(s, y, exact, SINGLE, 100 * LESS_DIGITS * c.spread).any():
        text = "gradcheck: gradients were not compared in float32, where fn has other values"
        warnings.warn(PrecisionWarning(text), stacklevel=5)
        return
    of_rounded = "with inputs rounded to float32"
    if y.dtype != np.float32 and not s.strangers:  # theirs may be another, and they are told
        text = (
            f"gradcheck: expected outputs of dtype float32 for inputs of that dtype, got "
            f"{y.dtype}; give new arrays and constants in the function the dtype of its inputs"
        )
        warnings.warn(PrecisionWarning(text), stacklevel=5)
    expected = c.gradients(of_rounded, v.astype(np.float64), rounded, same_values=False)
    got = c.gradients(when, v, values, same_values=False)
    digits = [last_digit(x).astype(np.float64) for x in values]
    next_to = [x + d * c.rng.choice([-1, 1], d.shape) for x, d in zip(rounded, digits, strict=True)]
    moved = c.gradients(of_rounded, v.astype(np.float64), next_to, same_values=False)
    # A gradient that moves much when x moves in its last digit may be off by as much.
    allowed = [10 * np.abs(a - b).max(initial=0) for a, b in zip(moved, expected, strict=True)]
    c.expect(when, got, expected, SINGLE, 10 * LESS_DIGITS, allowed)
    when = "in float64 after a call in float32"
    c.expect(when, c.gradients(when, c.v), c.of_v)


def _far(
    s: Subject, y: np.ndarray, exact: np.ndarray, rtol: float, rounding: np.ndarray
) -> np.ndarray:
    """Which elements are not `exact`: to rtol of the largest of the same output, or to what
    rounding makes of a sum that cancels.
    """
    with np.errstate(invalid="ignore"):  # both infinite: NaN, which is far
        apart = np.abs(y - exact)
    parts = zip(s.apart(apart), s.apart(exact), s.apart(rounding), strict=True)
    return in_a_row([~(far <= rtol * np.abs(e).max(initial=0) + r) for far, e, r in parts])


def check_consistency(consistency: Consistency) -> None:
    """GradcheckError for the first way in which backward gives another gradient."""
    for check in CHECKS:
        check(consistency)


CHECKS: list[Callable[[Consistency], None]] = [
    memory_order,
    linear,
    backward_twice,
    another_call,
    another_point,
    each_output_alone,
    each_input_alone,
    single_precision,
]
