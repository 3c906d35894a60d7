"""Numerical derivatives: how L changes when x goes a small step t along a direction u.

    L(x + t u) = L(x) + t L' + t^2 L''/2 + t^3 L'''/6 + ...       with L' = <dL/dx, u>

**Central differences** go a step forward and one back. The even terms cancel:

    C(t) = (L(x + t u) - L(x - t u)) / 2t = L' + t^2 L'''/6 + ...

Two steps, one a tenth of the other, get rid of the next term as well: (100 C(t/10) - C(t)) / 99.
But a computer keeps some 16 digits of L. The difference of two numbers that are almost equal
keeps few of them, and is then divided by 2t: an error of about 1e-16 |L| / t. A large step errs by
the formula, a small one by rounding. So steps of several sizes are tried, and each output takes
those that agree best; how well they agree is how far the result is to be trusted.

**The complex step** goes along the imaginary axis, with i^2 = -1:

    L(x + i h u) = L(x) + i h L' - h^2 L''/2 - ...    so    Im L(x + i h u) / h = L' + O(h^2)

Nothing is subtracted, so nothing is lost, and h may be 1e-20: the result is exact to the last digit
or so. But every step of fn must take complex numbers and be smooth in them: |x| is not, it forgets
the imaginary part. So the complex step is compared with central differences first, output by
output, and used where all agree.

A kink (ReLU at 0, two equal maxima) has a slope on each side and no derivative. The two slopes
differ at a smooth point as well, but by a multiple of t: what they come to for t -> 0 tells.

Where the slope is infinite (a root at 0), or forward jumps, the one-sided slopes come to nothing:
from step to step they grow by as much as before, or by more. At a smooth point, and at a kink, each
change is smaller than the one before.

Sources: Squire and Trapp, SIAM Review 40 (1998) 110 for the complex step; Ridders, Advances in
Engineering Software 4 (1982) 75 for steps that shrink.
"""

from __future__ import annotations

import warnings
from copy import copy
from typing import NamedTuple

import numpy as np

from tinynet.gradcheck.layouts import like
from tinynet.gradcheck.subject import Subject, in_a_row

LAST = 1e-9  # the last step of central differences
H = 1e-20  # the complex step
GROWING = 3  # so many last steps, each with a larger slope, make it infinite

Direction = dict[int, np.ndarray]  # which variables move, and where to


def direction(u: Direction, subject: Subject) -> Direction:
    """u in units of max(1, |x|), divided by its length."""
    u = {i: d * np.maximum(1, np.abs(subject.values[i])) for i, d in u.items()}
    length = np.sqrt(sum((d**2).sum() for d in u.values()))
    return {i: d / length for i, d in u.items()}


def last_digit(x: np.ndarray) -> np.ndarray:
    """Of each element; of 0, that of the largest beside it, and of 1 where all are 0. 0 for what is
    not finite: nothing is added to a mask of -inf.
    """
    with np.errstate(all="ignore"):
        digit = np.spacing(np.where(x == 0, _largest(x) or x.dtype.type(1), np.abs(x)))
    return np.where(np.isfinite(digit), digit, 0)


def _largest(x: np.ndarray) -> np.ndarray:
    return np.abs(x[np.isfinite(x)]).max(initial=0)


class Slope(NamedTuple):
    """dL/dt along a direction.

    At a kink `value` means nothing: left and right are the one-sided slopes, low and high the
    bounds of a gradient that is right.
    """

    value: float
    error: float  # how far `value` may be off; inf if fn is not finite nearby
    method: str
    noise: float = 0.0  # the same by luckless rounding: what differs by less is not called wrong
    kink: bool = False
    left: float = 0.0
    right: float = 0.0
    low: float = 0.0
    high: float = 0.0
    infinite: bool = False


