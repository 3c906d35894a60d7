"""Cases of dropout."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("dropout")
def _dropout(rng: np.random.Generator) -> Iterator[Case]:
    for p in (0.5, 0.2, 1.0):
        yield lambda x, p=p: F.dropout(x, p), [layouts(rng, rng.normal(size=(3, 2, 4, 2)))]
    for training in (True, False):  # the form of 2012
        x = layouts(rng, rng.normal(size=(3, 2, 4, 2)))
        yield lambda x, training=training: F.dropout(x, 0.2, training, inverted=False), [x]
