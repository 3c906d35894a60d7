"""The last hidden layer's outputs for a picture, and which pictures are alike by them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from tinynet.data import Batch
from tinynet.recording import no_grad
from tinynet.training.inputs import Inputs


def features(model, batches: Iterable[Batch], inputs: Inputs) -> np.ndarray:
    """`model.features` of every picture, float32 (N, F): for AlexNet the outputs of fc7, F = 4096.

    The model must be in eval() mode.
    """
    found = []
    with no_grad():
        for batch in batches:
            x, _ = inputs(batch)
            found.append(np.ascontiguousarray(model.features(x).numpy()))
    return np.concatenate(found)


def nearest(query: np.ndarray, among: np.ndarray, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """The rows of `among` (N, F) nearest to `query` (F,): their places and Euclidean distances.

    The paper's test of the features (section 6.1): pictures whose vectors are close look alike,
    though pixel by pixel they may be far apart.
    """
    distance = np.sqrt(((among - query) ** 2).sum(axis=1))
    places = np.argsort(distance, kind="stable")[:count]
    return places, distance[places]
