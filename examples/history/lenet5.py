"""LeNet-5: convolution, and reading the figures on cheques (1998).

    python examples/history/lenet5.py                embedded pictures, in three minutes
    python examples/history/lenet5.py --data MNIST   a folder with MNIST's four IDX files
    python examples/history/lenet5.py --help

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition",
Proceedings of the IEEE 86 (1998), section II.

The idea: a stroke is a stroke wherever it stands. So let a unit see a small window, and let all
units of a map share their weights; then throw away where exactly it was, by taking means of
neighbours. Repeat until one column of features is left, and learn all layers together.
New was the whole of it at this size: 60,000 weights, trained end to end on pixels.
Look at TABLE: a map of C3 sees three, four or six maps of S2, no two the same ones, "to break the
symmetry", and since arithmetic was dear. And at `Sampling`: pooling with a weight and a bias.

Not as in 1998: plain SGD with momentum in the place of stochastic diagonal Levenberg-Marquardt;
codes of classes drawn at random, where the paper drew characters by hand; and the usual stand-in
for its loss: equation 9 without the constant e^-j, so cross-entropy of minus the distances.
"""

from __future__ import annotations

import sys

import numpy as np

import tinynet.functional as F
from tinynet import Tensor, nn, random
from tinynet.devices import Device
from tinynet.optim import SGD
from tinynet.optim.lr_scheduler import Cosine
from tinynet.program import Pictures, Program, Recipe

TABLE = [  # table I: the maps of S2 that each map of C3 sees
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5), (0, 1, 2, 3, 4, 5),
]  # fmt: skip
CODE = 84  # units of F6, and numbers of a class's code


def squash(x: Tensor) -> Tensor:
    """1.7159 tanh(2/3 x): squash(1) = 1, and its slope bends most there (appendix A)."""
    return 1.7159 * F.tanh(x * (2 / 3))


def start(shape: tuple[int, ...]) -> np.ndarray:
    """Uniform from -2.4 / n to 2.4 / n, n the inputs of a unit (section II.B)."""
    n = nn.init.fans(shape)[0]
    return random.generator().uniform(-2.4 / n, 2.4 / n, shape).astype(np.float32)


class Sampling(nn.Module):
    """S2, S4: squash(w times the sum of 2x2 neighbours + b), a w and a b for each map."""

    def __init__(self, maps: int, device: Device):
        self.weight = nn.Parameter(np.full((maps, 1, 1), 0.25, np.float32), device)
        self.bias = nn.Parameter(np.zeros((maps, 1, 1), np.float32), device)

    def forward(self, x: Tensor) -> Tensor:
        return squash(4 * F.avg_pool2d(x, 2) * self.weight + self.bias)


class Partial(nn.Module):
    """C3: a convolution of 5x5 whose weights are zero where TABLE has nothing, and stay so."""

    def __init__(self, device: Device):
        seen = np.zeros((16, 6, 1, 1), np.float32)
        for map, sources in enumerate(TABLE):
            seen[map, list(sources)] = 1
        self.seen = nn.Buffer(seen, device)
        self.weight = nn.Parameter(start((16, 6, 5, 5)) * seen, device)
        self.bias = nn.Parameter(np.zeros(16, np.float32), device)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.seen, self.bias)


class LeNet5(nn.Module):
    """Pictures (N, channels, S, S), S = 28 in the paper, with a border of 2 -> logits (N, classes):
    minus the squared distance of F6 from the code of each class.
    """

    def __init__(self, classes: int, channels: int, side: int, device: Device):
        self.c1 = nn.Conv2d(channels, 6, 5, padding=2, weight_init=start, device=device)
        self.s2 = Sampling(6, device)
        self.c3 = Partial(device)
        self.s4 = Sampling(16, device)
        side = (side // 2 - 4) // 2  # 5 of 28: C5 sees all of it
        self.c5 = nn.Conv2d(16, 120, side, weight_init=start, device=device)
        self.f6 = nn.Linear(120, CODE, weight_init=start, device=device)
        codes = random.generator().choice([-1, 1], (classes, CODE)).astype(np.float32)
        self.codes = nn.Buffer(codes, device)

    def forward(self, x: Tensor) -> Tensor:
        x = self.s2(squash(self.c1(x)))
        x = self.s4(squash(self.c3(x)))
        x = squash(self.f6(squash(self.c5(x)).flatten(1)))
        away = x.reshape(-1, 1, CODE) - self.codes
        return -(away * away).sum(2)


PROGRAM = Program(
    "Trains LeNet-5, tests it, uses it.",
    {
        "lenet5": Recipe(
            "LeNet-5", Pictures(scale=1 / 64, largest=32), epochs=24, batch_size=32, lr=0.006,
            optimizer=lambda net, lr: SGD(net.parameters(), lr, momentum=0.9),
            schedule=lambda optimizer, epochs: Cosine(optimizer, epochs),
        )
    },
    lambda about, devices: LeNet5(
        len(about["classes"]), about["in_channels"], about["image_size"], devices[0]
    ),
    kernels=["c1.weight"],
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
