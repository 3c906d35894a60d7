"""Tables of numbers that a program makes itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinynet.data import SequenceLoader, Sequences
from tinynet.devices import Device
from tinynet.nn import Module
from tinynet.program.options import Parser
from tinynet.program.recipe import Feeding
from tinynet.program.shown import Shown
from tinynet.recording import no_grad
from tinynet.tensors import Tensor, tensor
from tinynet.training.measure import Measure
from tinynet.training.objective import Figures, Objective

Arrays = tuple[np.ndarray, ...]  # inputs (N, ...), targets (N, ...)


class Table(Sequences):
    """Rows of arrays, each an example; or, with `sweeps`, so many examples that are all of it."""

    source = "data made by the program"

    def __init__(self, arrays: Arrays, sweeps: int):
        self.arrays, self.sweeps = arrays, sweeps

    def __len__(self) -> int:
        return self.sweeps or len(self.arrays[0])

    def batch(self, indices: np.ndarray, lanes: np.ndarray | None) -> Arrays:
        return self.arrays if self.sweeps else tuple(array[indices] for array in self.arrays)


@dataclass(frozen=True)
class Made(Shown):
    """A table to train on and one to test on.

    make      () -> both, float32
    loss      (net, inputs, targets) -> "loss", and a value for each of `measures`
    show      (net, inputs, targets), those of the test -> what Shown.samples gives
    say       (net, an argument of --predict) -> what the net makes of it
    sweeps    0: an example is a row; else an epoch is so many steps, each of all rows
    best_by   the figure that is lowest for the best checkpoint
    glimpse   net -> a PNG that is kept of every epoch
    """

    make: Callable[[], tuple[Arrays, Arrays]]
    loss: Callable[..., Figures]
    show: Callable[..., dict[str, Any]]
    say: Callable[[Any, str], str]
    asks: tuple[str, str]
    measures: dict[str, Measure] = field(default_factory=dict)
    sweeps: int = 0
    best_by: str = "loss"
    glimpse: Callable[[Any], bytes] | None = None

    changeable = set[str]()

    def add_options(self, parser: Parser, defaults: Callable[[str], str]) -> None:
        """None: the program makes its data."""
        parser.set_defaults(data=None)

    def settings(self) -> dict[str, Any]:
        return {}

    def open(self, settings: dict) -> tuple[Table, Table]:
        train, test = self.make()
        return Table(train, self.sweeps), Table(test, min(self.sweeps, 1))

    def describe(self, settings: dict, train: Table) -> dict[str, Any]:
        inputs, targets = train.arrays[0], train.arrays[-1]
        return {"inputs": list(inputs.shape[1:]), "targets": list(targets.shape[1:])}

    def state(self) -> dict[str, Any]:
        return {}

    def arrays(self, about: dict, train: Table) -> dict[str, np.ndarray]:
        return {}

    def loader(self, settings: dict, about: dict, dataset: Table, train: bool) -> SequenceLoader:
        if settings["workers"]:
            raise ValueError("--workers: expected none, since a table lies in memory; leave it out")
        if self.sweeps and train and settings["batch_size"] != 1:
            raise ValueError("--batch-size: expected 1, since a step sees the whole table")
        return SequenceLoader(dataset, settings["batch_size"], train=train, seed=settings["seed"])

    def task(
        self, about: dict, arrays: dict[str, np.ndarray], devices: Sequence[Device]
    ) -> Objective:
        unit = "sweeps" if self.sweeps else "examples"
        undivided = "a step sees the whole table" if self.sweeps else ""
        return Objective(
            devices[0], self.loss, self.measures, self.best_by, unit, self.glimpse, undivided
        )

    def zeros(self, about: dict, count: int, device: Device) -> tuple[Tensor, ...]:
        shapes = about["inputs"], about["targets"]
        return tuple(tensor(np.zeros((count, *s), np.float32), device=device) for s in shapes)

    def samples(
        self, model: Module, task: Objective, tests: SequenceLoader[Table]
    ) -> dict[str, Any]:
        return self.show(model, *task.inputs(tests.dataset.arrays))

    def feeding(self, model: Module, task: Objective, about: dict, raw: bool) -> Feeding:
        """Rows of numbers."""
        if raw:
            raise ValueError("--raw is for pictures: leave it out")
        shape = about["inputs"]
        example = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
        words = f"rows, float32 (N, {', '.join(map(str, shape))})"
        return Feeding(example, None, words, "y", {})

    def predict(self, models: Sequence[Module], task: Objective, about: dict, what: str) -> list:
        with no_grad():
            return [f"{what}: {self.say(models[0], what)}"]
