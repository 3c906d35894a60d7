"""Schedules of the learning rate: each sets `optimizer.lr`, and all have the same three calls.

step(epoch, metrics)   so many epochs are over: call it after each of them, or after each batch
                       (epoch 2.25), or both. metrics: what the last test found, {} between tests
set_lr(lr, epoch)      from now on the rate is lr, and later changes go on from it
state_dict, load_state_dict
                       what must be saved, for JSON
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tinynet.instead import SCHEDULES, missing
from tinynet.optim.optimizer import Optimizer


class Schedule:
    """Base of all schedules: the rate stays as it is."""

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer

    def step(self, epoch: float, metrics: Mapping[str, float]) -> None:
        """`epoch` epochs are over; `metrics`: what the test after them found, {} between tests."""

    def set_lr(self, lr: float, epoch: float) -> None:
        """From now on, after `epoch` epochs, the rate is lr, and later changes go on from it."""
        self.optimizer.lr = lr

    def state_dict(self) -> dict[str, Any]:
        """What must be saved, for JSON."""
        return {"lr": self.optimizer.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Set what `state_dict` gave, the optimiser's rate too."""
        self.optimizer.lr = state["lr"]

    def options(self) -> dict[str, Any]:
        """What was asked for, as `repr` shows it."""
        return {}

    def __repr__(self) -> str:
        options = {**self.options(), "lr": self.optimizer.lr}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in options.items())})"


class Constant(Schedule):
    """The rate stays as it is."""


