"""Stochastic gradient descent, by the update rule of 2012."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinynet.optim.optimizer import Optimizer
from tinynet.tensors import Tensor


class SGD(Optimizer):
    """v <- momentum v - lr (g + weight_decay w);  w <- w + v, for every parameter w with gradient
    g.

    nesterov: w <- w + momentum v - lr (g + weight_decay w), with the new v. It keeps a second array
    a parameter: `last_step`, which the velocity does not tell here.

    Kernel: tinynet/kernels/steps/sgd.py. Source: Krizhevsky et al. 2012, section 5; nesterov:
    Sutskever et al. 2013, section 2. Unlike in PyTorch the rate is inside the velocity.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ):
        super().__init__(
            params, lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
        )

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        self.not_negative("momentum", group["momentum"])
        self.flag("nesterov", group["nesterov"])

    def arrays(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("velocity", "step") if group["nesterov"] else ("velocity",)

    def update(self, kernels, w, g, state, group, rate, steps) -> tuple:
        step = kernels.nesterov_step if group["nesterov"] else kernels.sgd_step
        return step, (w, g, *state.values(), rate, group["momentum"], group["weight_decay"])

    def change(self, xp, w, state, group, rate, steps) -> Any:
        return state["step" if group["nesterov"] else "velocity"]
