"""Chapter 5: softmax and cross-entropy in one."""

from __future__ import annotations

import numpy as np

from tinynet import kernels
from tinynet.exercises.exercise import Exercise, gradchecks


def cross_entropy_backward(dlosses, probabilities, target):
    """dx[n, k] = dlosses[n] (p[n, k] - [k = target[n]])

    where loss[n] = log(sum over k of exp(x[n, k])) - x[n, target[n]], and [ ] is 1 if true, else 0.
    dlosses (N,), probabilities p (N, K), the softmax of x; target (N,), whole numbers from 0 to
    K-1. Returns dx (N, K).
    """
    dx = probabilities * dlosses[:, None]
    dx[np.arange(len(target)), target] -= dlosses
    return dx


def without_the_target(dlosses, probabilities, target):
    return probabilities * dlosses[:, None]


def downhill(dlosses, probabilities, target):
    return -cross_entropy_backward(dlosses, probabilities, target)


def ignores_dlosses(dlosses, probabilities, target):
    return cross_entropy_backward(np.ones_like(dlosses), probabilities, target)


def scales_columns(dlosses, probabilities, target):
    return dlosses * cross_entropy_backward(np.ones_like(dlosses), probabilities, target)


def one_unscaled(dlosses, probabilities, target):
    dx = probabilities * dlosses[:, None]
    dx[np.arange(len(target)), target] -= 1
    return dx


def divides_by_n(dlosses, probabilities, target):
    return cross_entropy_backward(dlosses / len(target), probabilities, target)


def whole_columns(dlosses, probabilities, target):
    dx = probabilities.copy()
    dx[:, target] -= 1
    return dx * dlosses[:, None]


def only_the_target(dlosses, probabilities, target):
    rows = np.arange(len(target))
    dx = np.zeros_like(probabilities)
    dx[rows, target] = (probabilities[rows, target] - 1) * dlosses
    return dx


def changes_probabilities(dlosses, probabilities, target):
    probabilities[np.arange(len(target)), target] -= 1
    return probabilities * dlosses[:, None]


def probes(rng):
    for N, K in [(3, 3), (3, 4), (4, 3), (1, 2)]:
        p = np.exp(rng.normal(size=(N, K)))
        yield rng.normal(size=N), p / p.sum(1, keepdims=True), rng.integers(0, K, N)


def in_place(function):
    """The kernel, which takes axes in front of K and label smoothing as well."""

    def backward(dlosses, probabilities, target, label_smoothing):
        K, e = probabilities.shape[-1], label_smoothing
        flat, rows = target.reshape(-1), dlosses.reshape(-1)
        dx = function(rows, probabilities.reshape(-1, K), flat)
        # q = (1 - e) [k = t] + e/K takes the place of [k = t]
        dx = dx + rows[:, None] * e * (np.eye(K, dtype=dx.dtype)[flat] - 1 / K)
        return dx.reshape(probabilities.shape)

    return backward


EXERCISE = Exercise(
    solution=cross_entropy_backward,
    chapter=5,
    question="Why is the gradient p minus one-hot?",
    hint="d log(sum)/dx_k = p_k, and d(-x_t)/dx_k = -1 for k = t. Then the chain rule: times "
    "dlosses[n]. dx[np.arange(N), target] picks one element of each row.",
    ours="tinynet.kernels.cross_entropy_backward",
    results=("dx",),
    mistakes={
        without_the_target: "the right class is missing: subtract 1 from its probability.",
        downhill: "the sign is wrong: a gradient points uphill, so it is p minus one-hot.",
        ignores_dlosses: "you do not use dlosses. The chain rule multiplies by what comes from "
        "above; backward rarely begins with 1.",
        scales_columns: "dlosses (N,) belongs to the rows. NumPy aligns it with the columns, and "
        "says nothing where N = K: write dlosses[:, None].",
        one_unscaled: "you multiply p by dlosses, but then subtract 1: the 1 needs the factor too.",
        divides_by_n: "you divide by N. Whoever took the mean has put 1/N into dlosses already.",
        whole_columns: "dx[:, target] changes the columns in all rows. Use one row for each "
        "target: dx[np.arange(N), target].",
        only_the_target: "you give a gradient to the right class alone. The others are pushed "
        "down: their gradient is p.",
        changes_probabilities: "you subtract from `probabilities` itself, an array that is not "
        "yours. Make a copy first.",
    },
    example=lambda: (
        np.array([4.0, 8.0]),
        np.array([[0.25, 0.5, 0.25], [0.5, 0.25, 0.25]]),
        np.array([1, 2]),
    ),
    probes=probes,
    trials=gradchecks("cross_entropy"),
    places=((kernels, "cross_entropy_backward"),),
    adapt=in_place,
)
