"""Chapter 4: a gradient from forward alone."""

from __future__ import annotations

from functools import partial

import numpy as np

import tinynet
from tinynet.exercises.exercise import Exercise, Trial


def central_difference(f, x, step):
    """gradient[i] = (f(x + step e_i) - f(x - step e_i)) / (2 step)

    e_i is 1 at place i and 0 elsewhere: one element moves at a time.
    f: a function of an array that gives a number. x: an array of any shape. Returns an array of
    the shape and dtype of x. x itself stays as it is.
    """
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += step
        down[i] -= step
        gradient[i] = (f(up) - f(down)) / (2 * step)
    return gradient


def forward_difference(f, x, step):
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        up = x.copy()
        up[i] += step
        gradient[i] = (f(up) - f(x)) / step
    return gradient


def backward_difference(f, x, step):
    return forward_difference(f, x, -step)


def half_the_way(f, x, step):
    return 2 * central_difference(f, x, step)


def not_divided(f, x, step):
    return 2 * step * central_difference(f, x, step)


def all_at_once(f, x, step):
    return np.full_like(x, (f(x + step) - f(x - step)) / (2 * step))


def does_not_go_back(f, x, step):
    gradient, moved = np.zeros_like(x), x.copy()
    for i in np.ndindex(x.shape):
        moved[i] += step
        above = f(moved)
        moved[i] -= 2 * step
        gradient[i] = (above - f(moved)) / (2 * step)
    return gradient


def changes_x(f, x, step):
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        x[i] += step
        above = f(x)
        x[i] -= 2 * step
        gradient[i] = (above - f(x)) / (2 * step)
    return gradient


class Cubes:
    """f(x) = sum over i, j of x_i x_j^2, with a name that shows it."""

    def __call__(self, x):
        return x.sum() * (x**2).sum()

    def __repr__(self):
        return "sum(x) * sum(x^2)"


def probes(rng):
    for shape in [(3,), (2, 2), ()]:
        yield Cubes(), rng.normal(size=shape), 0.25


def trials(function):
    """gradcheck with this function as the backward: of operations that are quadratic, for which
    central differences are right for any step.
    """
    rng = np.random.default_rng(0)
    return [
        Trial(partial(tinynet.gradcheck, numerical(f, function), [rng.normal(size=shape)]))
        for f, shape in (
            (lambda x: (x * x).sum(), (3, 2)),
            (lambda x: (x @ x.transpose()).mean(), (2, 3)),
            (lambda x: tinynet.functional.mse_loss(x[0], x[1]), (2, 4)),
        )
    ]


def numerical(f, difference):
    """f, with the numerical gradient as its backward."""

    def value(x):
        return f(tinynet.tensor(x)).data

    class Numerical(tinynet.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return value(x)

        @staticmethod
        def backward(ctx, dy):
            (x,) = ctx.saved_tensors
            return dy * difference(value, x, 0.5)

    return Numerical.apply


EXERCISE = Exercise(
    solution=central_difference,
    chapter=4,
    question="How do we know that a gradient is right?",
    hint="Loop over np.ndindex(x.shape). Make two copies of x, move one element of each, call f "
    "on both. The distance between the two points is 2 step.",
    ours="tinynet.gradcheck",
    results=("gradient",),
    mistakes={
        forward_difference: "you go one step forward alone. The error is then step times f''/2; "
        "a step to each side makes it step^2 times f'''/6.",
        backward_difference: "you go one step back alone. The error is then step times f''/2; "
        "a step to each side makes it step^2 times f'''/6.",
        half_the_way: "the two points are 2 step apart, and you divide by step.",
        not_divided: "you give the difference of the two values. Divide it by 2 step.",
        all_at_once: "you move all elements together. Each has its own gradient: move one alone.",
        does_not_go_back: "you do not bring an element back before you move the next one.",
        changes_x: "you move the elements of x itself and leave them moved. Work on a copy, or "
        "put the old value back.",
    },
    example=lambda: (Cubes(), np.array([1.0, 2.0]), 1),
    probes=probes,
    trials=trials,
)