class OfEpoch(Schedule):
    """Base of schedules whose rate depends on the epoch alone:

    lr = min_lr + (the first lr - min_lr) * factor(epoch).
    """

    min_lr = 0.0

    def __init__(self, optimizer: Optimizer):
        super().__init__(optimizer)
        self.first_lr = optimizer.lr

    def factor(self, epoch: float) -> float:
        """1 at the begin of the run."""
        raise NotImplementedError(f"{type(self).__name__} needs a factor(self, epoch)")

    def step(self, epoch: float, metrics: Mapping[str, float]) -> None:
        self.optimizer.lr = self.min_lr + (self.first_lr - self.min_lr) * self.factor(epoch)

    def set_lr(self, lr: float, epoch: float) -> None:
        """The first rate becomes the one that gives `lr` now. ValueError where none would."""
        if self.factor(epoch) == 0:
            raise ValueError(
                f"{type(self).__name__}.set_lr: expected an epoch before the rate has come down to "
                f"{self.min_lr:g} for good, got {epoch:g}; train for more epochs"
            )
        super().set_lr(lr, epoch)
        self.first_lr = self.min_lr + (lr - self.min_lr) / self.factor(epoch)

    def state_dict(self) -> dict[str, Any]:
        return {"first_lr": self.first_lr, "lr": self.optimizer.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first_lr, self.optimizer.lr = state["first_lr"], state["lr"]


class MultiStep(OfEpoch):
    """lr = the first lr * gamma^(number of milestones reached). cfg 145 of 2012: milestones 25, 51,
    79, gamma 0.1.
    """

    def __init__(self, optimizer: Optimizer, milestones: Iterable[float], gamma: float = 0.1):
        super().__init__(optimizer)
        self.milestones, self.gamma = sorted(milestones), gamma

    def factor(self, epoch: float) -> float:
        return self.gamma ** sum(milestone <= epoch for milestone in self.milestones)

    def options(self) -> dict[str, Any]:
        return {"milestones": self.milestones, "gamma": self.gamma}


class Cosine(OfEpoch):
    """lr = min_lr + (the first lr - min_lr) (1 + cos(pi epoch / epochs)) / 2; then min_lr.

    Source: Loshchilov & Hutter 2017, "SGDR: stochastic gradient descent with warm restarts",
    equation 5, without restarts.
    """

    def __init__(self, optimizer: Optimizer, epochs: float, min_lr: float = 0.0):
        super().__init__(optimizer)
        self.epochs, self.min_lr = _above_zero("Cosine", "epochs", epochs), min_lr

    def factor(self, epoch: float) -> float:
        return (1 + math.cos(math.pi * min(epoch / self.epochs, 1))) / 2

    def options(self) -> dict[str, Any]:
        return {"epochs": self.epochs, "min_lr": self.min_lr}


class DivideOnPlateau(Schedule):
    """lr / factor when metrics[metric], an error, has not improved for more than `patience` tests,
    but not below min_lr.

    Source: Krizhevsky et al. 2012, section 5 (factor 10, three times in the whole of training).
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 10.0,
        patience: int = 3,
        min_lr: float = 0.0,
        metric: str = "top1_error",
    ):
        super().__init__(optimizer)
        if factor <= 1:
            raise ValueError(f"DivideOnPlateau: expected a factor above 1, got {factor}")
        self.factor, self.patience, self.min_lr, self.metric = factor, patience, min_lr, metric
        self.best, self.waited = math.inf, 0

    def step(self, epoch: float, metrics: Mapping[str, float]) -> None:
        """A test is over, if there are metrics. ValueError if they lack this schedule's own."""
        if not metrics:
            return
        if self.metric not in metrics:
            raise ValueError(
                f"DivideOnPlateau.step: expected {self.metric!r} among the metrics, got "
                f"{', '.join(metrics)}; name one of them as metric="
            )
        error = float(metrics[self.metric])
        if error < self.best:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            # never upwards, should min_lr be above a rate that was set by hand
            lr = self.optimizer.lr
            self.optimizer.lr = min(lr, max(lr / self.factor, self.min_lr))
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "lr": self.optimizer.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited, self.optimizer.lr = state["best"], state["waited"], state["lr"]

    def options(self) -> dict[str, Any]:
        names = ("factor", "patience", "min_lr", "metric")
        return {name: getattr(self, name) for name in names}


class WarmUp(Schedule):
    """lr = the rate of the schedule `after`, times a factor that rises from `start` to 1 on a
    straight line during the first `epochs` epochs.

    `after` counts its epochs from the begin of the run. Without another schedule, after=Constant.
    The rate is right from the first batch on; it rises as often as `step` is called. Source: Goyal
    et al. 2017, "Accurate, large minibatch SGD", section 2.2.
    """

    def __init__(self, after: Schedule, epochs: float, start: float = 0.1):
        super().__init__(after.optimizer)
        self.after, self.epochs = after, _above_zero("WarmUp", "epochs", epochs)
        self.start = _above_zero("WarmUp", "start", start)
        self.full_lr = self.optimizer.lr  # what `after` has set
        self.optimizer.lr = self.full_lr * self.factor(0)

    def factor(self, epoch: float) -> float:
        return self.start + (1 - self.start) * epoch / self.epochs if epoch < self.epochs else 1.0

    def step(self, epoch: float, metrics: Mapping[str, float]) -> None:
        self.optimizer.lr = self.full_lr  # `after` may go on from the rate that it set
        self.after.step(epoch, metrics)
        self.full_lr = self.optimizer.lr
        self.optimizer.lr = self.full_lr * self.factor(epoch)

    def set_lr(self, lr: float, epoch: float) -> None:
        lr = self.optimizer.not_negative("lr", lr)
        self.after.set_lr(lr / self.factor(epoch), epoch)
        self.full_lr = self.optimizer.lr
        self.optimizer.lr = lr

    def state_dict(self) -> dict[str, Any]:
        after = self.after.state_dict()
        return {"after": after, "full_lr": self.full_lr, "lr": self.optimizer.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.after.load_state_dict(state["after"])
        self.full_lr, self.optimizer.lr = state["full_lr"], state["lr"]

    def options(self) -> dict[str, Any]:
        return {"after": self.after, "epochs": self.epochs, "start": self.start}


def _above_zero(where: str, name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{where}: expected {name} to be a number above 0, got {value!r}")
    return value


if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name):
        """Python comes here for what is not there."""
        raise missing("tinynet.optim.lr_scheduler", name, SCHEDULES)
