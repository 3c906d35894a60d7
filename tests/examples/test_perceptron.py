"""examples/history/perceptron.py: Rosenblatt's rule, what it learns, what it cannot."""

from __future__ import annotations

import numpy as np
from history_programs import assert_first_losses_agree, losses_here, resumed_to_the_same_bits

import tinynet
from tinynet.data import fashion_mnist
from tinynet.optim import SGD
from tinynet.training.metrics import read_metrics
from tinynet.training.objective import Objective

import perceptron  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def rule(net):
    return SGD(net.parameters(), 1.0)


def separable(rng, count):
    """Points of two classes, at least 0.2 from the line between them."""
    x = rng.normal(size=(10 * count, 3)).astype(np.float32)
    side = x @ np.array([1, -2, 0.5], np.float32) + 0.3
    x, side = x[abs(side) > 0.2][:count], side[abs(side) > 0.2][:count]
    return x, np.sign(side)


def test_a_step_is_rosenblatts_rule_and_mistakes_end(rng):
    x, target = separable(rng, 60)
    net = perceptron.Perceptron(3, CPU)
    optimizer, task = rule(net), Objective(CPU, perceptron.rule, {})
    w, b, mistakes = net.weight.numpy().copy(), net.bias.item(), []
    for _ in range(200):
        mistakes.append(0)
        for one, t in zip(x, target, strict=True):
            if t * (w @ one + b) <= 0:
                w, b = w + t * one, b + t
                mistakes[-1] += 1
            losses_here(net, optimizer, task, [(one[None], t[None])])
            np.testing.assert_array_equal(net.weight.numpy(), w)
            assert net.bias.item() == b
        if not mistakes[-1]:
            break
    assert mistakes[0] > 0 == mistakes[-1]


def test_first_losses_are_those_of_pytorch(rng):
    x, target = separable(rng, 30)
    net = perceptron.Perceptron(3, CPU)
    task = Objective(CPU, perceptron.rule, perceptron.WRONG)
    batches = [(x[i : i + 5], target[i : i + 5]) for i in range(0, 30, 5)]
    assert_first_losses_agree("perceptron", net, rule, task, batches)


def test_xor_is_never_learnt_and_a_run_resumes(tmp_path, capsys):
    for points, answers in perceptron.xor():
        assert [1 if a != b else -1 for a, b in points] == list(answers) and len(points) == 4
    out = tmp_path / "run"
    resumed_to_the_same_bits(perceptron.main, out, ("--preset", "xor", "--epochs", 12), 48)
    wrong = [line["wrong"] for line in read_metrics(out) if line["kind"] == "test"]
    assert len(wrong) == 12 and min(wrong) >= 25
    assert (out / "line.png").stat().st_size > 2000 and "1 xor 0" in (
        out / "report.html"
    ).read_text()
    said = capsys.readouterr().out.splitlines()
    assert "no straight line can part XOR" in said[-2]
    assert f"--predict {out} NUMBERS, for the answer for two numbers, such as '0 1'" in said[-1]
    assert perceptron.main(["--predict", str(out), "0 1", "0 x"]) == 2
    found = capsys.readouterr()
    assert found.out.startswith("0 1: ") and "0 x" in found.err
    assert perceptron.main(["--predict", str(out)]) == 2
    assert "at least one FILE|NUMBERS: the answer for a picture" in capsys.readouterr().err
    assert perceptron.main(["--eval", str(out), str(out)]) == 2
    assert "they have no mean" in capsys.readouterr().err


def test_two_classes_of_pictures():
    for (x, target), part in zip(perceptron.pictures(), fashion_mnist(), strict=True):
        names = np.array(part.classes)[part.labels]
        rows = np.flatnonzero(np.isin(names, ["Bag", "Trouser"]))
        np.testing.assert_array_equal(target, np.where(names[rows] == "Bag", 1, -1))
        seen = [part.picture(int(row)).ravel() / np.float32(255) for row in rows]
        np.testing.assert_array_equal(x, seen)
