"""The rules by the formulas of their papers, and a step of an optimiser."""

from __future__ import annotations

import numpy as np

import tinynet
from tinynet.kernels.steps.sgd import sgd_step_definition

# Each definition: weights, all gradients, options -> the weights after each step. In float64, from
# the papers' formulas with sums over the whole past, where the kernels keep running means.


def sgd(w, gradients, lr, momentum=0.0, weight_decay=0.0):
    v = np.zeros_like(w)
    for g in gradients:
        w, v = sgd_step_definition(w, g, v, lr, momentum, weight_decay)
        yield w


def nesterov(w, gradients, lr, momentum, weight_decay=0.0, nesterov=True):
    """theta are the weights, and gradients are taken at the point theta + momentum v ahead."""
    theta, v = w, np.zeros_like(w)
    for g in gradients:
        ahead = theta + momentum * v
        v = momentum * v - lr * (g + weight_decay * ahead)
        theta = theta + v
        yield theta + momentum * v


def weighted(past, beta, power=1):
    """(1 - beta) * the sum of beta^age * g^power."""
    return (1 - beta) * sum(beta**age * g**power for age, g in enumerate(reversed(past)))


def adam(
    w, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, shrink=0.0
):
    past, squares = [], []
    for t, g in enumerate(gradients, 1):
        past.append(g + weight_decay * w)
        squares.append(weighted(past, betas[1], 2))
        square = np.max(squares, axis=0) if amsgrad else squares[-1]
        m, v = weighted(past, betas[0]) / (1 - betas[0] ** t), square / (1 - betas[1] ** t)
        w = w - lr * (m / (np.sqrt(v) + eps) + shrink * w)
        yield w


def adamw(w, gradients, weight_decay=1e-2, **options):
    return adam(w, gradients, **options, shrink=weight_decay)


def rmsprop(
    w, gradients, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0, centered=False
):
    past, steps = [], []
    for g in gradients:
        past.append(g + weight_decay * w)
        variance = weighted(past, alpha, 2) - centered * weighted(past, alpha) ** 2
        steps.append(past[-1] / (np.sqrt(variance) + eps))
        w = w - lr * sum(momentum**age * step for age, step in enumerate(reversed(steps)))
        yield w


def steps(opt, parameters, gradients):
    """A step by each list of gradients, which it must leave as they are."""
    for gradient in gradients:
        for p, g in zip(parameters, gradient, strict=True):
            p.grad = None if g is None else tinynet.tensor(g, device=p.device)
        opt.step()
        for p, g in zip(parameters, gradient, strict=True):
            if g is not None:
                np.testing.assert_array_equal(p.grad.numpy(), g)
