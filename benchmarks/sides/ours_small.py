"""tinynet's side of the small rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import tinynet
import tinynet.functional as F
from examples.history.resnet import ResNet
from sides import LEARNING_RATE, MOMENTUM
from sides.ours import about, batch_innermost
from sides.small import (
    ADDITIONS,
    CHAIN,
    CLASSES,
    LAYERS,
    OPERATIONS,
    first_parameter,
    operands,
    random_pictures,
)
from tinynet import nn
from tinynet.optim import SGD

__all__ = ["Net", "about", "make_step"]


def build(preset: str) -> nn.Module:
    if preset == "resnet20":
        return ResNet(CLASSES, 3, 3, True, tinynet.device("cpu"))
    layers, last = [], len(LAYERS[preset]) - 1
    for i, (kind, *sizes) in enumerate(LAYERS[preset]):
        if kind == "conv":
            inputs, outputs, side, padding = sizes
            layers.append(nn.Conv2d(inputs, outputs, side, padding=padding, relu=True))
        elif kind == "linear":
            layers.append(nn.Linear(*sizes, relu=i < last))
        else:
            layers.append({"pool": lambda: nn.MaxPool2d(2), "flatten": nn.Flatten}[kind]())
    return nn.Sequential(*layers)


class Net:
    def __init__(self, preset: str, lrn: bool):
        self.model = build(preset)
        for i, parameter in enumerate(self.model.parameters()):
            parameter.data[...] = first_parameter(i, parameter.shape)
        self.optimizer = SGD(self.model.parameters(), LEARNING_RATE, MOMENTUM)

    def gradients(self, x: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """In the precision of x: "logits", and the gradient of each parameter by its number."""
        parameters = list(self.model.parameters())
        for array in (*parameters, *self.model.buffers()):
            array.data = array.data.astype(x.dtype)
        logits = self.model(tinynet.tensor(x))
        F.cross_entropy(logits, labels).backward()
        return {"logits": logits.numpy()} | {
            str(i): p.grad.numpy() for i, p in enumerate(parameters)
        }

    def train_step(self, x: tinynet.Tensor, labels: np.ndarray) -> None:
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(x), labels).backward()
        self.optimizer.step()


def make_step(preset: str, lrn: bool, task: str, batch: int) -> Callable[[], object]:
    if preset in OPERATIONS:
        return operation(preset, batch)
    net, (pictures, labels) = Net(preset, lrn), random_pictures(preset, batch)
    x = batch_innermost(pictures)
    return lambda: net.train_step(x, labels)


def operation(name: str, batch: int) -> Callable[[], object]:
    if name in ("add", "chain"):
        a = tinynet.tensor(np.ones(4, np.float32), requires_grad=True)

        def add() -> None:
            for _ in range(ADDITIONS):
                a + a

        def chain() -> None:
            y = a
            for _ in range(CHAIN):
                y = y + a
            y.sum().backward()
            a.zero_grad()

        return add if name == "add" else chain
    pictures, weight, bias, dy = operands(name, batch)
    leaves = x, weight, bias = [
        batch_innermost(pictures, True),
        *(tinynet.tensor(array, requires_grad=True) for array in (weight, bias)),
    ]
    dy = batch_innermost(dy)

    def convolution() -> None:
        F.conv2d(x, weight, bias, padding=1).backward(dy)
        for leaf in leaves:
            leaf.zero_grad()

    return convolution
