"""Nets that others have trained: AlexNet as torchvision and as Caffe have it, and ONNX files.

Each is a preset of every program of pictures, which --import starts: `PUBLISHED`. None is AlexNet
as it stands in examples/alexnet.py: both have one tower, and torchvision's has other sizes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import tinynet.functional as F
from tinynet import nn, onnx
from tinynet.devices import Device, find_device
from tinynet.errors import ModelFileError
from tinynet.foreign import read_caffe, read_torch
from tinynet.program.pictures import Pictures
from tinynet.program.recipe import Recipe
from tinynet.recording import no_grad
from tinynet.saving import load
from tinynet.tensors import Tensor

# What pictures are before these nets see them: mean and width of red, green, blue, of 255.
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # torchvision's 0.485, 0.456, 0.406
IMAGENET_WIDTH = (58.395, 57.12, 57.375)  # torchvision's 0.229, 0.224, 0.225
CAFFE_MEAN = (122.679, 116.669, 104.007)  # the channels of Caffe's imagenet_mean.binaryproto
LOOKS: dict[str, dict[str, Any]] = {
    "torchvision": dict(mean=IMAGENET_MEAN, width=IMAGENET_WIDTH, order="RGB"),
    "caffe": dict(mean=CAFFE_MEAN, width=(1.0, 1.0, 1.0), order="BGR"),
}
LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
# The names of these layers in torchvision's state dict.
STATE = ("features.0", "features.3", "features.6", "features.8", "features.10", "classifier.1",
         "classifier.4", "classifier.6")  # fmt: skip
WIDEST = 4096  # pixels of a side that a file may ask for
# Multiplications (onnx/work.py) that it may ask for to see two pictures: twice those of VGG-19.
TRIAL = 2**37
KERNELS = ["net.conv1.weight"]  # that a report draws


class OneTower(nn.Module):
    """AlexNet in one tower: pictures (N, 3, S, S) -> logits (N, classes).

    "torchvision": Krizhevsky 2014, "One weird trick for parallelizing convolutional neural
    networks", footnote 1, without normalisation; S = 224, dropout before fc6 and fc7. "caffe": the
    net of 2012, whose towers are two groups in conv2, conv4 and conv5; S = 227, dropout after fc6
    and fc7. Both divide by 1 - p in training. Weights come from a file: only fc8, which other
    classes make anew, has a start.
    """

    def __init__(self, kind: str, classes: int, device: Device):
        self.kind = kind
        of_caffe = kind == "caffe"
        groups = 2 if of_caffe else 1
        k1, k2, k3, k4, k5 = (96, 256, 384, 384, 256) if of_caffe else (64, 192, 384, 256, 256)
        zeros = nn.init.constant(0)
        more: dict[str, Any] = dict(relu=True, device=device, weight_init=zeros)
        self.conv1 = nn.Conv2d(3, k1, 11, 4, 0 if of_caffe else 2, **more)
        self.conv2 = nn.Conv2d(k1, k2, 5, 1, 2, groups, **more)
        self.conv3 = nn.Conv2d(k2, k3, 3, 1, 1, **more)
        self.conv4 = nn.Conv2d(k3, k4, 3, 1, 1, groups, **more)
        self.conv5 = nn.Conv2d(k4, k5, 3, 1, 1, groups, **more)
        self.norm = nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0) if of_caffe else nn.Identity()
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=of_caffe)
        self.dropout = nn.Dropout(0.5)
        self.fc6 = nn.Linear(k5 * 36, 4096, **more)
        self.fc7 = nn.Linear(4096, 4096, **more)
        self.fc8 = nn.Linear(4096, classes, device=device)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc8(self.features(x))
        return logits

    def features(self, x: Tensor) -> Tensor:
        """What fc8 sees: 4096 values."""
        x = self.pool(self.norm(self.conv1(x)))
        x = self.pool(self.norm(self.conv2(x)))
        x = self.pool(self.conv5(self.conv4(self.conv3(x))))
        if self.kind == "caffe":
            return self.dropout(self.fc7(self.dropout(self.fc6(x.flatten(1)))))
        x = F.adaptive_avg_pool2d(x, 6).flatten(1)
        return self.fc7(self.dropout(self.fc6(self.dropout(x))))


class Prepared(nn.Module):
    """A net and what its pictures need besides their mean: the order of colours, their widths."""

    def __init__(
        self, net: OneTower | FromOnnx, order: str, width: tuple[float, ...], device: Device
    ):
        self.net, self.order = net, order
        self.share = nn.Buffer(1 / np.reshape(np.asarray(width, np.float32), (-1, 1, 1)), device)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(self.prepared(x))
        return logits.flatten(1)  # some nets end in maps of one pixel

    def features(self, x: Tensor) -> Tensor:
        """What the last layer with weights sees."""
        return self.net.features(self.prepared(x))

    def prepared(self, x: Tensor | tuple[Tensor, Tensor]) -> Tensor:
        """The net's input. x may be a pair, the same pictures on two devices."""
        x = x[0] if isinstance(x, tuple) else x
        x = x[:, ::-1] if self.order == "BGR" else x
        return x if (self.share.data == 1).all() else x * self.share


