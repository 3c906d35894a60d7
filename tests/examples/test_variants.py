"""Rows of examples/variants.py: each changes what it says, and nothing else."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tinynet
from tinynet import nn
from tinynet.training import checkpoint as files
from tinynet.training.evaluate import probabilities
from tinynet.training.inputs import batch_of

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
import alexnet  # noqa: E402
from variants import VARIANTS, varied  # noqa: E402

FEW = dict(kernels=[2, 3, 4, 4, 3], hidden=5)


def small(preset: str, variant: str | None, image_size: int | None = None) -> alexnet.AlexNet:
    """A net with few kernels, varied."""
    p = varied(replace(alexnet.PRESETS[preset], **FEW), variant)
    tinynet.manual_seed(0)
    return alexnet.AlexNet(4, p, image_size=image_size).eval()


def logits(net: alexnet.AlexNet, rng: np.random.Generator) -> np.ndarray:
    shape = (2, 3, net.image_size, net.image_size)
    return net(tinynet.tensor(rng.normal(size=shape).astype(np.float32))).numpy()


@pytest.mark.parametrize("variant", [None, *VARIANTS])
@pytest.mark.parametrize("preset", alexnet.RECIPES)
def test_a_run_has_the_settings_of_its_row(preset, variant):
    """What the command line sees of its pictures, too: the colour noise, the crop."""
    args = SimpleNamespace(resume=False, set=[], preset=preset, variant=variant)
    settings = alexnet.PROGRAM._settings(args, None)
    wanted = alexnet.PROGRAM.recipe(preset, variant).settings()
    assert settings | wanted == settings and settings["variant"] == variant
    changed = {k: v for k, v in VARIANTS[variant].data.items() if k in settings} if variant else {}
    assert settings | changed == settings


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_row_fits_every_preset_and_can_be_stated(variant, rng):
    for preset in alexnet.PRESETS:
        side = {"paper": 96, "cfg145": 96}.get(preset)  # less to compute than 224
        net = small(preset, variant, 24 if "four" in variant else side)
        found = logits(net, rng)
        assert found.shape == (2, 4) and np.isfinite(found).all()
        stated = alexnet.state(preset, variant)
        assert json.loads(json.dumps(stated)).keys() == stated.keys()
        alexnet.PROGRAM.recipe(preset, variant)  # its data are fields of Pictures


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_a_layer_is_left_out_and_what_follows_it_stays(number, rng):
    whole, net = small("mini", None), small("mini", f"no-conv{number}")
    assert net.preset.layers == tuple(n for n in whole.preset.layers if n != f"conv{number}")
    assert not hasattr(net.a, f"conv{number}")
    kinds = [type(layer).__name__ for after in net.a.after.values() for layer in after.layers]
    assert kinds == [
        type(layer).__name__ for after in whole.a.after.values() for layer in after.layers
    ]
    crossing = "conv4" if number == 3 else "conv3"
    assert net.preset.crossings == (crossing, "fc6", "fc7")


def test_towers_that_do_not_talk(rng):
    """Nothing that tower b holds changes tower a's half; in the whole net it does."""
    for variant, alike in (("no-talk", True), (None, False)):
        net = small("mini", variant)
        x = tinynet.tensor(rng.normal(size=(3, 3, 28, 28)).astype(np.float32))
        before = net.features(x).numpy()
        for parameter in net.b.parameters():
            parameter.data += 1
        after = net.features(x).numpy()
        assert (before[:, :5] == after[:, :5]).all() == alike
        assert (before[:, 5:] != after[:, 5:]).any()


def test_sizes_of_one_tower():
    """layers-145-half.cfg: 48-128-192-192-256 kernels and 4096 neurons, in one column."""
    p = varied(alexnet.PAPER, "one-tower")
    assert (p.kernels, p.hidden, p.towers) == ([48, 128, 192, 192, 256], 4096, 1)
    net = small("paper", "one-tower")
    assert not hasattr(net, "b") and net.a.conv3.weight.shape[1] == 3
    assert {name.split(".")[0] for name, _ in net.named_parameters()} == {"a", "fc8"}


def test_the_sixth_convolution_follows_the_last_pool():
    net = small("paper", "conv6")
    assert net.preset.layers[4:6] == ("conv5", "conv6") and net.a.conv6.weight.shape == (3, 3, 3, 3)
    assert net.a.fc6.weight.shape == (5, 2 * 3 * 6 * 6) and net.a.conv6.bias.numpy()[0] == 1
    rates = {g["name"]: g["lr_scale"] for g in small("mini", "tuned").param_groups()}
    assert rates["conv1.weight"] == pytest.approx(0.1)  # a hundredth of mini's
    assert rates["conv6.bias"] == pytest.approx(0.1) and rates["fc8.weight"] == 1


def test_tanh_takes_the_place_of_every_relu():
    net = small("cfg145", "tanh")
    for name in net.preset.layers:
        assert not getattr(net.b, name).relu
        first, *others = net.b.after[name].layers
        assert isinstance(first, nn.Tanh) and not any(isinstance(o, nn.ReLU) for o in others)


def test_normalisation_pools_and_dropout():
    def kinds(variant):
        net = small("cfg145", variant)
        return [type(m).__name__ for after in net.a.after.values() for m in after.layers]

    assert "LocalResponseNorm" not in kinds("no-norm") and "MaxPool2d" in kinds("no-norm")
    assert "Dropout" not in kinds("no-dropout")
    apart = small("cfg145", "pools-apart").a.after["conv1"].layers[1]
    assert (apart.options["kernel_size"], apart.options["stride"]) == (2, None)
    assert small("paper", "pools-apart").a.fc6.weight.shape == (5, 2 * 3 * 6 * 6)


