"""Objective: a task that one function states, of the net and a batch. And luck that stays the same
in every test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinynet import random
from tinynet.devices import Device
from tinynet.nn import Module
from tinynet.recording import no_grad
from tinynet.tensors import Tensor, tensor
from tinynet.training.measure import Measure
from tinynet.training.task import Task

Figures = dict[str, Tensor]
GLIMPSES = "epoch-{:03}.png"


class Objective(Task):
    """function(net, *inputs) -> "loss", and a tensor without axes for each name in `measures`: all
    means over the batch. It sees tests, too.

    A batch is a tuple of arrays (N, ...): the inputs. glimpse(net) -> a PNG that is kept of every
    epoch.
    """

    def __init__(
        self,
        device: Device,
        function: Callable[..., Figures],
        measures: dict[str, Measure],
        best_by: str = "loss",
        unit: str = "examples",
        glimpse: Callable[[Any], bytes] | None = None,
        undivided: str = "",
    ):
        self.device, self.function, self.best_by, self.unit = device, function, best_by, unit
        self.glimpse, self.undivided = glimpse, undivided
        self.measures, self.measured = measures, tuple(measures)

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        """The arrays as tensors."""
        return tuple(tensor(array, device=self.device) for array in batch)

    def loss(self, model: Module, *inputs: Any) -> tuple[Tensor, list[Any]]:
        """What the function gives."""
        figures = self.function(model, *inputs)
        return figures["loss"], [figures[name].data for name in self.measured]

    def count(self, batch: Any) -> int:
        """Examples; a sweep over a table is one."""
        return 1 if self.unit == "sweeps" else len(batch[0])

    def test(self, model: Module, batches: Iterable[Any]) -> dict[str, float]:
        """The means of the figures over all examples, with the same luck in every test."""
        names = ("loss", *self.measured)
        sums, count = np.zeros(len(names)), 0
        with no_grad(), same_luck():
            for batch in batches:
                mine = self.count(batch)
                with self.steps.share(mine, mine):
                    if mine:  # the last batch may be smaller than the ranks are many
                        figures = self.function(model, *self.inputs(batch))
                        sums += mine * np.array([figures[name].item() for name in names])
                        count += mine
        every = self.steps.ranks.sum([*sums, count])
        sums, count = every[:-1], every[-1]
        means = sums / max(count, 1)  # a test that was stopped at its first batch
        return dict(zip(names, means.tolist(), strict=True))

    def after_epoch(self, model: Module, folder: Path, epoch: int) -> None:
        """A glimpse of the net."""
        if self.glimpse:
            with no_grad(), same_luck():
                (folder / GLIMPSES.format(epoch)).write_bytes(self.glimpse(model))


@contextlib.contextmanager
def same_luck() -> Iterator[None]:
    """While entered, random numbers are the same each time; training goes on as if none had been
    drawn. So a run that was stopped in a test goes on to the same bits.
    """
    state = random.get_state()
    random.manual_seed(0)
    try:
        yield
    finally:
        random.set_state(state)
