"""Cases of functions of one number, element by element."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import apart, layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("exp", accepts=("integers",))
def _exp(rng: np.random.Generator) -> Iterator[Case]:
    yield F.exp, [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.exp(), [layouts(rng, rng.normal(size=(4, 3)))]


@cases("log", accepts=("integers",))
def _log(rng: np.random.Generator) -> Iterator[Case]:
    yield F.log, [layouts(rng, rng.uniform(0.3, 3, (2, 3, 4)))]
    yield lambda x: x.log(), [layouts(rng, rng.uniform(0.3, 3, (4, 3)))]


@cases("sqrt", accepts=("integers",))
def _sqrt(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.sqrt(), [layouts(rng, rng.uniform(0.3, 3, (2, 3, 4)))]


@cases("sin", accepts=("integers",))
def _sin(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.sin(), [layouts(rng, 3 * rng.normal(size=(2, 3, 4)))]


@cases("cos", accepts=("integers",))
def _cos(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.cos(), [layouts(rng, 3 * rng.normal(size=(2, 3, 4)))]


@cases("erf", accepts=("integers",))
def _erf(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.erf(), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("abs", accepts=("integers",))
def _abs(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.abs(), [layouts(rng, apart(rng, 2, 3, 4))]


@cases("clip", accepts=("integers",))
def _clip(rng: np.random.Generator) -> Iterator[Case]:
    for least, most in ((-0.5, 0.4), (None, 0.3), (-0.2, None)):
        yield (
            lambda x, least=least, most=most: x.clip(least, most),
            [layouts(rng, apart(rng, 2, 3, 4) + 1 / 40)],
        )
