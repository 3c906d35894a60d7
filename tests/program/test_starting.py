"""What a run begins with: weights that are lent, a batch that fits, rates for it; what is told."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

import tinynet
from tinynet import nn
from tinynet.errors import CheckpointError, ModelFileError
from tinynet.optim import SGD
from tinynet.program import Pictures, Recipe, published
from tinynet.program import starting as module
from tinynet.program.starting import (
    batch_size_that_fits,
    begin_from,
    other_data,
    scale_fixed,
    scaled,
    tell,
)
from tinynet.training import checkpoint as files

CPU = tinynet.device("cpu")


class Net(nn.Module):
    def __init__(self, classes: int, middle: int = 4):
        self.first = nn.Linear(3, 4)
        self.middle = nn.Sequential(nn.Linear(4, middle), nn.BatchNorm1d(middle))
        self.head = nn.Linear(middle, classes)


LAYERS = {"first", "middle.layers.0", "middle.layers.1", "head"}


@pytest.mark.parametrize(
    "classes, middle, new",
    [
        (["a", "b"], 4, set()),
        (["b", "a"], 4, {"head"}),  # as many classes, but others
        (["a", "b", "c"], 4, {"head"}),
        (["a", "b"], 5, {"middle.layers.0", "middle.layers.1", "head"}),
        (["x", "b"], 5, {"middle.layers.0", "middle.layers.1", "head"}),
    ],
)
def test_layers_that_fit_are_lent_whole(classes, middle, new, tmp_path):
    """With their buffers; those whose shapes differ, and the names of other classes, are new."""
    tinynet.manual_seed(1)
    lender, mine = Net(2), Net(len(classes), middle)
    lender.middle.layers[1].running_mean.data[...] = 7
    lent, own = lender.state_dict(), mine.state_dict()
    path = tmp_path / "step-00000001.safetensors"
    files.save(path, files.Checkpoint(lent, {}, {}, {"about": {"classes": ["a", "b"]}}))
    said = begin_from(mine, {"classes": classes}, str(tmp_path), "head")
    assert said == f"first weights from {path}; new: {', '.join(sorted(new)) or 'none'}"
    for name, array in mine.state_dict().items():
        source = own if name.rpartition(".")[0] in new else lent
        np.testing.assert_array_equal(array, source[name], err_msg=name)


def test_a_net_without_a_layer_in_common_is_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    state = {"about": {"classes": ["a"]}}
    files.save(path, files.Checkpoint({"first.weight": np.zeros((9, 9))}, {}, {}, state))
    net = Net(2)
    before = net.state_dict()
    with pytest.raises(CheckpointError, match="expected layers of this net, got none"):
        begin_from(net, {"classes": ["a"]}, str(path), "head")
    assert all(np.array_equal(array, before[name]) for name, array in net.state_dict().items())
    files.save(path, files.Checkpoint(before))
    with pytest.raises(CheckpointError, match="not a checkpoint of a run"):
        begin_from(net, {"classes": ["a"]}, str(path), "head")


def test_sixteen_arrays_no_more_and_no_less(monkeypatch):
    """And what else a run needs."""

    class Small(nn.Module):
        def __init__(self, kind, classes, device):
            for name in published.LAYERS:
                setattr(self, name, nn.Linear(2, classes if name == "fc8" else 3))

    monkeypatch.setattr(published, "OneTower", Small)
    shapes = {name: p.shape for name, p in Small("", 5, CPU).named_parameters()}
    state = dict(zip(published.LAYERS, published.STATE, strict=True))
    theirs = {
        f"{state[name.partition('.')[0]]}.{name.partition('.')[2]}": np.full(shape, number)
        for number, (name, shape) in enumerate(shapes.items())
    }
    found = published._alexnet("x.pth", "torchvision", dict(theirs), state)
    sizes = dict(in_channels=3, picture_size=256, scale=1.0, classes=5)
    for kind, side, width in (
        ("torchvision", 224, published.IMAGENET_WIDTH),
        ("caffe", 227, [1] * 3),
    ):
        made = published._alexnet("x.pth", kind, dict(theirs), state)
        assert made.preset == kind and made.about == {**sizes, "image_size": side}
        np.testing.assert_allclose(made.weights["share"], 1 / np.reshape(width, (3, 1, 1)), 1e-6)
        mean = np.broadcast_to(np.float32(published.LOOKS[kind]["mean"]), (256, 256, 3))
        np.testing.assert_array_equal(made.mean, mean)
        assert made.net == dict(kind=kind, order=published.LOOKS[kind]["order"], width=list(width))
        words = f"AlexNet of {kind}, 5 classes: {side} x {side} of pictures of 256 x 256"
        assert made.said[0] == words and made.said[1].startswith("pictures: ")
    weights = found.weights
    assert list(weights) == [f"net.{name}" for name in shapes] + ["share"]
    for number, (name, shape) in enumerate(shapes.items()):
        np.testing.assert_array_equal(weights[f"net.{name}"], np.full(shape, number, np.float32))
    less = {name: array for name, array in theirs.items() if name != "classifier.4.bias"}
    for wrong, said in (
        ({**theirs, "more": np.zeros(1)}, "AlexNet's layers alone, got more, too"),
        ({**theirs, **dict.fromkeys("abc", 0)}, "AlexNet's layers alone, got a, b, c, too"),
        ({**theirs, **dict.fromkeys("abcd", 0)}, "AlexNet's layers alone, got a, b, c ..., too"),
        (less, r"classifier.4.bias of shape \(3,\), got none"),
        ({**theirs, "features.3.bias": np.zeros(4)}, r"features.3.bias .*, got \(4,\)"),
    ):
        with pytest.raises(ModelFileError, match=f"x.pth: expected {said}"):
            published._alexnet("x.pth", "torchvision", wrong, state)


# --- The batch ------------------------------------------------------------------------------------


def recipe(**more):
    options = dict(epochs=6, batch_size=64, lr=0.5) | more
    return Recipe("a net", Pictures(), **options)


@pytest.mark.parametrize(
    "fits, examples, size, reason",
    [
        (64, 64, 64, "it fits"), (64, 63, 32, "there are 63 rows"), (64, 7, 4, "there are 7 rows"),
        (16, 15, 8, "there are 15 rows"), (16, 16, 16, "it fits"), (64, 1, 1, "there are 1 rows"),
    ],
)  # fmt: skip
def test_no_batch_is_larger_than_the_examples(fits, examples, size, reason, monkeypatch, capsys):
    asked = []

    def fitting(step, devices, most):
        asked.append((devices, most))
        for count in (3, 5):
            before = net.weight.numpy()
            step(count)
            y = float(before.sum() + net.bias.item() + 0.5 * net.bias.grad.item())
            np.testing.assert_allclose(net.weight.grad.numpy(), [[2 * y] * 2], rtol=1e-4)
        return fits, "it fits"

    monkeypatch.setattr(module, "fitting_batch_size", fitting)
    net, counts = nn.Linear(2, 1), []
    task = SimpleNamespace(unit="rows", loss=lambda model, x: ((model(x) ** 2).mean(), []))

    def zeros(about, count, device):
        counts.append((count, device))
        return (tinynet.tensor(np.ones((count, 2), np.float32)),)

    rates = []
    mine = SimpleNamespace(
        batch_size=64, lr=0.5, data=SimpleNamespace(zeros=zeros),
        optimizer=lambda model, lr: rates.append(lr) or SGD(model.parameters(), lr),
    )  # fmt: skip
    before = net.weight.numpy().copy()
    about, both = {"preset": "mini"}, (CPU, tinynet.device("cpu:1"))
    assert batch_size_that_fits(net, mine, about, both, task, examples) == size
    assert asked == [(both, 64)] and counts == [(3, CPU), (5, CPU)] and rates == [0.5]
    assert (net.weight.numpy() != before).any()  # a whole step was tried
    said = capsys.readouterr().out
    assert said.startswith(f"batch size {size}: {reason}")
    assert said.endswith("; the recipe of mini has 64\n")


# --- The rate -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule, factor", [("linear", 4.0), ("sqrt", 2.0), (None, 1.0)])
def test_rates_of_a_batch_four_times_as_large(rule, factor):
    """The common one, those of layers in the story, and those of groups; nothing else."""
    story = ((1, "lr", "0.5"), (2, "a.lr", "1e-3"), (3, "freeze", "lr"), (4, "colour", "0"))
    mine = recipe(story=story)
    settings = {**mine.settings(), "batch_size": 256, "scale_lr": rule}
    new = scaled(settings, mine)
    assert new["lr"] == 0.5 * factor
    assert [(e, n, float(v) if n.endswith("lr") else v) for e, n, v in new["story"]] == [
        (1, "lr", 0.5 * factor), (2, "a.lr", 1e-3 * factor), (3, "freeze", "lr"), (4, "colour", "0")
    ]  # fmt: skip
    assert {**new, "lr": 0, "story": 0} == {**settings, "lr": 0, "story": 0}
    groups = [dict(params=[nn.Parameter(np.ones(1))], fixed_lr=rate) for rate in (None, 0.125, 0.0)]
    optimizer = SGD(groups, new["lr"])
    scale_fixed(optimizer, new, mine)
    assert [group["fixed_lr"] for group in optimizer.param_groups] == [None, 0.125 * factor, 0.0]
    assert optimizer.lr == new["lr"]


def test_a_batch_that_is_found_has_no_rate_yet():
    settings = {**recipe().settings(), "batch_size": "auto", "scale_lr": "sqrt"}
    with pytest.raises(ValueError, match="--scale-lr: expected --batch-size N, got auto"):
        scaled(settings, recipe())


# --- What is told ---------------------------------------------------------------------------------


def told(capsys, mine, limit=None, set_rate=False, **given):
    settings = {**mine.settings(), "device": "cpu", "scale_lr": None, **given}
    trainer = SimpleNamespace(
        task=SimpleNamespace(unit="rows"), out="there", limit_batches=limit, batches=3,
        train=[0] * 1234,
    )  # fmt: skip
    data = {"train": [12345, "here"], "test": [678, "elsewhere"]}
    tell(settings, mine, trainer, data, set_rate)
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == (
        "training a net on cpu with 12,345 rows (here), tested on 678 (elsewhere); see there"
    )
    return lines


@pytest.mark.parametrize(
    "epochs, milestones, lines",
    [
        (6, [4, 5], []),  # as the recipe has them
        (12, [8, 10], ["the rate is divided by ten after epochs 8, 10: the 4, 5 of the recipe's 6, "
                       "at the same shares of 12"]),
        (3, [2], ["the rate is divided by ten after epoch 2: the 4, 5 of the recipe's 6, at the "
                  "same shares of 3"]),
        (1, [], ["so few epochs end before the rate is divided by ten: the 4, 5 of the recipe's "
                 "6"]),
        (6, [4, 6, 9], ["the rate is divided by ten after epoch 4, not the 4, 5 of the recipe's 6: "
                        "as this run is set; --resume --set lr=RATE gives it another rate"]),
        # given, or of a run that was started with fewer epochs
        (12, [1, 2], ["the rate is divided by ten after epochs 1, 2, not the 4, 5 of the recipe's "
                      "6: as this run is set; --resume --set lr=RATE gives it "
                      "another rate"]),
        (12, [], ["the rate is divided by ten after no epoch, not the 4, 5 of the recipe's 6: as "
                  "this run is set; --resume --set lr=RATE gives it another rate"]),
    ],
)  # fmt: skip
def test_milestones_are_told_where_they_moved(epochs, milestones, lines, capsys):
    mine = recipe(milestones=(4, 5))
    assert told(capsys, mine, epochs=epochs, milestones=milestones) == lines
    lines = [line.removesuffix("; --resume --set lr=RATE gives it another rate") for line in lines]
    assert told(capsys, mine, set_rate=True, epochs=epochs, milestones=milestones) == lines
    assert told(capsys, recipe(), epochs=epochs, milestones=milestones) == []


@pytest.mark.parametrize(
    "before, mean, line",
    [
        ((12345, 678), 1.5, ""), (None, 1.5, ""),  # None: an older version's, which named none
        ((12345, 678), 2.5, "their mean differs"), (None, [1.5], "their mean differs"),
        ((12345, 677), 1.5, "those were 12,345 to train on and 677 to test on"),
        ((2, 678), 2.5, "those were 2 to train on and 678 to test on"),
    ],
)  # fmt: skip
def test_other_data_are_told(before, mean, line, tmp_path):
    """By their numbers, or by what a checkpoint keeps of them; not by where they lie."""
    config = {
        "settings": {},
        "data": dict(zip(("train", "test"), ((n, "old") for n in before or ()), strict=False)),
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    data = {"train": [12345, "here"], "test": [678, "elsewhere"]}
    task = SimpleNamespace(unit="rows", arrays=lambda: {"mean": np.float32(1.5)})
    found = other_data(tmp_path, data, {"mean": np.float32(mean)}, task)
    assert found == (line and f"other rows than this run had: {line}")


@pytest.mark.parametrize(
    "given, lines",
    [
        (dict(batch_size=64), []),
        (dict(batch_size=32), []),
        (dict(batch_size=256, lr=1.0), []),  # given
        (dict(batch_size=96), ["the batch is 1.5 times the recipe's 64, and the rate stays 0.5: "
                               "--scale-lr would make it 0.75 (linear) or 0.612 (sqrt)"]),
        (dict(batch_size=32, lr=0.25, scale_lr="linear"),
         ["the rate is 0.25, the recipe's 0.5 scaled for batches 0.5 times as large (--scale-lr "
          "linear)"]),
    ],
)  # fmt: skip
def test_rates_are_told_where_the_batch_is_another(given, lines, capsys):
    assert told(capsys, recipe(), **given) == lines


def test_story_and_limit_are_told(capsys):
    mine = recipe(story=((3, "lr", "0.1"), (4, "freeze", "a")))
    assert told(capsys, mine, limit=3) == [
        "as the recipe has it: lr=0.1 after epoch 3, freeze=a after epoch 4",
        "an epoch is 3 of 1,234 batches (--limit-batches); the test is whole",
    ]


@pytest.mark.parametrize(
    "count, batches, left, said",
    [(12345, 172, 1337, True), (12345, 192, 57, False), (12345, 173, 1273, True),
     (12345, 175, 1145, False), (640, 9, 64, False), (639, 9, 63, False), (641, 9, 65, True)],
)  # fmt: skip
def test_examples_that_fill_no_batch_are_told_from_a_tenth_on(count, batches, left, said, capsys):
    settings = {**recipe().settings(), "device": "cpu", "scale_lr": None}
    trainer = SimpleNamespace(
        task=SimpleNamespace(unit="rows"), out="there", limit_batches=None, train=[0] * batches
    )
    tell(settings, recipe(), trainer, {"train": [count, "here"], "test": [678, "elsewhere"]})
    lines = capsys.readouterr().out.splitlines()[1:]
    words = (
        f"an epoch leaves out {left:,} of the {count:,} rows, others each time: they do not fill"
    )
    assert lines == [f"{words} a batch of 64"] * said
