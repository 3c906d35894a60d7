"""examples/history/resnet.py: the network of 2015, and the program room on a second network."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from history_programs import Labelled, assert_first_losses_agree, random_batches

import tinynet
from tinynet.training import checkpoint as files
from tinynet.training.metrics import read_metrics

import resnet  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def run(*arguments) -> int:
    return resnet.main([str(argument) for argument in arguments])


@pytest.mark.parametrize("n, parameters", [(3, 269_722), (5, 464_154)])
def test_sizes_of_the_paper(n, parameters):
    """Table 6: 0.27 and 0.46 million parameters; section 4.2: 6 n + 2 layers, 10 classes."""
    net = resnet.ResNet(10, 3, n, True, CPU)
    assert sum(p.size for p in net.parameters()) == parameters
    layers = [m for m in net.modules() if type(m).__name__ in ("Conv2d", "Linear")]
    assert len(layers) == 6 * n + 2


def test_a_block_that_adds_nothing_is_its_shortcut(rng):
    """Its last batch normalisation set to zero: relu(0 + x), with half the sides where maps
    double, and new maps of zeros around the old ones."""
    x = rng.normal(size=(2, 4, 6, 6)).astype(np.float32)
    for after in (4, 8):
        block = resnet.Block(4, after, True, CPU)
        block.norm2.weight.data[...] = 0
        y = block(tinynet.tensor(x)).numpy()
        expected = np.maximum(x if after == 4 else x[:, :, ::2, ::2], 0)
        pad = (after - 4) // 2
        np.testing.assert_array_equal(y[:, pad : pad + 4], expected)
        assert not y[:, :pad].any() and not y[:, pad + 4 :].any()
    plain = resnet.Block(4, 4, False, CPU)
    plain.norm2.weight.data[...] = 0
    assert not plain(tinynet.tensor(x)).numpy().any()


@pytest.mark.parametrize("shortcut", [True, False])
def test_first_losses_are_those_of_pytorch(shortcut, rng):
    net = resnet.ResNet(3, 1, 2, shortcut, CPU)
    batches = random_batches(rng, 4, 6, 1, 16, 16)
    assert_first_losses_agree("resnet", net, partial(resnet.sgd, lr=1e-2), Labelled(), batches)


def test_resumed_in_the_middle_of_an_epoch_to_the_same_bits(data, tmp_path, capsys):
    """Buffers of batch normalisation and a rate that changes with every batch among them."""
    out = tmp_path / "run"
    start = ("--data", data, "--epochs", 2, "--batch-size", 4, "--out", out)
    assert run(*start, "--checkpoint-every", 1, "--keep", 20) == 0
    whole = files.load(files.path_of(out, 8))
    assert {"norm.running_mean", "stages.2.0.norm1.running_var"} <= whole.model.keys()
    for path in files.all_in(out)[:3]:
        path.unlink()
    assert run("--resume", "--out", out) == 0
    again = files.load(files.path_of(out, 8))
    for part, expected in ((again.model, whole.model), (again.optimizer, whole.optimizer)):
        assert part.keys() == expected.keys()
        for name, array in expected.items():
            assert part[name].tobytes() == array.tobytes(), name
    tests = [line for line in read_metrics(out) if line["kind"] == "test"]
    assert tests[-1]["lr"] < 0.01 and (out / "report.html").exists()

    capsys.readouterr()
    assert run("--eval", out) == 0
    assert "centre view: top-1 error" in capsys.readouterr().out
    assert run("--predict", out, data / "val" / "dark" / "0.png") == 0
    assert "dark" in capsys.readouterr().out
    assert run("--resume", "--out", out, "--epochs", 3, "--set", "freeze=stages.9") == 2
    assert "stages.2.weight" in capsys.readouterr().err
