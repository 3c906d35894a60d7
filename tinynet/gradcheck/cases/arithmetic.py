"""Cases of arithmetic: operators and reductions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.arithmetic import einsum, minimum, where
from tinynet.gradcheck.cases.inputs import apart, away_from_zero, layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("add", accepts=("integers", "arrays"))
def _add(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a + b, [rng.normal(size=(3, 4)), rng.normal(size=(3, 4))]
    yield lambda a, b: a + b, [rng.normal(size=(3, 1, 2)), rng.normal(size=(4, 1))]
    yield lambda a: a + 2.5, [rng.normal(size=3)]
    yield lambda a: 2 + a + a, [np.broadcast_to(rng.normal(size=3), (2, 3))]


@cases("sub", accepts=("integers", "arrays"))
def _sub(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a - b, [rng.normal(size=(3, 4)), rng.normal(size=4)]
    yield lambda a, b: a - b, [rng.normal(size=(1, 4)), rng.normal(size=(3, 1))]
    yield lambda a: 1 - a, [rng.normal(size=())]


@cases("mul", accepts=("integers", "arrays"))
def _mul(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a * b, [rng.normal(size=(3, 4)), rng.normal(size=(3, 4))]
    yield lambda a, b: a * b, [rng.normal(size=(2, 3, 1)), rng.normal(size=(1, 4))]
    yield lambda a: a * a * 3, [rng.normal(size=(2, 3))]


@cases("div", accepts=("integers", "arrays"))
def _div(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda a, b: a / b, [rng.normal(size=(3, 4)), away_from_zero(rng, 3, 4)]
    yield lambda a, b: a / b, [rng.normal(size=(2, 1, 4)), away_from_zero(rng, 3, 1)]
    yield lambda a: 2 / a, [away_from_zero(rng, 5)]


@cases("neg", accepts=("integers",))
def _neg(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: -x, [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("pow", accepts=("integers",))
def _pow(rng: np.random.Generator) -> Iterator[Case]:
    for p in (3, 2, 0.5, -1.5, 1, 0):
        yield lambda x, p=p: x**p, [rng.uniform(0.5, 2, (3, 4))]
    yield lambda x: x**3, [away_from_zero(rng, 4, 3)]
    yield lambda a, b: a**b, [rng.uniform(0.5, 2, (3, 4)), rng.normal(size=(2, 1, 4))]
    yield lambda b: 1.7**b, [layouts(rng, rng.normal(size=(3, 4)))]


@cases("maximum", accepts=("integers", "arrays"))
def _maximum(rng: np.random.Generator) -> Iterator[Case]:
    a, b = apart(rng, 2, 3, 4)
    yield F.maximum, [a, b]
    yield F.maximum, [apart(rng, 3, 1), apart(rng, 4) + 1 / 30]
    yield lambda x: F.maximum(x, 0), [apart(rng, 3, 4)]


@cases("minimum", accepts=("integers", "arrays"))
def _minimum(rng: np.random.Generator) -> Iterator[Case]:
    a, b = apart(rng, 2, 3, 4)
    yield minimum, [a, b]
    yield minimum, [apart(rng, 3, 1), apart(rng, 4) + 1 / 30]
    yield lambda x: minimum(x, 0), [apart(rng, 3, 4)]


@cases("where", accepts=("integers", "arrays"))
def _where(rng: np.random.Generator) -> Iterator[Case]:
    mask = rng.integers(0, 2, (3, 4)) > 0
    yield lambda a, b: where(mask, a, b), [rng.normal(size=(3, 4)), rng.normal(size=(3, 4))]
    yield lambda a, b: where(a > 0, a * a, b), [apart(rng, 3, 4), rng.normal(size=(2, 1, 4))]
    yield lambda a, b: where(a < b, a, 2 * b), [apart(rng, 3, 1), apart(rng, 4) + 1 / 30]
    yield lambda a: where(a > 0, 2.5, a), [layouts(rng, apart(rng, 3, 4))]


@cases("einsum", accepts=("integers",))
def _einsum(rng: np.random.Generator) -> Iterator[Case]:
    equations: list[tuple[str, list[tuple[int, ...]]]] = [
        ("ij,jk->ik", [(2, 3), (3, 4)]),
        ("bij,bjk->kbi", [(2, 3, 4), (2, 4, 2)]),
        ("ij->ji", [(2, 3)]),
        ("ijk->j", [(2, 3, 4)]),
        ("i,j", [(3,), (4,)]),
        ("ij,ij,j->i", [(2, 3), (2, 3), (3,)]),
        ("ijk,kl,l->", [(2, 3, 4), (4, 2), (2,)]),
    ]
    for equation, shapes in equations:
        yield (
            lambda *x, e=equation: einsum(e, *x),
            [layouts(rng, rng.normal(size=shape)) for shape in shapes],
        )


@cases("matmul", accepts=("integers", "arrays"))
def _matmul(rng: np.random.Generator) -> Iterator[Case]:
    for a, b in [
        ((3, 4), (4, 2)),
        ((4,), (4, 2)),
        ((3, 4), (4,)),
        ((4,), (4,)),
        ((2, 3, 4), (4, 2)),
        ((3, 4), (2, 4, 2)),
        ((5, 1, 3, 4), (2, 4, 2)),
        ((4,), (2, 4, 3)),
        ((2, 3, 4), (4,)),
    ]:
        yield (
            lambda a, b: a @ b,
            [layouts(rng, rng.normal(size=a)), layouts(rng, rng.normal(size=b))],
        )


@cases("sum", accepts=("integers",))
def _sum(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [
        (None, False),
        (None, True),
        (1, False),
        (-1, True),
        ((0, 2), False),
        ((2, 0), True),
    ]:
        yield lambda x, a=axis, k=keepdims: x.sum(a, k), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("mean", accepts=("integers",))
def _mean(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in [(None, False), (1, False), (-1, True), ((0, 2), False)]:
        yield lambda x, a=axis, k=keepdims: x.mean(a, k), [layouts(rng, rng.normal(size=(2, 3, 4)))]


AXES = [(None, False), (1, False), (-1, True), ((0, 2), False), ((1, 2), True)]


@cases("max", accepts=("integers",))
def _max(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in AXES:
        yield lambda x, a=axis, k=keepdims: x.max(a, k), [layouts(rng, apart(rng, 2, 3, 4))]


@cases("min", accepts=("integers",))
def _min(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in AXES:
        yield lambda x, a=axis, k=keepdims: x.min(a, k), [layouts(rng, apart(rng, 2, 3, 4))]


@cases("max_along", accepts=("integers",))
def _max_along(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.max(dim=1)[0], [layouts(rng, apart(rng, 2, 3, 4))]
    yield lambda x: x.max(dim=-1, keepdim=True)[0], [layouts(rng, apart(rng, 2, 3, 4))]


@cases("min_along", accepts=("integers",))
def _min_along(rng: np.random.Generator) -> Iterator[Case]:
    yield lambda x: x.min(dim=1)[0], [layouts(rng, apart(rng, 2, 3, 4))]
    yield lambda x: x.min(dim=-1, keepdim=True)[0], [layouts(rng, apart(rng, 2, 3, 4))]


@cases("prod", accepts=("integers",))
def _prod(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in AXES:
        yield lambda x, a=axis, k=keepdims: x.prod(a, k), [layouts(rng, apart(rng, 2, 3, 4))]
    zero = rng.normal(size=(3, 4))
    zero[1, 2] = zero[0, 0] = 0
    yield lambda x: x.prod(1), [zero]


@cases("cumsum", accepts=("integers",))
def _cumsum(rng: np.random.Generator) -> Iterator[Case]:
    for axis in (0, 1, -1):
        yield lambda x, a=axis: x.cumsum(a), [layouts(rng, rng.normal(size=(2, 3, 4)))]


@cases("var", accepts=("integers",))
def _var(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in AXES:
        yield (
            lambda x, a=axis, k=keepdims: x.var(a, keepdims=k),
            [layouts(rng, rng.normal(size=(2, 3, 4)))],
        )
    yield (
        lambda x: x.var(1, correction=0, keepdims=True),
        [layouts(rng, rng.normal(size=(2, 3, 4)))],
    )


@cases("std", accepts=("integers",))
def _std(rng: np.random.Generator) -> Iterator[Case]:
    for axis, keepdims in AXES:
        yield (
            lambda x, a=axis, k=keepdims: x.std(a, keepdims=k),
            [layouts(rng, rng.normal(size=(2, 3, 4)))],
        )
    yield (
        lambda x: x.std(1, correction=0, keepdims=True),
        [layouts(rng, rng.normal(size=(2, 3, 4)))],
    )


@cases("norm", accepts=("integers",))
def _norm(rng: np.random.Generator) -> Iterator[Case]:
    for p in (2, 1, 3, 1.5, np.inf):
        yield lambda x, p=p: x.norm(p), [layouts(rng, apart(rng, 2, 3, 4) + 1 / 40)]
        yield lambda x, p=p: x.norm(p, 1, True), [layouts(rng, apart(rng, 2, 3, 4) + 1 / 40)]
