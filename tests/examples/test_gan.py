"""examples/history/gan.py: against PyTorch, who learns from whom, resumed, asked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from history_programs import Torch, losses_here, random_batches, resumed_to_the_same_bits

import tinynet
from tinynet.optim import Adam
from tinynet.training.objective import Objective

import gan  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def test_first_losses_are_those_of_pytorch(rng):
    """There, each has an optimiser of its own, and both gradients are of the same weights."""
    torch = pytest.importorskip("torch")
    TF = torch.nn.functional
    batches = [(2 * x - 1,) for x, _ in random_batches(rng, 4, 6, 1, 8, 8)]
    net = gan.GAN(1, 8, 4, CPU)
    other = Torch(torch, net)

    def norm(name, x):
        return TF.batch_norm(x, None, None, *other.of(name), True)

    def up(name, x):
        return TF.conv_transpose2d(x, *other.of(name), 2, 1)

    def forge(z):
        x = other.linear("forger.fc", z).reshape(-1, *net.forger.shape)
        x = norm("forger.norm2", up("forger.up1", norm("forger.norm1", x).relu())).relu()
        return up("forger.up2", x).tanh()

    def judge(x):
        x = TF.leaky_relu(other.conv("judge.down1", x, stride=2, padding=1), 0.2)
        x = norm("judge.norm", other.conv("judge.down2", x, stride=2, padding=1))
        return other.linear("judge.fc", TF.leaky_relu(x, 0.2).flatten(1))[:, 0]

    parts = {
        part: [p for name, p in other.weights.items() if name.startswith(part)]
        for part in ("judge", "forger")
    }
    optimizers = {
        part: torch.optim.Adam(weights, 2e-3, betas=(0.5, 0.999)) for part, weights in parts.items()
    }
    tinynet.manual_seed(5)
    theirs = []
    for (x,) in batches:
        forged = forge(torch.tensor(tinynet.randn(len(x), gan.LUCK).numpy()))
        real, false = judge(torch.tensor(x)), judge(forged.detach())
        losses = dict(
            judge=(TF.softplus(-real) + TF.softplus(false)).mean(),
            forger=TF.softplus(-judge(forged)).mean(),
        )
        grads = {part: torch.autograd.grad(losses[part], parts[part]) for part in parts}
        for part, optimizer in optimizers.items():
            for p, grad in zip(parts[part], grads[part], strict=True):
                p.grad = grad
            optimizer.step()
        theirs.append(sum(losses.values()).item())
    tinynet.manual_seed(5)
    adam = Adam(net.parameters(), 2e-3, betas=(0.5, 0.999))
    ours = losses_here(net, adam, Objective(CPU, gan.duel, {}), batches)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert len({round(loss, 4) for loss in ours}) == 4
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
    assert [title for title, _ in found["pictures"]] == [
        "samples",
        "after epoch 1",
        "after epoch 2",
    ]
    assert all((out / name).stat().st_size > 500 for _, name in found["pictures"])
    capsys.readouterr()
    assert gan.main(["--predict", str(out), str(data / "val" / "dark" / "0.png")]) == 0
    assert "says the judge" in capsys.readouterr().out
    assert gan.main(["--data", str(data), "--out", str(tmp_path / "no")]) == 2
    assert "a multiple of 4, got 18" in capsys.readouterr().err
