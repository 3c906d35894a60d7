"""Cases of arithmetic: operators, reductions, and what goes element by element."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import apart, away_from_zero, layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("add", accepts=("integers", "arrays"))
def _add(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a + b, [rng.normal(size=(3, 4)), rng.normal(size=(3, 4))]
    yield lambda a, b: a + b, [rng.normal(size=(3, 1, 2)), rng.normal(size=(4, 1))]
    yield lambda a: a + 2.5, [rng.normal(size=3)]
    yield lambda a: 2 + a + a, [np.broadcast_to(rng.normal(size=3), (2, 3))]


@cases("sub", accepts=("integers", "arrays"))
def _sub(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a - b, [rng.normal(size=(3, 4)), rng.normal(size=4)]
    yield lambda a, b: a - b, [rng.normal(size=(1, 4)), rng.normal(size=(3, 1))]
    yield lambda a: 1 - a, [rng.normal(size=())]


@cases("mul", accepts=("integers", "arrays"))
def _mul(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a * b, [rng.normal(size=(3, 4)), rng.normal(size=(3, 4))]
    yield lambda a, b: a * b, [rng.normal(size=(2, 3, 1)), rng.normal(size=(1, 4))]
    yield lambda a: a * a * 3, [rng.normal(size=(2, 3))]


@cases("div", accepts=("integers", "arrays"))
def _div(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a / b, [rng.normal(size=(3, 4)), away_from_zero(rng, 3, 4)]
    yield lambda a, b: a / b, [rng.normal(size=(2, 1, 4)), away_from_zero(rng, 3, 1)]
    yield lambda a: 2 / a, [away_from_zero(rng, 5)]


@cases("neg", accepts=("integers",))
def _neg(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: -x, [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("pow", accepts=("integers",))
def _pow(rng: np.random.Generator) -> Iterator[Case]:
    for p in (3, 2, 0.5, -1.5, 1, 0):
        yield lambda x, p=p: x**p, [rng.uniform(0.5, 2, (3, 4))]
    yield lambda x: x**3, [away_from_zero(rng, 3, 4)]


@cases("exp", accepts=("integers",))
def _exp(rng: np.random.Generator) -> Iterator[Case]:
    yield F.exp, [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.exp(), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("log", accepts=("integers",))
def _log(rng: np.random.Generator) -> Iterator[Case]:
    yield F.log, [layouts(rng, rng.uniform(0.3, 3, (2, 3, 4)))]
    yield lambda x: x.log(), [layouts(rng, rng.uniform(0.3, 3, (2, 3, 4)))]


@cases("maximum", accepts=("integers", "arrays"))
def _maximum(rng: np.random.Generator) -> Iterator[Case]:
    a, b = apart(rng, 2, 3, 4)
    yield F.maximum, [a, b]
    yield F.maximum, [apart(rng, 3, 1), apart(rng, 4) + 1 / 30]
    yield lambda x: F.maximum(x, 0), [apart(rng, 3, 4)]


@cases("matmul", accepts=("integers", "arrays"))
def _matmul(rng: np.random.Generator) -> Iterator[Case]:
    for a, b in [
        ((3, 4), (4, 2)),
        ((4,), (4, 2)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4, 2)),
        ((3, 4), (2, 4, 2)),
        ((5, 1, 3, 4), (2, 4, 2)),
        ((4,), (2, 4, 3)),
        ((2, 3, 4), (4,)),
    ]:
        yield (
            lambda a, b: a @ b,
            [layouts(rng, rng.normal(size=a)), layouts(rng, rng.normal(size=b))],
        )


@cases("sum", accepts=("integers",))
def _sum(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [
        (None, False),
        (None, True),
        (1, False),
        (-1, True),
        ((0, 2), False),
        ((2, 0), True),
    ]:
        yield lambda x, a=axis, k=keepdims: x.sum(a, k), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("mean", accepts=("integers",))
def _mean(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [(None, False), (1, False), (-1, True), ((0, 2), False)]:
        yield lambda x, a=axis, k=keepdims: x.mean(a, k), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("max", accepts=("integers",))
def _max(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [(None, False), (1, False), (-1, True), ((0, 2), False), ((1, 2), True)]:
        yield lambda x, a=axis, k=keepdims: x.max(a, k), [layouts(rng, apart(rng, 2, 3, 4))]
