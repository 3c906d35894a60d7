"""Cases of normalisation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("local_response_norm")
def _local_response_norm(rng: np.random.Generator) -> Iterator[Case]:
    for C, size, beta in [
        (7, 5, 0.75),
        (7, 4, 0.75),
        (6, 3, 0.6),
        (5, 1, 0.75),
        (3, 5, 0.75),
        (3, 8, 1.3),
        (1, 2, 0.5),
    ]:
        yield (
            lambda x, n=size, b=beta: F.local_response_norm(x, n, alpha=1.0, beta=b, k=1.0),
            [layouts(rng, rng.normal(size=(2, C, 3, 2)))],
        )
    yield (
        lambda x: F.local_response_norm(x, 3, 2.0, 0.75, 2.0),
        [layouts(rng, rng.normal(size=(3, 5)))],
    )


@cases("spatial_response_norm")
def _spatial_response_norm(rng: np.random.Generator) -> Iterator[Case]:
    for size, beta in [(3, 0.75), (4, 0.75), (2, 0.6), (9, 0.75), (1, 0.75)]:
        yield (
            lambda x, n=size, b=beta: F.spatial_response_norm(x, n, alpha=3.0, beta=b, k=1.0),
            [layouts(rng, rng.normal(size=(2, 2, 5, 4)))],
        )
