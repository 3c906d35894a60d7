"""Schedules of the learning rate: each sets `optimizer.lr` when told that an epoch is over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tinynet.optim.sgd import SGD


class MultiStep:
    """lr = the first lr * gamma^(number of milestones reached). cfg 145 of 2012: milestones 25, 51,
    79, gamma 0.1.
    """

    def __init__(self, optimizer: SGD, milestones: Iterable[float], gamma: float = 0.1):
        self.optimizer, self.milestones, self.gamma = optimizer, sorted(milestones), gamma
        self.first_lr = optimizer.lr

    def step(self, epoch: float) -> None:
        """`epoch` epochs are over."""
        reached = sum(milestone <= epoch for milestone in self.milestones)
        self.optimizer.lr = self.first_lr * self.gamma**reached

    def state_dict(self) -> dict[str, Any]:
        return {"first_lr": self.first_lr, "lr": self.optimizer.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.first_lr, self.optimizer.lr = state["first_lr"], state["lr"]


class DivideOnPlateau:
    """lr / factor when the validation error has not improved for more than `patience` epochs, but
    not below min_lr.

    Source: Krizhevsky et al. 2012, section 5 (factor 10, three times in the whole of training).
    """

    def __init__(
        self, optimizer: SGD, factor: float = 10.0, patience: int = 3, min_lr: float = 0.0
    ):
        if factor <= 1:
            raise ValueError(f"DivideOnPlateau: expected a factor above 1, got {factor}")
        self.optimizer, self.factor, self.patience, self.min_lr = (
            optimizer,
            factor,
            patience,
            min_lr,
        )
        self.best, self.waited = float("inf"), 0

    def step(self, error: float) -> None:
        """An epoch is over, with this validation error."""
        if error < self.best:
            self.best, self.waited = error, 0
            return
        self.waited += 1
        if self.waited > self.patience:
            # never upwards, should min_lr be above a rate that was set by hand
            self.optimizer.lr = min(
                self.optimizer.lr, max(self.optimizer.lr / self.factor, self.min_lr)
            )
            self.waited = 0

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited, "lr": self.optimizer.lr}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.waited, self.optimizer.lr = state["best"], state["waited"], state["lr"]
