"""What gradcheck says: the verdict over all comparisons, and its words."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np

from tinynet.errors import GradcheckError

WORST = 10  # lines of the table in an error


class KinkWarning(UserWarning):
    """Some elements lie where the function has no derivative: there any gradient between the slopes
    on the left and on the right passes, and 0.
    """


class UncheckedWarning(UserWarning):
    """The function depends on tensors that it was not given; their gradients were not checked."""


class Comparison(NamedTuple):
    """The gradient of one variable along directions, computed both ways: an entry for each."""

    name: str
    shape: tuple[int, ...] | None  # None for all inputs together
    labels: list[str]  # which element, or which direction
    slopes: list[Any]  # check.Slope
    analytical: np.ndarray
    numerical: np.ndarray  # at a kink: the right gradient that is nearest to the analytical one
    allowed: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        return np.array([s.error for s in self.slopes])

    @property
    def noises(self) -> np.ndarray:
        return np.array([s.noise for s in self.slopes])

    @property
    def kinks(self) -> np.ndarray:
        return np.array([s.kink for s in self.slopes], bool)

    @property
    def infinite(self) -> np.ndarray:
        return np.array([s.infinite for s in self.slopes], bool)

    @property
    def wrong(self) -> np.ndarray:
        limits = np.maximum(self.allowed + self.errors, self.noises)
        return ~(self.apart <= limits) & ~self.infinite

    @property
    def unknown(self) -> np.ndarray:
        lost = ~self.wrong & ~(self.apart <= self.allowed + self.errors)
        return lost | (self.errors > self.allowed.max())

    @property
    def apart(self) -> np.ndarray:
        # Compared by ~(<=): NaN is wrong. An infinite error: there is nothing to compare.
        return np.abs(self.analytical - self.numerical)


def verdict(comparisons: list[Comparison]) -> float:
    """The worst error, relative to the largest gradient of its variable. Raises GradcheckError if
    something is wrong or cannot be told, or lies where the slope is infinite; warns of kinks.
    """
    wrong = [c for c in comparisons if c.wrong.any()]
    if wrong:
        raise GradcheckError(_wrong(wrong))
    for c in comparisons:
        for n in np.flatnonzero(c.infinite).tolist():
            raise GradcheckError(
                f"gradcheck: expected a finite slope at {c.name}{c.labels[n]}, got one that grows "
                f"without end as steps become smaller: a root at 0, or a jump; choose inputs away "
                f"from there"
            )
    for c in comparisons:
        for n in np.flatnonzero(c.unknown).tolist():
            raise GradcheckError(_unknown(c, n, c.labels[n]))
    for c in comparisons:
        if c.shape is not None and c.kinks.any():
            _tell_kinks(c)
    return max(_relative(c) for c in comparisons)


def _tell_kinks(c: Comparison) -> None:
    n = int(np.argmax(c.kinks))
    text = (
        f"gradcheck: {c.kinks.sum()} of {len(c.labels)} elements of {c.name} lie at a kink, where "
        f"there is no derivative: {c.name}{c.labels[n]} has slope {c.slopes[n].left:.6g} on the "
        f"left and {c.slopes[n].right:.6g} on the right"
    )
    if c.kinks.all():
        raise GradcheckError(f"{text}; nothing is left to check, choose other inputs")
    warnings.warn(KinkWarning(f"{text}; what lies between, or 0, passes there"), stacklevel=5)


def _relative(c: Comparison) -> float:
    kept = ~c.kinks
    if not kept.any():
        return 0.0
    largest = np.abs(c.numerical[kept]).max()
    return float(np.abs(c.analytical - c.numerical)[kept].max() / (largest or 1))


def _unknown(c: Comparison, n: int, label: str) -> str:
    if np.isinf(c.errors[n]):
        return (
            f"gradcheck: the function gives NaN or infinity next to {c.name}{label}, where its "
            f"derivative was to be taken; choose other inputs"
        )
    error = max(c.errors[n], c.noises[n])
    return (
        f"gradcheck: the gradient of {c.name}{label} cannot be checked: central differences give "
        f"{c.numerical[n]:.9g} with an error of {error:.2g}, allowed is {c.allowed[n]:.2g}; "
        f"choose other inputs, or pass a larger atol or rtol"
    )


def _wrong(wrong: list[Comparison]) -> str:
    c = wrong[0]
    error = np.abs(c.analytical - c.numerical)
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = error / np.abs(c.numerical)
    order = np.argsort(np.where(c.wrong, -np.nan_to_num(error, nan=np.inf), np.inf), kind="stable")
    n = order[0]
    slope, numerical = c.slopes[n], f"numerical {c.numerical[n]:.9g}"
    if slope.kink:
        numerical = f"at a kink: numerical from {slope.low:.9g} to {slope.high:.9g}"
    width = max(len(c.labels[m]) for m in order[:WORST])
    counts = dict.fromkeys(  # beside a kink, all inputs together were asked twice
        f"{w.wrong.sum()} of {len(w.labels)} of {w.name}"
        + (f" {w.shape}" if w.shape is not None else "")
        for w in wrong
    )
    lines = [
        f"gradcheck: the gradient of {c.name}{c.labels[n]} is wrong: analytical "
        f"{c.analytical[n]:.9g}, {numerical}; absolute error {error[n]:.3g}, relative "
        f"{relative[n]:.3g}; allowed: {c.allowed[n]:.2g} ({slope.method})",
        f"  wrong: {', '.join(counts)}; the worst of {c.name}, of the outputs weighted at random:",
        f"  {'':<{width}}  {'analytical':>16}  {'numerical':>16}  {'absolute':>9}  {'relative':>9}",
    ]
    for m in order[: min(WORST, int(c.wrong.sum()))]:
        lines.append(
            f"  {c.labels[m]:<{width}}  {c.analytical[m]:>16.9g}  {c.numerical[m]:>16.9g}  "
            f"{error[m]:>9.2e}  {relative[m]:>9.2e}"
        )
    if not c.analytical.any():
        lines.append(
            f"  backward gives 0 or None for all of {c.name}: is there a return at its end?"
        )
    return "\n".join(lines)
