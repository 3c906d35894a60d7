"""Cases of losses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import away_from_zero, layouts
from tinynet.gradcheck.cases.table import Case, cases

REDUCTIONS = "mean", "sum", "none"


@cases("cross_entropy")
def _cross_entropy(rng: np.random.Generator) -> Iterator[Case]:
    for reduction in REDUCTIONS:
        target = rng.integers(0, 5, 4)
        yield (
            lambda x, t=target, r=reduction: F.cross_entropy(x, t, r),
            [layouts(rng, rng.normal(size=(4, 5)))],
        )
        for shape in [(5,), (4, 5), (2, 3, 5), (2, 1, 3, 4)]:
            target = rng.integers(0, shape[-1], shape[:-1])
            yield (
                lambda x, t=target, r=reduction: F.cross_entropy(x, t, r, label_smoothing=0.4),
                [layouts(rng, rng.normal(size=shape))],
            )
    target = rng.integers(0, 5, (2, 3))
    yield lambda x: F.cross_entropy(x, target), [layouts(rng, rng.normal(size=(2, 3, 5)))]


@cases("nll_loss")
def _nll_loss(rng: np.random.Generator) -> Iterator[Case]:
    for reduction in REDUCTIONS:
        for shape in [(4, 5), (5,), (2, 3, 5), (2, 1, 3, 4)]:
            target = rng.integers(0, shape[-1], shape[:-1])
            yield (
                lambda x, t=target, r=reduction: F.nll_loss(x, t, r),
                [layouts(rng, rng.normal(size=shape))],
            )


@cases("mse_loss")
def _mse_loss(rng: np.random.Generator) -> Iterator[Case]:
    for reduction in REDUCTIONS:
        for shape in [(4, 5), (2, 3, 4), (3,)]:
            yield (
                lambda x, t, r=reduction: F.mse_loss(x, t, r),
                [layouts(rng, rng.normal(size=shape)) for _ in range(2)],
            )
    yield lambda x: F.mse_loss(x * 2, x), [rng.normal(size=(3, 2))]
    yield F.mse_loss, [np.array(1.5), np.array(-0.3)]


@cases("bce_with_logits")
def _bce_with_logits(rng: np.random.Generator) -> Iterator[Case]:
    for reduction in REDUCTIONS:
        for shape in [(4, 5), (2, 3, 4), (3,)]:
            yield (
                lambda x, t, r=reduction: F.bce_with_logits(x, t, r),
                [
                    layouts(rng, away_from_zero(rng, *shape)),
                    layouts(rng, rng.uniform(size=shape)),
                ],
            )
    yield F.bce_with_logits, [np.array(1.5), np.array(0.3)]
    far = np.array([-30.0, -8.0, 8.0, 30.0])  # where exp(-|x|) counts for nothing
    yield F.bce_with_logits, [far, rng.uniform(size=4)]
