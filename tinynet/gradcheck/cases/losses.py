"""Cases of losses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("cross_entropy")
def _cross_entropy(rng: np.random.Generator) -> Iterator[Case]:
    for reduction in ("mean", "sum", "none"):
        target = rng.integers(0, 5, 4)
        yield (
            lambda x, t=target, r=reduction: F.cross_entropy(x, t, r),
            [layouts(rng, rng.normal(size=(4, 5)))],
        )
