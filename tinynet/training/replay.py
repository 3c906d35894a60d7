"""Where a NaN began: a run is replayed from its last good checkpoint, bit for bit."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator

from tinynet.nn import Module
from tinynet.optim import Optimizer
from tinynet.tensors import Tensor
from tinynet.training.task import Task


def replay(
    task: Task, model: Module, optimizer: Optimizer, batches: Iterable
) -> tuple[str | None, int]:
    """Train on `batches` until a value is not finite: where it was, and in which batch (from 0).

    None if all values stayed finite. `model` must be in train() mode. Of several ranks the first
    that has such a value says where, and who it is.
    """
    number, ranks = -1, task.steps.ranks
    for number, batch in enumerate(batches):
        with task.steps.share(task.count(batch), task.weight(batch)):
            for where in _stages(task, model, optimizer, task.inputs(batch)):
                for found in ranks.gather(where and (where, ranks.name)):
                    if found:
                        return found[0] + f" of {found[1]}" * (ranks.size > 1), number
    return None, number


def replay_test(task: Task, model: Module, batches: Iterable) -> str | None:
    """Test again: the first place that is not finite, or None. `model` must be in eval() mode.

    Weights can be finite and yet so large that what they give is not: training ended before it
    saw them.
    """
    found: list[str] = []
    with _watched(model, found):
        loss = task.test(model, batches).get("loss", 0.0)
    where = f"the output of {found[0]}" if found else None if math.isfinite(loss) else "the loss"
    ranks = task.steps.ranks
    told = ranks.gather(where and where + f" of {ranks.name}" * (ranks.size > 1))
    return next(filter(None, told), None)


def first_nonfinite(task: Task, model: Module, optimizer: Optimizer, inputs: tuple) -> str | None:
    """Train one batch and look at everything on the way, in the order in which it is computed.

    Returns the first place that held a NaN or an infinite value ("the output of conv3", "the
    gradient of conv3.weight" ...), or None.
    """
    return next(filter(None, _stages(task, model, optimizer, inputs)), None)


def _stages(task: Task, model: Module, optimizer: Optimizer, inputs: tuple) -> Iterator[str | None]:
    """Train one batch; after each stage the first place in it that is not finite, or None."""
    yield None if all(map(_finite, _tensors(inputs))) else "the inputs"
    yield _first_of(model.named_parameters())
    found: list[str] = []
    with _watched(model, found):
        loss, _ = task.loss(model, *inputs)
    yield f"the output of {found[0]}" if found else None
    # a running variance overflows before an output
    yield _first_of(model.named_buffers())
    yield None if _finite(loss) else "the loss"
    optimizer.zero_grad()
    task.steps.backward(loss)
    parameters = reversed(list(model.named_parameters()))
    gradients = ((name, p.grad) for name, p in parameters if p.grad is not None)
    where = _first_of(gradients)
    yield where and f"the gradient of {where}"
    optimizer.step()
    where = _first_of(model.named_parameters())
    yield where and f"{where}, after its update"


def _first_of(named: Iterable[tuple[str, Tensor]]) -> str | None:
    """The name of the first tensor with a value that is not finite."""
    return next((name for name, tensor in named if not _finite(tensor)), None)


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
