"""Checkpoints of commit 8cdbd0f, before there were tasks and programs: still read, evaluated and
resumed.

old/mini-8cdbd0f.safetensors.gz was written by that commit: a `mini` for pictures of 14x14 after
one epoch. Before it was saved, its weights were rounded to three values a layer, so that it is
small.
"""

from __future__ import annotations

import gzip
import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynet import nn
from tinynet.training import checkpoint as files
from tinynet.training.inputs import batch_of
from tinynet.training.metrics import read_metrics
from tinynet.training.stopwatch import PHASES
from tinynet.training.task import Classification

OLD = Path(__file__).parent / "old" / "mini-8cdbd0f.safetensors.gz"
LOGITS = [  # what that commit's program computed from `PICTURES`
    [-3.8464863300323486, 4.269192695617676],
    [-4.583563804626465, 4.083337783813477],
    [-3.7312841415405273, 4.953103542327881],
    [-3.7180233001708984, 5.4541916847229],
]
PICTURES = [
    ((np.arange(16 * 16 * 3).reshape(16, 16, 3) * (k + 3)) % 256).astype(np.uint8) for k in range(4)
]
SETTINGS = {
    "epochs": 1, "batch_size": 4, "lr": 0.02, "milestones": [4, 5], "picture_size": None,
    "crop": None, "colour": 0.0, "preset": "mini", "device": "cpu", "seed": 0, "workers": None,
}  # fmt: skip
# `about` of the two large presets, as that commit wrote it
LARGE = {
    "paper": {"scale": 1.0},
    "cfg145": {"scale": 1 / 1.1},
}


