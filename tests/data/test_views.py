"""What Pictures makes of the data: which views a net is tested by, and what is said of it."""

from __future__ import annotations

import numpy as np
import pytest

import tinynet
from tinynet import Tensor
from tinynet.data import ArrayDataset, Loader, ten_views
from tinynet.program import Pictures
from tinynet.training.evaluate import Evaluation, probabilities

CLASSES = [f"class {k}" for k in range(6)]


def test_views_that_are_the_same_are_one():
    assert len(ten_views((32, 32, 3), 28)) == 10
    assert ten_views((28, 28, 1), 28) == [(0, 0, False), (0, 0, True)]
    assert ten_views((28, 28, 1), 28, mirrored=False) == [(0, 0, False)]
    assert ten_views((32, 30, 1), 28, mirrored=False) == ten_views((32, 30, 1), 28)[:5]


@pytest.mark.parametrize(
    ("channels", "crop", "flip", "views"),
    [
        (1, 8, None, []),  # grey and whole: neither cut nor mirrored in training
        (1, 6, None, [5]),  # cut, not mirrored
        (3, 8, None, [2]),  # mirrored, not cut
        (3, 6, None, [10]),
        (3, 6, False, [5]),
        (1, 6, True, [10]),
    ],
)
def test_a_net_is_tested_by_views_it_was_trained_on(rng, channels, crop, flip, views):
    pictures = rng.integers(0, 256, (7, 8, 8, channels), np.uint8)
    dataset = ArrayDataset(pictures, np.arange(7) % 6, CLASSES)
    data = Pictures(flip=flip, crop=crop)
    settings = {**data.settings(), "batch_size": 4, "seed": 0, "workers": 0}
    about = {**data.describe(settings, dataset), **data.state(), "preset": "x"}
    task = data.task(about, data.arrays(about, dataset), (tinynet.device("cpu"),))
    seen = []

    def model(x: Tensor) -> Tensor:
        seen.append(x.numpy().copy())
        return tinynet.tensor(x.numpy().reshape(x.shape[0], -1)[:, :6].copy())

    with data.loader(settings, about, dataset, train=False) as tests:
        result = data.evaluate([model], task, tests, full=True)
    assert list(result) == [1, *views]
    seen.clear()
    batch = next(iter(Loader(dataset, 7, crop=crop, train=False).epoch(0)))
    probabilities([model], batch, task.make_inputs, max(result))
    distinct = {each.tobytes() for each in seen}
    assert len(distinct) == len(seen) == max(result)
    said = list(data.tell(result))
    assert said[0].startswith("centre view: top-1 error ") and "top-5 error" in said[0]
    if views:
        words = {2: "two views:   ", 5: "five views:  ", 10: "ten views:   "}[views[0]]
        assert said[1].startswith(words + "top-1 error ")
    else:
        assert said[1] == (
            "one view: these pictures are neither cut nor mirrored, so all ten are the same"
        )


@pytest.mark.parametrize("count", [2, 5, 6])
def test_the_top_five_of_five_classes_is_not_told(rng, count):
    found = Evaluation(CLASSES[:count], np.eye(count, dtype=int), np.zeros(count, int), count)
    for text in (next(iter(Pictures().tell({1: found}))), Pictures().reached({1: found})):
        assert ("top-5" in text) == (count > 5) and "top-1 error 0.00 %" in text


def test_what_is_right_and_what_is_wrong_is_not_exchanged():
    confusion = np.array([[2, 0], [1, 1]])
    found = Evaluation(["a", "b"], confusion, np.array([0, 1]), 4)
    assert Pictures().reached({1: found}).startswith("names 75.00 % of the 4 test pictures right")
    assert "top-1 error 25.00 %" in Pictures().reached({1: found})
