"""Recipe: how a network is trained unless the command line says otherwise. DataRoom: its data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from tinynet.devices import Device
from tinynet.nn import Module
from tinynet.optim import SGD, Optimizer
from tinynet.optim.lr_scheduler import Constant, MultiStep
from tinynet.program.options import Parser
from tinynet.training.task import Task


class Feeding(NamedTuple):
    """What an exported file needs to know of a net's input.

    example: an input as tinynet.onnx.export takes it; call: what is done to it, if not the net's
    forward alone. takes: the input in words. result: the name of what the net gives. metadata: what
    a user of the file must know.
    """

    example: Any
    call: Callable | None
    takes: str
    result: str
    metadata: dict[str, Any]


class DataRoom(Protocol):
    """What a program asks of its data: `Pictures` for classes of pictures, `Text` for characters.

    settings: those of its options that a run keeps, with this recipe's values. changeable: those
    that may change when a run goes on. about: what a checkpoint says of itself (JSON), so that the
    net can be built again and fed. asks: what --predict takes ("FILE"),
    and what it gives for that, in words.
    """

    changeable: set[str]

    @property
    def asks(self) -> tuple[str, str]: ...

    def add_options(self, parser: Parser, defaults: Callable[[str], str]) -> None:
        """Add options; defaults(name) gives the recipes' values in words, for the help."""

    def settings(self) -> dict[str, Any]: ...

    def open(self, settings: dict) -> tuple[Any, Any]:
        """The training set and the test set: each with a `len`, and a `source` that names it.
        Raises DataError.
        """

    def describe(self, settings: dict, train: Any) -> dict[str, Any]:
        """`about`, of the data: what it says must be the same when a run goes on."""

    def state(self) -> dict[str, Any]:
        """`about`, of the recipe: a run that goes on keeps what its checkpoint says."""

    def arrays(self, about: dict, train: Any) -> dict[str, np.ndarray]:
        """What the task needs of the training set (a mean picture), to be kept in checkpoints."""

    def loader(self, settings: dict, about: dict, dataset: Any, train: bool) -> Any:
        """Batches; a context that ends its workers."""

    def task(self, about: dict, arrays: dict[str, np.ndarray], devices: Sequence[Device]) -> Task:
        """What a batch is to the net."""

    def zeros(self, about: dict, count: int, device: Device) -> tuple[Any, ...]:
        """The inputs of a batch of `count`, to try how much memory it takes."""

    def evaluate(self, models: Sequence[Module], task: Any, tests: Any, full: bool) -> Any:
        """The result on test data, of one net or of several averaged; full: in every way there is
        (ten views), not only in the quick one.
        """

    def tell(self, result: Any) -> Iterable[str]:
        """Lines that say an evaluation's result."""

    def save(self, result: Any, folder: Path) -> None:
        """Write an evaluation's result, in numbers and pictures."""

    def reached(self, result: Any) -> str:
        """A sentence on the end of a run: what the net can do now, "names 88 % right"."""

    def feeding(self, model: Module, task: Any, about: dict, raw: bool) -> Feeding:
        """How an exported net is fed; raw: with bytes, as files hold them. ValueError if it cannot
        be.
        """

    def files(self, what: str) -> list[str]:
        """What an argument of --predict stands for: itself, or a folder's files, sorted."""

    def predict(self, models: Sequence[Module], task: Any, about: dict, what: str) -> list[str]:
        """Lines on what the net says of `what`, a file or a text."""


def constant(optimizer: Optimizer, epochs: int) -> Any:
    """The rate stays."""
    return Constant(optimizer)


@dataclass(frozen=True)
class Recipe:
    """title: of the net, in sentences ("mini AlexNet"). milestones: epochs after which the rate is
    divided by ten; without them `schedule` makes the schedule. story: (epoch, name, value): what
    changes after so many epochs, as --set NAME=VALUE would, or an option that `data` lets change.
    advice: what to do when the loss stays at that of chance.
    """

    title: str
    data: DataRoom
    epochs: int
    batch_size: int
    lr: float
    milestones: Sequence[int] | None = None
    optimizer: Callable[[Any, float], Optimizer] = lambda net, lr: SGD(
        net.parameters(), lr, momentum=0.9
    )
    schedule: Callable[[Optimizer, int], Any] = constant
    story: Sequence[tuple[int, str, str]] = ()
    advice: str = ""

    def settings(self) -> dict[str, Any]:
        """What the command line may change."""
        milestones = list(self.milestones) if self.milestones else None
        return {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "milestones": milestones,
            "story": [list(row) for row in self.story],
            **self.data.settings(),
        }

    def milestones_of(self, epochs: int) -> list[int] | None:
        """The milestones of a run of so many epochs: they come at the same shares of it. None at
        its end: should it go on after all, it would do so at a tenth of the rate.
        """
        if not self.milestones:
            return None
        found = {_nearest(each * epochs / self.epochs) for each in self.milestones}
        return sorted(found - {epochs})

    def story_of(self, epochs: int) -> list[list]:
        """The story of a run of so many epochs, at the same shares of it; nothing at its end."""
        shares = [_nearest(epoch * epochs / self.epochs) for epoch, *_ in self.story]
        found = zip(shares, self.story, strict=True)
        return [[epoch, name, value] for epoch, (_, name, value) in found if epoch < epochs]

    def make_schedule(self, optimizer: Optimizer, settings: dict) -> Any:
        """The schedule of a run with these settings."""
        if settings["milestones"]:
            return MultiStep(optimizer, settings["milestones"])
        return self.schedule(optimizer, settings["epochs"])


def _nearest(epoch: float) -> int:
    """The nearest whole epoch: the later one of two, and never before the first."""
    return max(1, math.floor(epoch + 0.5))


@dataclass(frozen=True)
class Variant:
    """What differs from a recipe and its net, a row behind --variant. about: in words, for the
    help. net(preset): fields of the net's preset, read by the program that builds it. data: fields
    of the recipe's data room.
    """

    about: str
    net: Callable[[Any], Mapping[str, Any]] = lambda preset: {}
    data: Mapping[str, Any] = field(default_factory=dict)

    def of(self, recipe: Recipe, name: str) -> Recipe:
        """The recipe, changed so."""
        data: Any = recipe.data
        return replace(recipe, title=f"{recipe.title} ({name})", data=replace(data, **self.data))
