"""Objective: its figures by hand, the same luck in every test, its glimpses."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet
import tinynet.functional as F
from tinynet import nn, random
from tinynet.parallel.ranks import Ranks
from tinynet.recording import is_grad_enabled
from tinynet.training.measure import Measure
from tinynet.training.objective import Objective

CPU = tinynet.device("cpu")
MEASURES = {name: Measure(name) for name in ("largest", "size")}


def told(net, x, y):
    """In another order than they are measured, and with one that nobody asked for."""
    difference = x - y
    return {
        "size": (x * x).mean(),
        "more": x.sum(),
        "loss": (difference * difference).mean(),
        "largest": x.max(),
    }


def batch(*rows):
    return np.array(rows, np.float32), np.zeros((len(rows), 1), np.float32)


def test_the_figures_of_a_test_are_means_over_its_examples():
    """Not over its batches, of which the last one may be small, or empty."""
    task = Objective(CPU, told, MEASURES)
    found = task.test(nn.Identity(), [batch([1], [2], [3]), batch([5]), (np.zeros((0, 1)),) * 2])
    # loss: the mean of 1, 4, 9, 25; largest: 3 for three examples, 5 for one
    assert list(found) == ["loss", "largest", "size"]
    assert found == pytest.approx({"loss": 39 / 4, "largest": (3 * 3 + 5) / 4, "size": 39 / 4})
    assert task.test(nn.Identity(), [batch([2])]) == {"loss": 4, "largest": 2, "size": 4}
    assert task.test(nn.Identity(), []) == {"loss": 0, "largest": 0, "size": 0}
    loss, measured = task.loss(nn.Identity(), *task.inputs(batch([1], [4])))
    assert loss.item() == 8.5 and [float(value) for value in measured] == [4, 8.5]
    assert task.count(batch([1], [2])) == 2
    assert Objective(CPU, told, {}, unit="sweeps").count(batch([1], [2])) == 1


def test_inputs_and_figures_are_of_the_tasks_device():
    device = tinynet.device("cpu:1")
    task = Objective(device, told, MEASURES)
    given = task.inputs(batch([1], [4]))
    assert [x.device for x in given] == [device, device]
    loss, _ = task.loss(nn.Identity(), *given)
    assert loss.device == device and task.device == device
    assert task.test(nn.Identity(), [batch([1], [4])])["loss"] == 8.5


def test_tests_have_the_same_luck_and_take_none_from_training(tmp_path):
    seen = []

    def lucky(net, x):
        y = F.dropout(x, 0.5)
        seen.append((y.numpy().tobytes(), is_grad_enabled()))
        return {"loss": y.sum()}

    def glimpse(net):
        lucky(net, tinynet.tensor(rows))
        return b"PNG"

    rows = np.ones((40, 3), np.float32)
    task = Objective(CPU, lucky, {}, glimpse=glimpse)
    state = random.get_state()
    for epoch in (1, 12):
        task.test(nn.Identity(), [(rows,)])
        task.after_epoch(nn.Identity(), tmp_path, epoch)
    with pytest.raises(ZeroDivisionError):
        task.function = lambda net, x: 1 / 0
        task.test(nn.Identity(), [(rows,)])
    assert random.get_state() == state
    assert len(seen) == 4 and set(seen) == {(seen[0][0], False)}
    F.dropout(tinynet.tensor(rows), 0.5)  # training draws on
    task.function = lucky
    task.test(nn.Identity(), [(rows,)])
    assert seen[4] == seen[0]
    random.manual_seed(0)  # of every version: old runs and new ones can be compared
    assert F.dropout(tinynet.tensor(rows), 0.5).numpy().tobytes() == seen[0][0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-001.png", "epoch-012.png"]
    Objective(CPU, lucky, {}).after_epoch(nn.Identity(), tmp_path, 2)
    assert len(list(tmp_path.iterdir())) == 2


def test_the_figures_of_a_test_are_those_of_all_ranks():
    """What each found is added up before it is divided: shares may have other sizes."""
    task = Objective(CPU, told, MEASURES, undivided="its table is one", best_by="size")
    assert (task.undivided, task.best_by, task.unit) == ("its table is one", "size", "examples")
    summed = []

    class Noting(Ranks):
        def sum(self, array):
            summed.append(np.asarray(array).tolist())
            return np.array([100.0, 200.0, 300.0, 50.0])

    task.steps = SimpleNamespace(
        ranks=Noting(), share=lambda examples, weight: contextlib.nullcontext(examples)
    )
    found = task.test(nn.Identity(), [batch([1], [2], [3]), batch([5])])
    assert found == {"loss": 2, "largest": 4, "size": 6}
    assert summed == [pytest.approx([39, 14, 39, 4])]
