"""Classification: its loss and its figures by hand, and nets that are averaged."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet
from tinynet import nn
from tinynet.training.inputs import Inputs, batch_of
from tinynet.training.measure import Measure
from tinynet.training.task import Classification

TOP1, TOP5 = Measure("top-1 error", "%"), Measure("top-5 error", "%")


def inputs(mean=0.0, size=4, **options):
    return Inputs("cpu", np.full((4, 4, 1), mean, np.float32), size, **options)


def task_of(classes, **options):
    return Classification(inputs(), [f"class {k}" for k in range(classes)], **options)


def says(*logits):
    """A net that says the same to every batch; several: a list, as with auxiliary classifiers."""

    class Says(nn.Module):
        def forward(self, x):
            told = [tinynet.tensor(np.array(each, np.float32)) for each in logits]
            return told if len(told) > 1 else told[0]

    return Says()


def entropy(logits, labels, smoothing=0.0):
    logits = np.array(logits, np.float64)
    log = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    wanted = np.eye(logits.shape[1])[labels] * (1 - smoothing) + smoothing / logits.shape[1]
    return -(wanted * log).sum(axis=1).mean()


@pytest.mark.parametrize("classes", [1, 4, 5, 6, 10])
def test_top_5_of_five_says_nothing(classes):
    task = task_of(classes)
    assert task.measures == {"top1_error": TOP1} | ({"top5_error": TOP5} if classes > 5 else {})
    assert task.chance == pytest.approx(np.log(classes)) and task.measured == ("top1_error",)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("auxiliary", [0.0, 0.3, 1.0])
def test_the_loss_and_the_error_of_a_batch(smoothing, auxiliary, rng):
    """Auxiliary classifiers count by their share, and neither smoothed nor in the error."""
    logits, early, other = rng.normal(size=(3, 6, 4)).round(3)
    labels = np.array([0, 1, 2, 3, 0, 1])
    logits[2] = 0.5  # a tie is wrong
    task = task_of(4, label_smoothing=smoothing, auxiliary=auxiliary)
    model = says(logits, early, other) if auxiliary else says(logits)
    loss, (error,) = task.loss(model, None, tinynet.tensor(labels))
    expected = entropy(logits, labels, smoothing)
    if auxiliary:
        expected += auxiliary * (entropy(early, labels) + entropy(other, labels))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    truth = logits[np.arange(6), labels]
    others = np.where(np.eye(4)[labels] == 1, -np.inf, logits).max(axis=1)
    assert error == pytest.approx(100 * (others >= truth).mean())


def test_the_figures_of_a_test_and_what_is_kept_of_it(tmp_path):
    """Of four pictures one is right at once, one among five, one among six, one last."""
    logits = np.arange(7.0)[None].repeat(4, axis=0)
    labels = np.array([6, 2, 1, 0])
    pictures = [np.full((4, 4, 1), 9, np.uint8)] * 4
    batch = dataclasses.replace(batch_of(pictures, 4), labels=labels)
    task = task_of(7)
    found = task.test(says(logits).eval(), [batch])
    assert found == {"loss": pytest.approx(entropy(logits, labels)), "top1_error": 75.0,
                     "top5_error": 50.0}  # fmt: skip
    assert task.count(batch) == task.weight(batch) == 4 and task.damaged(batch) == {}
    left_out = dataclasses.replace(batch, damaged={2: "why"})  # of five
    assert task.damaged(left_out) == {2: "why"} and task.count(left_out) == 4
    task.save(tmp_path)
    kept = json.loads((tmp_path / "evaluation.json").read_text())
    assert list(kept["views"]) == ["1"] and kept["views"]["1"]["top5_error"] == 50.0
    assert kept["confusion"][6] == [0] * 6 + [1]
    both = task_of(7)  # of two ranks that see the same
    both.steps = SimpleNamespace(ranks=SimpleNamespace(gather=lambda mine: [mine, mine]))
    assert both.test(says(logits), [batch])["top1_error"] == 75.0 and both._found.count == 8
    five = task_of(5)
    assert five.test(says(np.eye(5)[:4]), [dataclasses.replace(batch, labels=np.arange(4))]) == {
        "loss": pytest.approx(entropy(np.eye(5)[:4], np.arange(4))), "top1_error": 0.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "alike"),
    [
        ({}, True),
        ({"mean": 1.0}, False),
        ({"scale": 2.0}, False),
        ({"border": 1}, False),
    ],
)
def test_nets_that_see_the_same_share_their_inputs(options, alike):
    """What is alike is made once for each batch; anything that differs is not alike."""
    first, other = task_of(3), Classification(inputs(**options), ["a", "b", "c"])
    first.also(other)
    assert first.each == [first.make_inputs, first.make_inputs if alike else other.make_inputs]
    first.also(task_of(3))
    assert first.each[2] is first.make_inputs


def test_a_checkpoint_keeps_the_mean_picture():
    task = Classification(inputs(mean=7.0), ["a", "b"])
    (mean,) = task.arrays().values()
    assert list(task.arrays()) == ["mean"] and (mean == 7).all() and mean.shape == (4, 4, 1)
