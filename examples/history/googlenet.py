"""GoogLeNet: modules that look through several windows at once (2014).

    python examples/history/googlenet.py                   a small one, on embedded pictures
    python examples/history/googlenet.py --preset googlenet --data PATH         as in 2014
    python examples/history/googlenet.py --help

Szegedy et al., "Going deeper with convolutions", 2014 (CVPR 2015), sections 4, 5 and table 1.

The idea: nobody knows which size of window is right, so take 1x1, 3x3, 5x5 and a pooling side by
side, and lay their maps on each other. That is dear, so convolutions of 1x1 first make few maps of
many. New were these modules (1x1 from "Network in network", Lin et al. 2013), no large linear
layers, with 7 million weights a twelfth of AlexNet's, and auxiliary classifiers: they name the
picture from half-way, in training alone, to bring the gradient to the lower layers.
Look at `Inception.forward`; and at MODULES, table 1 as it stands in the paper. The small net has
batch normalisation, made for this net a year later (Ioffe, Szegedy 2015): it learns much faster.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn
from tinynet.devices import Device
from tinynet.optim import SGD
from tinynet.optim.lr_scheduler import Cosine, WarmUp
from tinynet.program import Pictures, Program, Recipe

# Maps of: 1x1; 1x1 before 3x3, 3x3; 1x1 before 5x5, 5x5; 1x1 after pooling.
MODULES = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip
# The order: / is pooling, * an auxiliary classifier. The share of the paper's maps.
MINI, FULL = ("3a 3b / 4a * 4e / 5a", 1 / 4), ("3a 3b / 4a * 4b 4c 4d * 4e / 5a 5b", 1.0)


def conv(before: int, after: int, kernel: int, stride: int = 1, **on: Any) -> nn.Module:
    normed, sizes = on.pop("normed"), (before, after, kernel, stride, kernel // 2)
    layer = nn.Conv2d(*sizes, bias=not normed, relu=not normed, **on)
    return nn.Sequential(layer, nn.BatchNorm2d(after, relu=True, **on)) if normed else layer


class Inception(nn.Module):
    """Maps (N, C, S, S) -> those of four ways, one upon the other (figure 2b)."""

    def __init__(self, make: Any, before: int, maps: list[int]):
        one, before3, three, before5, five, pooled = maps
        self.one = make(before, one, 1)
        self.three = [make(before, before3, 1), make(before3, three, 3)]
        self.five = [make(before, before5, 1), make(before5, five, 5)]
        self.pooled = make(before, pooled, 1)
        self.maps = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        three = self.three[1](self.three[0](x))
        five = self.five[1](self.five[0](x))
        pooled = self.pooled(F.max_pool2d(x, 3, 1, 1))
        return tinynet.concat([self.one(x), three, five, pooled], axis=1)


class Auxiliary(nn.Module):
    """Maps (N, C, S, S) from half-way -> logits (N, classes)."""

    def __init__(self, make: Any, before: int, side: int, share: float, classes: int, on: Device):
        few, width = round(128 * share), round(1024 * share)
        self.conv, values = make(before, few, 1), few * ((side - 5) // 3 + 1) ** 2
        self.fc1 = nn.Linear(values, width, device=on, relu=True)
        self.fc2 = nn.Linear(width, classes, weight_init=nn.init.normal(0.01), device=on)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.avg_pool2d(x, 5, 3)).flatten(1)
        logits: Tensor = self.fc2(self.dropout(self.fc1(x)))
        return logits


class GoogLeNet(nn.Module):
    """Pictures (N, channels, S, S) -> logits (N, classes); in training a list, early ones too."""

    def __init__(self, classes: int, channels: int, side: int, preset: str, device: Device):
        order, share = FULL if preset == "googlenet" else MINI
        small = share < 1  # small pictures: windows of 3x3, and one halving before the modules
        maps, two = round(64 * share), round(192 * share)
        make = partial(conv, normed=small, device=device)
        self.conv1 = make(channels, maps, 3, 1) if small else make(channels, maps, 7, 2)
        self.conv2, self.conv3 = make(maps, maps, 1), make(maps, two, 3)
        self.norm, self.small = nn.LocalResponseNorm(5), small
        side, maps = half(side) if small else half(half((side + 1) // 2)), two
        self.steps: list[Any] = []
        for step in order.split():
            if step == "/":
                self.steps.append(nn.MaxPool2d(3, 2, ceil_mode=True))
                side = half(side)
            elif step == "*":
                self.steps.append(Auxiliary(make, maps, side, share, classes, device))
            else:
                self.steps.append(Inception(make, maps, [round(n * share) for n in MODULES[step]]))
                maps = self.steps[-1].maps
        self.dropout = nn.Dropout(0.4)
        self.fc = nn.Linear(maps, classes, weight_init=nn.init.normal(0.01), device=device)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        x = self.norm(F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True))
        x, early = self.norm(self.conv3(self.conv2(x))), []
        x = x if self.small else F.max_pool2d(x, 3, 2, ceil_mode=True)
        for step in self.steps:
            if not isinstance(step, Auxiliary):
                x = step(x)
            elif self.training:
                early.append(step(x))
        logits: Tensor = self.fc(self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1)))
        return [logits, *early] if self.training else logits


def half(side: int) -> int:
    """Of max pooling 3x3 with stride 2 whose last window may hang over the end."""
    return side // 2  # ceil((side - 3) / 2) + 1


RECIPE: dict[str, Any] = dict(
    optimizer=lambda net, lr: SGD(net.parameters(), lr, momentum=0.9, weight_decay=2e-4),
    schedule=lambda optimizer, epochs: WarmUp(Cosine(optimizer, epochs), epochs / 20),
)
main = Program(
    "Trains GoogLeNet, tests it, uses it.",
    {
        "googlenet-mini": Recipe(
            "small GoogLeNet", Pictures(padding=2, largest=32, scale=1 / 64, auxiliary=0.3),
            epochs=10, batch_size=32, lr=0.05, **RECIPE,
        ),
        "googlenet": Recipe(
            "GoogLeNet", Pictures(picture_size=256, crop=224, scale=1 / 64, auxiliary=0.3),
            epochs=60, batch_size=128, lr=0.01, **RECIPE,
        ),
    },
    lambda about, on: GoogLeNet(
        len(about["classes"]), about["in_channels"], about["image_size"], about["preset"], on[0]
    ), kernels=["conv1.layers.0.weight", "conv1.weight"],
).main  # fmt: skip

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
