"""Cases of what moves elements: shapes, indexing, concatenation, other devices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.arithmetic import concat
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("reshape", accepts=("integers",))
def _reshape(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.reshape(4, -1), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.flatten(1), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.flatten(), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("transpose", accepts=("integers",))
def _transpose(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.transpose(), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.transpose(2, 0, 1), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.transpose(0, -1, 1), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("index", accepts=("integers",))
def _index(rng: np.random.Generator) -> Iterator[Case]:
    for key in [
        1,
        -1,
        slice(1, None),
        (slice(None), 2),
        (..., slice(None, None, -2)),
        None,
        [0, 1, 1, 0],
        (np.array([[0, 1], [1, 1]]), 2),
        np.array([[True, False, True], [False, True, True]]),
        (slice(None), [2, 2, 0], slice(1, 3)),
    ]:
        yield lambda x, key=key: x[key], [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("concat", accepts=("integers",))
def _concat(rng: np.random.Generator) -> Iterator[Case]:
    parts = [rng.normal(size=(2, n, 3)) for n in (1, 4, 2)]
    yield lambda a, b, c: concat([a, b, c], 1), [layouts(rng, part) for part in parts]
    yield lambda a, b, c: concat([c.transpose(), a.transpose(), b.transpose()], -2), parts
    yield lambda a: concat([a, a * 2]), [rng.normal(size=3)]


@cases("to", accepts=("integers",))
def _to(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: (x * 2).to("cpu:1") * 3, [layouts(rng, rng.normal(size=(2, 3)))]
    yield lambda x: x.to("cpu:1").to(x.device) * x, [layouts(rng, rng.normal(size=(2, 3)))]


@cases("pad", accepts=("integers",))
def _pad(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: F.pad(x, (1, 2)), [layouts(rng, rng.normal(size=(2, 3)))]
    yield lambda x: F.pad(x, (0, 1, 2, 0), 1.5), [layouts(rng, rng.normal(size=(2, 1, 3, 4)))]
