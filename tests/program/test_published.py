"""Nets of others, layer by layer and without their 60 million weights; how they become runs."""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import re
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
    convolutions = [f"conv{number}" for number in range(1, 6)]
    names = [*convolutions, "norm", "pool", "dropout", "fc6", "fc7", "fc8"]
    assert [name for name, _ in net.named_children()] == names  # as print(net) shows them
    caffe = kind == "caffe"
    assert isinstance(net.norm, nn.LocalResponseNorm if caffe else nn.Identity)
    if caffe:
        assert net.norm.options == dict(size=5, alpha=1e-4, beta=0.75, k=1.0)
    pool = dict(kernel_size=3, stride=2, padding=0, ceil_mode=caffe)
    assert net.pool.options == pool and (net.dropout.p, net.dropout.inverted) == (0.5, True)
    calls = []
    for name in names:
        setattr(net, name, lambda x, name=name: calls.append(name) or x)
    x = tinynet.tensor(np.arange(144, dtype=np.float32).reshape(1, 1, 12, 12))
    y = net(x)
    assert " ".join(calls) == ORDER[kind] + " fc8"
    assert y.shape == ((1, 144) if caffe else (1, 36))  # torchvision averages maps to 6 x 6


def test_a_net_of_others_lives_on_the_first_device(monkeypatch):
    def small(what, classes, device=CPU):
        net = nn.Sequential(nn.Linear(2, classes, device=device))
        net.made_of = what
        return net

    monkeypatch.setattr(published, "OneTower", small)
    monkeypatch.setattr(published, "with_classes", lambda description, classes: classes)
    monkeypatch.setattr(published, "FromOnnx", lambda classes: small("file", classes))
    devices = tinynet.device("cpu:1"), CPU
    for kind, made_of in (("caffe", "caffe"), ("torchvision", "torchvision"), ("onnx", "file")):
        said = {"kind": kind, "order": "BGR", "width": [2.0], "description": {}}
        net = published.build({"net": said, "classes": "abc"}, devices)
        assert net.net.made_of == made_of and net.order == "BGR" and net.share.numpy() == 0.5
        assert {p.device for p in (*net.parameters(), *net.buffers())} == {devices[0]}


def test_what_pictures_are_before_these_nets():
    """torchvision's documentation: mean [0.485, 0.456, 0.406], std [0.229, 0.224, 0.225] of 1."""
    found = published.LOOKS["torchvision"]
    np.testing.assert_allclose(np.array(found["mean"]) / 255, [0.485, 0.456, 0.406], rtol=1e-12)
    np.testing.assert_allclose(np.array(found["width"]) / 255, [0.229, 0.224, 0.225], rtol=1e-12)
    assert found["order"] == "RGB" and published.LOOKS["caffe"]["order"] == "BGR"
    assert published.LOOKS["caffe"]["mean"] == (122.679, 116.669, 104.007)  # of R, G, B
    assert [published._looks(look) for look in published.LOOKS.values()] == [
        "pictures: RGB, less 123.675, 116.28, 103.53, over 58.395, 57.12, 57.375",
        "pictures: BGR, less 122.679, 116.669, 104.007",
    ]
    for name, crop in (("torchvision", 224), ("caffe", 227), ("onnx", 224)):
        recipe = published.PUBLISHED[name]
        assert (recipe.data.picture_size, recipe.data.crop) == (256, crop)
        found = recipe.epochs, recipe.batch_size, recipe.lr, recipe.milestones
        assert found == (5, 64, 1e-3, (4,))
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
            node | dict(op="MatMul", inputs=["s", "fixed"]),  # not learnt: no layer
        ],
        "weights": {
            "v": [kind, "float32", [3, 3]], "c": [kind, "float32", [3]],
            "w": [kind, "float32", [5, 3]], "b": [kind, "float32", [3]],
            "scale": ["constant", "float32", [1, 3]], "fixed": ["constant", "float32", [3, 3]],
        },
    }  # fmt: skip
    before = json.dumps(description)
    found = published.with_classes(description, 7)
    shapes = {name: row[2] for name, row in found["weights"].items()}
    assert shapes == {
        "v": [3, 3],
        "c": [3],
        "w": [5, 7],
        "b": [7],
        "scale": [1, 7],
        "fixed": [7, 7],
    }
    assert found["classes"] == 7 and json.dumps(description) == before
    assert published.with_classes(description, 3) is description
    assert published.last_layer(description)["inputs"] == ["h", "w"]
    for op, learnt in [("Gemm", True), ("Conv", True), ("MatMul", True), ("Add", False)]:
        net = {"weights": {"w": [kind]}, "nodes": [node | dict(op=op, inputs=["x", "w"])]}
        with contextlib.nullcontext() if learnt else pytest.raises(ModelFileError):
            assert published.last_layer(net) is net["nodes"][0]
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
    [
        ("torchvision", (5, 4096), 5), ("caffe", (5, 4096), 5), ("caffe", (1, 1, 5, 4096), 5),
        ("torchvision", (2, 4096), 2), ("caffe", (1, 1, 2, 4096), 2),
    ],
)  # fmt: skip
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
        with pytest.raises(ModelFileError, match="x.pth: .* with last.weight of two classes"):
            published._alexnet("x.pth", kind, wrong, names)
    for count, told in enumerate(("none", "w0", "w0, w1", "w0, w1, w2", "w0, w1, w2 ...")):
        with pytest.raises(ModelFileError, match=f"two classes at least, got {re.escape(told)};"):
            published._alexnet("x", kind, {f"w{n}": np.zeros(2) for n in range(count)}, names)


