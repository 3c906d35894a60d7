"""Cases of activations."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.inputs import apart, layouts
from tinynet.gradcheck.cases.table import Case, cases

# Where exponentials are cut off or replaced, and where a rational approximation changes.
FAR = np.array([-12.0, -5.5, -3.1, -1.1, -0.4, 0.3, 0.9, 2.6, 4.2, 6.1, 14.0])


@cases("relu")
def _relu(rng: np.random.Generator) -> Iterator[Case]:
    yield F.relu, [layouts(rng, apart(rng, 2, 3, 4))]
    yield lambda x: F.relu(x + 0, inplace=True), [layouts(rng, apart(rng, 2, 3, 4, 2))]


@cases("leaky_relu")
def _leaky_relu(rng: np.random.Generator) -> Iterator[Case]:
    yield F.leaky_relu, [layouts(rng, apart(rng, 2, 3, 4))]
    for slope in (0.2, -0.5, 0.0):
        yield lambda x, s=slope: F.leaky_relu(x, s), [apart(rng, 2, 3, 4)]


@cases("elu")
def _elu(rng: np.random.Generator) -> Iterator[Case]:
    yield F.elu, [layouts(rng, apart(rng, 2, 3, 4))]
    yield lambda x: F.elu(x, 0.3), [FAR]


@cases("tanh")
def _tanh(rng: np.random.Generator) -> Iterator[Case]:
    yield F.tanh, [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield F.tanh, [FAR]


@cases("sigmoid")
def _sigmoid(rng: np.random.Generator) -> Iterator[Case]:
    yield F.sigmoid, [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield F.sigmoid, [FAR]


@cases("gelu")
def _gelu(rng: np.random.Generator) -> Iterator[Case]:
    for approximate in ("none", "tanh"):
        yield (
            lambda x, a=approximate: F.gelu(x, a),
            [layouts(rng, 2 * rng.normal(size=(2, 3, 4)))],
        )
        yield lambda x, a=approximate: F.gelu(x, a), [FAR[2:9]]


@cases("softmax")
def _softmax(rng: np.random.Generator) -> Iterator[Case]:
    for dim in (-1, 0, 1):
        yield lambda x, d=dim: F.softmax(x, d), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: F.softmax(x, 0), [FAR]


@cases("log_softmax")
def _log_softmax(rng: np.random.Generator) -> Iterator[Case]:
    for dim in (-1, 0, 1):
        yield lambda x, d=dim: F.log_softmax(x, d), [layouts(rng, rng.normal(size=(2, 3, 4)))]
    yield lambda x: F.log_softmax(x, 0), [FAR]
