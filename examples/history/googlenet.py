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
Look at `Inception.forward`; and at MODULES, table 1 as it stands in the paper.
"""

from __future__ import annotations

import sys
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


def conv(before: int, after: int, kernel: int, device: Device, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, kernel, stride, kernel // 2, device=device, relu=True)


class Inception(nn.Module):
    """Maps (N, C, S, S) -> those of four ways, one upon the other (figure 2b)."""

    def __init__(self, before: int, maps: list[int], device: Device):
        one, before3, three, before5, five, pooled = maps
        self.one = conv(before, one, 1, device)
        self.three = [conv(before, before3, 1, device), conv(before3, three, 3, device)]
        self.five = [conv(before, before5, 1, device), conv(before5, five, 5, device)]
        self.pooled = conv(before, pooled, 1, device)
        self.maps = one + three + five + pooled

    def forward(self, x: Tensor) -> Tensor:
        three = self.three[1](self.three[0](x))
        five = self.five[1](self.five[0](x))
        pooled = self.pooled(F.max_pool2d(x, 3, 1, 1))
        return tinynet.concat([self.one(x), three, five, pooled], axis=1)


class Auxiliary(nn.Module):
    """Maps (N, C, S, S) from half-way -> logits (N, classes)."""

    def __init__(self, before: int, side: int, share: float, classes: int, device: Device):
        self.conv = conv(before, round(128 * share), 1, device)
        values, width = round(128 * share) * ((side - 5) // 3 + 1) ** 2, round(1024 * share)
        self.fc1 = nn.Linear(values, width, device=device, relu=True)
        self.fc2 = nn.Linear(width, classes, weight_init=nn.init.normal(0.01), device=device)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(F.avg_pool2d(x, 5, 3)).flatten(1)
        logits: Tensor = self.fc2(self.dropout(self.fc1(x)))
        return logits


class GoogLeNet(nn.Module):
    """Pictures (N, channels, S, S) -> logits (N, classes); in training a list: these, then those of
    the auxiliary classifiers.
    """

    def __init__(self, classes: int, channels: int, side: int, preset: str, device: Device):
        order, share = FULL if preset == "googlenet" else MINI
        small = share < 1  # small pictures: windows of 3x3, and one halving before the modules
        maps, two = round(64 * share), round(192 * share)
        self.conv1 = conv(channels, maps, 3 if small else 7, device, 1 if small else 2)
        self.conv2, self.conv3 = conv(maps, maps, 1, device), conv(maps, two, 3, device)
        self.norm, self.small = nn.LocalResponseNorm(5), small
        side, maps = half(side) if small else half(half((side + 1) // 2)), two
        self.steps: list[nn.Module] = []
        for step in order.split():
            if step == "/":
                self.steps.append(nn.MaxPool2d(3, 2, ceil_mode=True))
                side = half(side)
            elif step == "*":
                self.steps.append(Auxiliary(maps, side, share, classes, device))
            else:
                inception = Inception(maps, [round(n * share) for n in MODULES[step]], device)
                self.steps.append(inception)
                maps = inception.maps
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
    return -(-(side - 3) // 2) + 1


RECIPE: dict[str, Any] = dict(
    optimizer=lambda net, lr: SGD(net.parameters(), lr, momentum=0.9, weight_decay=2e-4),
    schedule=lambda optimizer, epochs: WarmUp(Cosine(optimizer, epochs), epochs / 20),
)
main = Program(
    "Trains GoogLeNet, tests it, uses it.",
    {
        "googlenet-mini": Recipe(
            "small GoogLeNet", Pictures(padding=2, largest=32, scale=1 / 64, auxiliary=0.3),
            epochs=12, batch_size=32, lr=0.02, **RECIPE,
        ),
        "googlenet": Recipe(
            "GoogLeNet", Pictures(picture_size=256, crop=224, scale=1 / 64, auxiliary=0.3),
            epochs=60, batch_size=128, lr=0.01, **RECIPE,
        ),
    },
    lambda about, on: GoogLeNet(
        len(about["classes"]), about["in_channels"], about["image_size"], about["preset"], on[0]
    ),
    kernels=["conv1.weight"],
).main  # fmt: skip

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
