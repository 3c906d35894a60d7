"""Cases of what moves elements: shapes, indexing, concatenation, other devices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.arithmetic import concat, stack
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("reshape", accepts=("integers",))
def _reshape(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.reshape(4, -1), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("flatten", accepts=("integers",))
def _flatten(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.flatten(1), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.flatten(), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("squeeze", accepts=("integers",))
def _squeeze(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.squeeze(), [layouts(rng, rng.normal(size=(2, 1, 4, 1)))]
    yield lambda x: x.squeeze(1), [layouts(rng, rng.normal(size=(2, 1, 4, 1)))]


@cases("unsqueeze", accepts=("integers",))
def _unsqueeze(rng: np.random.Generator) -> Iterator[Case]:
    for axis in (0, 1, -1):
        yield lambda x, a=axis: x.unsqueeze(a), [layouts(rng, rng.normal(size=(2, 3)))]


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


@cases("stack", accepts=("integers",))
def _stack(rng: np.random.Generator) -> Iterator[Case]:
    for axis in (0, 1, -1):
        yield (
            lambda a, b, axis=axis: stack([a, b, a], axis),
            [layouts(rng, rng.normal(size=(2, 3))) for _ in range(2)],
        )


@cases("split", accepts=("integers",))
def _split(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.split([1, 3, 0], 2)[1], [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.split(3, -1)[1] * 2, [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: x.split(2)[0], [layouts(rng, rng.normal(size=(4, 3)))]


@cases("astype", accepts=("integers",))
def _astype(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.astype(x.dtype) * 2, [layouts(rng, rng.normal(size=(2, 3)))]
    yield lambda x: (x * x).clone(), [layouts(rng, rng.normal(size=(2, 3)))]


@cases("to", accepts=("integers",))
def _to(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: (x * 2).to("cpu:1") * 3, [layouts(rng, rng.normal(size=(2, 3)))]
    yield lambda x: x.to("cpu:1").to(x.device) * x, [layouts(rng, rng.normal(size=(2, 3)))]


@cases("pad", accepts=("integers",))
def _pad(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: F.pad(x, (1, 2)), [layouts(rng, rng.normal(size=(2, 3)))]
    yield lambda x: F.pad(x, (0, 1, 2, 0), 1.5), [layouts(rng, rng.normal(size=(2, 1, 3, 4)))]