class FromOnnx(onnx.OnnxNet):
    """An ONNX file's net, with the features before its last layer."""

    def features(self, x: Tensor) -> Tensor:
        """What the last layer with weights sees, as rows."""
        name = last_layer(self.description)["inputs"][0]
        return self.run(x, keep=[name])[name].flatten(1)


@dataclass(frozen=True)
class PublishedPictures(Pictures):
    """Pictures less a mean that the net brings along."""

    mean: tuple[float, ...] = IMAGENET_MEAN

    def arrays(self, about: dict, train: Any) -> dict[str, np.ndarray]:
        return {"mean": constant_picture(self.mean, about["picture_size"])}


class Imported(NamedTuple):
    """What a file gives. net: as about["net"]; weights: by the names of the program's net; about:
    classes (None: numbers), in_channels, picture_size, image_size, scale; said: lines to print.
    """

    preset: str
    net: dict[str, Any]
    weights: dict[str, np.ndarray]
    about: dict[str, Any]
    mean: np.ndarray
    said: list[str]


def constant_picture(colours: tuple[float, ...], side: int) -> np.ndarray:
    return np.broadcast_to(np.asarray(colours, np.float32), (side, side, len(colours))).copy()


def build(about: dict[str, Any], devices: tuple[Device, ...]) -> nn.Module:
    """The net that about["net"] says it is, for the classes of `about`."""
    said, classes = about["net"], len(about["classes"])
    net: OneTower | FromOnnx
    if said["kind"] == "onnx":
        net = FromOnnx(with_classes(said["description"], classes))
        net.to(devices[0])
    else:
        net = OneTower(said["kind"], classes, devices[0])
    return Prepared(net, said["order"], tuple(said["width"]), devices[0])


def _recipe(title: str, mean: tuple[float, ...], crop: int) -> Recipe:
    """To go on with learnt weights: a tenth of the rate of the start, and short."""
    pictures = PublishedPictures(picture_size=256, crop=crop, mean=mean)
    return Recipe(title, pictures, epochs=5, batch_size=64, lr=1e-3, milestones=(4,))


PUBLISHED: dict[str, Recipe] = {
    "torchvision": _recipe("AlexNet of torchvision", IMAGENET_MEAN, 224),
    "caffe": _recipe("AlexNet of Caffe", CAFFE_MEAN, 227),
    "onnx": _recipe("net of an ONNX file", IMAGENET_MEAN, 224),
}


# ---------------------------------------------------------------- from files