@pytest.mark.parametrize(
    "name, shape, fits",
    [
        ("first.weight", (3, 2, 1, 4), True), ("first.weight", (3, 2, 4), True),
        ("first.weight", (1, 3, 2, 1, 4, 1), True), ("first.weight", (2, 3, 1, 4), False),
        ("first.weight", (3, 4, 1, 2), False), ("first.weight", (3, 8), False),
        ("first.weight", (24,), False), ("first.weight", (3, 2, 2, 2), False),
        ("first.weight", (4, 1, 2, 3), False), ("first.weight", (3, 2, 1, 5), False),
        ("first.bias", (1, 1, 1, 3), True), ("first.bias", (3, 1), True),
        ("first.bias", (), False), ("first.bias", (4,), False), ("first.bias", None, False),
        ("last.weight", (1, 1, 5, 6), True), ("last.weight", (6, 5), False),
        ("last.bias", (6,), False), ("last.bias", (5, 5), False),
    ],
)  # fmt: skip
def test_weights_of_a_file_have_their_shapes(name, shape, fits, monkeypatch):
    """Axes of one may be missing or too many; the others are those of the net, in their order."""

    def net(kind, classes, device):
        parts = nn.Conv2d(2, 3, (1, 4)), nn.Linear(6, classes)
        made = nn.Sequential()
        made.conv1, made.fc8 = parts
        return made

    monkeypatch.setattr(published, "OneTower", net)
    names = {"conv1": "first", "fc8": "last"}
    shapes = {"first.weight": (3, 2, 1, 4), "first.bias": (3,)}
    shapes |= {"last.weight": (5, 6), "last.bias": (5,)}

    def read(**more):
        given = shapes | {name: shape} | more
        arrays = {n: np.arange(np.prod(s, dtype=int)) for n, s in given.items() if s is not None}
        arrays = {n: x.reshape(given[n]) for n, x in arrays.items()}
        return published._alexnet("x.pth", "caffe", arrays, names).weights

    if fits:
        found = read()
        assert [*found] == ["net.conv1.weight", "net.conv1.bias", "net.fc8.weight", "net.fc8.bias",
                            "share"]  # fmt: skip
        for array, wanted in zip(found.values(), shapes.values(), strict=False):
            np.testing.assert_array_equal(array, np.arange(array.size).reshape(wanted))
            assert array.dtype == np.float32
        with pytest.raises(ModelFileError, match="AlexNet's layers alone, got other, too"):
            read(other=(3,))
    else:
        got = "none" if shape is None else re.escape(str(shape))
        with pytest.raises(ModelFileError, match=rf"^x.pth: expected .* of shape .*, got {got}$"):
            read()


def test_features_of_a_net_are_rows():
    """What the last layer with weights sees."""
    nodes = [dict(op="Conv", inputs=["h", "w"], outputs=["y"], name="")]
    description = {"weights": {"w": ["parameter", "float32", [3, 2, 1, 1]]}, "nodes": nodes}
    maps = tinynet.tensor(np.ones((4, 2, 3, 3), np.float32))
    net = SimpleNamespace(description=description, run=lambda x, keep: dict.fromkeys(keep, maps))
    assert published.FromOnnx.features(net, None).shape == (4, 18)


