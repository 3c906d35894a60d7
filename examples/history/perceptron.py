"""The perceptron: a machine that learns from its mistakes (1958).

    python examples/history/perceptron.py                      tells bags from trousers
    python examples/history/perceptron.py --preset xor         what it can never learn
    python examples/history/perceptron.py --predict RUN FILE   says which of both a picture shows;
                                                               of xor, --predict RUN "0 1"
    python examples/history/perceptron.py --help

Rosenblatt, "The perceptron: a probabilistic model for information storage and organization in the
brain", Psychological Review 65 (1958); its limits: Minsky and Papert, "Perceptrons", 1969.

The idea: weigh all that is seen, add it up, and say yes where the sum is above zero. Nobody sets
the weights: after each mistake add what was seen to them if the answer should have been yes,
subtract it if not, and else leave them alone. If any weights separate the two classes, such weights
are found after finitely many mistakes (Novikoff 1962). New was that a machine learnt at all.
Look at `rule`: the gradient of that loss is Rosenblatt's rule, so the tape does his work. Look at
line.png of --preset xor, the best of its epochs: whatever the line, one of four points at least,
ringed in red, lies on its wrong side.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from tinynet import Tensor, nn, tensor
from tinynet.data import fashion_mnist
from tinynet.devices import Device
from tinynet.optim import SGD
from tinynet.program import Arrays, Made, Program, Recipe
from tinynet.training.drawings import picture_rows, plane_picture
from tinynet.training.inputs import read_picture
from tinynet.training.measure import Measure

CLASSES = {-1: "Trouser", 1: "Bag"}
START = nn.init.normal(5.0)  # far from zero, so that many lines of XOR pass between its points


class Perceptron(nn.Module):
    """x (N, D) -> (N,): w x + b, whose sign is the answer. It may begin anywhere."""

    def __init__(self, inputs: int, device: Device):
        self.weight = nn.Parameter(START((inputs,)), device)
        self.bias = nn.Parameter(START((1,)), device)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


def rule(net: Perceptron, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """-t y where t y <= 0, else 0. With y = w x + b its gradient is -t x for w and -t for b, so a
    step of rate 1 is Rosenblatt's rule: w += t x after a mistake, nothing after a right answer.
    """
    agreement = target * net(x)
    wrong = (agreement <= 0).float()
    return {"loss": -(wrong * agreement).mean(), "wrong": 100 * wrong.mean()}


def pictures() -> tuple[Arrays, Arrays]:
    """Pictures of both classes, 2,000 to train on, 400 to test on: (N, pixels), 0 to 1; -1 or 1."""
    parts = []
    for part in fashion_mnist():
        target = np.zeros(len(part), np.float32)
        for sign, name in CLASSES.items():
            target[part.labels == part.classes.index(name)] = sign
        chosen = np.flatnonzero(target)
        x = np.stack([part.picture(int(i)).ravel() for i in chosen]) / np.float32(255)
        parts.append((x, target[chosen]))
    return parts[0], parts[1]


def xor() -> tuple[Arrays, Arrays]:
    """Exactly one of two: the same four points to learn and to test."""
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    both = x, np.array([-1, 1, 1, -1], np.float32)
    return both, both


def show_weights(net: Perceptron, x: Tensor, target: Tensor) -> dict[str, Any]:
    """The weights as a picture: bright for one class, dark for the other; the picture of each class
    that it is least sure of.
    """
    weight = net.weight.numpy().reshape(1, 1, 28, 28)
    sure = (target * net(x)).numpy()
    near = [np.argmin(np.where(target.numpy() == sign, sure, np.inf)) for sign in CLASSES]
    shown = np.concatenate([weight / (2 * np.abs(weight).max() + 1e-9) + 0.5,
                            x.numpy()[near].reshape(-1, 1, 28, 28)])  # fmt: skip
    return {
        "pictures": {"weights, and the two pictures it is least sure of": picture_rows([shown], 5)}
    }


def show_line(net: Perceptron, x: Tensor, target: Tensor) -> dict[str, Any]:
    def value(points: np.ndarray) -> np.ndarray:
        return np.asarray(net(tensor(points, device=x.device)).numpy())

    rows = np.c_[x.numpy(), net(x).numpy()].tolist()
    said = "".join(f"{a:g} xor {b:g}: {y:+.2f}\n" for a, b, y in rows)
    picture = plane_picture(value, x.numpy(), target.numpy())
    return {
        "words": ["and no straight line can part XOR (Minsky and Papert 1969)"],
        "texts": {"w x + b": said},
        "pictures": {"line where w x + b is 0": picture},
    }


def say(net: Perceptron, what: str) -> str:
    """The answer for a picture file; or for two numbers, "0 1", of a net of two inputs."""
    if net.weight.size == 2:
        try:
            x = np.array([float(number) for number in what.split()], np.float32).reshape(2)
        except ValueError:
            raise ValueError(f"expected two numbers, such as '0 1', got {what!r}") from None
    else:
        x = read_picture(what, (28, 28, 1)).ravel() / np.float32(255)
    y = net(tensor(x[None], device=net.weight.device)).item()
    return f"{y:+.2f}" + f", {CLASSES[1 if y > 0 else -1]}" * (net.weight.size > 2)


ASKS = "FILE", "the answer for a picture file"
XOR_ASKS = "NUMBERS", "the answer for two numbers, such as '0 1'"
WRONG = {"wrong": Measure("wrong", "%")}
RECIPE: dict[str, Any] = dict(
    batch_size=1, lr=1.0, optimizer=lambda net, lr: SGD(net.parameters(), lr)
)
PROGRAM = Program(
    "Trains a perceptron, tests it, uses it.",
    {
        "pictures": Recipe(
            "perceptron", Made(pictures, rule, show_weights, say, ASKS, WRONG, best_by="wrong"),
            epochs=20, **RECIPE,
        ),
        "xor": Recipe(
            "perceptron, XOR", Made(xor, rule, show_line, say, XOR_ASKS, WRONG, best_by="wrong"),
            epochs=25, **RECIPE,
        ),
    },
    lambda about, devices: Perceptron(about["inputs"][0], devices[0]),
)  # fmt: skip
main = PROGRAM.main

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