def read(path: str, looks: str | None) -> Imported:
    """What a file holds. looks: how an ONNX file's pictures are to be, if it does not say.

    ModelFileError that names the file if it is damaged, or another net.
    """
    suffix = Path(path).suffix
    if suffix != ".onnx" and looks:
        raise ModelFileError(f"{path}: expected --looks with an ONNX file alone; leave it out")
    if suffix == ".onnx":
        return _from_onnx(path, looks)
    if suffix == ".caffemodel":
        blobs = read_caffe(path)
        order = [name for name in blobs if name in ("norm1", "pool1")]
        if order == ["pool1", "norm1"]:  # the shapes alone do not tell
            raise ModelFileError(
                f"{path}: expected norm1 before pool1, as bvlc_alexnet has them, got CaffeNet's "
                f"order"
            )
        arrays = {
            f"{name}.{('weight', 'bias', *range(len(several)))[i]}": blob
            for name, several in blobs.items()
            for i, blob in enumerate(several)
        }
        names = dict(zip(LAYERS, LAYERS, strict=True))
        return _alexnet(path, "caffe", arrays, names)
    if suffix in (".pth", ".pt"):
        arrays = read_torch(path)
    elif suffix == ".safetensors":
        arrays = {name: x.numpy() for name, x in load(path).items()}
    else:
        raise ModelFileError(
            f"{path}: expected a name that ends in .onnx, .caffemodel, .pth, .pt or .safetensors"
        )
    return _alexnet(path, "torchvision", arrays, dict(zip(LAYERS, STATE, strict=True)))


def _alexnet(path: str, kind: str, arrays: dict[str, Any], names: dict[str, str]) -> Imported:
    """AlexNet's sixteen arrays, no more, no less, in their shapes."""
    last = arrays.get(f"{names['fc8']}.weight")
    classes = len(last) if last is not None and last.ndim >= 1 else 0
    if classes == 1 and last is not None and last.ndim == 4:  # Caffe's (1, 1, out, in)
        classes = last.shape[2]
    if classes < 2:
        raise ModelFileError(
            f"{path}: expected AlexNet of {kind}, with {names['fc8']}.weight of two classes at "
            f"least, got {_first(arrays)}; export other nets as .onnx, also those of tinynet"
        )
    net = OneTower(kind, classes, find_device("cpu"))
    weights: dict[str, np.ndarray] = {}
    for name, parameter in net.named_parameters():
        layer, _, what = name.partition(".")
        theirs = f"{names[layer]}.{what}"
        array = arrays.pop(theirs, None)
        shape = parameter.shape
        # Caffe wrote four sizes before 2014, whatever the layer
        fits = array is not None and tuple(n for n in array.shape if n > 1) == tuple(
            n for n in shape if n > 1
        )
        if not fits:
            got = "none" if array is None else array.shape
            raise ModelFileError(f"{path}: expected {theirs} of shape {shape}, got {got}")
        weights[f"net.{name}"] = np.asarray(array, np.float32).reshape(shape)
    if arrays:
        raise ModelFileError(f"{path}: expected AlexNet's layers alone, got {_first(arrays)}, too")
    looks, side = LOOKS[kind], 227 if kind == "caffe" else 224
    said = [
        f"AlexNet of {kind}, {classes:,} classes: {side} x {side} of pictures of 256 x 256",
        _looks(looks),
        "dropout divides by 1 - p in training (the program of 2012 multiplied by it in use)",
    ]
    about = dict(in_channels=3, picture_size=256, image_size=side, scale=1.0, classes=classes)
    state = dict(kind=kind, order=looks["order"], width=list(looks["width"]))
    weights["share"] = 1 / np.reshape(np.float32(looks["width"]), (-1, 1, 1))
    return Imported(kind, state, weights, about, constant_picture(looks["mean"], 256), said)


