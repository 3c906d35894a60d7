"""Chapter 3: the two products of a product's gradient."""

from __future__ import annotations

import numpy as np

from tinynet.arithmetic import binary
from tinynet.arithmetic.binary import MatMul
from tinynet.exercises.exercise import Exercise, gradchecks


def matmul_backward(dy, a, b):
    """y = a @ b        da = dy @ b^T, db = a^T @ dy

    a (..., n, k), b (..., k, m), dy (..., n, m) -> da (..., n, k), db (..., k, m). The axes in
    front are a batch: a product for each. ^T exchanges the last two axes.
    """
    return dy @ b.swapaxes(-1, -2), a.swapaxes(-1, -2) @ dy


def not_transposed(dy, a, b):
    return dy @ b, a @ dy


def wrong_sides(dy, a, b):
    return b.swapaxes(-1, -2) @ dy, dy @ a.swapaxes(-1, -2)


def exchanged(dy, a, b):
    return matmul_backward(dy, a, b)[::-1]


def all_axes(dy, a, b):
    return dy @ b.T, a.T @ dy


def transposed(dy, a, b):
    da, db = matmul_backward(dy, a, b)
    return da.swapaxes(-1, -2), db.swapaxes(-1, -2)


def probes(rng):
    for a, b in [
        ((3, 3), (3, 3)),
        ((2, 3), (3, 4)),
        ((2, 2, 2), (2, 2, 2)),
        ((5, 2, 3), (5, 3, 4)),
    ]:
        a, b = rng.normal(size=a), rng.normal(size=b)
        yield rng.normal(size=(a @ b).shape), a, b


def in_matmul(function):
    """MatMul.backward by the learner's function: a vector as a matrix, repeats summed up."""

    def backward(ctx, dy):
        a, b = ctx.saved_tensors
        a2 = a[None] if a.ndim == 1 else a
        b2 = b[:, None] if b.ndim == 1 else b
        dy = dy[..., None] if b.ndim == 1 else dy
        dy = dy[..., None, :] if a.ndim == 1 else dy
        batch = dy.shape[:-2]
        whole = [np.broadcast_to(x, batch + x.shape[-2:]) for x in (a2, b2)]
        da, db = function(dy, *whole)
        return (
            binary.unbroadcast(da, a2.shape).reshape(a.shape),
            binary.unbroadcast(db, b2.shape).reshape(b.shape),
        )

    return staticmethod(backward)


EXERCISE = Exercise(
    solution=matmul_backward,
    chapter=3,
    question="Why do transposes come into the gradient of a matrix product?",
    hint="y[i, j] = sum over k of a[i, k] b[k, j]. So a[i, k] acts on all j of row i, with factor "
    "b[k, j]: da[i, k] = sum over j of dy[i, j] b[k, j]. Which product is that?",
    ours="tinynet.arithmetic.binary.MatMul.backward",
    results=("da", "db"),
    mistakes={
        not_transposed: "the transposes are missing. With square matrices all shapes fit, and the "
        "numbers are still wrong: da[i, k] takes row k of b, not column k.",
        wrong_sides: "the factors stand on the wrong sides: dy is on the left in da and on the "
        "right in db.",
        exchanged: "you return db first. The order is that of the arguments: da, then db.",
        all_axes: "`.T` turns all axes round, also the batch. Exchange the last two alone: "
        "swapaxes(-1, -2).",
        transposed: "each result is transposed once too often: (A B)^T = B^T A^T.",
    },
    example=lambda: (
        np.array([[1.0, 2.0], [0.0, 1.0]]),
        np.array([[1.0, 3.0], [2.0, 0.0]]),
        np.array([[2.0, 1.0], [0.0, 5.0]]),
    ),
    probes=probes,
    trials=gradchecks("matmul"),
    places=((MatMul, "backward"),),
    adapt=in_matmul,
)
