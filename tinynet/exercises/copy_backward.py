"""Chapter 10: the way back of a copy between devices."""

from __future__ import annotations

from functools import partial

import numpy as np

import tinynet
from tinynet import DeviceMismatchError
from tinynet.arithmetic.shapes import Copy
from tinynet.exercises.exercise import Exercise, Trial


class Device:
    """A device that knows which arrays it holds."""

    def __init__(self, name):
        self.name, self.arrays = name, []

    def holds(self, array):
        return any(array is other for other in self.arrays)

    def hold(self, array):
        self.arrays.append(array)
        return array

    def copy_from(self, array, source):
        if not source.holds(array):
            raise DeviceMismatchError(f"{self}.copy_from: this array is not on {source}")
        return self.hold(array.copy())

    def __repr__(self):
        return self.name


def copy_backward(dy, source, target):
    """y = x on another device, so dx = dy on the device of x

    Forward was: y = target.copy_from(x, source). So x is on `source`, and y and dy are on `target`.
    device.copy_from(array, where) gives a copy on `device` of an array that is on `where`.
    Returns dx, an array on `source`.
    """
    return source.copy_from(dy, target)


def stays(dy, source, target):
    return dy


def once_more_forward(dy, source, target):
    return target.copy_from(dy, source)


def copies_in_place(dy, source, target):
    return dy.copy()


def shares(dy, source, target):
    return source.copy_from(dy, target) / 2


def example():
    return np.array([1.0, 2, 3]), "cpu", "cpu:1"


def probes(rng):
    yield rng.normal(size=(2, 3)), "cpu:1", "cpu"


def call(function, dy, source, target):
    devices = Device(source), Device(target)
    dx = function(devices[1].hold(dy), *devices)
    return dx, next((d.name for d in devices if d.holds(dx)), "none: it came by no copy_from")


def trials(function):
    def there_and_back(x):
        y = x * 2
        return (y.to("cpu:1") * 3).to("cpu") + y

    def both(x, w):
        h = (x @ w).to("cpu:1")
        return (h * h).to("cpu").sum(0)

    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    return [
        Trial(partial(tinynet.gradcheck, there_and_back, [x])),
        Trial(partial(tinynet.gradcheck, both, [x, w])),
    ]


def in_copy(function):
    def backward(ctx, dy):
        return function(dy, ctx.device, ctx.output_device), None

    return staticmethod(backward)


EXERCISE = Exercise(
    solution=copy_backward,
    chapter=10,
    question="What is the gradient of a copy to another device?",
    hint="A copy changes no number, so dx has the numbers of dy. But each gradient has to be where "
    "its value is. Which device calls copy_from, and where is dy?",
    ours="tinynet.arithmetic.shapes.Copy.backward",
    results=("dx", "device of dx"),
    mistakes={
        stays: "the numbers are right, but they are still on the device of y. The gradient of x "
        "has to be on the device of x.",
        once_more_forward: "you go the way of forward once more. dy is on `target`; it has to come "
        "back to `source`.",
        copies_in_place: "`.copy()` stays on the same device. To cross, use copy_from.",
        shares: "you divide by the number of devices. A copy changes no number, so dx = dy.",
    },
    example=example,
    probes=probes,
    trials=trials,
    places=((Copy, "backward"),),
    adapt=in_copy,
    call=call,
)