def _from_onnx(path: str, looks: str | None) -> Imported:
    """A net of one input, square pictures, and one result, values of classes."""
    net = onnx.load(path)
    said = []
    description = net.description
    ((dtype, shape), *more) = description["inputs"].values()
    square = len(shape) == 4 and shape[1] in (1, 3) and shape[2] == shape[3]
    square = square and shape[2] in range(1, WIDEST + 1)
    if more or len(description["outputs"]) > 1 or dtype != "float32" or not square:
        raise ModelFileError(
            f"{path}: expected one input, float32 pictures (N, 1 or 3, S, S), and one result, got "
            f"{description['inputs']} and {description['outputs']}"
            f"{'; if --export wrote it, export without --raw' * (dtype == 'uint8')}"
        )
    last = description["nodes"][-1] if description["nodes"] else {}
    if last.get("op") == "Softmax" and last["outputs"][0] == description["outputs"][0]:
        description["nodes"].pop()
        description["outputs"] = [last["inputs"][0]]
        said.append("its last node, Softmax, is left out: the program takes what comes before")
    weights = {f"net.{name}": array for name, array in net.state_dict().items()}
    if shape[0] == 1:
        for node in description["nodes"]:
            wanted = weights.get(f"net.weights.{''.join(node['inputs'][1:])}")
            if node["op"] == "Reshape" and wanted is not None and wanted[:1] == 1:
                wanted[0] = 0  # as it was
                said.append(f"{node['name'] or node['outputs'][0]!r}: any batch in the place of 1")
    known = net.metadata.get("tinynet")
    if known is None and looks is None:
        raise ModelFileError(
            f"{path}: expected a file that says how its pictures are prepared, got one that does "
            f"not: say --looks torchvision (RGB, less {_list(IMAGENET_MEAN)}, over "
            f"{_list(IMAGENET_WIDTH)}) or --looks caffe (BGR, less {_list(CAFFE_MEAN)})"
        )
    if known is not None and looks:
        raise ModelFileError(f"{path} says how its pictures are prepared: leave --looks out")
    if not any(node["op"] == "Dropout" for node in description["nodes"]):
        said.append("it has no dropout")
    side, channels = shape[2], shape[1]
    if known is None:
        look = LOOKS[looks or ""]
        if channels != 3:
            raise ModelFileError(f"{path}: expected 3 channels for --looks, got {channels}")
        about = dict(in_channels=3, picture_size=side + side // 7, image_size=side, scale=1.0)
        mean = constant_picture(look["mean"], about["picture_size"])
        said.insert(0, _looks(look))
    else:
        look = dict(order="RGB", width=[1.0] * channels)
        about, mean = _told(path, known, channels, side)
    trial = FromOnnx(description, {n.removeprefix("net.weights."): a for n, a in weights.items()})
    classes = _classes_of(path, trial.eval(), channels, side)
    if len(about.get("classes") or range(classes)) != classes:
        raise ModelFileError(f"{path}: expected {len(about['classes'])} classes, got {classes}")
    description["classes"] = classes
    about.setdefault("classes", classes)
    weights["share"] = 1 / np.reshape(np.float32(look["width"]), (-1, 1, 1))
    state = dict(kind="onnx", order=look["order"], width=list(look["width"]))
    said.insert(
        0,
        f"a net of {len(description['nodes'])} nodes, {classes:,} classes: {side} x {side} of "
        f"pictures of {about['picture_size']} x {about['picture_size']}",
    )
    return Imported("onnx", state | {"description": description}, weights, about, mean, said)


def _told(path: str, words: str, channels: int, side: int) -> tuple[dict[str, Any], np.ndarray]:
    """What an exported file says of its pictures, as JSON, which may be damaged; and their mean."""
    try:
        known = json.loads(words)
        kept = "in_channels", "picture_size", "image_size", "scale", "classes"
        about = {name: known[name] for name in kept}
        whole, classes = about["picture_size"], about["classes"]
        shape = high, *_ = known["mean_shape"]  # of whole pictures, or of the crop alone
        fits = {type(about[name]) for name in kept[:3]} == {int}
        fits = fits and about["in_channels"] == channels and about["image_size"] == side
        fits = fits and whole in range(side, WIDEST + 1) and high in (side, whole)
        fits = fits and shape == [high, high, channels]
        fits = fits and type(about["scale"]) in (int, float) and 0 < float(about["scale"]) < np.inf
        fits = fits and type(classes) is list and {*map(type, classes)} == {str}
        fits = fits and "".join(classes).isprintable()
        raw = np.frombuffer(base64.b64decode(known["mean"], validate=True), "<f4")
        mean = raw.reshape(shape).astype(np.float32)
    except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError):
        fits = False
    if not fits or not np.isfinite(mean).all():
        raise ModelFileError(
            f"{path}: expected metadata that --export wrote, of pictures of this net, got others, "
            f"or they are damaged"
        )
    return about, mean


