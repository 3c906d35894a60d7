"""Rules that divide the step of each weight by the size of its past gradients.

Arguments, defaults and meaning are those of torch.optim.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from tinynet.optim.optimizer import Optimizer
from tinynet.tensors import Tensor

__all__ = ["Adam", "AdamW", "RMSprop"]


class Adam(Optimizer):
    """m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
    w <- w - lr m' / (sqrt(v') + eps), with m' = m / (1 - beta1^t), v' = v / (1 - beta2^t).

    t: the steps that this parameter has taken, with this one. weight_decay: weight_decay w is
    added to g. amsgrad: the largest v so far is in the place of v.

    Kernel: tinynet/kernels/steps/adam.py. Source: Kingma & Ba 2015, algorithm 1; amsgrad: Reddi et
    al. 2018, algorithm 2.
    """

    counts_steps = True
    decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
    ):
        super().__init__(
            params, lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad
        )

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        if not isinstance(group["betas"], (tuple, list)) or len(group["betas"]) != 2:
            raise ValueError(f"{self.rule}: expected betas to be a pair, got {group['betas']!r}")
        for name, beta in zip(("beta1", "beta2"), group["betas"], strict=True):
            self.not_negative(name, beta, below=1)
        self.not_negative("eps", group["eps"])
        self.flag("amsgrad", group["amsgrad"])

    def arrays(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("mean", "square", "largest") if group["amsgrad"] else ("mean", "square")

    def update(self, kernels, w, g, state, group, rate, steps) -> tuple:
        (beta1, beta2), eps, decay = group["betas"], group["eps"], group["weight_decay"]
        l2, decay = (0.0, rate * decay) if self.decoupled else (decay, 0.0)
        largest = state.get("largest", state["square"])
        moments = state["mean"], state["square"], largest
        rate, root = _corrected(group, rate, steps)
        numbers = rate, 1 - beta1, 1 - beta2, root, eps, l2, decay
        return kernels.adam_step, (w, g, *moments, *numbers)

    def change(self, xp, w, state, group, rate, steps) -> Any:
        decay = rate * group["weight_decay"] if self.decoupled else 0.0
        rate, root = _corrected(group, rate, steps)
        square = state.get("largest", state["square"])
        descent = rate * state["mean"] / (xp.sqrt(square) / root + group["eps"])
        # w' = (1 - decay) w - descent, solved for w' - w; with a decay of 1 nothing is left of w
        return -(decay * w + descent) / (1 - decay)


def _corrected(group: dict[str, Any], rate: float, steps: int) -> tuple[float, float]:
    """lr / (1 - beta1^t), sqrt(1 - beta2^t): see the kernel."""
    beta1, beta2 = group["betas"]
    return rate / (1 - beta1**steps), math.sqrt(1 - beta2**steps)


class AdamW(Adam):
    """Adam whose weight decay stands beside the gradient: w <- w - lr (m' / (sqrt(v') + eps) +
    weight_decay w).

    So each weight decays at the same rate, however large its gradients are. Source: Loshchilov &
    Hutter 2019, "Decoupled weight decay regularization", algorithm 2.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
    ):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad)


class RMSprop(Optimizer):
    """s <- alpha s + (1 - alpha) g^2;  u <- momentum u + g / (sqrt(s) + eps);  w <- w - lr u.

    g has weight_decay w added to it. centered: s minus the square of the mean gradient is in the
    place of s. u is kept without momentum too: `last_step` is made of it.

    Kernel: tinynet/kernels/steps/rmsprop.py. Source: Hinton 2012, lecture 6e; Graves 2013,
    equations 38 to 41.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        options = dict(alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum)
        super().__init__(params, lr, **options, centered=centered)

    def check(self, group: dict[str, Any]) -> None:
        super().check(group)
        self.not_negative("alpha", group["alpha"], below=1)
        self.not_negative("eps", group["eps"])
        self.not_negative("momentum", group["momentum"])
        self.flag("centered", group["centered"])

    def arrays(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("square", "velocity", "mean") if group["centered"] else ("square", "velocity")

    def update(self, kernels, w, g, state, group, rate, steps) -> tuple:
        step = kernels.rmsprop_centered_step if group["centered"] else kernels.rmsprop_step
        numbers = 1 - group["alpha"], group["eps"], group["momentum"], group["weight_decay"]
        return step, (w, g, *state.values(), rate, *numbers)

    def change(self, xp, w, state, group, rate, steps) -> Any:
        return -rate * state["velocity"]
