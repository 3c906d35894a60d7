"""Language models: what a test counts, by hand."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet.training.language import LanguageModel

P = np.array([[[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]], [[0.3, 0.3, 0.4], [0.5, 0.25, 0.25]]])
Q = P[:, ::-1]
TARGETS = np.array([[0, 1], [-1, 1]])  # the first of the second sequence is not asked for


def says(shares):
    def net(rows):
        assert len(rows)  # not every net takes a batch without rows
        return tinynet.tensor(np.log(shares)[rows])

    return net


def test_figures_are_means_over_the_tokens_asked_for():
    task = LanguageModel(tinynet.device("cpu"), 3)
    batches = [(np.array([k]), TARGETS[k : k + 1]) for k in (0, 1)]
    found = task.measure([says(P)], batches)
    assert found["loss"] == pytest.approx(-np.log(0.7 * 0.8 * 0.25) / 3)
    assert found["perplexity"] == pytest.approx((0.7 * 0.8 * 0.25) ** (-1 / 3))
    assert found["right"] == pytest.approx(200 / 3)
    assert task.chance == np.log(3) and [task.weight(b) for b in batches] == [2, 1]
    empty = np.zeros(0, int), np.zeros((0, 2), int)
    assert task.test(says(P), [*batches, empty]) == found
    assert task.test(says(P), []) == {"loss": 0, "perplexity": 1, "right": 0}
    both = task.measure([says(P), says(Q)], batches)
    mean = (P + Q) / 2
    right = mean[0, 0, 0] * mean[0, 1, 1] * mean[1, 1, 1]
    assert both["loss"] == pytest.approx(-np.log(right) / 3)
    assert both["right"] == pytest.approx(100 / 3)  # 1, 1 and 0 are said; Q alone names none right
    loss, (share,) = task.loss(says(P), np.array([0, 1]), TARGETS)
    assert loss.item() == pytest.approx(found["loss"]) and share == pytest.approx(200 / 3)
