"""A tape walked in two orders: newest first, and as the operations are met from the loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from making.picture import Frame, Picture
from making.widgets.widget import Slider, Widget

import tinynet
from tinynet.exercises.walk import TapeStep, everything
from tinynet.tape import Node

A = 5.0
FORMULAS = {"L": "L = b + c", "c": "c = 3 b", "b": "b = 2 a", "a": f"a = {A:g}"}  # top to bottom
WIDE, HIGH = 110, 42  # pixels: a box


def tape() -> tuple[TapeStep, dict[Node, str]]:
    """Chapter 2's tape: its last step, and the nodes' names."""
    a = tinynet.tensor(np.array(A), requires_grad=True)
    b = 2.0 * a
    c = 3.0 * b
    L = b + c
    assert b.node and c.node and L.node
    return TapeStep(L.node[0], {}, []), {b.node[0]: "b", c.node[0]: "c", L.node[0]: "L"}


def visits(order: str) -> list[dict[str, Any]]:
    """The gradients that are there before the first visit and after each, in this order of names.

    Every backward is that of tinynet's own operation.
    """
    root, names = tape()
    steps = {names[step.node]: step for step in everything(root)}
    gradients: dict[str, Any] = {"L": np.array(1.0)}
    states = [dict(gradients)]
    for name in order:
        step = steps[name]
        given = step.backward(gradients[name])
        for source, gradient in zip(step.inputs, given, strict=True):
            of = names[source.node]
            gradients[of] = gradients.get(of, 0.0) + gradient
        if name == "b":
            _, _, leaving = step.visits[-1]
            gradients["a"] = next(gradient for gradient in leaving if gradient is not None)
        states.append(dict(gradients))
    return states


def make() -> Widget:
    right, wrong = "Lcb", "Lbc"
    states = {"right": visits(right), "wrong": visits(wrong)}
    picture = Picture(370, 400, "the same tape in two orders")
    titles = {"right": "newest first", "wrong": "as they are met"}
    for side, sequence, x in (("right", right, 10), ("wrong", wrong, 205)):
        picture.text(x, 16, titles[side], "left strong")
        picture.text(x, 33, ", ".join(sequence), "left faint")
        top = {name: 44 + 90 * rank for rank, name in enumerate(FORMULAS)}
        for low, high in (("a", "b"), ("b", "c"), ("c", "L")):
            middle = x + WIDE / 2
            picture.path([(middle, top[low]), (middle, top[high] + HIGH)], arrow=True)
        start, end, aside = top["b"] + HIGH / 2, top["L"] + HIGH / 2, x + WIDE + 36
        around = [(x + WIDE, start), (aside, start), (aside, end), (x + WIDE, end)]
        picture.path(around, arrow=True)
        for name, y in top.items():
            picture.box(x, y, WIDE, HIGH, "shade", FORMULAS[name], name=f"{side}-{name}")
            picture.text(x, y + HIGH + 16, "", "left grad", f"{side}-d{name}")

    def state(k: int) -> Frame:
        frame = Frame("")
        for side, sequence in (("right", right), ("wrong", wrong)):
            for name in FORMULAS:
                gradient = states[side][k].get(name)
                frame.text[f"{side}-d{name}"] = f"d{name} = {gradient:g}" if gradient else ""
            if k:
                frame.mark[f"{side}-{sequence[k - 1]}"] = "given"
        frame.note = NOTES[k].format(
            right=states["right"][-1]["a"], wrong=states["wrong"][-1]["a"],
            early=states["wrong"][1]["b"], late=states["wrong"][-1]["b"],
        )  # fmt: skip
        return frame

    words = ["before", "first visit", "second visit", "third visit"]
    return Widget(picture, [state(k) for k in range(4)], [Slider("step", words)])


NOTES = (
    "Forward is done. b is used twice: by c, and by L itself. The gradient of L is 1.",
    "L gives c its gradient, and b the first part of its own.",
    "Left: c is newer than b, so c is next, and b gets its second part. Right: b was met first, "
    "and hands on what it has, {early:g}.",
    "Left: b has all of its gradient, {late:g}, and da = {right:g}. Right: c gives b the rest, but "
    "b had its turn, and da stays {wrong:g}. Every shape is right, and no error is raised.",
)
