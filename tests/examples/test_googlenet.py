"""examples/history/googlenet.py: the counts of 2014, against PyTorch, resumed."""

from __future__ import annotations

import numpy as np
import pytest
from history_programs import (
    Labelled,
    assert_first_losses_agree,
    losses_of_both,
    random_batches,
    resumed_to_the_same_bits,
)

import tinynet
from tinynet.optim import SGD

import googlenet  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def sgd(net):
    return SGD(net.parameters(), 1e-2, momentum=0.9)


def test_the_counts_of_2014():
    """6,998,552 weights and biases; with both auxiliary classifiers 13,378,280. Table 1: what an
    inception module gives, and the sides of its maps.
    """
    net = googlenet.GoogLeNet(1000, 3, 224, "googlenet", CPU)
    early = [step for step in net.steps if isinstance(step, googlenet.Auxiliary)]
    extra = sum(p.size for step in early for p in step.parameters())
    assert len(early) == 2 and sum(p.size for p in net.parameters()) == 13_378_280
    assert extra == 13_378_280 - 6_998_552
    modules = [step for step in net.steps if isinstance(step, googlenet.Inception)]
    assert [m.maps for m in modules] == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


@pytest.mark.parametrize("side", [20, 28, 29, 32])
def test_small_nets_take_small_pictures(side, rng):
    net = googlenet.GoogLeNet(3, 1, side, "googlenet-mini", CPU)
    x = tinynet.tensor(rng.normal(size=(2, 1, side, side)).astype(np.float32))
    assert [logits.shape for logits in net(x)] == [(2, 3), (2, 3)]
    assert net.eval()(x).shape == (2, 3)


@pytest.mark.parametrize("side", range(57, 65))
def test_the_full_form_takes_pictures_of_any_side(side, monkeypatch):
    """The linear layers of its auxiliary classifiers are as wide as the maps that come to them."""
    monkeypatch.setattr(googlenet, "FULL", ("* /", 1.0))
    monkeypatch.setattr(googlenet, "round", lambda n: max(1, int(n) // 32), raising=False)
    net = googlenet.GoogLeNet(3, 1, side, "googlenet", CPU)
    with tinynet.no_grad():
        assert [y.shape for y in net(tinynet.zeros(2, 1, side, side))] == [(2, 3), (2, 3)]


def test_first_losses_are_those_of_pytorch(rng):
    net = googlenet.GoogLeNet(3, 1, 20, "googlenet-mini", CPU)
    batches = random_batches(rng, 3, 4, 1, 20, 20)
    assert_first_losses_agree("googlenet", net, sgd, Labelled(auxiliary=0.3), batches)


@pytest.mark.slow
def test_resumed_to_the_same_bits_then_asked(data, tmp_path, capsys):
    out = tmp_path / "run"
    start = ("--data", data, "--epochs", 2, "--batch-size", 8)
    resumed_to_the_same_bits(googlenet.main, out, start, 4)
    capsys.readouterr()
    assert googlenet.main(["--eval", str(out)]) == 0
    assert "centre view" in capsys.readouterr().out


@pytest.mark.slow
def test_steps_of_the_full_form_are_those_of_pytorch(rng):
    """Pictures of 224x224: every layer has its gradient."""
    net = googlenet.GoogLeNet(1000, 3, 224, "googlenet", CPU)
    batch = rng.normal(size=(2, 3, 224, 224)).astype(np.float32), np.array([3, 500])
    optimizer, task = SGD(net.parameters(), 1e-3), Labelled(auxiliary=0.3)
    ours, theirs = losses_of_both("googlenet", net, optimizer, task, [batch] * 2)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert ours[1] < ours[0]
    for name, p in net.named_parameters():
        assert np.isfinite(p.numpy()).all() and p.grad.numpy().any(), name
