"""Cases of normalisation."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import layouts, off_kinks
from tinynet.gradcheck.cases.table import Case, cases
from tinynet.tensors import Tensor, tensor


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
    for beta in (0.75, 0.6):
        yield (
            lambda x, b=beta: F.local_response_norm(x, 3, 2.0, b, 2.0),
            [layouts(rng, rng.normal(size=(3, 5)))],
        )


@cases("spatial_response_norm")
def _spatial_response_norm(rng: np.random.Generator) -> Iterator[Case]:
    for size, beta in [(3, 0.75), (4, 0.75), (2, 0.6), (9, 0.75), (1, 0.75)]:
        yield (
            lambda x, n=size, b=beta: F.spatial_response_norm(x, n, alpha=3.0, beta=b, k=1.0),
            [layouts(rng, rng.normal(size=(2, 2, 5, 4)))],
        )
    for beta in (0.75, 0.6):
        yield (
            lambda x, b=beta: F.spatial_response_norm(x, 3, 2.0, b, 2.0),
            [layouts(rng, rng.normal(size=(2, 1, 4, 3)))],
        )


@cases("batch_norm")
def _batch_norm(rng: np.random.Generator) -> Iterator[Case]:
    def batch(*shape: int) -> list[np.ndarray]:
        x = layouts(rng, 1 + 2 * rng.normal(size=shape))
        return [x, *(rng.normal(size=shape[1]) for _ in range(2))]

    for shape in [(3, 2), (2, 3, 4), (3, 2, 2, 4), (2, 1, 2, 3, 2)]:
        x, w, b = batch(*shape)
        trained = partial(F.batch_norm, running_mean=None, running_var=None, training=True, eps=0.5)
        yield lambda x, w, b, f=trained: f(x, weight=w, bias=b), [x, w, b]
        yield trained, [x]
        yield lambda x, w, f=trained: f(x, weight=w), [x, w]
        yield lambda x, b, f=trained: f(x, bias=b), [x, b]
        mean, var = rng.normal(size=shape[1]), rng.uniform(0.5, 2, shape[1])
        for relu in (False, True):
            for training in (False, True):

                def moving(
                    x: Tensor,
                    w: Tensor,
                    b: Tensor,
                    at: tuple = (mean, var),
                    training: bool = training,
                    relu: bool = relu,
                ) -> Tensor:
                    real = np.empty(0, x.dtype).real.dtype  # also where gradcheck's x is complex
                    m, v = (tensor(a, real, x.device) for a in at)
                    return F.batch_norm(x, m, v, w, b, training, 0.3, 0.7, relu)

                shapes = shape, shape[1:2], shape[1:2]
                yield (
                    moving,
                    off_kinks(rng, partial(moving, relu=False), *shapes) if relu else [x, w, b],
                )


@cases("layer_norm")
def _layer_norm(rng: np.random.Generator) -> Iterator[Case]:
    for shape, axes in [((4, 3), 1), ((2, 3, 5), 1), ((2, 3, 4), 2), ((3, 2), 2), ((2, 2, 1), 1)]:
        x = layouts(rng, 1 + 2 * rng.normal(size=shape))
        w, b = rng.normal(size=(2, *shape[-axes:]))
        row = shape[-axes:] if axes > 1 else shape[-1]
        norm = partial(F.layer_norm, normalized_shape=row, eps=axes / 2)
        yield norm, [x]
        yield lambda x, w, b, f=norm: f(x, weight=w, bias=b), [x, w, b]
        yield lambda x, w, f=norm: f(x, weight=w), [x, w]
        yield lambda x, b, f=norm: f(x, bias=b), [x, b]
