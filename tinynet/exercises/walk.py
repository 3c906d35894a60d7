"""Chapter 2: the order in which backward visits the tape."""

from __future__ import annotations

import inspect

import numpy as np

from tinynet import Tensor
from tinynet.exercises.exercise import Exercise, Wrong, gradchecks


class Step:
    """One operation on numbers: its age, the steps that its inputs came from, and dy/dx of each."""

    def __init__(self, name, number, *inputs):
        self.name, self.number = name, number
        self.inputs = [source for source, _ in inputs]
        self.derivatives = [derivative for _, derivative in inputs]

    def backward(self, g):
        return [g * derivative for derivative in self.derivatives]

    def __repr__(self):
        steps = sorted(everything(self), key=lambda step: -step.number)
        if len(steps) > 10:
            return f"{self.name}, the last of {len(steps):,} steps"
        return ", ".join(f"{step.name} (number {step.number})" for step in steps)


class TapeStep:
    """The same face for a node of tinynet's own tape. visits: what `backward` was asked for."""

    def __init__(self, node, steps, visits):
        self.node, self.number, self.visits = node, node.number, visits
        self.behind = [type(source) is tuple for source in node.inputs]
        self.inputs = []
        for source, behind in zip(node.inputs, self.behind, strict=True):
            if behind:
                if source[0] not in steps:
                    steps[source[0]] = TapeStep(source[0], steps, visits)
                self.inputs.append(steps[source[0]])

    def backward(self, g):
        leaving = self.node.function.run_backward(self.node, [g])
        self.visits.append((self.node, [g], leaving))
        return [gradient for gradient, behind in zip(leaving, self.behind, strict=True) if behind]


def walk(root, grad):
    """gradients = {step: dL/dstep} for the root and every step behind it

    A step is one operation. It has a `number`: an older step has a smaller one, and a step is
    always younger than its inputs. `step.inputs` is a list of steps. `step.backward(g)` takes the
    whole gradient of the step, and gives a list: what it adds to the gradient of each input.
    root: the last step, the loss L; grad: its gradient. Returns a dict. Call `backward` once a
    step. There may be 10,000 steps in a row.
    """
    gradients, waiting = {root: grad}, {root}
    while waiting:
        step = max(waiting, key=lambda step: step.number)
        waiting.remove(step)
        for source, g in zip(step.inputs, step.backward(gradients[step]), strict=True):
            gradients[source] = gradients[source] + g if source in gradients else g
            waiting.add(source)
    return gradients


def everything(root):
    """All steps behind the root, and itself."""
    found, waiting = {root}, [root]
    while waiting:
        new = set(waiting.pop().inputs) - found
        found |= new
        waiting += new
    return found


def in_order(root, grad, order):
    """Visits each step once, whether its gradient has come or not."""
    gradients = dict.fromkeys(everything(root), 0.0) | {root: grad}
    for step in order:
        for source, g in zip(step.inputs, step.backward(gradients[step]), strict=True):
            gradients[source] = gradients[source] + g
    return gradients


def oldest_first(root, grad):
    return in_order(root, grad, sorted(everything(root), key=lambda step: step.number))


def oldest_that_waits(root, grad):
    gradients, waiting = {root: grad}, {root}
    while waiting:
        step = min(waiting, key=lambda step: step.number)
        waiting.remove(step)
        for source, g in zip(step.inputs, step.backward(gradients[step]), strict=True):
            gradients[source] = gradients[source] + g if source in gradients else g
            waiting.add(source)
    return gradients


def as_they_are_met(root, grad):
    order, met = [root], {root}
    for step in order:
        order += dict.fromkeys(source for source in step.inputs if source not in met)
        met |= set(step.inputs)
    return in_order(root, grad, order)


def visits_twice(root, grad):
    gradients, waiting = {root: grad}, [root]
    while waiting:
        step = waiting.pop(0)
        for source, g in zip(step.inputs, step.backward(gradients[step]), strict=True):
            gradients[source] = gradients[source] + g if source in gradients else g
            waiting.append(source)
    return gradients


