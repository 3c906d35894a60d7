"""Nets of others, layer by layer and without their 60 million weights; how they become runs."""

from __future__ import annotations

import argparse
import base64
import json
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import safe_open

import tinynet
from tinynet import nn
from tinynet.errors import ModelFileError
from tinynet.program import exchange, published
from tinynet.training import checkpoint as files

CPU = tinynet.device("cpu")
NETS = {  # maps, kernel, stride, padding, groups of each convolution
    "torchvision": [(64, 11, 4, 2, 1), (192, 5, 1, 2, 1), (384, 3, 1, 1, 1), (256, 3, 1, 1, 1),
                    (256, 3, 1, 1, 1)],
    "caffe": [(96, 11, 4, 0, 1), (256, 5, 1, 2, 2), (384, 3, 1, 1, 1), (384, 3, 1, 1, 2),
              (256, 3, 1, 1, 2)],
}  # fmt: skip
ORDER = {
    "torchvision": "conv1 norm pool conv2 norm pool conv3 conv4 conv5 pool dropout fc6 dropout fc7",
    "caffe": "conv1 norm pool conv2 norm pool conv3 conv4 conv5 pool fc6 dropout fc7 dropout",
}


@pytest.mark.parametrize("kind", NETS)
def test_layers_and_their_order(kind, monkeypatch):
    made = []

    def linear(inputs, outputs, **options):
        made.append((inputs, outputs, options.get("relu", False)))
        return nn.Identity()

    monkeypatch.setattr(nn, "Linear", linear)
    net, seen = published.OneTower(kind, 7, CPU), 3
    assert made == [(9216, 4096, True), (4096, 4096, True), (4096, 7, False)]
    for number, (maps, kernel, stride, padding, groups) in enumerate(NETS[kind], 1):
        conv = getattr(net, f"conv{number}")
        assert conv.weight.shape == (maps, seen // groups, kernel, kernel)
        assert (conv.stride, conv.padding, conv.groups, conv.relu) == (
            stride,
            padding,
            groups,
            True,
        )
        assert not conv.weight.numpy().any() and not conv.bias.numpy().any()
        seen = maps
    caffe = kind == "caffe"
    assert isinstance(net.norm, nn.LocalResponseNorm if caffe else nn.Identity)
    if caffe:
        assert net.norm.options == dict(size=5, alpha=1e-4, beta=0.75, k=1.0)
    pool = dict(kernel_size=3, stride=2, padding=0, ceil_mode=caffe)
    assert net.pool.options == pool and (net.dropout.p, net.dropout.inverted) == (0.5, True)
    calls = []
    for name in (
        "norm",
        "pool",
        "dropout",
        "fc6",
        "fc7",
        "fc8",
        *(f"conv{n}" for n in range(1, 6)),
    ):
        setattr(net, name, lambda x, name=name: calls.append(name) or x)
    x = tinynet.tensor(np.arange(144, dtype=np.float32).reshape(1, 1, 12, 12))
    y = net(x)
    assert " ".join(calls) == ORDER[kind] + " fc8"
    assert y.shape == ((1, 144) if caffe else (1, 36))  # torchvision averages maps to 6 x 6


def test_what_pictures_are_before_these_nets():
    """torchvision's documentation: mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225] of 1."""
    found = published.LOOKS["torchvision"]
    np.testing.assert_allclose(np.array(found["mean"]) / 255, [0.485, 0.456, 0.406], rtol=1e-12)
    np.testing.assert_allclose(np.array(found["width"]) / 255, [0.229, 0.224, 0.225], rtol=1e-12)
    assert found["order"] == "RGB" and published.LOOKS["caffe"]["order"] == "BGR"
    assert published.LOOKS["caffe"]["mean"] == (122.679, 116.669, 104.007)  # of R, G, B
    for name, crop in (("torchvision", 224), ("caffe", 227), ("onnx", 224)):
        recipe = published.PUBLISHED[name]
        assert (recipe.data.picture_size, recipe.data.crop) == (256, crop)
        assert (recipe.epochs, recipe.batch_size, recipe.lr) == (5, 64, 1e-3)
        mean = recipe.data.arrays({"picture_size": 5}, None)["mean"]
        wanted = published.CAFFE_MEAN if name == "caffe" else published.IMAGENET_MEAN
        np.testing.assert_array_equal(mean, np.broadcast_to(np.float32(wanted), (5, 5, 3)))


class Sees(nn.Module):
    def forward(self, x):
        return x * 1.0

    def features(self, x):
        return x * 2.0


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("width", [(1.0, 1.0, 1.0), (2.0, 4.0, 8.0)])
def test_colours_are_ordered_and_divided(order, width, rng):
    """Then the net, or its features; also of a pair, the same pictures on two devices."""
    x = rng.normal(size=(2, 3, 4, 4)).astype(np.float32)
    net = published.Prepared(Sees(), order, width, CPU)
    wanted = x[:, ::-1] if order == "BGR" else x
    wanted = wanted / np.float32(width).reshape(3, 1, 1)
    given = tinynet.tensor(x)
    for each in (given, (given, tinynet.tensor(0 * x))):
        np.testing.assert_array_equal(net(each).numpy(), wanted.reshape(2, -1))
        np.testing.assert_array_equal(net.features(each).numpy(), 2 * wanted)
    assert list(net.state_dict()) == ["share"]  # it is kept with the weights


def test_other_classes_change_the_last_layer_and_what_follows_it():
    """Of these sizes alone; of the layers before it nothing, though they have the same size."""
    kind = "parameter"
    node = dict(name="", outputs=["y"])
    description = {
        "classes": 3,
        "nodes": [
            node | dict(op="Gemm", inputs=["x", "v", "c"]),
            node | dict(op="MatMul", inputs=["h", "w"]),
            node | dict(op="Add", inputs=["m", "b"]),
            node | dict(op="Mul", inputs=["a", "scale"]),
        ],
        "weights": {
            "v": [kind, "float32", [3, 3]], "c": [kind, "float32", [3]],
            "w": [kind, "float32", [5, 3]], "b": [kind, "float32", [3]],
            "scale": ["constant", "float32", [1, 3]],
        },
    }  # fmt: skip
    before = json.dumps(description)
    found = published.with_classes(description, 7)
    shapes = {name: row[2] for name, row in found["weights"].items()}
    assert shapes == {"v": [3, 3], "c": [3], "w": [5, 7], "b": [7], "scale": [1, 7]}
    assert found["classes"] == 7 and json.dumps(description) == before
    assert published.with_classes(description, 3) is description
    assert published.last_layer(description)["inputs"] == ["h", "w"]
    with pytest.raises(ModelFileError, match="last layer has weights"):
        published.last_layer({"weights": {}, "nodes": description["nodes"]})


@pytest.mark.parametrize("classes, fresh", [(3, []), (4, ["head.weight", "head.bias"])])
def test_a_start_from_a_file(classes, fresh):
    class Net(nn.Module):
        def __init__(self, count):
            self.first, self.head = nn.Linear(2, 5), nn.Linear(5, count)

    given, net = Net(3).state_dict(), Net(classes)
    own = net.state_dict()
    assert published.start_from(net, SimpleNamespace(weights=given)) == fresh
    for name, array in net.state_dict().items():
        np.testing.assert_array_equal(array, (own if name in fresh else given)[name])
    given["first.bias"] = np.zeros(9)
    with pytest.raises(ModelFileError, match="one layer of other classes, got first.bias"):
        published.start_from(Net(4), SimpleNamespace(weights=given))


@pytest.mark.parametrize(
    "kind, shape, classes",
    [("torchvision", (5, 4096), 5), ("caffe", (5, 4096), 5), ("caffe", (1, 1, 5, 4096), 5)],
)
def test_classes_are_counted_in_the_last_layer(kind, shape, classes, monkeypatch):
    """Caffe wrote four sizes before 2014."""
    made = []

    def stop(*arguments):
        made.append(arguments)
        raise RuntimeError

    monkeypatch.setattr(published, "OneTower", stop)
    names = {"fc8": "last"}
    with pytest.raises(RuntimeError):
        published._alexnet("x.pth", kind, {"last.weight": np.zeros(shape)}, names)
    assert made == [(kind, classes, CPU)]
    for wrong in ({}, {"last.weight": np.zeros(())}, {"last.weight": np.zeros((1, 4096))}):
        with pytest.raises(ModelFileError, match="x.pth: expected last.weight, of two classes"):
            published._alexnet("x.pth", kind, wrong, names)


def test_features_of_a_net_are_rows():
    """What the last layer with weights sees."""
    nodes = [dict(op="Conv", inputs=["h", "w"], outputs=["y"], name="")]
    description = {"weights": {"w": ["parameter", "float32", [3, 2, 1, 1]]}, "nodes": nodes}
    maps = tinynet.tensor(np.ones((4, 2, 3, 3), np.float32))
    net = SimpleNamespace(description=description, run=lambda x, keep: dict.fromkeys(keep, maps))
    assert published.FromOnnx.features(net, None).shape == (4, 18)


TOLD = dict(
    in_channels=1, picture_size=3, image_size=2, scale=0.5, classes=["a", "b"],
    mean_shape=[3, 3, 1],
)  # fmt: skip


@pytest.mark.parametrize(
    "change, right",
    [
        ({}, True), (dict(mean=np.ones(9)), True), (dict(mean=np.full(9, np.nan)), False),
        (dict(mean=np.full(9, np.inf)), False), (dict(mean=np.ones(8)), False),
        (dict(mean_shape=[2, 2, 1], mean=np.ones(4)), True), (dict(picture_size=2), False),
        (dict(picture_size=2, mean_shape=[2, 2, 1], mean=np.ones(4)), True),
        (dict(picture_size=1), False), (dict(image_size=3), False), (dict(in_channels=3), False),
        (dict(scale=0), False), (dict(scale=True), False), (dict(scale=float("inf")), False),
        (dict(scale=2), True), (dict(classes=[]), False), (dict(classes=["a", 3]), False),
        (dict(classes=("a", "b")), True), (dict(picture_size=4097), False),
    ],
    ids=str,
)  # fmt: skip
def test_what_a_file_says_of_its_pictures(change, right):
    known = {**TOLD, "mean": np.arange(9.0), **change}
    mean = known["mean"].astype("<f4")
    words = json.dumps(known | {"mean": base64.b64encode(mean.tobytes()).decode()})
    if right:
        about, found = published._told("x.onnx", words, 1, 2)
        assert about == {name: json.loads(words)[name] for name in about} and len(about) == 5
        np.testing.assert_array_equal(found.ravel(), mean)
    else:
        with pytest.raises(ModelFileError, match="x.onnx: expected metadata that --export wrote"):
            published._told("x.onnx", words, 1, 2)


# --- From a file to a run -------------------------------------------------------------------------


@pytest.fixture
def imported(monkeypatch):
    """A net of three classes in a file, and what was asked of the data."""
    net = nn.Linear(2, 3)
    opened = []

    def data(settings):
        opened.append(settings)
        return (SimpleNamespace(classes=list("xyz")),) * 2

    recipe = SimpleNamespace(
        settings=lambda: {"crop": 8, "data": None, "val_share": None},
        data=SimpleNamespace(open=data),
    )
    monkeypatch.setattr(exchange, "PUBLISHED", {"caffe": recipe})
    about = {"classes": 3, "in_channels": 3, "scale": 0.5}
    file = published.Imported(
        "caffe", {"kind": "caffe"}, {name: x + 1 for name, x in net.state_dict().items()}, about,
        np.full((2, 2, 3), 7, np.float32), ["a net"],
    )  # fmt: skip
    program = SimpleNamespace(
        build_of=lambda about, devices: nn.Linear(2, len(about["classes"])),
        find_devices=lambda names: (tinynet.device(names),),
    )
    return SimpleNamespace(file=file, opened=opened, program=program)


@pytest.mark.parametrize(
    "data, classes, names, told",
    [
        (None, 3, ["class 0", "class 1", "class 2"], "numbered; --data PATH names them"),
        (None, ["a", "b", "c"], ["a", "b", "c"], "of the file"),
        ("there", 3, ["x", "y", "z"], "those of --data, in their order"),
        ("there", ["a", "b", "c"], ["x", "y", "z"], "those of --data, in their order"),
    ],
)
def test_a_file_becomes_a_run(data, classes, names, told, imported, tmp_path, capsys):
    imported.file.about["classes"] = classes
    args = argparse.Namespace(data=data, val_share=0.25 if data else None, out=tmp_path / "run")
    assert exchange.keep(imported.file, args, imported.program) == 0
    saved = files.load(tmp_path / "run" / files.BEST)
    assert saved.state["about"] == {
        "classes": names, "in_channels": 3, "scale": 0.5, "preset": "caffe",
        "net": {"kind": "caffe"},
    }  # fmt: skip
    np.testing.assert_array_equal(saved.arrays["mean"], imported.file.mean)
    for name, array in saved.model.items():
        np.testing.assert_array_equal(array, imported.file.weights[name])
    wanted = [{"crop": 8, "data": "there", "val_share": 0.25}] if data else []
    assert imported.opened == wanted
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == ["a net", f"classes: {told}"]


def test_data_of_another_number_of_classes(imported, tmp_path):
    imported.file.about["classes"] = 4
    args = argparse.Namespace(data="there", val_share=None, out=tmp_path / "run")
    with pytest.raises(ModelFileError, match="there: expected the 4 classes of the file, got 3"):
        exchange.keep(imported.file, args, imported.program)
    assert not (tmp_path / "run").exists()


def test_weights_that_leave_say_what_they_are_about(tmp_path):
    about = {"preset": "mini", "classes": ["a", "b"], "scale": 0.5}
    program = SimpleNamespace(load=lambda paths, device: ([nn.Linear(2, 3)], None, about, None))
    args = argparse.Namespace(
        export=[str(tmp_path / "w.safetensors"), "run"], raw=False, device=None
    )
    assert exchange.export(program, args) == 0
    with safe_open(tmp_path / "w.safetensors", "np") as file:
        assert json.loads(file.metadata()["about"]) == about
        assert sorted(file.keys()) == ["bias", "weight"]
    args.export[0] = str(tmp_path / "none" / "w.safetensors")
    with pytest.raises(ModelFileError, match="w.safetensors cannot be written: No such file"):
        exchange.export(program, args)
