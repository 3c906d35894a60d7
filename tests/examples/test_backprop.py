"""examples/history/backprop.py: the families, against PyTorch, learnt, resumed."""

from __future__ import annotations

import numpy as np
import pytest
from history_programs import assert_first_losses_agree, resumed_to_the_same_bits

import tinynet
from tinynet.optim import SGD
from tinynet.training.metrics import read_metrics
from tinynet.training.objective import Objective

import backprop  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def sgd(net):
    return SGD(net.parameters(), 0.01, momentum=0.9)


WORDS = backprop.PEOPLE + backprop.RELATIONS


def answers():
    """All questions, "Colin aunt", and the people that answer them."""
    found = {}
    for x, target in backprop.families():
        for row, people in zip(x, target, strict=True):
            question = " ".join(np.array(WORDS)[row > 0])
            found[question] = {backprop.PEOPLE[q] for q in np.flatnonzero(people)}
    return found


def test_the_families_of_1986():
    """24 people, 12 relations: 112 triples, 104 questions."""
    found = answers()
    assert len(found) == 104 and sum(map(len, found.values())) == 112
    assert found["Colin aunt"] == {"Jennifer", "Margaret"}
    assert found["Charlotte uncle"] == {"Arthur", "Charles"}
    assert found["Victoria mother"] == {"Penelope"} and found["Lucia mother"] == {"Maria"}
    assert found["Angela nephew"] == {"Alfonso"}
    assert found["Jennifer brother"] == {"James"} and "James brother" not in found
    assert found["Christopher wife"] == {"Penelope"} and "Colin wife" not in found


def test_first_losses_are_those_of_pytorch():
    (rows, _) = backprop.families()
    tinynet.manual_seed(1)
    net = backprop.Families(CPU)
    task = Objective(CPU, backprop.error, {}, unit="sweeps")
    assert_first_losses_agree("backprop", net, sgd, task, [rows] * 8)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("preset", ["xor", "families"])
def test_learnt_from_several_seeds(preset, seed, tmp_path):
    """All 100 questions, all four points."""
    out = tmp_path / "run"
    assert backprop.main(["--preset", preset, "--seed", str(seed), "--out", str(out)]) == 0
    last = [line for line in read_metrics(out) if line["kind"] == "train"][-1]
    assert last["wrong"] == 0


@pytest.mark.slow
def test_resumed_to_the_same_bits_then_asked(tmp_path, capsys):
    out = tmp_path / "run"
    resumed_to_the_same_bits(backprop.main, out, ("--epochs", 2, "--limit-batches", 3), 6)
    assert (out / "hidden.png").stat().st_size > 5000
    capsys.readouterr()
    assert backprop.main(["--predict", str(out), "Colin aunt", "Colin cousin"]) == 2
    found = capsys.readouterr()
    assert found.out.startswith("Colin aunt: ") and found.out.count(",") == 2
    assert "got 'Colin cousin'" in found.err
    assert backprop.main(["--eval", str(out)]) == 0
    assert "questions it was never taught" in capsys.readouterr().out
    assert backprop.main(["--batch-size", "2", "--out", str(tmp_path / "no")]) == 2
    assert "a step sees the whole table" in capsys.readouterr().err
