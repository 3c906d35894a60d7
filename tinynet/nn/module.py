"""Module: a piece of a network that owns parameters and other modules, under names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet.devices import Device
from tinynet.devices import device as find_device
from tinynet.tensor import Tensor


class Parameter(Tensor):
    """A leaf tensor that is learned. The data is copied to the device, C-contiguous."""

    __slots__ = ()

    def __init__(self, data: Any, device: str | Device = "cpu"):
        where = find_device(device)
        with where.activate("Parameter"):
            super().__init__(where.upload(np.ascontiguousarray(data)), where, requires_grad=True)


class Module:
    """Base of all layers and networks. Write `forward`; call the module.

    Parameters and modules are found among the attributes, also inside lists and tuples; a name is
    the path to it: `net.a.conv1.weight` is "a.conv1.weight", `net.layers[0].bias` is
    "layers.0.bias".
    """

    training = True

    def forward(self, *inputs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a forward(self, ...)")

    def __call__(self, *inputs: Any) -> Any:
        return self.forward(*inputs)

    def children(self) -> Iterator[tuple[str, Any]]:
        """(name, Parameter or Module) directly owned."""
        for name, value in vars(self).items():
            several = isinstance(value, (list, tuple))
            for key, part in enumerate(value) if several else [(None, value)]:
                if isinstance(part, (Parameter, Module)):
                    yield f"{name}.{key}" if several else name, part

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """(name, module): this one, named by the prefix, and all below it."""
        yield prefix, self
        for name, child in self.children():
            if isinstance(child, Module):
                yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of this module and all below it, each parameter once."""
        seen = set()
        for prefix, module in self.named_modules():
            for name, child in module.children():
                if isinstance(child, Parameter) and id(child) not in seen:
                    seen.add(id(child))
                    yield f"{prefix}.{name}" if prefix else name, child

    def parameters(self) -> Iterator[Parameter]:
        """All parameters, each once."""
        return (parameter for _, parameter in self.named_parameters())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all parameters on the host, by name."""
        return {name: parameter.numpy() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Set all parameters from `state`. ValueError, and nothing changed, if names or shapes do
        not match.
        """
        own = dict(self.named_parameters())
        missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unexpected:
            raise ValueError(f"load_state_dict: missing {missing}, unexpected {unexpected}")
        for name, parameter in own.items():
            if np.shape(state[name]) != parameter.shape:
                raise ValueError(
                    f"load_state_dict: expected {name} of shape {parameter.shape}, got "
                    f"{np.shape(state[name])}"
                )
        for name, parameter in own.items():
            with parameter.device.activate("load_state_dict"):
                value = np.ascontiguousarray(state[name], parameter.dtype)
                parameter.data = parameter.device.upload(value)

    def train(self, mode: bool = True) -> Module:
        """Training mode (dropout drops) for this module and all below it."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Use mode (dropout does nothing)."""
        return self.train(False)

    def to(self, device: str | Device) -> Module:
        """Move all parameters, and their gradients, to a device."""
        target = find_device(device)
        for parameter in self.parameters():
            parameter.move(target)
        return self
