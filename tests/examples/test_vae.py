"""examples/history/vae.py: against PyTorch, its bound by hand, resumed, asked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from history_programs import (
    assert_first_losses_agree,
    losses_here,
    random_batches,
    resumed_to_the_same_bits,
)

import tinynet
from tinynet.data import fashion_mnist
from tinynet.training.objective import Objective

import vae  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def adam(net):
    return tinynet.optim.Adam(net.parameters(), 1e-2)


def test_first_losses_are_those_of_pytorch(rng):
    batches = [(x,) for x, _ in random_batches(rng, 5, 6, 1, 8, 8)]
    net = vae.VAE((1, 8, 8), 20, 4, CPU)
    assert_first_losses_agree("vae", net, adam, Objective(CPU, vae.bound, {}), batches)


@pytest.mark.slow
def test_an_epoch_ends_within_a_hundredth_of_pytorch():
    """Each with luck of its own."""
    torch = pytest.importorskip("torch")
    from sides.pytorch_history import LOSSES, Torch

    train, test = fashion_mnist()
    x, tests = (np.moveaxis(part.pictures, 3, 1) / np.float32(255) for part in (train, test))
    batches = [(x[i : i + 64],) for i in range(0, 10_000, 64)]
    tinynet.manual_seed(0)
    net = vae.VAE((1, 28, 28), 400, 20, CPU)
    torch.manual_seed(0)
    other, task = Torch(net), Objective(CPU, vae.bound, {})
    adam = tinynet.optim.Adam(net.parameters(), 1e-3)
    theirs = other.optimizer(adam)
    for (batch,) in batches:
        theirs.zero_grad()
        LOSSES["vae"](other, torch.tensor(batch)).backward()
        theirs.step()
    losses_here(net, adam, task, batches)
    ours = task.test(net, [(tests,)])["loss"]
    with torch.no_grad():
        assert ours == pytest.approx(LOSSES["vae"](other, torch.tensor(tests)).item(), rel=0.01)
    assert ours < 300


def test_the_distance_from_a_normal_distribution(rng):
    """KL(N(m, s^2) || N(0, 1)) as the mean of log densities over many draws."""
    net = vae.VAE((1, 2, 2), 3, 1, CPU)
    net.mean.weight.data[...] = net.log_variance.weight.data[...] = 0
    net.mean.bias.data[...], net.log_variance.bias.data[...] = 0.7, np.log(0.25)
    figures = vae.bound(net, tinynet.zeros(1, 1, 2, 2))
    z = 0.7 + 0.5 * rng.normal(size=200_000)
    expected = np.mean(-((z - 0.7) ** 2) / 0.5 - np.log(0.5) + z**2 / 2)
    assert figures["far"].item() == pytest.approx(expected, abs=0.02)
    assert figures["loss"].item() == pytest.approx(
        figures["far"].item() + figures["painted"].item(), rel=1e-5
    )


@pytest.mark.slow
def test_resumed_to_the_same_bits_then_asked(data, tmp_path, capsys):
    out = tmp_path / "run"
    start = ("--data", data, "--epochs", 2, "--batch-size", 8)
    resumed_to_the_same_bits(vae.main, out, start, 4)
    assert all((out / f"{name}.png").exists() for name in ("samples", "pictures", "walk"))
    found = json.loads((out / "evaluation.json").read_text())["figures"]
    assert set(found) == {"loss", "painted", "far"}
    capsys.readouterr()
    assert vae.main(["--eval", str(out)]) == 0  # the same luck in every test
    assert f"test loss {found['loss']:.4f}" in capsys.readouterr().out
    assert vae.main(["--predict", str(out), str(data / "val" / "dark" / "0.png")]) == 0
    assert "log p at least -" in capsys.readouterr().out
