"""Several operations at once: a small network, and nodes that several others use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import layouts
from tinynet.gradcheck.cases.table import Case, cases


@cases("(a small network)")
def _network(rng: np.random.Generator) -> Iterator[Case]:
    def network(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any) -> Any:
        x = F.local_response_norm(F.relu(F.conv2d(x, w1, b1, padding=1)), 3, alpha=1.0)
        x = F.relu(F.conv2d(F.max_pool2d(x, 3, 2), w2, b2, groups=2))
        return F.cross_entropy(F.linear(F.dropout(x.flatten(1), 0.5), w3), [0, 2])

    shapes = [(2, 2, 7, 7), (4, 2, 3, 3), (4,), (4, 2, 2, 2)]
    # A bias of 2: where no unit is active, all gradients are 0. Small last weights: where a softmax
    # gives 1 - 1e-16, all are rounding.
    b2, w3 = 2 + 0.1 * rng.normal(size=4), 0.1 * rng.normal(size=(3, 16))
    yield network, [*(rng.normal(size=shape) for shape in shapes), b2, w3]


@cases("(a shared node)")
def _shared(rng: np.random.Generator) -> Iterator[Case]:
    """Gradients that meet at a node add up, each in memory of its own."""

    def diamond(x: Any, z: Any) -> Any:
        a, b = x * 2, z * 3
        c = a + b
        return c + a * 5, c * b

    def squares(x: Any, y: Any) -> Any:
        q = x * y
        return q * q + q

    def row(x: Any, w: Any) -> Any:
        h = F.tanh(x @ w)
        return h.sum(0) + h[0] + h.transpose()[:, 1] * h.mean()

    yield squares, [rng.normal(size=(2, 3)), rng.normal(size=3)]
    yield diamond, [rng.normal(size=(2, 3)), rng.normal(size=(2, 3))]
    yield row, [layouts(rng, rng.normal(size=(4, 3))), rng.normal(size=(3, 5))]
