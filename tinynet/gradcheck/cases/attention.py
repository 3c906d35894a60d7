"""Cases of what sequences of words need."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("attention")
def _attention(rng: np.random.Generator) -> Iterator[Case]:
    for N, T, S, D, E, heads in [(2, 3, 4, 2, 3, 1), (1, 4, 4, 4, 6, 2), (2, 1, 3, 3, 3, 3)]:
        inputs = [layouts(rng, rng.normal(size=s)) for s in ((N, T, D), (N, S, D), (N, S, E))]
        yield partial(F.attention, heads=heads), inputs
        yield partial(F.attention, heads=heads, causal=True), inputs
        mask = rng.random((N, T, S)) < 0.6
        mask[..., 0] = True
        yield partial(F.attention, heads=heads, mask=mask), inputs
        yield partial(F.attention, heads=heads, mask=mask[0], causal=True), inputs
    yield lambda x: F.attention(x, x, x, 2, causal=True), [rng.normal(size=(2, 3, 4))]


@cases("embedding")
def _embedding(rng: np.random.Generator) -> Iterator[Case]:
    for shape in [(5,), (2, 3), ()]:
        tokens = rng.integers(0, 4, shape)  # some stand at several places
        yield lambda w, t=tokens: F.embedding(t, w), [layouts(rng, rng.normal(size=(4, 3)))]
