"""examples/history/vgg.py: the counts of 2014, against PyTorch, resumed."""

from __future__ import annotations

from functools import partial

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
from tinynet import nn

import vgg  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def empty(monkeypatch):
    """Weights of zeros, which cost nothing: only their shapes are of interest."""
    monkeypatch.setattr(nn.init, "he", lambda: nn.init.constant(0))
    monkeypatch.setattr(nn.init, "normal", lambda sigma: nn.init.constant(0))


@pytest.mark.parametrize("preset, parameters", [("vgg16", 138_357_544), ("vgg11", 132_863_336)])
def test_the_counts_of_2014(preset, parameters, monkeypatch):
    """Table 2: 138 and 133 million, with 1,000 classes and pictures of 224x224."""
    empty(monkeypatch)
    net = vgg.VGG(1000, 3, 224, preset, CPU)
    assert sum(p.size for p in net.parameters()) == parameters
    layers = [m for m in net.modules() if type(m).__name__ in ("Conv2d", "Linear")]
    assert len(layers) == int(preset[3:])


def test_first_losses_are_those_of_pytorch(rng):
    batches = random_batches(rng, 4, 6, 1, 16, 16)
    net = vgg.VGG(3, 1, 16, "vgg-mini", CPU)
    assert_first_losses_agree("vgg", net, partial(vgg.sgd, lr=1e-2), Labelled(), batches)


@pytest.mark.slow
def test_resumed_to_the_same_bits_then_asked(data, tmp_path, capsys):
    out = tmp_path / "run"
    start = ("--data", data, "--epochs", 2, "--batch-size", 8)
    resumed_to_the_same_bits(vgg.main, out, start, 4)
    capsys.readouterr()
    assert vgg.main(["--predict", str(out), str(data / "val" / "dark" / "0.png")]) == 0
    assert "light" in capsys.readouterr().out


@pytest.mark.slow
def test_steps_of_the_full_form_are_those_of_pytorch(rng):
    """138 million weights, pictures of 224x224: every layer has its gradient."""
    net = vgg.VGG(1000, 3, 224, "vgg16", CPU)
    batch = rng.normal(size=(1, 3, 224, 224)).astype(np.float32), np.array([500])
    ours, theirs = losses_of_both("vgg", net, vgg.sgd(net, 1e-6), Labelled(), [batch] * 2)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    assert ours[1] < ours[0]
    for name, p in net.named_parameters():
        assert np.isfinite(p.numpy()).all() and p.grad.numpy().any(), name
