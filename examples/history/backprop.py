"""Backpropagation: hidden units that find out by themselves what to stand for (1986).

    python examples/history/backprop.py                               who is whose aunt
    python examples/history/backprop.py --preset xor                  what a perceptron cannot learn
    python examples/history/backprop.py --predict RUN "Colin aunt"    of xor: "0 1"

Rumelhart, Hinton, Williams, "Learning representations by back-propagating errors", Nature 323
(1986); XOR is in their chapter 8 of "Parallel distributed processing", 1986.

The idea: put units between input and output, and let all be smooth. Then the chain rule says for
every weight which way to change it, in one pass back through the net. New was what came out: nobody
says what a hidden unit should stand for, yet it learns to stand for something. Look at hidden.png:
six units see a person. One may tell English people (above) from Italian ones (below).
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Any

import numpy as np

import tinynet
import tinynet.functional as F
from tinynet import Tensor, nn, tensor
from tinynet.devices import Device
from tinynet.optim import SGD
from tinynet.optim.lr_scheduler import Constant, WarmUp
from tinynet.program import Arrays, Made, Program, Recipe
from tinynet.training.drawings import plane_picture, squares_picture
from tinynet.training.measure import Measure

START = nn.init.normal(0.3)
# Twelve English people and the Italian ones in their places: men, then women, five of them wives.
PEOPLE = """Christopher Andrew Arthur James Charles Colin Penelope Christine Margaret Victoria
Jennifer Charlotte Roberto Pierro Emilio Marco Tomaso Alfonso Maria Francesca Gina Lucia Angela
Sophia""".split()
FATHERS = {2: 0, 9: 0, 3: 1, 10: 1, 5: 3, 11: 3}  # Christopher is the father of Arthur
RELATIONS = "father mother husband wife son daughter uncle aunt brother sister nephew niece".split()


def kin() -> np.ndarray:
    """Who is what to whom: bool (relation, person, another person). `a @ b` is an a's b."""
    parents, men = np.zeros((12, 12), bool), np.arange(12) < 6
    for child, father in FATHERS.items():
        parents[child, [father, father + 6]] = True
    spouse = np.roll(np.diag(np.arange(12) % 6 < 5), 6, axis=1)
    siblings = parents @ parents.T & ~np.eye(12, dtype=bool)
    uncles = parents @ siblings
    nephews = (siblings | spouse @ siblings) @ parents.T
    both = [parents, spouse, parents.T, uncles | uncles @ spouse, siblings, nephews]
    return np.array([each & sex for each in both for sex in (men, ~men)])


def families() -> tuple[Arrays, Arrays]:
    """All questions with an answer, 104: (person, relation) -> people. 100 to learn, 4 to test."""
    known = kin()
    asked = [(f, r, p) for f, r, p in np.ndindex(2, 12, 12) if known[r, p].any()]
    asked = np.random.default_rng(1986).permutation(asked).tolist()
    x = np.array([np.eye(36)[[12 * f + p, 24 + r]].sum(axis=0) for f, r, p in asked], np.float32)
    target = np.array([np.kron(np.eye(2)[f], known[r, p]) for f, r, p in asked], np.float32)
    return (x[4:], target[4:]), (x[:4], target[:4])


def xor() -> tuple[Arrays, Arrays]:
    """Exactly one of two: the same four points to learn and to test."""
    four = np.indices((2, 2)).reshape(2, 4).T.astype(np.float32)
    both = four, four.sum(axis=1, keepdims=True) % 2
    return both, both


class Layers(nn.Module):
    """x -> sigmoid of a linear map, several times."""

    def __init__(self, sizes: tuple[int, ...], device: Device):
        self.layers = [nn.Linear(n, m, True, START, device=device) for n, m in pairwise(sizes)]

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = F.sigmoid(layer(x))
        return x


class Families(nn.Module):
    """(N, 24 people + 12 relations) -> (N, 24): 6 units see the person, 6 the relation, 12 both."""

    def __init__(self, device: Device):
        self.person, self.relation = Layers((24, 6), device), Layers((12, 6), device)
        self.rest = Layers((12, 12, 6, 24), device)

    def forward(self, x: Tensor) -> Any:
        return self.rest(tinynet.concat([self.person(x[:, :24]), self.relation(x[:, 24:])], 1))


def error(net: nn.Module, x: Tensor, target: Tensor) -> dict[str, Tensor]:
    """E = 1/2 the sum of (|y - d| - 0.2)^2 over what is more than 0.2 off: no sigmoid reaches 1."""
    off = (net(x) - target).abs()
    wrong = ((off >= 0.5).float().sum(1) > 0).float()
    return {"loss": (F.relu(off - 0.2) ** 2).sum() / 2, "wrong": 100 * wrong.mean()}


def show_hidden(net: Families, x: Tensor, target: Tensor) -> dict[str, Any]:
    weight = net.person.layers[0].weight.numpy().reshape(6, 2, 12)
    panels = [(f"unit {number}", weight[number]) for number in range(6)]
    asked = [" ".join(np.array(PEOPLE + RELATIONS)[row > 0]) for row in x.numpy()]
    said = "\n".join(f"{question}: {say(net, question)}" for question in asked)
    picture = {"hidden units": squares_picture(panels, [PEOPLE[:12], PEOPLE[12:]])}
    return {"texts": {"questions it was never taught": said}, "pictures": picture}


def show_plane(net: Layers, x: Tensor, target: Tensor) -> dict[str, Any]:
    def value(points: np.ndarray) -> np.ndarray:
        return np.asarray(net(tensor(points, device=x.device)).numpy()[:, 0] - 0.5)

    return {"pictures": {"plane": plane_picture(value, x.numpy(), target.numpy()[:, 0])}}


def say(net: Any, what: str) -> str:
    """The three likeliest people; of xor, its answer."""
    words, known = what.split(), PEOPLE + RELATIONS if isinstance(net, Families) else ["0", "1"]
    if len(words) != 2 or not {*words} <= {*known}:
        raise ValueError(f"expected two of {', '.join(known)}, got {what!r}")
    places = [known.index(word) for word in words]
    x = np.array(places if len(known) == 2 else np.eye(36)[places].sum(axis=0), np.float32)
    y = net(tensor(x[None], device=next(net.parameters()).device)).numpy()[0]
    people = [f"{PEOPLE[q]} {y[q]:.2f}" for q in np.argsort(-y)[:3]]
    return ", ".join(people) if len(y) > 1 else f"{y[0]:.2f}"


WRONG = {"wrong": Measure("wrong", "%")}  # a case with a unit on the wrong side of 1/2
WHO = "TEXT", "who it is, such as 'Colin aunt'"
NETS: dict[str, Any] = {"families": (families, show_hidden, WHO, 20, 0.06)}  # epochs, rate
NETS["xor"] = xor, show_plane, ("NUMBERS", "the answer for two numbers, such as '0 1'"), 8, 0.25
main = Program(
    "Trains a net with hidden units, tests it, uses it.",
    {
        name: Recipe(
            f"net of {name}", Made(make, error, show, say, asks, WRONG, sweeps=250), epochs, 1, lr,
            optimizer=lambda net, lr: SGD(net.parameters(), lr, momentum=0.9),
            schedule=lambda optimizer, epochs: WarmUp(Constant(optimizer), 1),
        )
        for name, (make, show, asks, epochs, lr) in NETS.items()
    },
    lambda about, on: Families(on[0]) if about["inputs"] == [36] else Layers((2, 2, 1), on[0]),
).main  # fmt: skip

if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # for log files
    sys.exit(main())
