"""Chapter 8: dropout by its mask."""

from __future__ import annotations

import numpy as np

from tinynet import kernels
from tinynet.exercises.exercise import Exercise, gradchecks


def dropout_backward(dy, mask, p, inverted=True):
    """y = x * mask / (1 - p), so dx = dy * mask / (1 - p)        dx = 0 for p = 1

    mask: booleans, True for what forward kept. p: the probability to be dropped, from 0 to 1.
    dy and mask have one shape, which is that of dx. inverted=False is the dropout of 2012, which
    does not scale in training: y = x * mask.
    """
    if not inverted:
        return dy * mask
    if p == 1:
        return np.zeros_like(dy)
    return dy * mask / (1 - p)


def not_scaled(dy, mask, p, inverted=True):
    return dy * mask


def divides_by_p(dy, mask, p, inverted=True):
    return dy * mask / p


def scaled_down(dy, mask, p, inverted=True):
    return dy * mask * (1 - p)


def mask_inverted(dy, mask, p, inverted=True):
    return dropout_backward(dy, ~mask, p, inverted)


def no_mask(dy, mask, p, inverted=True):
    return np.zeros_like(dy) if p == 1 else dy / (1 - p)


def new_mask(dy, mask, p, inverted=True):
    return dropout_backward(dy, np.random.default_rng(0).random(dy.shape) >= p, p, inverted)


def divides_by_zero(dy, mask, p, inverted=True):
    return dy * mask / (1 - p)


def python_divides_by_zero(dy, mask, p, inverted=True):
    return dy * mask * (1 / (1 - p))


def changes_dy(dy, mask, p, inverted=True):
    dy[~mask] = 0
    return dropout_backward(dy, mask, p, inverted)


def example():
    return (
        np.array([[1.0, 2, 3], [4, 5, 6]]),
        np.array([[1, 0, 1], [0, 0, 1]]).astype(bool),
        0.5,
        True,
    )


def probes(rng):
    for p in (0.2, 0.75, 1):
        yield rng.normal(size=(4, 5)), rng.random((4, 5)) >= p, p, True


EXERCISE = Exercise(
    solution=dropout_backward,
    chapter=8,
    question="Which way does the gradient go through dropout?",
    hint="Forward multiplied each element by a number: 0, or 1 / (1 - p). Backward multiplies by "
    "the same number. For p = 1 that number would be 0 / 0.",
    ours="tinynet.kernels.dropout_backward",
    results=("dx",),
    mistakes={
        not_scaled: "forward divided what it kept by 1 - p; backward has to do it too.",
        divides_by_p: "you divide by p, the share that is dropped. Divide by 1 - p, the share that "
        "is kept.",
        scaled_down: "you multiply by 1 - p. What is kept is scaled up: divide.",
        mask_inverted: "mask is True for what is kept; you keep what was dropped.",
        no_mask: "you do not use the mask: an element that was dropped acted on nothing.",
        divides_by_zero: "for p = 1 you divide 0 by 0. Nothing is kept then: dx = 0.",
        python_divides_by_zero: "for p = 1 Python refuses 1 / 0. Nothing is kept then: dx = 0.",
        changes_dy: "you change dy itself, which others may still need. Make a new array.",
    },
    example=example,
    probes=probes,
    trials=gradchecks("dropout"),
    places=((kernels, "dropout_backward"),),
)