# --- The command line -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """{train,val}/<class>/*.png of 16x16, two classes; and another set with three."""
    rng, roots = np.random.default_rng(1), []
    for classes in (("dark", "light"), ("black", "grey", "white")):
        roots.append(tmp_path_factory.mktemp("pictures"))
        for split, count in (("train", 8), ("val", 4)):
            for label, name in enumerate(classes):
                (roots[-1] / split / name).mkdir(parents=True)
                for number in range(count):
                    picture = rng.integers(0, 90, (16, 16, 3)) + 80 * label
                    file = roots[-1] / split / name / f"{number}.png"
                    Image.fromarray(picture.astype(np.uint8)).save(file)
    return roots


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setitem(alexnet.PRESETS, "mini", replace(alexnet.MINI, **FEW))


def train(data, out, *more) -> int:
    given = ("--data", data, "--out", out, "--epochs", 1, "--batch-size", 4, *more)
    return alexnet.main([str(word) for word in given])


@pytest.mark.slow
def test_nets_of_different_variants_are_averaged_each_with_its_own_inputs(
    data, few, tmp_path, capsys
):
    """The scales differ: 1/64 of mini's, 1 of four-relu's; and the means, of other pictures."""
    crop = ("--crop", 14, "--limit-pictures", "16,6")
    assert train(data[0], tmp_path / "a", *crop) == 0
    assert train(data[0], tmp_path / "b", "--variant", "four-relu", "--crop", 14) == 0
    assert train(data[0], tmp_path / "c", "--crop", 14, "--limit-pictures", 6) == 0
    settings = json.loads((tmp_path / "b" / "config.json").read_text())
    assert settings["settings"]["variant"] == "four-relu"
    assert settings["kernels"] == ["a.conv1.weight"]  # one tower
    pictures = [alexnet.PROGRAM.recipes["mini"].data.read({"picture_size": 16, "in_channels": 3}, f)
                for f in sorted((data[0] / "val").rglob("*.png"))]  # fmt: skip
    batch = batch_of(pictures, 14)
    folders = [tmp_path / name for name in "abc"]
    singles = []
    for folder in folders:
        one = alexnet.PROGRAM.load([folder], "cpu")
        singles.append(probabilities(one.models, batch, one.task.make_inputs))
    three = alexnet.PROGRAM.load(folders, "cpu")
    np.testing.assert_allclose(
        probabilities(three.models, batch, three.task.each), np.mean(singles, axis=0), rtol=1e-5
    )
    capsys.readouterr()
    assert alexnet.main(["--eval", *map(str, folders)]) == 0
    assert "(6 pictures)" in capsys.readouterr().out


def test_a_run_of_a_variant_goes_on_as_one(data, few, tmp_path, capsys):
    out = tmp_path / "run"
    assert train(data[0], out, "--variant", "no-conv4", "--checkpoint-every", 2, "--keep", 9) == 0
    whole = files.load(files.path_of(out, 4))
    assert whole.state["about"]["variant"] == "no-conv4" and "a.conv4.weight" not in whole.model
    files.path_of(out, 4).unlink()
    assert alexnet.main(["--resume", "--out", str(out)]) == 0
    again = files.load(files.path_of(out, 4))
    assert all(
        again.model[name].tobytes() == value.tobytes() for name, value in whole.model.items()
    )
    capsys.readouterr()
    assert alexnet.main(["--resume", "--out", str(out), "--variant", "conv6"]) == 2
    assert "was started with variant no-conv4, not conv6" in capsys.readouterr().err


@pytest.mark.slow
def test_layers_of_another_net_are_the_first_weights(data, few, tmp_path, capsys):
    out = tmp_path / "other"
    assert train(data[1], out) == 0
    lent = files.load(out / files.BEST)
    start = ("--start-from", out)
    for place, folder in ((data[0], tmp_path / "new"), (data[1], tmp_path / "same")):
        assert train(place, folder, *start, "--checkpoint-every", 1, "--keep", 9) == 0
        first = files.load(files.path_of(folder, 0)).model
        alike = {name for name in first if np.array_equal(first[name], lent.model[name])}
        named = {"fc8.weight", "fc8.bias"} if place == data[0] else set()
        assert first.keys() - alike == named
    said = capsys.readouterr().out
    assert "new: fc8\n" in said and "new: none\n" in said
    assert train(data[0], tmp_path / "six", *start, "--variant", "conv6") == 0
    assert "new: a.conv6, b.conv6, fc8" in capsys.readouterr().out
    assert train(data[0], tmp_path / "bad", "--start-from", tmp_path / "nothing") == 2
    assert not (tmp_path / "bad").exists()


def test_mistakes_are_one_line(data, few, tmp_path, capsys):
    for more, said in (
        (("--limit-pictures", "99"), "a count of 1 to 16"),
        (("--variant", "conv6", "--preset", "paper", "--limit-pictures", "4,999"), "1 to 8"),
    ):
        assert train(data[0], tmp_path / "x", *more) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and said in lines[0]
    for more, said in (
        (("--variant", "seven"), "invalid choice: 'seven'"),
        (("--limit-pictures", "1,2,3"), "one number or two"),
    ):
        with pytest.raises(SystemExit, match="2"):
            train(data[0], tmp_path / "x", *more)
        assert said in capsys.readouterr().err
