"""A small network, all of it at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.gradcheck.cases.table import Case, cases


@cases("(a small network)")
def _network(rng: np.random.Generator) -> Iterator[Case]:
    def network(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any) -> Any:
        x = F.local_response_norm(F.relu(F.conv2d(x, w1, b1, padding=1)), 3, alpha=1.0)
        x = F.relu(F.conv2d(F.max_pool2d(x, 3, 2), w2, b2, groups=2))
        return F.cross_entropy(F.dropout(F.linear(x.flatten(1), w3), 0.5), [0, 2])

    shapes = [(2, 2, 7, 7), (4, 2, 3, 3), (4,), (4, 2, 2, 2), (4,), (3, 16)]
    yield network, [rng.normal(size=shape) for shape in shapes]
