"""Where a NaN began."""

from __future__ import annotations

import functools

import tinynet.functional as F


def first_nonfinite(model, optimizer, x, labels) -> str | None:
    """Trains one batch and looks at everything on the way, in the order in which it is computed.

    Returns the first place that held a NaN or an infinite value ("the output of conv3", "the
    gradient of conv3.weight" ...), or None. `model` must be in train() mode.
    """
    if not all(_finite(part) for part in (x if isinstance(x, tuple) else (x,))):
        return "the pictures"
    for name, parameter in model.named_parameters():
        if not _finite(parameter):
            return name
    found: list[str] = []
    with _watched(model, found):
        loss = F.cross_entropy(model(x), labels)
    if found:
        return f"the output of {found[0]}"
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

    def __init__(self, model, found: list[str]) -> None:
        self._modules = [(name, module) for name, module in model.named_modules() if name]
        self._found = found

    def __enter__(self) -> None:
        for name, module in self._modules:
            module.forward = functools.partial(self._call, name, module.forward)

    def __exit__(self, *error) -> None:
        for _, module in self._modules:
            del module.forward  # the class's own is seen again

    def _call(self, name: str, forward, *args, **kwargs):
        y = forward(*args, **kwargs)
        if not _finite(y):
            self._found.append(name)
        return y


def _finite(tensor) -> bool:
    xp = tensor.device.xp
    with tensor.device.activate():
        return bool(xp.isfinite(tensor.data).all())
