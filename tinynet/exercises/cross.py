"""Chapter 10: what crosses between the towers of AlexNet."""

from __future__ import annotations

from functools import partial

import numpy as np

import tinynet
from tinynet import Tensor
from tinynet.exercises.exercise import Exercise, Trial, Wrong


def cross(xa, xb, device_a, device_b):
    """Both towers' channels, on both devices: (C_a + C_b) of them, tower a's first

    xa (N, C_a, ...) is a tensor on device_a, xb (N, C_b, ...) one on device_b.
    x.to(device) copies a tensor; tinynet.concat([x, z], axis=1) puts channels side by side.
    Returns two tensors: one on device_a, one on device_b.
    """
    on_a = tinynet.concat([xa, xb.to(device_a)], axis=1)
    on_b = tinynet.concat([xa.to(device_b), xb], axis=1)
    return on_a, on_b


def own_first(xa, xb, device_a, device_b):
    on_b = tinynet.concat([xb, xa.to(device_b)], axis=1)
    return tinynet.concat([xa, xb.to(device_a)], axis=1), on_b


def stays(xa, xb, device_a, device_b):
    both = tinynet.concat([xa, xb.to(device_a)], axis=1)
    return both, both


def exchanged(xa, xb, device_a, device_b):
    return cross(xa, xb, device_a, device_b)[::-1]


def by_pictures(xa, xb, device_a, device_b):
    on_a = tinynet.concat([xa, xb.to(device_a)], axis=0)
    return on_a, tinynet.concat([xa.to(device_b), xb], axis=0)


def off_the_tape(xa, xb, device_a, device_b):
    on_a = tinynet.concat([xa, xb.detach().to(device_a)], axis=1)
    return on_a, tinynet.concat([xa.detach().to(device_b), xb], axis=1)


def without_copies(xa, xb, device_a, device_b):
    return tinynet.concat([xa, xb], axis=1), tinynet.concat([xa, xb], axis=1)


def adds(xa, xb, device_a, device_b):
    return xa + xb.to(device_a), xa.to(device_b) + xb


def example():
    return np.array([[1.0, 2]]), np.array([[3.0, 4]]), "cpu", "cpu:1"


def probes(rng):
    yield rng.normal(size=(2, 3, 2)), rng.normal(size=(2, 3, 2)), "cpu:1", "cpu"


def call(function, xa, xb, device_a, device_b):
    """Its results, where they are, and the gradients of xa and xb if each result is weighted."""
    given = [
        tinynet.tensor(x, device=device, requires_grad=True)
        for x, device in ((xa, device_a), (xb, device_b))
    ]
    results = function(*given, device_a, device_b)
    if not isinstance(results, (tuple, list)) or [type(y) for y in results] != [Tensor, Tensor]:
        raise Wrong("Expected two tensors: one on device_a, one on device_b.")
    loss = 0
    for factor, y in enumerate(results, 2):
        weights = factor * np.arange(1, y.size + 1, dtype=y.dtype).reshape(y.shape)
        loss = loss + (y * tinynet.tensor(weights, device=y.device)).sum().to("cpu")
    if loss.requires_grad:
        loss.backward()
    gradients = [np.zeros_like(x.numpy()) if x.grad is None else x.grad.numpy() for x in given]
    return *(y.numpy() for y in results), *(str(y.device) for y in results), *gradients


def trials(function):
    def towers(xa, xb):
        """They meet once, and are multiplied in the end."""
        on_a, on_b = function(xa * 2, xb.to("cpu:1") * 3, "cpu", "cpu:1")
        return on_a * on_b.to("cpu")

    rng = np.random.default_rng(0)
    xa, xb = rng.normal(size=(2, 2, 3)), rng.normal(size=(2, 1, 3))
    return [Trial(partial(tinynet.gradcheck, towers, [xa, xb]))]


EXERCISE = Exercise(
    solution=cross,
    chapter=10,
    question="What crosses between two devices?",
    hint="Two copies and two concats: xb goes to device_a, xa goes to device_b. On both devices "
    "tower a's channels come first, so that both see the same input.",
    ours="cross in examples/alexnet.py",
    results=(
        "the first result", "the second result", "device of the first", "device of the second",
        "gradient of xa", "gradient of xb",
    ),
    mistakes={
        own_first: "on device_b your tower b comes first. Both devices need one order: tower a's "
        "channels first.",
        stays: "the second result is on device_a. Each device needs its own copy.",
        exchanged: "the two results are exchanged: the first one is that on device_a.",
        by_pictures: "you put pictures side by side (axis 0), not channels (axis 1).",
        off_the_tape: "the values are right, but the gradient does not come back through the "
        "copies: detach() and numpy() leave the tape. Use x.to(device).",
        without_copies: "an operation works on one device: bring the other tower's channels there "
        "first, by x.to(device).",
        adds: "you add the two towers. They are put side by side: concat along axis 1.",
    },
    example=example,
    probes=probes,
    trials=trials,
    call=call,
    imports="import tinynet",
)  # fmt: skip
