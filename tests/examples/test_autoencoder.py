"""examples/history/autoencoder.py: against PyTorch, PCA, resumed, asked."""

from __future__ import annotations

import json

import numpy as np
import pytest
from history_programs import assert_first_losses_agree, random_batches, resumed_to_the_same_bits

import tinynet
from tinynet.training.objective import Objective

import autoencoder  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def adam(net):
    return tinynet.optim.Adam(net.parameters(), 1e-3)


def test_first_losses_are_those_of_pytorch(rng):
    batches = [(x,) for x, _ in random_batches(rng, 5, 6, 1, 8, 8)]
    net = autoencoder.Autoencoder((1, 8, 8), 2, 0.0, CPU)
    task = Objective(CPU, autoencoder.loss, {})
    assert_first_losses_agree("autoencoder", net, adam, task, batches)


def test_noise_hides_a_share_of_the_pixels_and_not_of_the_target(rng):
    net = autoencoder.Autoencoder((1, 8, 8), 2, 0.25, CPU)
    x = tinynet.tensor(rng.uniform(0.1, 1, (50, 1, 8, 8)).astype(np.float32))
    spoilt = net.spoil(x).numpy()
    hidden = spoilt == 0
    assert 0.2 < hidden.mean() < 0.3 and (spoilt[~hidden] == x.numpy()[~hidden]).all()
    tinynet.manual_seed(3)
    loss = autoencoder.loss(net, x)["loss"].item()
    tinynet.manual_seed(3)
    given_back = net(net.spoil(x)).numpy()
    assert loss == pytest.approx(((given_back - x.numpy()) ** 2).sum() / 50, rel=1e-5)


def test_each_pixel_of_each_picture_has_its_own_luck():
    """Along no axis do two neighbours hide together more often than chance has it."""
    net = autoencoder.Autoencoder((3, 16, 16), 2, 0.25, CPU)
    tinynet.manual_seed(4)
    hidden, again = (net.spoil(tinynet.ones(12, 3, 16, 16)).numpy() == 0 for _ in "12")
    for axis in range(4):
        alike = hidden == np.roll(hidden, 1, axis)
        assert alike.mean() == pytest.approx(0.75**2 + 0.25**2, abs=0.03), axis
        rest = tuple({*range(4)} - {axis})
        np.testing.assert_allclose(hidden.mean(axis=rest), 0.25, atol=0.1)
    assert (hidden == again).mean() == pytest.approx(0.625, abs=0.03)


def test_pca_leaves_what_the_smaller_axes_hold(rng):
    x = rng.normal(size=(30, 1, 3, 4))
    flat = (x - x.mean(axis=0)).reshape(30, 12)
    axes = np.linalg.eigvalsh(flat.T @ flat)[::-1]
    for size in (1, 3):
        left = ((autoencoder.linear(x, x, 0.0, size) - x) ** 2).sum()
        assert left == pytest.approx(axes[size:].sum(), rel=1e-4)


def test_pca_passes_over_a_pixel_that_hardly_varies():
    """Not even by as little as what is added against singular matrices."""
    x = np.array([[1.0, 1], [-1, 1], [1, -1], [-1, -1]]) * [1, 1e-3 * (1 + 1e-8)]
    given_back = autoencoder.linear(x.reshape(4, 1, 1, 2), x, 0.0, 1).reshape(4, 2)
    np.testing.assert_allclose(given_back, x * [1, 0], atol=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_no_linear_map_gives_back_more_of_spoilt_pictures(rng, size):
    """Against least squares over all 16 ways to hide four pixels, half of them at a time."""
    x = rng.uniform(0.1, 1, (20, 4))
    masks = np.indices((2,) * 4).reshape(4, 16).T
    seen, wanted = (masks[:, None] * x).reshape(-1, 4), np.tile(x, (16, 1))
    inputs = np.c_[seen, np.ones(len(seen))]
    said = inputs @ np.linalg.lstsq(inputs, wanted, rcond=None)[0]
    mean = said.mean(axis=0)
    u, s, v = np.linalg.svd(said - mean, full_matrices=False)
    expected = (u[:, :size] * s[:size]) @ v[:size] + mean
    for number in range(16):
        mine = slice(20 * number, 20 * number + 20)
        ours = autoencoder.linear(x.reshape(20, 1, 2, 2), seen[mine], 0.5, size).reshape(20, 4)
        np.testing.assert_allclose(ours, expected[mine], atol=1e-4)


@pytest.mark.parametrize("preset", ["codes", "denoising"])
@pytest.mark.slow
def test_resumed_to_the_same_bits_then_asked(preset, data, tmp_path, capsys):
    out = tmp_path / "run"
    start = ("--preset", preset, "--data", data, "--epochs", 2, "--batch-size", 8)
    resumed_to_the_same_bits(autoencoder.main, out, start, 4)
    assert (out / "pictures.png").exists() and (out / "codes.png").exists() == (preset == "codes")
    found = json.loads((out / "evaluation.json").read_text())
    assert "best linear map of the same size" in found["texts"][0][1]
    capsys.readouterr()
    assert autoencoder.main(["--eval", str(out)]) == 0
    assert f"test loss {found['figures']['loss']:.4f}" in capsys.readouterr().out
    assert autoencoder.main(["--predict", str(out), str(data / "val" / "dark" / "0.png")]) == 0
    assert "squared error" in capsys.readouterr().out
    assert autoencoder.main(["--eval", str(out), "--data", str(out)]) == 2
