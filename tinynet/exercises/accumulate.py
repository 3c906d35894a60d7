"""Chapter 1: gradients that meet at one value."""

from __future__ import annotations

import numpy as np

from tinynet import tape
from tinynet.exercises.exercise import Exercise, gradchecks


def accumulate(parts):
    """total = parts[0] + parts[1] + ...

    A value that is used in several places gets a gradient from each of them.
    parts: a list of one or more arrays, all of one shape. Returns a new array of that shape. The
    arrays of the list stay as they are: others may still need them.
    """
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def keeps_the_last(parts):
    return parts[-1].copy()


def keeps_the_first(parts):
    return parts[0].copy()


def averages(parts):
    return sum(parts) / len(parts)


def adds_in_place(parts):
    total = parts[0]
    for part in parts[1:]:
        total += part
    return total


def gives_back_the_only_one(parts):
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def probes(rng):
    for count in (1, 2, 5):
        yield ([rng.normal(size=(2, 3)) for _ in range(count)],)


def call(function, parts):
    total = function(parts)
    for number, part in enumerate(parts):
        if isinstance(total, np.ndarray) and np.may_share_memory(total, part):
            return total, f"that of parts[{number}]"
    return total, "its own"


EXERCISE = Exercise(
    solution=accumulate,
    chapter=1,
    question="b = a + a: why is the gradient 2, and where is it kept?",
    hint="Begin with a copy of the first array. Then a loop with += over the others.",
    ours="tinynet.tape.add_up",
    results=("total", "memory"),
    mistakes={
        keeps_the_last: "you keep only the last gradient that arrived. A value that is used twice "
        "gets two: use += in place of =.",
        keeps_the_first: "you keep only the first gradient, and lose those that come later.",
        averages: "you take the mean. The chain rule adds; it never divides by how many came.",
        adds_in_place: "`total = parts[0]` makes no copy: += then changes the first array, which "
        "another operation may still need. Begin with parts[0].copy().",
        gives_back_the_only_one: "with one part, what you return is that part itself: whoever adds "
        "to the result with += changes it, too. Begin with parts[0].copy().",
    },
    example=lambda: ([np.array([1.0, 2.0]), np.array([3.0, -2.0]), np.array([5.0, 0.0])],),
    probes=probes,
    trials=gradchecks("(a shared node)"),
    places=((tape, "add_up"),),
    call=call,
    adapt=lambda function: lambda parts, device: function(parts),
)