def _looks(look: dict[str, Any]) -> str:
    """How pictures are prepared."""
    words = f"pictures: {look['order']}, less {_list(look['mean'])}"
    return words + (f", over {_list(look['width'])}" if set(look["width"]) != {1.0} else "")


def _classes_of(path: str, net: FromOnnx, channels: int, side: int) -> int:
    """How many values it gives a picture; that two pictures together get the same as each alone."""
    x = np.random.default_rng(0).normal(size=(2, channels, side, side)).astype(np.float32)
    with no_grad(), np.errstate(all="ignore"):  # what is wrong is said below
        several = [net.run(rows, most=TRIAL)[net.outputs[0]].numpy() for rows in (x, x[:1], x[1:])]
    both, alone = several[0], np.concatenate(several[1:])
    if both.shape[:1] != (2,) or both.shape != alone.shape or both.size < 4:
        raise ModelFileError(f"{path}: expected values (N, classes), got {both.shape}")
    if not np.isfinite([both, alone]).all():
        raise ModelFileError(f"{path}: expected numbers for every picture, got NaN or infinity")
    if not np.allclose(both, alone, atol=1e-3 * np.abs(alone).max()):
        raise ModelFileError(f"{path}: expected the same of a picture in any batch, got others")
    return both[0].size


def last_layer(description: dict[str, Any]) -> dict[str, Any]:
    """The last node that has weights to learn."""
    learnt = {name for name, row in description["weights"].items() if row[0] == "parameter"}
    for node in reversed(description["nodes"]):
        if node["op"] in ("Gemm", "Conv", "MatMul") and learnt.intersection(node["inputs"]):
            return node
    raise ModelFileError("expected a net whose last layer has weights, got none")


def with_classes(description: dict[str, Any], classes: int) -> dict[str, Any]:
    """The description of the same net for other classes: its last layer has others of this size."""
    before = description["classes"]
    if classes == before:
        return description
    weights = dict(description["weights"])
    node = last_layer(description)
    at = description["nodes"].index(node)
    names = [name for each in description["nodes"][at:] for name in each["inputs"]]
    for name in names:
        if name in weights:
            kind, dtype, shape = weights[name]
            weights[name] = [kind, dtype, [classes if n == before else n for n in shape]]
    return description | dict(weights=weights, classes=classes)


def start_from(model: nn.Module, imported: Imported) -> list[str]:
    """Give a net the weights of a file; of another number of classes, its last layer keeps what it
    starts with. Returns the names of what does.
    """
    state = model.state_dict()
    fresh = [name for name, array in state.items() if imported.weights[name].shape != array.shape]
    if len(fresh) > 2:
        raise ModelFileError(f"expected one layer of other classes, got {', '.join(fresh)}")
    given = {name: array for name, array in imported.weights.items() if name not in fresh}
    model.load_state_dict(state | given)
    return fresh


def _first(names: Iterable[str]) -> str:
    """A few names, for messages."""
    some = sorted(names)
    return ", ".join(some[:3]) + (" ..." if len(some) > 3 else "") or "none"


def _list(numbers: Any) -> str:
    return ", ".join(f"{n:g}" for n in numbers)
