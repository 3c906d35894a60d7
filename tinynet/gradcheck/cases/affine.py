"""Cases of the linear map."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import layouts, off_kinks
from tinynet.gradcheck.cases.table import Case, cases


@cases("linear")
def _linear(rng: np.random.Generator) -> Iterator[Case]:
    for shape in [(3, 4), (4,), (2, 3, 4), (2, 1, 3, 4)]:
        x, w = rng.normal(size=shape), rng.normal(size=(5, 4))
        yield F.linear, [layouts(rng, x), layouts(rng, w), rng.normal(size=5)]
        yield F.linear, [layouts(rng, x), layouts(rng, w)]
        yield partial(F.linear, relu=True), off_kinks(rng, F.linear, shape, (5, 4), (5,))
        yield partial(F.linear, relu=True), off_kinks(rng, F.linear, shape, (5, 4))
