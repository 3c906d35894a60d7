"""What crosses between AlexNet's two devices for one picture."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import cache
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from making.picture import Picture

import tinynet
from tinynet.nn import init
from tinynet.tape import walk

sys.path.append(str(Path(__file__).parents[3] / "examples"))
import alexnet  # noqa: E402

DEVICES = "cpu:0", "cpu:1"
SEE_BOTH = "conv3", "fc6", "fc7"  # what the other tower made, too


class Copy(NamedTuple):
    """One copy on the tape. size: bytes."""

    start: str
    shape: tuple[int, ...]
    size: int


@cache
def copies() -> list[Copy]:
    """The copies of the forward of one picture, in their order."""
    nothing = dict.fromkeys(alexnet.LAYERS, init.constant(0))  # sizes do not depend on weights
    net = alexnet.AlexNet(1000, replace(alexnet.PAPER, weights=nothing), DEVICES)
    logits = net(tinynet.tensor(np.zeros((1, 3, 224, 224), np.float32)))
    nodes = sorted((node for node, _, _ in walk(logits)), key=lambda node: node.number)
    names = {tinynet.device(name): name for name in DEVICES}
    found = []
    for node in nodes:
        if node.output_device is not node.device:
            shape, dtype = node.outputs[0]
            found.append(Copy(names[node.device], shape, prod(shape) * dtype.itemsize))
    return found


def draw() -> Picture:
    picture = Picture(372, 500, "AlexNet's two towers, and the bytes that cross for one picture")
    picture.text(70, 18, "tower a, cpu:0", "d0")
    picture.text(302, 18, "tower b, cpu:1", "d1")
    rows = {}
    y = 30
    for layer in alexnet.LAYERS[:-1]:
        y += 40 * (layer in SEE_BOTH)
        rows[layer] = y
        picture.box(10, y, layer, size=(120, 30))
        picture.box(242, y, layer, size=(120, 30))
        y += 42
    layers = list(rows)
    for before, after in zip(layers, layers[1:], strict=False):
        for x in (30, 342):
            picture.arrow([(x, rows[before] + 30), (x, rows[after])])
    picture.box(10, y + 40, "fc8", size=(120, 30))
    picture.arrow([(30, rows["fc7"] + 30), (30, y + 40)])

    moved = copies()
    pairs = [moved[i : i + 2] for i in range(0, len(moved), 2)]  # the last goes one way only
    for at, pair in zip([*(rows[layer] - 28 for layer in SEE_BOTH), y + 18], pairs, strict=True):
        picture.text(186, at - 6, f"{pair[0].size:,} bytes" + " each way" * (len(pair) > 1))
        for copy in pair:
            if copy.start == DEVICES[0]:
                picture.arrow([(70, at + 12), (298, at + 12)], "d0 wide")
            else:
                picture.arrow([(302, at + 2), (74, at + 2)], "d1 wide")
    return picture
