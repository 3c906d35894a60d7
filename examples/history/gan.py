"""The GAN: a forger and a judge who teach each other (2014).

    python examples/history/gan.py               on embedded pictures
    python examples/history/gan.py --data PATH   on your own (their sides a multiple of 4)
    python examples/history/gan.py --help

Goodfellow et al., "Generative adversarial nets", NIPS 2014, section 3; the nets: Radford, Metz,
Chintala, "Unsupervised representation learning with deep convolutional generative adversarial
networks" (DCGAN), 2015, section 3.

The idea: one net makes pictures of random numbers. Another one learns to tell them from real ones,
and its gradient, back through the picture, tells the first how to do better. No one has to say what
makes a picture good. New was that a loss can be a net which learns.
Look at `duel`: the judge sees forged pictures detached, so that only he learns from his mistakes;
then the forger sees the judge frozen. One backward serves both, as if they moved at once. Look at
the curves, too: neither loss comes down to zero, for each is the other's success. So the best
checkpoint is that with the smallest distance between real and forged pictures (`energy`).
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn, no_grad
from tinynet.devices import Device
from tinynet.optim import Adam
from tinynet.program import Program, Recipe, Unlabelled
from tinynet.training.drawings import picture_rows
from tinynet.training.measure import Measure

START = nn.init.normal(0.02)  # DCGAN, section 4
LUCK = 64  # random numbers of a picture


class Forger(nn.Module):
    """Random numbers (N, LUCK) -> pictures (N, C, S, S) from -1 to 1: twice the sides, twice."""

    def __init__(self, channels: int, side: int, maps: int, device: Device):
        self.shape = 2 * maps, side // 4, side // 4
        options: dict[str, Any] = dict(weight_init=START, device=device)
        self.fc = nn.Linear(LUCK, int(np.prod(self.shape)), bias=False, **options)
        self.norm1 = nn.BatchNorm2d(2 * maps, device=device, relu=True)
        self.up1 = nn.ConvTranspose2d(2 * maps, maps, 4, 2, 1, bias=False, **options)
        self.norm2 = nn.BatchNorm2d(maps, device=device, relu=True)
        self.up2 = nn.ConvTranspose2d(maps, channels, 4, 2, 1, **options)

    def forward(self, z: Tensor) -> Tensor:
        x = self.norm1(self.fc(z).reshape(-1, *self.shape))
        return F.tanh(self.up2(self.norm2(self.up1(x))))


class Judge(nn.Module):
    """Pictures (N, C, S, S) -> logits (N,): above 0 is real."""

    def __init__(self, channels: int, side: int, maps: int, device: Device):
        options: dict[str, Any] = dict(weight_init=START, device=device)
        self.down1 = nn.Conv2d(channels, maps, 4, 2, 1, **options)
        self.down2 = nn.Conv2d(maps, 2 * maps, 4, 2, 1, bias=False, **options)
        self.norm = nn.BatchNorm2d(2 * maps, device=device)
        self.fc = nn.Linear(2 * maps * (side // 4) ** 2, 1, **options)

    def forward(self, x: Tensor) -> Tensor:
        x = F.leaky_relu(self.down1(x), 0.2)
        x = F.leaky_relu(self.norm(self.down2(x)), 0.2)
        logits: Tensor = self.fc(x.flatten(1)).reshape(-1)
        return logits


class GAN(nn.Module):
    """Both; without a forward of its own."""

    def __init__(self, channels: int, side: int, maps: int, device: Device):
        if side % 4:
            raise ValueError(f"GAN: expected pictures with sides of a multiple of 4, got {side}")
        self.forger = Forger(channels, side, maps, device)
        self.judge = Judge(channels, side, maps, device)
        self.device = device

    def forge(self, count: int) -> Any:
        return self.forger(tinynet.randn(count, LUCK, device=self.device))


def duel(net: GAN, x: Tensor) -> dict[str, Tensor]:
    """The judge's loss, -log D(x) - log(1 - D(G(z))), and the forger's, -log D(G(z)): the stronger
    gradient of section 3.
    """
    forged = net.forge(len(x))
    real, false = tinynet.ones(len(x), device=x.device), tinynet.zeros(len(x), device=x.device)
    judge = F.bce_with_logits(net.judge(x), real)
    judge = judge + F.bce_with_logits(net.judge(forged.detach()), false)
    for parameter in net.judge.parameters():
        parameter.requires_grad = False
    forger = F.bce_with_logits(net.judge(forged), real)
    for parameter in net.judge.parameters():
        parameter.requires_grad = True
    with no_grad():
        distance = energy(x.flatten(1), forged.flatten(1))
    return {"loss": judge + forger, "judge": judge, "forger": forger, "distance": distance}


def energy(x: Tensor, y: Tensor) -> Tensor:
    """2 E|x - y| - E|x - x'| - E|y - y'|: 0 only for equal distributions (Szekely, Rizzo)."""

    def mean(a: Tensor, b: Tensor) -> Tensor:
        squares = (a * a).sum(1, keepdims=True) + (b * b).sum(1) - 2 * a @ b.T
        return squares.clip(0.0).sqrt().mean()

    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


def glimpse(net: GAN) -> bytes:
    """The same 12 luck after every epoch."""
    return picture_rows([net.forge(12).numpy() / 2 + 0.5])


def show(net: GAN, x: Tensor, labels: np.ndarray, classes: list[str]) -> dict[str, Any]:
    return {"pictures": {"samples": picture_rows(np.split(net.forge(120).numpy() / 2 + 0.5, 6))}}


def say(net: GAN, x: Tensor) -> str:
    return f"real, says the judge, with {100 * F.sigmoid(net.judge(x)).item():.1f} %"


PROGRAM = Program(
    "Trains a small DCGAN, tests it, uses its judge.",
    {
        "gan": Recipe(
            "DCGAN", Unlabelled(
                loss=duel, show=show, say=say, glimpse=glimpse, grey=127.5, scale=1 / 127.5,
                best_by="distance", undivided="`distance` compares the pictures of a whole batch",
                make=lambda net, z: net.forger(z) / 2 + 0.5, codes=LUCK,
                measures={"judge": Measure("judge's loss"), "forger": Measure("forger's loss"),
                          "distance": Measure("distance", digits=3)},
            ),
            epochs=20, batch_size=64, lr=5e-4,
            optimizer=lambda net, lr: Adam(net.parameters(), lr, betas=(0.5, 0.999)),
        )
    },
    lambda about, devices: GAN(about["in_channels"], about["image_size"], 32, devices[0]),
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