@pytest.fixture
def onnx_file(monkeypatch):
    """A file with this description and these metadata, whose net gives three values."""

    def made(
        nodes=(), outputs=("y",), shape=("N", 3, 28, 28), dtype="float32", metadata=None, **weights
    ):
        description = {
            "inputs": {"x": (dtype, list(shape))}, "outputs": list(outputs), "nodes": list(nodes),
            "weights": {},
        }  # fmt: skip
        net = SimpleNamespace(
            description=description, metadata=metadata or {},
            state_dict=lambda: {f"weights.{name}": x for name, x in weights.items()},
        )  # fmt: skip
        monkeypatch.setattr(published.onnx, "load", lambda path: net)
        monkeypatch.setattr(published, "FromOnnx", lambda *each: SimpleNamespace(eval=lambda: "in"))
        monkeypatch.setattr(published, "_classes_of", lambda path, tried, *each: {"in": 3}[tried])
        return description

    return made


def node(op, inputs, output, name=""):
    return dict(op=op, inputs=inputs.split(), outputs=[output], name=name)


@pytest.mark.parametrize(
    "looks, order, width",
    [("torchvision", "RGB", published.IMAGENET_WIDTH), ("caffe", "BGR", (1,) * 3)],
)
def test_a_file_that_says_nothing_of_its_pictures(looks, order, width, onnx_file):
    onnx_file([node("Relu", "x", "y"), node("Dropout", "y", "z")], shape=("N", 3, 224, 224))
    found = published.read("net.onnx", looks)
    assert found.preset == "onnx" and found.net["order"] == order
    np.testing.assert_allclose(found.net["width"], width)
    np.testing.assert_allclose(found.weights["share"].ravel(), 1 / np.float32(width))
    assert found.about == dict(
        in_channels=3, picture_size=256, image_size=224, scale=1.0, classes=3
    )
    np.testing.assert_allclose(found.mean[5, 7], published.LOOKS[looks]["mean"], rtol=1e-6)
    assert found.mean.shape == (256, 256, 3) and found.net["description"]["classes"] == 3
    assert found.said[0].startswith(
        "a net of 2 nodes, 3 classes: 224 x 224 of pictures of 256 x 256"
    )
    assert found.said[1].startswith(f"pictures: {order}, less ") and len(found.said) == 2
    assert (", over " in found.said[1]) == (looks == "torchvision")
    said = [re.escape(published._looks(look)[15:]) for look in published.LOOKS.values()]
    words = r"say --looks torchvision \(RGB, {}\) or --looks caffe \(BGR, {}\)$"
    with pytest.raises(ModelFileError, match=words.format(*said)):
        published.read("net.onnx", None)


def test_a_file_that_tinynet_wrote(onnx_file):
    mean = base64.b64encode(np.arange(9, dtype="<f4").tobytes()).decode()
    told = dict(in_channels=1, picture_size=3, image_size=2, scale=0.5, classes=list("abc"))
    words = json.dumps(told | {"mean_shape": [3, 3, 1], "mean": mean})
    onnx_file([node("Relu", "x", "y")], shape=("N", 1, 2, 2), metadata={"tinynet": words})
    found = published.read("net.onnx", None)
    assert found.about == told and found.net["order"] == "RGB" and found.net["width"] == [1.0]
    assert found.said[1:] == ["it has no dropout"] and found.weights["share"].ravel() == [1]
    with pytest.raises(ModelFileError, match="leave --looks out"):
        published.read("net.onnx", "caffe")
    words = json.dumps(json.loads(words) | {"classes": ["a", "b"]})
    onnx_file(shape=("N", 1, 2, 2), metadata={"tinynet": words})
    with pytest.raises(ModelFileError, match="expected 2 classes, got 3"):
        published.read("net.onnx", None)


@pytest.mark.parametrize(
    "change, wrong",
    [
        ({}, False), (dict(dtype="uint8"), True), (dict(outputs=["y", "z"]), True),
        (dict(shape=("N", 3, 28, 27)), True), (dict(shape=("N", 2, 28, 28)), True),
        (dict(shape=("N", 3, 0, 0)), True), (dict(shape=("N", 3, 1, 1)), False),
        (dict(shape=("N", 3, 40, 40)), False), (dict(shape=("N", 3, 41, 41)), True),
        (dict(shape=("N", 3, 784)), True), (dict(shape=("N", 3, "S", "S")), True),
        (dict(shape=("N", 1, 28, 28)), True),  # grey, though --looks is of colours
    ],
    ids=str,
)  # fmt: skip
def test_which_nets_are_taken(change, wrong, onnx_file, monkeypatch):
    assert published.WIDEST == 4096
    monkeypatch.setattr(published, "WIDEST", 40)
    onnx_file([node("Relu", "x", "y")], **change)
    if not wrong:
        side = change.get("shape", [28])[-1]
        assert published.read("net.onnx", "caffe").about["picture_size"] == side + side // 7
    else:
        with pytest.raises(ModelFileError, match=r"expected (one input|3 channels)") as error:
            published.read("net.onnx", "caffe")
        assert ("without --raw" in str(error.value)) == ("dtype" in change)


