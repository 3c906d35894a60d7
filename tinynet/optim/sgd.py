"""Stochastic gradient descent, by the update rule of 2012."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinynet.nn.module import Parameter
from tinynet.tensor import Tensor


class SGD:
    """v <- momentum v - lr (g + weight_decay w);  w <- w + v, for every parameter w with gradient
    g.

    params: parameters, or groups of them: dicts {"params": [...]} that may set "momentum" and
    "weight_decay" apart, and "lr" or "lr_scale": a group's rate is `self.lr * group["lr_scale"]`,
    so that a schedule sets `self.lr` alone. A scale of 0 freezes a group. "name" is for those who
    read groups.

    Source: Krizhevsky et al. 2012, section 5. Unlike in PyTorch the rate is inside the velocity.
    """

    def __init__(
        self,
        params: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ):
        self.lr = _not_negative("lr", lr)
        params = list(params)
        groups = params if params and isinstance(params[0], dict) else [{"params": params}]
        self.param_groups: list[dict[str, Any]] = []
        for group in groups:
            group = {
                "name": "",
                "lr_scale": 1.0,
                "momentum": momentum,
                "weight_decay": weight_decay,
                **group,
            }
            if "lr" in group:
                if lr == 0:
                    raise ValueError(
                        f"SGD: expected lr above 0 where a group has its own, got {lr!r}; set "
                        f"lr_scale instead"
                    )
                group["lr_scale"] = _not_negative("lr of a group", group.pop("lr")) / lr
            for key in ("lr_scale", "momentum", "weight_decay"):
                _not_negative(key, group[key])
            one = isinstance(group["params"], Tensor)
            group["params"] = [group["params"]] if one else list(group["params"])
            self.param_groups.append(group)
        every = [p for group in self.param_groups for p in group["params"]]
        if not every or not all(isinstance(p, Tensor) and p.requires_grad for p in every):
            raise ValueError(
                "SGD: expected at least one parameter, all tensors that require a gradient"
            )
        if len({id(p) for p in every}) < len(every):
            raise ValueError("SGD: expected each parameter in one group, got one twice")
        self.velocity = {p: self._zeros(p) for p in every}

    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            lr = self.lr * group["lr_scale"]
            for p in group["params"]:
                if p.grad is None or lr == 0:
                    continue
                v = self.velocity[p]
                if v.device != p.device:  # the parameter was moved
                    v = self.velocity[p] = v.to(p.device)
                with p.device.activate("SGD.step"):
                    p.device.kernels.sgd_step(
                        p.data, p.grad.data, v.data, lr, group["momentum"], group["weight_decay"]
                    )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.velocity:
            p.zero_grad()

    def state_dict(self) -> dict[str, np.ndarray]:
        """The velocities on the host, by group and place in it: "velocity.0.0", "velocity.0.1" ..."""
        return {name: self.velocity[p].numpy() for name, p in self._named()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Set the velocities. ValueError, and nothing changed, if names or shapes do not match."""
        named = dict(self._named())
        if named.keys() != state.keys():
            raise ValueError(f"SGD.load_state_dict: expected {sorted(named)}, got {sorted(state)}")
        for name, p in named.items():
            if np.shape(state[name]) != p.shape:
                raise ValueError(
                    f"SGD.load_state_dict: expected {name} of shape {p.shape}, got "
                    f"{np.shape(state[name])}"
                )
        for name, p in named.items():
            with p.device.activate("SGD.load_state_dict"):
                value = p.device.upload(np.ascontiguousarray(state[name], p.dtype))
            self.velocity[p] = Tensor(value, p.device)

    def _named(self) -> list[tuple[str, Parameter]]:
        return [
            (f"velocity.{g}.{i}", p)
            for g, group in enumerate(self.param_groups)
            for i, p in enumerate(group["params"])
        ]

    @staticmethod
    def _zeros(p: Parameter) -> Tensor:
        with p.device.activate("SGD"):
            return Tensor(p.device.xp.zeros(p.shape, p.dtype), p.device)


def _not_negative(name: str, value: Any) -> float:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(
        value, bool
    )
    if not number or not 0 <= value < float("inf"):
        raise ValueError(f"SGD: expected {name} to be a number of at least 0, got {value!r}")
    return value