class Numerical:
    """Derivatives of L along directions."""

    def __init__(self, subject: Subject, v: np.ndarray, eps: float, rng: np.random.Generator):
        self.subject, self.v, self.eps = subject, v, eps
        self.spread = self._spread(rng)
        # For each variable: what a change of L in its last digits makes of dL/dx.
        # Where all outputs are 0, nobody can tell: a sure net's loss is 0, its gradient 1e-23.
        digits = in_a_row([last_digit(y) for y in subject.apart(subject.outputs)])
        noise = float(np.hypot.reduce(v * np.maximum(self.spread, digits)))  # no square underflows
        sizes = [_largest(x) or 1 for x in subject.values]
        self.last_digits = [10 * noise / size for size in sizes]
        self.method = "complex step" if self._takes_complex(rng) else "central differences"

    def at(self, values: list[np.ndarray]) -> Numerical:
        """The same at another point."""
        twin = copy(self)
        twin.subject = self.subject.at(values)
        return twin

    def upstream(self, v: np.ndarray) -> Numerical:
        """The same with other upstream gradients of the same size."""
        twin = copy(self)
        twin.v = v
        return twin

    def slope(self, u: Direction) -> Slope:
        """dL/dt at x + t u, t = 0."""
        if self.method == "central differences":
            return self.central(u)
        return Slope(float(self.v @ self.complex_step(u)), 0.0, self.method)

    def complex_step(self, u: Direction) -> np.ndarray:
        """dy/dt for each output."""
        values = [like(x, x.astype(complex)) for x in self.subject.values]
        for i, direction in u.items():
            values[i] = like(values[i], values[i] + 1j * H * direction)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # an imaginary part that got lost
            warnings.simplefilter("error", np.exceptions.ComplexWarning)
            return np.imag(self.subject.forward(values)) / H

    def central(self, u: Direction) -> Slope:
        """As `slope`, by central differences."""
        value, error, kink, left, right, noise, infinite = self.differences(u)
        v = self.v
        one = np.where(kink, v * left, v * value)
        other = np.where(kink, v * right, v * value)
        at_kinks = float(np.abs(v) @ np.where(kink, error, 0))  # how far the bounds may be off
        return Slope(
            value=float(v @ value),
            error=float(np.abs(v) @ np.where(kink, 0, error)),
            noise=float(np.abs(v) @ noise),
            method="central differences",
            kink=bool(kink.any()),
            left=float(one.sum()),
            right=float(other.sum()),
            low=float(np.where(kink, np.minimum(np.minimum(one, other), 0), one).sum()) - at_kinks,
            high=float(np.where(kink, np.maximum(np.maximum(one, other), 0), one).sum()) + at_kinks,
            infinite=bool(infinite[v != 0].any()),
        )

    def differences(self, u: Direction) -> tuple[np.ndarray, ...]:
        """dy/dt, its error, whether there is a kink, slopes on the left and right, the noise,
        whether the slope is infinite: for each output.

        Steps are relative to max(1, |x|). Where these find no slope, they go on relative to |x|:
        log(x) has one at 1e-10, too.
        """
        y, size, small = self.subject.outputs, self._size(u), self._size(u, 0)
        best = [np.zeros(y.shape), np.full(y.shape, np.inf), np.zeros(y.shape, bool)]
        best += [np.zeros(y.shape) for _ in range(3)]
        moved = np.zeros(y.shape, bool)
        best, infinite = self._approach(u, size, best, moved)
        found = best[1] <= 1e-5 * np.abs(best[0]).max(initial=0)
        if small < size and not found.all():
            best, infinite = self._approach(u, small, best, moved)
        return *best, infinite

    def _approach(
        self, u: Direction, size: float, best: list[np.ndarray], moved: np.ndarray
    ) -> tuple[list[np.ndarray], np.ndarray]:
        """What `differences` returns, the best of `best` and of steps from size * eps on. moved:
        which outputs a step has moved so far.

        C is taken at steps t, t/10, t/100 ... R is two of them combined, its error the distance
        to the R before, plus rounding. Each output keeps its best R, until one of a smaller step is
        too far from it. At a smooth point the one-sided slopes differ by a multiple of t, and what
        is left of it for t -> 0 (the gap) by rounding alone, which grows with 1/t: the noise. Where
        the gap stays the same there is a kink.
        """
        y = self.subject.outputs
        before: list[np.ndarray] = []  # what the step before gave: left, right, C
        R, gap, again = None, np.full(y.shape, np.nan), moved.any()
        change, growing = np.full((2, *y.shape), np.nan), np.zeros((2, *y.shape), int)
        steps = max(3, round(np.log10(self.eps / LAST)) + 1)
        digit, largest = np.spacing(np.abs(y).max(initial=0)), np.abs(y).max(initial=1)
        with np.errstate(all="ignore"):
            for step in size * self.eps * 10.0 ** -np.arange(steps):
                right = (self._moved(u, step) - y) / step
                left = (y - self._moved(u, -step)) / step
                now = [left, right, (left + right) / 2]
                moved |= (left != 0) | (right != 0)  # a step too small moves nothing any more
                if before:
                    change_before, change = change, np.subtract(now[:2], before[:2])
                    more, most = np.abs(change) / np.abs(change_before), np.abs(now[:2]) * step
                    grows = np.sign(now[:2]) * change > 1e3 * self.spread / step
                    # Ten times as much is a jump; and a small one, as any below 1e-12, is rounding
                    # within fn.
                    grows &= (more > 0.99) & (most > np.where(more < 9, 1e-12, 1e-6) * largest)
                    growing = np.where(grows, growing + 1, 0)
                    R_before, R = R, (100 * now[2] - before[2]) / 99
                    # The one-sided slopes for t -> 0; they err by a multiple of t.
                    left_at_0, right_at_0 = (
                        (10 * n - b) / 9 for n, b in zip(now[:2], before, strict=False)
                    )
                    gap_before, gap = gap, right_at_0 - left_at_0
                    if R_before is not None:
                        # Moved by a larger step and by this one no more: flat here, or lost in
                        # the rounding of what lies between, as tanh(x) in 1 + tanh(x), x << 0.
                        lost = moved & (left == 0) & (right == 0) & (y != 0)
                        spread = np.where(lost, digit, self.spread)
                        rounding = np.where(moved, 5 * spread / step, 0)
                        slopes = np.maximum(np.abs(left), np.abs(right))
                        kink = np.abs(gap) > 1e-6 * slopes + 100 * rounding
                        kink &= np.abs(gap - gap_before) < 0.03 * np.abs(gap)
                        error = np.abs(R - R_before) + rounding
                        # A large step can be wrong by more than it knows, but the next ones tell.
                        apart = np.abs(R - best[0])
                        refuted = ~lost & (apart > error + best[1] + 10 * rounding)
                        error = np.where(refuted, error + apart, error)
                        noise = np.where(kink, 0, np.maximum(abs(gap), 10 * abs(gap_before)))
                        found = R, error, kink, left_at_0, right_at_0, noise
                        better = (error < best[1]) | refuted  # never for NaN
                        # No wonder at steps as small as these; nor after steps that saw a slope.
                        better &= ~(lost & (again | (apart > 10 * best[1])))
                        best = [np.where(better, *pair) for pair in zip(found, best, strict=True)]
                    precise = best[1] <= 1e-8 * np.abs(best[0]).max(initial=0)
                    if precise.all() and not growing.any():
                        break
                before = now
        return best, growing.max(0) >= GROWING

    def _moved(self, u: Direction, t: float) -> np.ndarray:
        """The outputs at x + t u."""
        values = list(self.subject.values)
        for i, direction in u.items():
            values[i] = like(values[i], values[i] + t * direction)
        return self.subject.forward(values)

    def _size(self, u: Direction, least: float = 1) -> float:
        """The t at which an element moves by max(least, |x|) and none by more, those that are 0
        apart: 1e-9 would be lost on an x of 1e8.
        """
        ratios = [
            np.maximum(least, np.abs(self.subject.values[i][d != 0])) / np.abs(d[d != 0])
            for i, d in u.items()
        ]
        return min(r[r != 0].min(initial=np.inf) for r in ratios)

    def _spread(self, rng: np.random.Generator) -> np.ndarray:
        """How far each output moves when each input moves by its last digit: its rounding error.

        Up or down by chance, twice. Then all up: a mean of many values that cancel hardly moves by
        chance, and errs by the last digits of its partial sums, which depend on the memory order.
        """
        y = self.subject.outputs
        spread = np.zeros(y.shape)
        for all_up in (False, False, True):
            values = []
            for x in self.subject.values:
                digit = last_digit(x)
                up = digit if all_up else digit * rng.choice([-1, 1], x.shape)
                values.append(like(x, x + up))
            with np.errstate(all="ignore"):
                change = np.nan_to_num(np.abs(self.subject.forward(values) - y))
            spread = np.maximum(spread, change)
        # A jump of fn is no rounding error, and may not excuse everything.
        spread = np.minimum(spread, 1e-12 * max(1.0, np.abs(y).max(initial=0)))
        return np.maximum(spread, np.spacing(np.abs(y)))

    def _takes_complex(self, rng: np.random.Generator) -> bool:
        """Whether the complex step gives what central differences give, for every output, along a
        random direction in each variable.
        """
        if any(x.tensor.device.kind != "cpu" for x in self.subject.variables):
            return False  # a GPU's kernels take no complex numbers
        for i, x in enumerate(self.subject.variables):
            if not x.checked:
                continue
            u = direction({i: rng.standard_normal(x.value.shape)}, self.subject)
            try:
                slopes = self.complex_step(u)
            except Exception:  # whatever fn raises: complex numbers are not for it
                return False
            values, errors, *_, infinite = self.differences(u)
            scale = np.maximum(np.abs(slopes), np.abs(values))
            noise = 1e6 * self.spread / self._size(u)
            seen = ~infinite & (errors <= 1e-5 * scale + noise)
            same = np.abs(slopes - values) <= 1e-6 * scale + 3 * errors + noise
            if not (seen & same).all():
                return False
        return True