@pytest.mark.parametrize("last, kept", [(True, 1), (False, 2)])
def test_a_softmax_at_the_end_is_left_out(last, kept, onnx_file):
    """It is at the end if its values are the result."""
    description = onnx_file([node("Gemm", "x w", "h"), node("Softmax", "h", "y" if last else "z")])
    found = published.read("net.onnx", "caffe")
    assert len(description["nodes"]) == kept
    assert description["outputs"] == (["h"] if last else ["y"])
    net, pictures, *softmax, dropout = found.said
    assert net.startswith("a net of ") and pictures.startswith("pictures: ")
    assert dropout == "it has no dropout" and len(softmax) == last
    assert all("Softmax, is left out" in line for line in softmax)


@pytest.mark.parametrize(
    "first, shape, wanted", [(1, [0, -1], 0), ("N", [1, -1], 1), (1, [2, -1], 2)]
)
def test_a_net_of_one_picture_takes_any_number(first, shape, wanted, onnx_file):
    given = dict(s=np.array([1 if shape[0] == 0 else shape[0], -1]))
    onnx_file([node("Reshape", "x s", "y", "flat")], shape=(first, 3, 28, 28), **given)
    found = published.read("net.onnx", "caffe")
    assert found.weights["net.weights.s"].tolist() == [wanted, -1]
    assert any("any batch in the place of 1" in line for line in found.said) == (shape[0] == 0)
    given = dict(s=np.array([1, -1]), t=np.array([2, -1]), u=np.array([1, 9]), v=np.array([1, 2]))
    nodes = [node("Reshape", f"x{n} {w}", f"x{n + 1}") for n, w in enumerate("stu")]
    onnx_file([*nodes, node("Add", "x3 v", "y")], shape=(1, 3, 28, 28), **given)
    found = published.read("net.onnx", "caffe")  # every Reshape, and no other operation
    firsts = {name[-1]: array[0] for name, array in found.weights.items() if name != "share"}
    assert firsts == {"s": 0, "t": 2, "u": 0, "v": 1}


@pytest.mark.parametrize(
    "values, said",
    [
        (lambda x: x.reshape(len(x), -1)[:, :5], None),
        (lambda x: x.reshape(len(x), -1)[:, :2], None),  # two classes are enough
        (lambda x: x[:, 0, 0, :2] * (100 + 0.05 * len(x)), None),  # sums in another order
        (lambda x: x[:, 0, 0, :2] * (100 + 0.2 * len(x)), "any batch"),
        (lambda x: (x - x.mean(axis=0)).reshape(len(x), -1)[:, :5], "any batch"),
        (lambda x: x.reshape(len(x), -1)[:, :1], r"expected values \(N, classes\)"),
        (lambda x: x.ravel()[:5], r"expected values \(N, classes\)"),
        (lambda x: np.full((len(x), 3), np.nan), "NaN or infinity"),
        (lambda x: np.where(x > 9, x, np.inf).reshape(len(x), -1), "NaN or infinity"),
    ],
)
def test_values_of_classes_are_those_of_each_picture(values, said):
    net = SimpleNamespace(
        outputs=["y"], run=lambda x, most: {"y": tinynet.tensor(values(np.asarray(x, np.float32)))}
    )
    if said is None:
        assert published._classes_of("x", net, 3, 4) == values(np.ones((1, 3, 4, 4))).size
    else:
        with pytest.raises(ModelFileError, match=said):
            published._classes_of("x", net, 3, 4)


