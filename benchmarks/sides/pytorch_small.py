"""PyTorch's side of the small rows: ReLU in place, SGD over lists of tensors."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from sides import LEARNING_RATE, MOMENTUM
from sides.pytorch import about
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

__all__ = ["Net", "about", "make_step"]


class Block(nn.Module):
    """Two convolutions with batch normalisation, and the shortcut that fills new maps with 0."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.stride, self.new = after // before, after - before
        self.conv1 = nn.Conv2d(before, after, 3, self.stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        if self.new:
            half = self.new // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, half))
        return F.relu(y + x, inplace=True)


def build(preset: str) -> nn.Module:
    if preset == "resnet20":
        maps = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)
        stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(inplace=True)
        blocks = [Block(a, b) for a, b in zip(maps, maps[1:], strict=False)]
        head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, CLASSES)
        return nn.Sequential(*stem, *blocks, *head)
    layers: list[nn.Module] = []
    for kind, *sizes in LAYERS[preset]:
        if kind == "conv":
            inputs, outputs, side, padding = sizes
            layers += [nn.Conv2d(inputs, outputs, side, padding=padding), nn.ReLU(inplace=True)]
        elif kind == "linear":
            layers += [nn.Linear(*sizes), nn.ReLU(inplace=True)]
        else:
            layers.append({"pool": lambda: nn.MaxPool2d(2), "flatten": nn.Flatten}[kind]())
    return nn.Sequential(*layers[:-1])  # no ReLU after the last


class Net:
    def __init__(self, preset: str, lrn: bool):
        self.model = build(preset)
        with torch.no_grad():
            for i, parameter in enumerate(self.model.parameters()):
                parameter.copy_(torch.from_numpy(first_parameter(i, tuple(parameter.shape))))
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), LEARNING_RATE, momentum=MOMENTUM, foreach=True
        )

    def gradients(self, x: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """In the precision of x: "logits", and the gradient of each parameter by its number."""
        x = torch.from_numpy(x)
        logits = self.model.to(x.dtype)(x)
        F.cross_entropy(logits, torch.from_numpy(labels)).backward()
        grads = {str(i): p.grad.numpy() for i, p in enumerate(self.model.parameters())}
        return {"logits": logits.detach().numpy()} | grads

    def train_step(self, x: torch.Tensor, labels: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.model(x), labels).backward()
        self.optimizer.step()


def make_step(preset: str, lrn: bool, task: str, batch: int) -> Callable[[], object]:
    if preset in OPERATIONS:
        return operation(preset, batch)
    net = Net(preset, lrn)
    x, labels = map(torch.from_numpy, random_pictures(preset, batch))
    return lambda: net.train_step(x, labels)


def operation(name: str, batch: int) -> Callable[[], object]:
    if name in ("add", "chain"):
        a = torch.ones(4, requires_grad=True)

        def add() -> None:
            for _ in range(ADDITIONS):
                a + a

        def chain() -> None:
            y = a
            for _ in range(CHAIN):
                y = y + a
            y.sum().backward()
            a.grad = None

        return add if name == "add" else chain
    *leaves, dy = map(torch.from_numpy, operands(name, batch))
    x, weight, bias = (leaf.requires_grad_() for leaf in leaves)

    def convolution() -> None:
        F.conv2d(x, weight, bias, padding=1).backward(dy)
        for leaf in leaves:
            leaf.grad = None

    return convolution
