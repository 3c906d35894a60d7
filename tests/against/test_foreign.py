"""Weights in the files of others, written by their own tools: torch.save, Google's protobuf."""

from __future__ import annotations

import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest
from caffe_messages import caffemodel

import tinynet
from tinynet import ModelFileError
from tinynet.foreign import read_caffe, read_torch
from tinynet.program import published

torch = pytest.importorskip("torch")
TF = torch.nn.functional
CPU = tinynet.device("cpu")


class Runs:
    """What a pickle of an attacker does when it is loaded."""

    def __reduce__(self):
        return os.system, ("touch was_run",)


@pytest.mark.parametrize(
    "tree, words",
    [
        ({"w": Runs()}, "system, which would be run"),
        ([1, 2], "no dict of tensors"),
        ({"w": collections.Counter("a")}, "collections Counter, which would be run"),
        ({"w": 3}, "w, which is no tensor"),
        ({}, "no dict of tensors"),
        ({("a", "b"): 1}, "keys are no names"),
        (torch.nn.Linear(2, 2), r"expected torch.save\(net.state_dict"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_no_state_dict_is_refused(tree, words, zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(tree, "net.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelFileError, match=words) as caught:
        read_torch("net.pth")
    assert "\n" not in str(caught.value) and not os.path.exists("was_run")


def test_tensors_outside_of_their_storage_and_archives_that_grow_are_refused(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"w": torch.zeros(1).expand(1 << 30)}, path)  # 4 GB of four bytes
    with pytest.raises(ModelFileError, match="outside of its storage"):
        read_torch(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/data.pkl", b"\0" * 1000)
    with pytest.raises(ModelFileError, match="compressed"):
        read_torch(path)
    nested = b"\x80\x02)" + b"q\x00h\x00h\x00\x86" * 60 + b"K\x01s."
    with zipfile.ZipFile(path, "w") as archive:  # a key that takes 2^60 steps to hash
        archive.writestr("net/data.pkl", b"\x80\x02}" + nested[2:])
    with pytest.raises(ModelFileError, match="keys are no names"):
        read_torch(path)
    torch.save({"line\n\x1b[31m" + "long" * 1000: 3}, path)
    with pytest.raises(ModelFileError, match=r"line\\n\\x1b\[31mlong.* \.\.\.$") as caught:
        read_torch(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1100
    path.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(ModelFileError, match="no file of torch"):
        read_torch(path)


class Torchvision(torch.nn.Module):
    """torchvision's AlexNet: its names and shapes are what a state dict shows."""

    def __init__(self, classes):
        super().__init__()
        t, relu, pool = torch.nn, torch.nn.ReLU(), torch.nn.MaxPool2d(3, 2)
        self.features = t.Sequential(
            t.Conv2d(3, 64, 11, 4, 2), relu, pool, t.Conv2d(64, 192, 5, 1, 2), relu, pool,
            t.Conv2d(192, 384, 3, 1, 1), relu, t.Conv2d(384, 256, 3, 1, 1), relu,
            t.Conv2d(256, 256, 3, 1, 1), relu, pool,
        )  # fmt: skip
        drop = t.Dropout(0.5)
        self.classifier = t.Sequential(
            drop, t.Linear(9216, 4096), relu, drop, t.Linear(4096, 4096), relu,
            t.Linear(4096, classes),
        )  # fmt: skip

    def forward(self, x):
        x = TF.adaptive_avg_pool2d(self.features(x), 6)
        return self.classifier(x.flatten(1))


def net_of(imported, classes=None):
    classes = imported.about["classes"] if classes is None else classes
    about = imported.about | {"net": imported.net, "classes": list(range(classes))}
    net = published.build(about, (CPU,))
    fresh = published.start_from(net, imported)
    return net.eval(), fresh


def close(ours, theirs):
    theirs = theirs.detach().numpy()
    assert np.abs(ours.numpy() - theirs).max() <= 2e-5 * np.abs(theirs).max()


@pytest.mark.slow
def test_alexnet_of_torchvision(rng, tmp_path):
    torch.manual_seed(1)
    theirs = Torchvision(1000).eval()
    state = theirs.state_dict()
    paths = [str(tmp_path / name) for name in ("zip.pth", "row.pth", "net.safetensors")]
    torch.save(state, paths[0])
    torch.save(state, paths[1], _use_new_zipfile_serialization=False)
    tinynet.save({name: x.numpy() for name, x in state.items()}, paths[2])
    imported = published.read(paths[0], None)
    for path in paths[1:]:
        weights = published.read(path, None).weights
        assert all(np.array_equal(weights[name], x) for name, x in imported.weights.items())
    net, fresh = net_of(imported)
    assert not fresh and imported.about["image_size"] == 224
    pixels = rng.integers(0, 256, (2, 3, 224, 224)).astype(np.float32)
    x = pixels - imported.mean[:224, :224].transpose(2, 0, 1)  # as tinynet's Pictures gives them
    mean, width = (np.float32(v).reshape(3, 1, 1) for v in ([0.485, 0.456, 0.406],
                                                            [0.229, 0.224, 0.225]))  # fmt: skip
    expected = theirs(torch.from_numpy((pixels / 255 - mean) / width))
    with tinynet.no_grad():
        close(net(tinynet.tensor(x)), expected)
        assert net.features(tinynet.tensor(x)).shape == (2, 4096)
    other, fresh = net_of(imported, 7)
    assert fresh == ["net.fc8.weight", "net.fc8.bias"]
    assert other(tinynet.tensor(x[:1])).shape == (1, 7)


@pytest.mark.slow
def test_alexnet_of_caffe(rng, tmp_path):
    shapes = dict(
        conv1=(96, 3, 11, 11), conv2=(256, 48, 5, 5), conv3=(384, 256, 3, 3),
        conv4=(384, 192, 3, 3), conv5=(256, 192, 3, 3), fc6=(4096, 9216), fc7=(4096, 4096),
        fc8=(1000, 4096),
    )  # fmt: skip
    layers = {}
    for name, shape in shapes.items():
        weight = rng.standard_normal(shape, np.float32) * np.float32(
            np.sqrt(2 / np.prod(shape[1:]))
        )
        layers[name] = [weight, rng.standard_normal(shape[0], np.float32)]
    path = tmp_path / "bvlc_alexnet.caffemodel"
    path.write_bytes(caffemodel(layers, old=True))
    imported = published.read(str(path), None)
    net, _ = net_of(imported)
    pixels = rng.integers(0, 256, (2, 3, 227, 227)).astype(np.float32)
    x = pixels - imported.mean[:227, :227].transpose(2, 0, 1)
    w = {n: [torch.from_numpy(a) for a in pair] for n, pair in layers.items()}
    y = torch.from_numpy(pixels[:, ::-1] - np.float32([104.007, 116.669, 122.679])[:, None, None])
    y = TF.relu(TF.conv2d(y, *w["conv1"], stride=4))
    y = TF.max_pool2d(TF.local_response_norm(y, 5, 1e-4, 0.75, 1.0), 3, 2, ceil_mode=True)
    y = TF.relu(TF.conv2d(y, *w["conv2"], padding=2, groups=2))
    y = TF.max_pool2d(TF.local_response_norm(y, 5, 1e-4, 0.75, 1.0), 3, 2, ceil_mode=True)
    y = TF.relu(TF.conv2d(y, *w["conv3"], padding=1))
    y = TF.relu(TF.conv2d(y, *w["conv4"], padding=1, groups=2))
    y = TF.relu(TF.conv2d(y, *w["conv5"], padding=1, groups=2))
    y = TF.max_pool2d(y, 3, 2, ceil_mode=True).flatten(1)
    y = TF.linear(TF.relu(TF.linear(TF.relu(TF.linear(y, *w["fc6"])), *w["fc7"])), *w["fc8"])
    with tinynet.no_grad():
        close(net(tinynet.tensor(x)), y)


def test_a_file_of_another_net_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    state = {"features.0.weight": torch.zeros(64, 3, 3, 3)}
    for more, words in (
        ({}, "with classifier.6.weight of two classes"),
        ({"classifier.6.weight": torch.zeros(5, 4096)}, "expected features.0.weight of shape"),
    ):
        torch.save(state | more, path)
        with pytest.raises(ModelFileError, match=words):
            published.read(str(path), None)
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel({"conv1": [np.zeros((2, 2))]}, old=False))
    with pytest.raises(ModelFileError, match="with fc8.weight of two"):
        published.read(str(path), None)
    one = [np.zeros((2, 2))]  # CaffeNet has the same shapes, and pools first
    path.write_bytes(caffemodel({"conv1": one, "pool1": [], "norm1": []}, old=True))
    with pytest.raises(ModelFileError, match="norm1 before pool1, as bvlc_alexnet"):
        published.read(str(path), None)
    path.write_bytes(caffemodel({"fc8": one * 3, "norm1": [], "pool1": []}, old=True))
    with pytest.raises(ModelFileError, match="expected conv1.weight"):
        published.read(str(path), None)


def damaged(data, rng):
    """The file with some bytes changed, cut, doubled or left out."""
    data = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        at, n = int(rng.integers(len(data))), int(rng.integers(1, 40))
        way = rng.integers(4)
        if way == 0:
            data[at : at + 1] = rng.bytes(1)
        elif way == 1:
            data[at:] = b"" if rng.random() < 0.3 else data[at + n :]
        elif way == 2:
            data[at:at] = data[at : at + n]
        else:
            data[at : at + n] = rng.bytes(n)
        if not data:
            return b""
    return bytes(data)


def test_damaged_files_end_in_one_line(rng, tmp_path):
    """500 files, 125 of a kind: weights or one line; no other error."""
    tensors = {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3)}
    good = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        torch.save(tensors, buffer, _use_new_zipfile_serialization=zipped)
        good.append((read_torch, buffer.getvalue()))
    blobs = {"conv1": [rng.normal(size=(2, 3)), rng.normal(size=2)]}
    good += [(read_caffe, caffemodel(blobs, old)) for old in (True, False)]
    path, refused = tmp_path / "net", 0
    for read, data in good * 125:
        path.write_bytes(damaged(data, rng))
        try:
            read(path)
        except ModelFileError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100