def overwrites(root, grad):
    gradients, waiting = {root: grad}, {root}
    while waiting:
        step = max(waiting, key=lambda step: step.number)
        waiting.remove(step)
        for source, g in zip(step.inputs, step.backward(gradients[step]), strict=True):
            gradients[source] = g
            waiting.add(source)
    return gradients


def recursive(root, grad):
    gradients = {root: grad}

    def visit(step, g):
        for source, part in zip(step.inputs, step.backward(g), strict=True):
            gradients[source] = gradients.get(source, 0) + part
            visit(source, part)

    visit(root, grad)
    return gradients


def recursive_whole(root, grad):
    gradients = {root: grad}

    def visit(step):
        for source, part in zip(step.inputs, step.backward(gradients[step]), strict=True):
            gradients[source] = gradients.get(source, 0) + part
            visit(source)

    visit(root)
    return gradients


def example():
    a = Step("a", 0)
    b = Step("b = 2a", 1, (a, 2))
    c = Step("c = 3b", 2, (b, 3))
    return Step("L = b + c", 3, (b, 1), (c, 1)), 1


def probes(rng):
    # long way round: b waits for d, which was met later
    a = Step("a", 0)
    b = Step("b", 1, (a, 5))
    c = Step("c", 2, (b, 2), (a, 7))
    d = Step("d", 3, (c, 3), (b, -1))
    yield Step("L", 4, (b, 1), (d, 4), (d, 4)), 2
    step = Step("x", 0)
    for number in range(1, 10_000):
        step = Step("x", number, (step, 1))
    yield step, 3


def call(function, root, grad):
    gradients = function(root, grad)
    if not isinstance(gradients, dict):
        raise Wrong(f"Expected a dict {{step: gradient}}, got {type(gradients).__name__}.")
    if len(gradients) > 100:  # a long chain: its ends tell enough
        return {"steps": len(gradients), "sum of gradients": float(sum(gradients.values()))}
    return {step.name: float(gradient) for step, gradient in gradients.items()}


def on_the_tape(function):
    """What tinynet's own walk gives, by the learner's: for operations with one output. It frees
    no node: Python does, when the tape is dropped.
    """

    def visits(y, grad=None, retain_graph=True):
        if y.node is None:
            return
        told = []
        function(TapeStep(y.node[0], {}, told), np.ones(y.shape) if grad is None else grad)
        yield from told

    return visits


EXERCISE = Exercise(
    solution=walk,
    chapter=2,
    question="Why does backward begin with the newest operation?",
    hint="Keep the steps that have got a gradient and were not visited. Which of them can get no "
    "more? The newest: all that could add to it is younger, and was visited before.",
    ours="tinynet.tape.walk",
    results=("gradients",),
    mistakes={
        oldest_first: "you visit the oldest step first: its gradient has not come yet. Take the "
        "step with the largest number.",
        oldest_that_waits: "of the steps that wait you take the oldest. More may come for it from "
        "a younger one, and then it hands on its first part twice. Take the newest.",
        as_they_are_met: "you visit the steps as you meet them. A step that is also behind a "
        "longer way has only a part of its gradient then. Take the newest that waits.",
        visits_twice: "a step with two users is visited twice, and hands on its gradient twice. "
        "Keep the waiting steps in a set, and take the newest.",
        overwrites: "the gradient of a step with two users is overwritten: add to what is there.",
        recursive_whole: "you visit a step each time that a gradient comes, and hand on all that "
        "has come so far: the first part goes on twice. Visit each step once, when all has come.",
        recursive: "a function that calls itself at each step: 10,000 steps in a row are more than "
        "Python's stack holds. Keep the waiting steps in a list or set, and loop.",
    },
    example=example,
    probes=probes,
    trials=gradchecks("(a shared node)"),
    places=((inspect.getmodule(Tensor), "walk"),),
    adapt=on_the_tape,
    call=call,
    imports="",
)
