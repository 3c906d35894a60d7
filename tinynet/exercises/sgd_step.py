"""Chapter 9: a step with momentum, by the rule of 2012."""

from __future__ import annotations

from functools import partial

import numpy as np

import tinynet
from tinynet import kernels
from tinynet.exercises.exercise import Exercise, Trial, Wrong
from tinynet.optim import SGD


def sgd_step(weight, grad, velocity, lr, momentum, weight_decay):
    """v <- momentum v - lr (g + weight_decay w)        then        w <- w + v

    weight w, grad g, velocity v: arrays of one shape. Changes `weight` and `velocity` in place,
    as by weight[...] = or weight += ; returns nothing. grad stays as it is.
    """
    velocity *= momentum
    velocity -= lr * (grad + weight_decay * weight)
    weight += velocity


def rate_outside(weight, grad, velocity, lr, momentum, weight_decay):
    velocity[...] = momentum * velocity + grad + weight_decay * weight
    weight -= lr * velocity


def decay_without_rate(weight, grad, velocity, lr, momentum, weight_decay):
    velocity[...] = momentum * velocity - lr * grad - weight_decay * weight
    weight += velocity


def without_decay(weight, grad, velocity, lr, momentum, weight_decay):
    sgd_step(weight, grad, velocity, lr, momentum, 0)


def without_momentum(weight, grad, velocity, lr, momentum, weight_decay):
    sgd_step(weight, grad, velocity, lr, 0, weight_decay)


def uphill(weight, grad, velocity, lr, momentum, weight_decay):
    sgd_step(weight, grad, velocity, -lr, momentum, weight_decay)


def old_velocity(weight, grad, velocity, lr, momentum, weight_decay):
    old = velocity.copy()
    velocity[...] = momentum * velocity - lr * (grad + weight_decay * weight)
    weight += old


def weight_first(weight, grad, velocity, lr, momentum, weight_decay):
    step = lr * (grad + weight_decay * weight)
    weight += momentum * velocity - step
    velocity[...] = momentum * velocity - lr * (grad + weight_decay * weight)


def new_arrays(weight, grad, velocity, lr, momentum, weight_decay):
    velocity = momentum * velocity - lr * (grad + weight_decay * weight)
    weight = weight + velocity


def new_velocity(weight, grad, velocity, lr, momentum, weight_decay):
    velocity = momentum * velocity - lr * (grad + weight_decay * weight)
    weight += velocity


def changes_grad(weight, grad, velocity, lr, momentum, weight_decay):
    grad += weight_decay * weight
    velocity[...] = momentum * velocity - lr * grad
    weight += velocity


def example():
    w, g, v = np.array([4.0, -2]), np.array([1.0, 3]), np.array([2.0, -4])
    return w, g, v, 2, 0.5, 0.5


def probes(rng):
    for shape, lr in [((3, 2), 0.1), ((4,), 0.5)]:
        w, g, v = rng.normal(size=(3, *shape))
        yield w, g, v, lr, 0.9, 0.05


def call(function, weight, grad, velocity, *rates):
    weight, velocity = weight.copy(), velocity.copy()
    given = function(weight, grad, velocity, *rates)
    if given is not None:
        raise Wrong(
            f"Expected to get nothing back, got {type(given).__name__}. The caller has weight "
            f"and velocity: change them in place, and return nothing."
        )
    return weight, velocity


def train(rates):
    """Weights after some steps of tinynet's SGD on a quadratic, the rate cut in the middle."""
    w = tinynet.tensor(np.arange(6.0).reshape(2, 3) / 4 - 0.5, requires_grad=True)
    target = tinynet.tensor(np.ones((2, 3)))
    optimizer = SGD([w], **rates)
    for number in range(8):
        optimizer.zero_grad()
        ((w - target) ** 2).sum().backward()
        optimizer.lr = rates["lr"] if number < 4 else rates["lr"] / 10
        optimizer.step()
    return w.numpy()


def trials(function):
    each = [
        dict(lr=0.1),
        dict(lr=0.1, momentum=0.9),
        dict(lr=0.05, momentum=0.5, weight_decay=0.1),
    ]
    return [Trial(partial(_ends_at, rates, train(rates))) for rates in each]


def _ends_at(rates, ours):
    theirs = train(rates)
    if not np.allclose(theirs, ours, rtol=1e-9):
        raise AssertionError(f"Training with {rates} ends at\n{theirs}, expected\n{ours}")


EXERCISE = Exercise(
    solution=sgd_step,
    chapter=9,
    question="How does momentum step?",
    hint="Three lines, all in place: velocity *= ..., velocity -= ..., weight += velocity.",
    ours="tinynet.kernels.sgd_step",
    results=("weight", "velocity"),
    mistakes={
        rate_outside: "this is PyTorch's rule: the rate is outside the velocity. In the rule of "
        "2012 it is inside, so a new rate acts on later gradients alone.",
        decay_without_rate: "the weight decay is not multiplied by lr: lr (g + weight_decay w).",
        without_decay: "the weight decay is missing.",
        without_momentum: "the old velocity is lost: v <- momentum v - ...",
        uphill: "you go uphill: the gradient is subtracted.",
        old_velocity: "you add the velocity of the step before. Change v first, then w by it.",
        weight_first: "you change w first, and the weight decay of v then sees the new w.",
        new_arrays: "`weight = ...` makes a new array and gives it a name inside your function; "
        "the caller's stays as it was. Change it in place: weight += ..., velocity[...] = ...",
        new_velocity: "`velocity = ...` makes a new array; the caller's velocity stays as it was, "
        "and the next step forgets this one. Write velocity[...] = ...",
        changes_grad: "you add the weight decay to grad itself. Only weight and velocity may "
        "change.",
    },
    example=example,
    probes=probes,
    trials=trials,
    places=((kernels, "sgd_step"),),
    call=call,
)
