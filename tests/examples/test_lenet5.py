"""examples/history/lenet5.py: the numbers of 1998, against PyTorch, resumed."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from history_programs import (
    Labelled,
    assert_first_losses_agree,
    random_batches,
    resumed_to_the_same_bits,
)
from PIL import Image, ImageDraw, ImageFont

import tinynet
from tinynet.optim import SGD
from tinynet.training.metrics import read_metrics

import lenet5  # isort: skip  # its folder is on the path now

CPU = tinynet.device("cpu")


def sgd(net):
    return SGD(net.parameters(), 1e-3, momentum=0.9)


def test_the_numbers_of_1998():
    """Section II.B: trained weights by layer, 60,000 in all; table I: 60 connections."""
    net = lenet5.LeNet5(10, 1, 28, CPU)
    counts = {
        name: sum(p.size for p in getattr(net, name).parameters())
        for name in ("c1", "s2", "c3", "s4", "c5", "f6")
    }
    unused = 25 * int((net.c3.seen.numpy() == 0).sum())
    counts["c3"] -= unused
    assert counts == {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48120, "f6": 10164}
    assert sum(counts.values()) == 60_000
    assert len({*lenet5.TABLE}) == 16 and sum(map(len, lenet5.TABLE)) == 60
    seen = np.bincount([source for sources in lenet5.TABLE for source in sources])
    assert (seen == 10).all()


def test_first_losses_are_those_of_pytorch(rng):
    batches = random_batches(rng, 5, 6, 1, 12, 12)
    net = lenet5.LeNet5(3, 1, 12, CPU)
    assert_first_losses_agree("lenet5", net, sgd, Labelled(), batches)
    unseen = np.broadcast_to(net.c3.seen.numpy() == 0, net.c3.weight.shape)
    assert not net.c3.weight.numpy()[unseen].any() and net.c3.weight.numpy()[~unseen].all()


@pytest.mark.slow
def test_resumed_to_the_same_bits_then_asked(data, tmp_path, capsys):
    out = tmp_path / "run"
    start = ("--data", data, "--epochs", 2, "--batch-size", 8)
    resumed_to_the_same_bits(lenet5.main, out, start, 4)
    capsys.readouterr()
    assert lenet5.main(["--predict", str(out), str(data / "val" / "dark" / "0.png")]) == 0
    assert "light" in capsys.readouterr().out


def digit(k, rng):
    """A printed digit, white on black, turned a little and not quite in the middle."""
    picture = Image.new("L", (28, 28))
    place = 14 + rng.uniform(-2, 2, 2)
    ImageDraw.Draw(picture).text(tuple(place), str(k), 255, ImageFont.load_default(20), anchor="mm")
    return np.asarray(picture.rotate(rng.uniform(-20, 20), Image.Resampling.BILINEAR))


@pytest.mark.slow
def test_digits_in_idx_files_as_those_of_mnist(tmp_path, rng, capsys):
    for split, count in (("train", 800), ("t10k", 200)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        pictures = np.stack([digit(k, rng) for k in labels])
        for kind, array in (("images-idx3", pictures), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            path = tmp_path / f"{split}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(head + array.tobytes()))
    out = tmp_path / "run"
    assert lenet5.main(["--data", str(tmp_path), "--epochs", "8", "--out", str(out)]) == 0
    last = [line for line in read_metrics(out) if line["kind"] == "test"][-1]
    assert last["top1_error"] < 10
    Image.fromarray(digit(7, rng)).save(tmp_path / "seven.png")
    capsys.readouterr()
    assert lenet5.main(["--predict", str(out), str(tmp_path / "seven.png")]) == 0
    assert capsys.readouterr().out.count("%") >= 1