@pytest.fixture
def alexnet(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
    return importlib.import_module("alexnet")


@pytest.fixture
def folder(tmp_path):
    """The folder of a run of that commit, and its pictures."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 8), ("val", 3)):
        for label, name in enumerate(("dark", "light")):
            place = tmp_path / "data" / split / name
            place.mkdir(parents=True)
            for number in range(count):
                picture = rng.integers(0, 120, (16, 16, 3)) + 120 * label
                Image.fromarray(picture.astype(np.uint8)).save(place / f"{number}.png")
    run = tmp_path / "run"
    run.mkdir()
    files.path_of(run, 4).write_bytes(gzip.decompress(OLD.read_bytes()))
    settings = SETTINGS | {"data": str(tmp_path / "data")}
    config = {"settings": settings, "started": "", "versions": {}, "machine": "", "commands": []}
    (run / "config.json").write_text(json.dumps(config))
    line = {
        "kind": "test", "step": 4, "epoch": 1, "loss": 0.2, "top1_error": 0.0, "top5_error": 0.0,
        "lr": 0.02, "health": {}, "seconds": dict.fromkeys(PHASES, 1.0),
    }  # fmt: skip
    (run / "metrics.jsonl").write_text(json.dumps(line).ljust(1276) + "\n")
    return run


def test_the_same_logits(alexnet, folder):
    (model,), task, about, _ = alexnet.PROGRAM.load([folder], "cpu")
    x, _ = task.inputs(batch_of(PICTURES, about["image_size"]))
    np.testing.assert_allclose(model(x).numpy(), LOGITS, rtol=1e-5, atol=1e-5)
    (dropout,) = model.b.after["fc7"].layers
    assert dropout.inverted and dropout.p == 0.2


def test_resumed(alexnet, folder, capsys):
    assert alexnet.main(["--resume", "--out", str(folder), "--epochs", "2"]) == 0
    said = capsys.readouterr().out
    assert "resuming from" in said and "has been through 2 of 2 epochs" in said
    assert files.load(folder / files.BEST).state["step"] == 4  # no later test was better
    last = files.newest_whole(folder)[1]
    assert last.state["step"] == 8 and last.state["lr"] == 0.02
    first = files.load(files.path_of(folder, 4))
    assert last.state["random"]["calls"] > first.state["random"]["calls"]
    assert last.state["about"] == first.state["about"]  # still nothing of a net: inverted
    groups = last.state["groups"]
    assert all((g["lr_scale"], g["fixed_lr"], g["frozen"]) == (1, None, False) for g in groups)
    assert [line["epoch"] for line in read_metrics(folder) if line["kind"] == "test"] == [1, 2]


@pytest.mark.parametrize("preset", LARGE)
def test_what_a_large_checkpoint_says_of_itself_builds_its_net(
    alexnet, preset, tmp_path, monkeypatch
):
    """With a net of two layers in the place of AlexNet: only the metadata are old."""
    about = {"preset": preset, "classes": ["a", "b", "c"], "in_channels": 3} | {
        "picture_size": 256, "image_size": 224, **LARGE[preset]
    }  # fmt: skip
    net = nn.Linear(2, 2)
    asked = []

    def build(about, devices):
        asked.append((about, devices))
        return nn.Linear(2, 2)

    monkeypatch.setattr(alexnet.PROGRAM, "build", build)
    side = 224 if preset == "cfg145" else 256
    mean = {"mean": np.zeros((side, side, 3), np.float32)}
    path = tmp_path / "large.safetensors"
    files.save(path, files.Checkpoint(net.state_dict(), {}, mean, {"about": about}))
    (model,), task, found, recipe = alexnet.PROGRAM.load([path], "cpu")
    np.testing.assert_array_equal(model.weight.numpy(), net.weight.numpy())
    assert found == about == asked[0][0] and len(asked[0][1]) == 2
    assert isinstance(task, Classification) and task.classes == ["a", "b", "c"]
    assert task.make_inputs.scale == LARGE[preset]["scale"] and task.make_inputs.border == 3
    assert recipe is alexnet.RECIPES[preset]
    assert task.make_inputs.noise_scale == 1  # what is scaled is scaled in use too


SIZES = ("--picture-size", "64", "--crop", "56", "--batch-size", "4", "--device", "cpu")


def run(alexnet, folder, *arguments):
    """A run of a preset in `folder`, on its data. Returns its newest checkpoint."""
    out, data = folder / "new", str(folder.parent / "data")
    status = alexnet.main(["--data", data, "--workers", "0", "--out", str(out), *arguments])
    assert status == 0
    return files.newest_whole(out)[1]


def small(alexnet, monkeypatch, preset):
    few = replace(alexnet.PRESETS[preset], kernels=[2, 2, 2, 2, 2], hidden=4)
    monkeypatch.setitem(alexnet.PRESETS, preset, few)


@pytest.mark.parametrize("frozen", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_large_run_of_before_goes_on_as_it_was(alexnet, frozen, folder, monkeypatch):
    """cfg145 with few kernels, and the metadata as that commit wrote them: dropout inverted, biases
    at twice the rate, the picture always divided by 1.1, nothing that changes by itself.
    """
    small(alexnet, monkeypatch, "cfg145")
    run(alexnet, folder, "--preset", "cfg145", "--epochs", "1", *SIZES)
    (path,), config = files.all_in(folder / "new")[:1], folder / "new" / "config.json"
    saved, settings = files.load(path), json.loads(config.read_text())
    settings["settings"].pop("story")
    config.write_text(json.dumps(settings))
    about = saved.state["about"]
    assert about.pop("net")["inverted"] is False and about.pop("noise_scale") == 1 / 1.1
    assert about["scale"] == 1
    about["scale"] = 1 / 1.1
    for group in saved.state["groups"]:
        del group["fixed_lr"], group["frozen"]
        if group["name"].endswith("bias"):
            group["lr_scale"] = 2.0
        if frozen and group["name"].startswith("conv1"):
            group["lr_scale"] = 0.0
    files.save(path, saved)
    built = []
    build = alexnet.PROGRAM.build
    monkeypatch.setattr(alexnet.PROGRAM, "build", lambda *a: built.append(build(*a)) or built[-1])
    last = run(alexnet, folder, "--resume", "--epochs", "2")
    assert last.state["about"] == about and last.state["epoch"] == 2
    assert built[0].a.after["fc6"].layers[0].inverted
    weight, bias, other, other_bias, *_ = last.state["groups"]
    assert weight["frozen"] is bias["frozen"] is frozen and not other["frozen"]
    assert (other_bias["lr_scale"], other_bias["fixed_lr"]) == (2.0, None)
    assert weight["lr_scale"] == 1.0  # what thawing gave, before there was a rate to go back to
    same = np.array_equal(saved.model["a.conv1.weight"], last.model["a.conv1.weight"])
    assert same == frozen


def test_a_run_keeps_the_net_that_its_checkpoint_states(alexnet, folder, monkeypatch):
    """Though the preset is another one by now."""
    small(alexnet, monkeypatch, "paper")
    first = run(alexnet, folder, "--preset", "paper", "--epochs", "1", *SIZES)
    stated = first.state["about"]["net"]
    assert stated["kernels"] == [2, 2, 2, 2, 2] and stated["inverted"] is False
    other = replace(alexnet.PRESETS["paper"], kernels=[3, 3, 3, 3, 3], inverted=True, dropout=0.1)
    monkeypatch.setitem(alexnet.PRESETS, "paper", other)
    last = run(alexnet, folder, "--resume", "--epochs", "2")
    assert last.state["about"] == first.state["about"]
    (model,), *_ = alexnet.PROGRAM.load([folder / "new"], "cpu")
    (dropout,) = model.a.after["fc7"].layers
    assert model.a.conv1.weight.shape[0] == 2 and (dropout.p, dropout.inverted) == (0.5, False)


def test_nets_of_before_and_of_today_are_averaged(alexnet, folder, monkeypatch):
    """They name the same classes of the same pictures; the net of each is its own."""
    mini = replace(alexnet.PRESETS["mini"], hidden=4, inverted=False)
    monkeypatch.setitem(alexnet.PRESETS, "mini", mini)
    run(
        alexnet, folder, "--preset", "mini", "--epochs", "1", "--device", "cpu", "--batch-size", "4"
    )
    models, *_ = alexnet.PROGRAM.load([folder / "new"], "cpu")
    monkeypatch.undo()
    models += alexnet.PROGRAM.load([folder / "new", folder, folder / "new"], "cpu").models
    found = [
        (model.a.fc6.weight.shape[0], model.a.after["fc6"].layers[0].inverted) for model in models
    ]
    assert found == [(4, False), (4, False), (256, True), (4, False)]


def test_cfg145_tells_and_follows_its_story(alexnet, folder, monkeypatch, capsys):
    small(alexnet, monkeypatch, "cfg145")
    inputs, scales = alexnet.PROGRAM.recipes["cfg145"].data.task, []

    def task(*arguments):
        made = inputs(*arguments)
        kernels = made.device.kernels
        forward = kernels.pictures_forward
        monkeypatch.setattr(
            kernels,
            "pictures_forward",
            lambda *a: scales.append((a[5] is None, a[7])) or forward(*a),
        )
        return made

    monkeypatch.setattr(type(alexnet.PROGRAM.recipes["cfg145"].data), "task", staticmethod(task))
    last = run(alexnet, folder, "--preset", "cfg145", "--epochs", "4", *SIZES)
    said = capsys.readouterr().out
    assert "conv1.lr=1e-5 after epoch 3, colour=0 after epoch 3, freeze=conv1 after epoch 3" in said
    epochs = [set(scales[k : k + 6]) for k in range(0, 24, 6)]  # 4 batches, and 2 to test on
    assert epochs[0] == epochs[2] == {(False, 1 / 1.1), (True, 1.0)} and epochs[3] == {(True, 1.0)}
    assert [g["frozen"] for g in last.state["groups"]] == [True] * 2 + [False] * 14
    biases = [g["fixed_lr"] for g in last.state["groups"] if g["name"].endswith("bias")]
    assert biases == [1e-5] + [0.02] * 7
    settings = json.loads((folder / "new" / "config.json").read_text())["settings"]
    assert settings["story"] == [
        [3, "conv1.lr", "1e-5"],
        [3, "colour", "0"],
        [3, "freeze", "conv1"],
    ]
    scales.clear()
    run(alexnet, folder, "--resume", "--epochs", "5", "--colour", "0.1")  # by hand, to the end
    assert set(scales) == {(False, 1 / 1.1), (True, 1.0)}
    settings = json.loads((folder / "new" / "config.json").read_text())["settings"]
    assert [row[1] for row in settings["story"]] == ["conv1.lr", "freeze"]


def test_a_checkpoint_of_another_program_is_refused(alexnet, folder, monkeypatch, capsys):
    monkeypatch.delitem(alexnet.PROGRAM._known, "mini")
    assert alexnet.main(["--eval", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "expected a net of this program (photos, paper, cfg145, " in said and "got mini" in said
