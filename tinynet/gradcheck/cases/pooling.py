"""Cases of pooling."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import apart, layouts
from tinynet.gradcheck.cases.table import Case, cases

POOLS: list[dict[str, Any]] = [
    dict(kernel_size=2),
    dict(kernel_size=3, stride=2),  # overlapping
    dict(kernel_size=3, stride=2, padding=1),
    dict(kernel_size=3, stride=2, ceil_mode=True),
    dict(kernel_size=(2, 4), stride=(3, 1), padding=(1, 2), ceil_mode=True),
]


@cases("max_pool2d")
def _max_pool2d(rng: np.random.Generator) -> Iterator[Case]:
    for options in POOLS:
        yield lambda x, o=options: F.max_pool2d(x, **o), [layouts(rng, apart(rng, 2, 2, 6, 8))]
    yield lambda x: F.max_pool2d(x, 6, 2), [apart(rng, 1, 2, 9, 8)]


@cases("avg_pool2d")
def _avg_pool2d(rng: np.random.Generator) -> Iterator[Case]:
    for options in POOLS:
        for count_include_pad in (True, False):
            options = {**options, "count_include_pad": count_include_pad}
            yield (
                lambda x, o=options: F.avg_pool2d(x, **o),
                [layouts(rng, rng.normal(size=(2, 2, 6, 8)))],
            )


@cases("adaptive_avg_pool2d")
def _adaptive_avg_pool2d(rng: np.random.Generator) -> Iterator[Case]:
    for size in [
        1,
        (3, 2),
        (5, 8),
        (3, 5),
        (8, 9),
    ]:  # whole, disjoint, overlapping in one way, in the other, more than pixels
        yield (
            lambda x, s=size: F.adaptive_avg_pool2d(x, s),
            [layouts(rng, rng.normal(size=(2, 2, 6, 8)))],
        )


@cases("interpolate")
def _interpolate(rng: np.random.Generator) -> Iterator[Case]:
    for scale in [2, (1, 3), (3, 2), 1]:
        yield (
            lambda x, s=scale: F.interpolate(x, s),
            [layouts(rng, rng.normal(size=(2, 3, 3, 2)))],
        )
