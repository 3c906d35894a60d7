"""VGG: small kernels, many layers (2014).

    python examples/history/vgg.py                             a small one, on embedded pictures
    python examples/history/vgg.py --preset vgg16 --data PATH  as in the paper, on photographs
    python examples/history/vgg.py --help

Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014
(ICLR 2015), section 2, table 1.

The idea: two layers of 3x3 see as much of the picture as one of 5x5, three as much as one of 7x7,
with fewer weights and more rectifiers between. So use 3x3 alone, and pile up layers. Maps double
where a pooling halves the sides, so each layer costs about the same.
New was the depth, and that nothing else was needed: no normalisation across maps (table 3 says that
LRN brings nothing), no wide kernels, one plain recipe from 11 to 19 layers.
Look at LAYERS: that is the whole network. Then count: 103 of the 138 million weights of VGG-16
stand in its first linear layer.
"""

from __future__ import annotations

import sys
from typing import Any

from tinynet import Tensor, nn
from tinynet.devices import Device
from tinynet.optim import SGD, Optimizer
from tinynet.optim.lr_scheduler import Cosine, WarmUp
from tinynet.program import Pictures, Program, Recipe

# Table 1: maps of the convolutions; / is max pooling. Then the width of the two linear layers.
LAYERS = {
    "vgg-mini": ("16 / 32 / 64 64 / 128 128 /", 256),
    "vgg11": ("64 / 128 / 256 256 / 512 512 / 512 512 /", 4096),
    "vgg16": ("64 64 / 128 128 / 256 256 256 / 512 512 512 / 512 512 512 /", 4096),
}


class VGG(nn.Module):
    """Pictures (N, channels, S, S) -> logits (N, classes)."""

    def __init__(self, classes: int, channels: int, side: int, preset: str, device: Device):
        layers, width = LAYERS[preset]
        self.features: list[nn.Module] = []
        for layer in layers.split():
            if layer == "/":
                self.features.append(nn.MaxPool2d(2))
                side //= 2
            else:
                maps = int(layer)
                self.features.append(
                    nn.Conv2d(channels, maps, 3, padding=1, device=device, relu=True)
                )
                channels = maps
        self.fc1 = nn.Linear(channels * side * side, width, device=device, relu=True)
        self.fc2 = nn.Linear(width, width, device=device, relu=True)
        self.fc3 = nn.Linear(width, classes, weight_init=nn.init.normal(0.01), device=device)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.features:
            x = layer(x)
        x = self.dropout(self.fc1(x.flatten(1)))
        logits: Tensor = self.fc3(self.dropout(self.fc2(x)))
        return logits


def sgd(net: VGG, lr: float) -> Optimizer:
    """Section 3.1: momentum 0.9, weight decay 5e-4."""
    return SGD(net.parameters(), lr, momentum=0.9, weight_decay=5e-4)


# The paper began deep nets with the weights of a shallower one. He's rule for first weights (2015)
# is made for rectifiers, and no such help is needed.
SMALL: dict[str, Any] = dict(
    data=Pictures(padding=2, largest=32, scale=1 / 64), epochs=20, batch_size=32, lr=0.02,
    schedule=lambda optimizer, epochs: WarmUp(Cosine(optimizer, epochs), epochs / 20),
)  # fmt: skip
LARGE: dict[str, Any] = dict(
    data=Pictures(picture_size=256, crop=224, scale=1 / 64), epochs=74, batch_size=256, lr=0.01,
    milestones=(25, 50, 65),
)  # fmt: skip
PROGRAM = Program(
    "Trains VGG, tests it, uses it.",
    {
        name: Recipe(name.upper(), optimizer=sgd, **(SMALL if name == "vgg-mini" else LARGE))
        for name in LAYERS
    },
    lambda about, devices: VGG(
        len(about["classes"]), about["in_channels"], about["image_size"], about["preset"],
        devices[0],
    ),
    kernels=["features.0.weight"],
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
