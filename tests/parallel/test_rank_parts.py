"""Small parts: shares of a batch, devices of a rank, rates of a large batch, what is the same."""

from __future__ import annotations

import sys
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from same import Same

import tinynet
import tinynet.functional as F
from tinynet.data.loader import part_of
from tinynet.parallel import ranks
from tinynet.parallel.ranks import RanksError
from tinynet.parallel.steps import Steps
from tinynet.program import together
from tinynet.program.runs import devices_of_rank
from tinynet.sharing import Share, shared
from tinynet.tensors import Tensor

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import alexnet

sys.path.pop(0)


def test_parts_are_the_whole_and_differ_by_one():
    for count in (0, 1, 7, 128):
        for R in (1, 2, 3, 8):
            parts = [part_of((r, R), count) for r in range(R)]
            rows = [row for part in parts for row in range(count)[part]]
            sizes = [part.stop - part.start for part in parts]
            assert rows == list(range(count)) and max(sizes) - min(sizes) <= 1


def rows(make: Any, first: int, count: int, total: int) -> np.ndarray:
    tinynet.manual_seed(4)
    with shared(Share(first, count, total, lambda value: [value])):
        return np.asarray(make(count).numpy())


@pytest.mark.parametrize(
    "make",
    [
        lambda n: tinynet.randn(n, 3),
        lambda n: tinynet.rand(n),
        lambda n: F.dropout(tinynet.ones(n, 4, 2), 0.5),
        lambda n: F.dropout(tinynet.ones(3 * n, 5), 0.5),  # three rows an example
    ],
)
def test_random_numbers_of_shares_are_those_of_the_batch(make):
    whole = rows(make, 0, 10, 10)
    parts = [rows(make, first, count, 10) for first, count in ((0, 3), (3, 3), (6, 4))]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(np.unique(whole)) > 1


def test_numbers_that_are_not_the_batchs_are_the_same_everywhere():
    for shape in [(7, 2), (6, 2), (9,), (2, 3), (1,), (0, 3), (0,), ()]:
        for make in (tinynet.rand, tinynet.randn):
            parts = [rows(lambda n, x=(make, shape): x[0](x[1]), first, 3, 6) for first in (0, 3)]
            tinynet.manual_seed(4)
            np.testing.assert_array_equal(parts, [make(shape).numpy()] * 2)


def test_dropout_of_what_has_no_batch_is_refused():
    with shared(Share(0, 4, 8, lambda value: [value])):
        with pytest.raises(ValueError, match="dropout: expected the batch along the first axis, 4"):
            F.dropout(tinynet.ones(6, 4), 0.5)


def test_a_share_stays_as_it_is():
    """Whatever looks at the whole batch is given the same one."""
    with pytest.raises(FrozenInstanceError):
        Share(0, 4, 8, lambda value: [value]).first = 4


def test_who_is_alone_and_who_needs_mpi(monkeypatch):
    for name in ranks.JOINED:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    start = ranks.start.__wrapped__
    assert start() is ranks.ALONE
    for name in ranks.JOINED:
        for told, alone in (("1", name in ranks.SIZES), ("2", False)):
            monkeypatch.setenv(name, told)
            if alone:
                assert start() is ranks.ALONE
            else:
                with pytest.raises(RanksError, match="expected mpi4py, to join its processes"):
                    start()
        monkeypatch.delenv(name)


def test_the_devices_of_a_rank():
    assert devices_of_rank("cuda:0", 3) == "cuda:3"
    assert devices_of_rank("cuda:0, cuda:1", 2) == "cuda:4,cuda:5"
    assert devices_of_rank("cuda:0,cuda:0", 2) == "cuda:2,cuda:2"
    assert devices_of_rank("cuda", 1) == "cuda:1"
    assert devices_of_rank("cpu:0,cpu:1", 5) == "cpu:0,cpu:1"


def test_facts_that_differ_are_named(monkeypatch):
    class Other(Same):
        def gather(self, value: Any) -> list[Any]:
            name, facts = value
            return [(name, facts), ("rank 1 on b", {**facts, "--seed": "1"})]

    together.check_alike(Same(2), lambda: {"--seed": "0"})
    with pytest.raises(RanksError, match="rank 1 on b: expected --seed '0', as rank 0 has, got '1"):
        together.check_alike(Other(2), lambda: {"--seed": "0"})


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--limit-pictures", "100,5", "--epochs", "1", "--limit-batches", "1"]

    def start(*arguments: str) -> tuple[int, str]:
        status = alexnet.main([*few, "--out", "run", *arguments])
        said = capsys.readouterr()
        return status, said.out + said.err

    return start


@pytest.mark.parametrize(
    "rule, lr", [("linear", "0.005"), ("sqrt", "0.01")]
)  # a quarter of the recipe's batch: as many times the rate, or the root
def test_the_rate_follows_the_batch(rule, lr, run):
    status, said = run("--batch-size", "16", "--scale-lr", rule)
    assert status == 0 and f"the rate is {lr}, the recipe's 0.02 scaled" in said
    assert f"lr {lr}" in said


def test_a_rate_that_stays_is_told(run):
    status, said = run("--batch-size", "96")
    assert status == 0
    assert "the rate stays 0.02: --scale-lr would make it 0.03 (linear) or 0.0245 (sqrt)" in said


def test_a_rate_is_given_or_scaled(run):
    status, said = run("--lr", "0.1", "--scale-lr", "sqrt")
    assert status == 2 and "--scale-lr is of the recipe's rate" in said
    status, said = run("--exchange", "factors")
    assert status == 2 and "--exchange is for several ranks" in said


def test_rates_of_groups_and_of_the_story_are_scaled(tmp_path):
    from tinynet.program.starting import scale_fixed, scaled

    recipe = alexnet.RECIPES["cfg145"]
    settings = {**recipe.settings(), "scale_lr": "linear", "batch_size": 256}
    new = scaled(settings, recipe)
    assert new["lr"] == 0.02
    assert ["67", "conv1.lr", "2e-05"] == [str(each) for each in new["story"][0]]
    assert new["story"][1:] == settings["story"][1:]  # of noise, and what freezes
    weight = Tensor(np.zeros(2, np.float32), tinynet.device("cpu"), requires_grad=True)
    optimizer = tinynet.optim.SGD([{"params": [weight], "fixed_lr": 0.02}], 0.02)
    scale_fixed(optimizer, new, recipe)
    assert optimizer.param_groups[0]["fixed_lr"] == 0.04


def test_alone_figures_are_handed_on_unread():
    """Arrays of the device, as they came: to read one would wait for it at every step."""
    x = tinynet.tensor([1.0, 2.0], requires_grad=True)
    figures = [np.array(0.5), np.array(3)]
    found = Steps().backward((x * x).sum(), figures)
    assert all(a is b for a, b in zip(found, figures, strict=True)) and x.grad.tolist() == [2, 4]
