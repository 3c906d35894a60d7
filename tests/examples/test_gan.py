"""examples/history/gan.py: against PyTorch, who learns from whom, resumed, asked."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from history_programs import assert_first_losses_agree, random_batches, resumed_to_the_same_bits
from PIL import Image

import tinynet
from tinynet.optim import Adam
from tinynet.training.objective import Objective

import gan  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def adam(net):
    return Adam(net.parameters(), 2e-3, betas=(0.5, 0.999))


def test_first_losses_are_those_of_pytorch(rng, monkeypatch):
    """There, the judge's weights in the forger's loss are detached copies."""
    for name in ("randn", "ones", "zeros"):
        monkeypatch.setattr(tinynet, name, partial(getattr(tinynet, name), dtype=np.float64))
    batches = [(2 * x - 1,) for x, _ in random_batches(rng, 4, 6, 1, 8, 8)]
    net = gan.GAN(1, 8, 4, CPU)
    assert_first_losses_agree("gan", net, adam, Objective(CPU, gan.duel, {}), batches)
    assert all(p.requires_grad for p in net.parameters())


def test_the_distance_of_distributions(rng):
    x, y, z = (tinynet.tensor(rng.normal(size=(200, 3)) + shift) for shift in (0, 0, 1))
    assert gan.energy(x, x).item() == pytest.approx(0, abs=1e-12)
    assert 0 < gan.energy(x, y).item() < 0.1 < 0.5 < gan.energy(x, z).item()
    far = np.sqrt(((x.numpy()[:, None] - z.numpy()[None]) ** 2).sum(axis=2)).mean()
    near = [
        np.sqrt(((a.numpy()[:, None] - a.numpy()[None]) ** 2).sum(axis=2)).mean() for a in (x, z)
    ]
    assert gan.energy(x, z).item() == pytest.approx(2 * far - sum(near))


@pytest.mark.slow
def test_resumed_to_the_same_bits_then_asked(data, tmp_path, capsys):
    out = tmp_path / "run"
    start = ("--data", data, "--epochs", 2, "--batch-size", 8, "--crop", 16)
    resumed_to_the_same_bits(gan.main, out, start, 4)
    found = json.loads((out / "evaluation.json").read_text())
    assert [title for title, _ in found["pictures"]] == ["samples", "epochs 1, 2, from above"]
    assert all((out / name).stat().st_size > 500 for _, name in found["pictures"])
    first, last = (np.asarray(Image.open(out / f"epoch-00{n}.png")) for n in (1, 2))
    assert (first != last).any()
    assert (np.asarray(Image.open(out / "epochs.png")) == np.concatenate([first, last])).all()
    capsys.readouterr()
    assert gan.main(["--predict", str(out), str(data / "val" / "dark" / "0.png")]) == 0
    assert "says the judge" in capsys.readouterr().out
    assert gan.main(["--data", str(data), "--out", str(tmp_path / "no")]) == 2
    assert "a multiple of 4, got 18" in capsys.readouterr().err
