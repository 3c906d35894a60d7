"""Chapter 3: what undoes broadcasting."""

from __future__ import annotations

import numpy as np

from tinynet.arithmetic import binary
from tinynet.exercises.exercise import Exercise, gradchecks


def unbroadcast(grad, shape):
    """grad summed over the axes along which an array of `shape` was repeated

    Broadcasting (3, 1) to (2, 3, 4) repeats it along a new first axis, and along its axis of
    length 1. Each copy gets a gradient; the array gets the sum of all of them.
    grad: the gradient of the broadcast array. shape: a tuple. Returns an array of that shape.
    """
    extra = grad.ndim - len(shape)
    repeated = [i + extra for i, n in enumerate(shape) if n == 1]
    return grad.sum(axis=(*range(extra), *repeated)).reshape(shape)


def takes_the_first(grad, shape):
    extra = grad.ndim - len(shape)
    return grad[(0,) * extra][tuple(slice(n) for n in shape)].copy()


def averages(grad, shape):
    total = unbroadcast(grad, shape)
    return total * total.dtype.type(total.size / grad.size)


def only_new_axes(grad, shape):
    return grad.sum(axis=tuple(range(grad.ndim - len(shape))))


def loses_axes(grad, shape):
    extra = grad.ndim - len(shape)
    return grad.sum(axis=(*range(extra), *(i + extra for i, n in enumerate(shape) if n == 1)))


def counts_from_the_left(grad, shape):
    repeated = tuple(i for i, n in enumerate(shape) if n == 1)
    total = grad.sum(axis=repeated, keepdims=True)
    return total.sum(axis=tuple(range(grad.ndim - len(shape))))


def probes(rng):
    for grad, shape in [
        ((2, 3, 4), (3, 1)),
        ((2, 3, 4), (1, 4)),
        ((2, 3, 4), (2, 1, 4)),
        ((3, 4), (3, 4)),
        ((2, 3), ()),
        ((2, 1, 3), (1, 1)),
    ]:
        yield rng.normal(size=grad), shape


EXERCISE = Exercise(
    solution=unbroadcast,
    chapter=3,
    question="What undoes broadcasting?",
    hint="Shapes are aligned at their right ends. Sum over the axes that grad has more, and over "
    "those where `shape` has a 1. Give the result its shape with reshape.",
    ours="tinynet.arithmetic.operands.unbroadcast",
    results=("the sum",),
    mistakes={
        takes_the_first: "you take the gradient of the first copy. All copies are the same value, "
        "so it gets the sum over all of them.",
        averages: "you take the mean over the copies. The gradients of copies add up.",
        only_new_axes: "you sum over the new axes in front alone. An axis of length 1 was repeated "
        "as well.",
        loses_axes: "your sums are right, but an axis of length 1 is lost: keep it, by "
        "reshape(shape) or keepdims=True.",
        counts_from_the_left: "broadcasting aligns shapes at the right. Axis i of `shape` is axis "
        "i + grad.ndim - len(shape) of grad.",
    },
    example=lambda: (np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), (2, 1)),
    probes=probes,
    trials=gradchecks("add", "mul", "where"),
    places=((binary, "unbroadcast"),),
)