def test_every_ending_has_its_reader(monkeypatch):
    asked = []
    monkeypatch.setattr(published, "_alexnet", lambda *each: asked.append(each))
    monkeypatch.setattr(published, "read_torch", lambda path: {"torch": path})
    monkeypatch.setattr(published, "load", lambda path: {"ours": tinynet.tensor(np.ones(2))})
    blobs = {"conv1": ["w", "b", "x"], "norm1": [], "pool1": [], "fc6": ["v"]}
    monkeypatch.setattr(published, "read_caffe", lambda path: blobs)
    for path in ("a.pth", "a.pt", "a.safetensors", "a.caffemodel"):
        published.read(path, None)
        with pytest.raises(ModelFileError, match="--looks with an ONNX file alone"):
            published.read(path, "caffe")
    of_torch = dict(zip(published.LAYERS, published.STATE, strict=True))
    assert asked[0] == ("a.pth", "torchvision", {"torch": "a.pth"}, of_torch)
    assert asked[1][:3] == ("a.pt", "torchvision", {"torch": "a.pt"})
    assert asked[2][2]["ours"].tolist() == [1, 1] and asked[2][3] == of_torch
    path, kind, arrays, names = asked[3]
    assert (path, kind) == ("a.caffemodel", "caffe") and names == {n: n for n in published.LAYERS}
    assert arrays == {"conv1.weight": "w", "conv1.bias": "b", "conv1.0": "x", "fc6.weight": "v"}
    assert of_torch["conv5"] == "features.10" and of_torch["fc6"] == "classifier.1"
    with pytest.raises(ModelFileError, match="expected a name that ends in"):
        published.read("a.txt", None)


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
        (dict(picture_size=4096, mean_shape=[2, 2, 1], mean=np.ones(4)), True),
        (dict(picture_size=4097, mean_shape=[2, 2, 1], mean=np.ones(4)), False),
        (dict(mean_shape=[3, 1, 3]), False), (dict(mean_shape=[1, 3, 3]), False),
        (dict(mean_shape=[3, 3]), False), (dict(mean_shape=[9]), False),
        (dict(picture_size=3.0), False), (dict(image_size=2.0), False),
        (dict(in_channels=True), False), (dict(scale=1e300), True),
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
    if right:  # nothing in it is passed over
        words = words.replace('"mean": "', '"mean": "?')
        with pytest.raises(ModelFileError, match="or they are damaged"):
            published._told("x.onnx", words, 1, 2)


def test_what_a_file_says_may_be_anything():
    mean = base64.b64encode(np.ones(9, "<f4").tobytes()).decode()
    known = {**TOLD, "mean": mean}
    assert published._told("x.onnx", json.dumps(known), 1, 2)[0]["scale"] == 0.5
    crafted = ["", "{", "[]", "3", "null", '"words"', "[" * 100_000]
    for name in known:
        less = {key: value for key, value in known.items() if key != name}
        others = (None, "", "a", [], [[]], {}, {"a": 1}, [None], -1, 10**400)
        crafted += map(json.dumps, [less, *(known | {name: other} for other in others)])
    for words in crafted:
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


def test_a_net_leaves_with_what_feeds_it(tmp_path, monkeypatch, capsys):
    asked = []

    def write(*each, **more):
        asked.append((each, more))
        each[2].write_bytes(b"12345")

    monkeypatch.setattr(exchange.onnx, "export", write)
    fed = SimpleNamespace(
        example="x", metadata={"a": 1}, call="call", result="logits", takes="pictures"
    )
    given = []
    recipe = SimpleNamespace(data=SimpleNamespace(feeding=lambda *each: given.append(each) or fed))
    program = SimpleNamespace(load=lambda paths, device: (["net"], "task", {"a": 2}, recipe))
    path = tmp_path / "net.onnx"
    for raw in (False, True):
        args = argparse.Namespace(export=[str(path), "run"], raw=raw, device="cpu")
        assert exchange.export(program, args) == 0
        assert given[-1] == ("net", "task", {"a": 2}, raw)
    assert asked[0] == (("net", "x", path, {"a": 1}, "call"), {"outputs": ["logits"]})
    assert capsys.readouterr().out.startswith(f"{path}: 5 bytes; in: pictures; out: logits\n")

    def full(*each, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exchange.onnx, "export", full)
    with pytest.raises(ModelFileError, match="net.onnx cannot be written: No space left on device"):
        exchange.export(program, args)
    for name, raw, said in (
        ("a.txt", False, "ends in .onnx"),
        ("a.safetensors", True, "--raw with"),
    ):
        args = argparse.Namespace(export=[name, "run"], raw=raw, device="cpu")
        with pytest.raises(ModelFileError, match=said):
            exchange.export(program, args)
