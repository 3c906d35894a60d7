"""Where a NaN began: a run is replayed from its last good checkpoint, bit for bit."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from tinynet.nn import Module
from tinynet.optim import Optimizer
from tinynet.tensors import Tensor
from tinynet.training.task import Task


def replay(
    task: Task, model: Module, optimizer: Optimizer, batches: Iterable
) -> tuple[str | None, int]:
    """Train on `batches` until a value is not finite: where it was, and in which batch (from 0).

    None if all values stayed finite. `model` must be in train() mode.
    """
    number = -1
    for number, batch in enumerate(batches):
        if where := first_nonfinite(task, model, optimizer, task.inputs(batch)):
            return where, number
    return None, number


def first_nonfinite(task: Task, model: Module, optimizer: Optimizer, inputs: tuple) -> str | None:
    """Train one batch and look at everything on the way, in the order in which it is computed.

    Returns the first place that held a NaN or an infinite value ("the output of conv3", "the
    gradient of conv3.weight" ...), or None.
    """
    if not all(map(_finite, _tensors(inputs))):
        return "the inputs"
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return name
    found: list[str] = []
    with _watched(model, found):
        loss, _ = task.loss(model, *inputs)
    if found:
        return f"the output of {found[0]}"
    for name, buffer in model.named_buffers():  # a running variance overflows before an output
        if not _finite(buffer):
            return name
    if not _finite(loss):
        return "the loss"
    optimizer.zero_grad()
    loss.backward()
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not _finite(parameter.grad):
            return f"the gradient of {name}"
    optimizer.step()
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return f"{name}, after its update"
    return None


class _watched:
    """While entered, every module with a name notes it in `found` when its output is not finite."""

    def __init__(self, model: Module, found: list[str]) -> None:
        self._modules = [(name, module) for name, module in model.named_modules() if name]
        self._found = found

    def __enter__(self) -> None:
        for name, module in self._modules:
            watched = functools.partial(self._call, name, module.forward)
            module.forward = watched  # type: ignore[method-assign]

    def __exit__(self, *error) -> None:
        for _, module in self._modules:
            del module.forward  # the class's own is seen again

    def _call(self, name: str, forward, *args, **kwargs):
        y = forward(*args, **kwargs)
        if not all(map(_finite, _tensors(y))):
            self._found.append(name)
        return y


def _tensors(value) -> list[Tensor]:
    """The tensors in a value, or in tuples and lists of values."""
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in _tensors(part)]
    return [value] if isinstance(value, Tensor) else []


def _finite(tensor: Tensor) -> bool:
    xp = tensor.device.xp
    with tensor.device.activate():
        return bool(xp.isfinite(tensor.data).all())
