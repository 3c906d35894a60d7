"""Paired differences, their intervals, and the rule that makes a sentence of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Student's t: 97.5 % lie below it, with 1, 2, ... 30 degrees of freedom
T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
SEEN, OTHER_WAY, NOT_SEEN, TOO_SMALL = "seen", "other way", "not seen", "too small to tell"


class Difference(NamedTuple):
    """The mean of paired differences, and the interval that holds their true mean in 95 of 100
    repetitions (low and high are NaN of a single pair).
    """

    mean: float
    low: float
    high: float
    pairs: int


def summary(values: Sequence[float]) -> tuple[float, float]:
    """Mean and standard deviation (NaN of a single value)."""
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """mean(d) +- t s / sqrt(n), d = ours - theirs pair by pair, s its standard deviation."""
    d = np.subtract(ours, theirs)
    mean, deviation = summary(d.tolist())
    half = T[min(len(d), len(T) + 1) - 2] * deviation / math.sqrt(len(d))
    return Difference(mean, mean - half, mean + half, len(d))


def verdict(found: Difference, paper: float | None) -> str:
    """seen: the whole interval lies above 0, where the paper's number lies, too. other way: all of
    it lies below. not seen: it holds 0 and ends below the paper's number, so that an effect of that
    size is ruled out. too small to tell: all else, a single pair among it, and pairs without any
    difference, which are pairs of the same net.
    """
    if found.low == found.high == 0:
        return TOO_SMALL
    if found.low > 0:
        return SEEN
    if found.high < 0:
        return OTHER_WAY
    if paper is not None and found.high < paper:
        return NOT_SEEN
    return TOO_SMALL


SENTENCES = {
    SEEN: "Seen: {says}, here by {found}{paper}.",
    OTHER_WAY: "Not seen, but the opposite. The paper: {says}. Here the difference is {found}"
    "{paper}.",
    NOT_SEEN: "Not seen: an effect as large as the paper's would have shown. The paper: {says}. "
    "Here the difference is {found}{paper}.",
    TOO_SMALL: "Too small to tell with so many pictures and seeds. The paper: {says}. Here the "
    "difference is {found}{paper}.",
}


def sentence(says: str, found: Difference, paper: float | None, ratio: bool) -> str:
    """One plain sentence: what the paper says, and whether it was seen."""
    number = in_words(found, ratio)
    theirs = "" if paper is None else f"; the paper has {size(paper, ratio)}"
    log = math.log(paper) if ratio and paper else paper
    return SENTENCES[verdict(found, log)].format(says=says, found=number, paper=theirs)


def in_words(found: Difference, ratio: bool) -> str:
    """ "+0.52 (-0.10 to +1.14)"; a ratio is the exponential of a difference of logarithms."""
    between = (
        "no interval: one pair"
        if math.isnan(found.low)
        else f"{_number(found.low, ratio)} to {_number(found.high, ratio)}"
    )
    return f"{_number(found.mean, ratio)}{' times' if ratio else ''} ({between})"


def size(paper: float | None, ratio: bool) -> str:
    """The paper's number."""
    if paper is None:
        return "no number"
    return f"{paper:g} times" if ratio else f"{paper:+g}"


def _number(value: float, ratio: bool) -> str:
    return f"{math.exp(value):.2f}" if ratio else f"{value:+.2f}"
