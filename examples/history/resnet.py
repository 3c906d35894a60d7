"""ResNet-20: a network of twenty layers that a plain stack of layers cannot match (2015).

    python examples/history/resnet.py                  on embedded pictures, in minutes
    python examples/history/resnet.py --preset cifar --data CIFAR-10   shorter than in the paper
    python examples/history/resnet.py --help

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", 2015 (CVPR 2016), section 4.2.

The idea: deeper plain networks had larger errors even on the pictures they were trained on. So let
two layers learn only what to add to their input: y = relu(f(x) + x). If nothing is to be added,
f = 0 is easy to learn, and the gradient reaches the first layer through the sums unweakened.
New was the shortcut; batch normalisation after every convolution (Ioffe and Szegedy 2015) was not.
Look at `Block.forward`, the whole idea in one line, and compare with --preset plain20: the same
layers without their shortcuts.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from typing import Any

import tinynet.functional as F
from tinynet import Tensor, nn
from tinynet.devices import Device
from tinynet.optim import SGD, Optimizer
from tinynet.optim.lr_scheduler import Cosine
from tinynet.program import Pictures, Program, Recipe


class Block(nn.Module):
    """Two convolutions of 3x3, each with batch normalisation, and a shortcut past both.

    A block with stride 2 halves the sides and doubles the channels. Its shortcut then takes every
    second pixel and fills the new channels with zeros (option A of the paper: no parameters).
    """

    def __init__(self, before: int, after: int, shortcut: bool, device: Device):
        self.stride, self.new, self.shortcut = after // before, after - before, shortcut
        self.conv1 = conv(before, after, self.stride, device)
        self.norm1 = nn.BatchNorm2d(after, device=device, relu=True)
        self.conv2 = conv(after, after, 1, device)
        self.norm2 = nn.BatchNorm2d(after, device=device)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        return F.relu(y + self.past(x)) if self.shortcut else F.relu(y)

    def past(self, x: Tensor) -> Tensor:
        """x in the shape of this block's output."""
        if self.new:
            x = x[:, :, :: self.stride, :: self.stride]
            x = F.pad(x, (0, 0, 0, 0, self.new // 2, self.new // 2))
        return x


def conv(before: int, after: int, stride: int, device: Device) -> nn.Conv2d:
    """3x3; no bias, since batch normalisation subtracts the mean; first weights by He's rule with
    fan-out, which keeps the size of gradients.
    """
    start = nn.init.normal(math.sqrt(2 / (9 * after)))
    return nn.Conv2d(before, after, 3, stride, 1, bias=False, weight_init=start, device=device)


class ResNet(nn.Module):
    """Pictures (N, channels, S, S) -> logits (N, classes), with 6 n + 2 layers that have weights:
    a convolution, three stages of n blocks with 16, 32 and 64 maps, and a linear layer.
    """

    def __init__(self, classes: int, channels: int, n: int, shortcut: bool, device: Device):
        self.conv = conv(channels, 16, 1, device)
        self.norm = nn.BatchNorm2d(16, device=device, relu=True)
        self.stages = []
        before = 16
        for maps in (16, 32, 64):
            befores = [before] + [maps] * (n - 1)
            self.stages.append([Block(b, maps, shortcut, device) for b in befores])
            before = maps
        self.fc = nn.Linear(64, classes, device=device)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def sgd(net: ResNet, lr: float, decay: float = 1e-4) -> Optimizer:
    """Momentum 0.9; weight decay (section 4.2: 1e-4), none on batch normalisation and biases."""
    weights: dict[str, list[Tensor]] = {}  # by stage, as --set freeze=stages.0 takes them
    others: list[Tensor] = []
    for name, parameter in net.named_parameters():
        place = ".".join(name.split(".")[: 2 if name.startswith("stages") else 1])
        (weights.setdefault(place, []) if parameter.ndim > 1 else others).append(parameter)
    groups: list[dict[str, Any]] = [
        dict(name=f"{place}.weight", params=params) for place, params in weights.items()
    ]
    groups.append(dict(name="norms.bias", params=others, weight_decay=0.0))
    return SGD(groups, lr, momentum=0.9, weight_decay=decay)


# The paper divides the rate by ten twice in 164 epochs. In the few epochs that a laptop has time
# for, a cosine to zero ends better.
RECIPE: dict[str, Any] = dict(
    data=Pictures(padding=2, largest=32, scale=1 / 64),
    epochs=12, batch_size=32, lr=0.05, optimizer=sgd,
    schedule=lambda optimizer, epochs: Cosine(optimizer, epochs),
)  # fmt: skip
# CIFAR-10 in an hour on two cores. Few epochs need more decay than the paper's 164.
CIFAR = RECIPE | dict(
    data=Pictures(padding=4, largest=32, scale=1 / 64),
    epochs=20, batch_size=64, lr=0.1, optimizer=partial(sgd, decay=5e-4),
)  # fmt: skip
DEPTHS = {  # n, and whether there are shortcuts
    "resnet20": (3, True), "plain20": (3, False), "resnet32": (5, True),
    "plain56": (9, False), "resnet56": (9, True), "cifar": (3, True),
}  # fmt: skip
PROGRAM = Program(
    "Trains ResNet-20 for small pictures, tests it, uses it.",
    {name: Recipe(name, **(CIFAR if name == "cifar" else RECIPE)) for name in DEPTHS},
    lambda about, devices: ResNet(
        len(about["classes"]), about["in_channels"], *DEPTHS[about["preset"]], devices[0]
    ),
    kernels=["conv.weight"],
)
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
