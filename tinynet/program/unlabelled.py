"""Pictures without their classes: the data of a program that learns to make pictures."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from tinynet.data import Batch, Dataset, Loader
from tinynet.devices import Device
from tinynet.errors import CheckpointError
from tinynet.nn import Module
from tinynet.program.pictures import Pictures
from tinynet.program.recipe import Feeding
from tinynet.program.shown import Shown
from tinynet.recording import no_grad
from tinynet.tensors import Tensor, tensor
from tinynet.training.inputs import Inputs, batch_of
from tinynet.training.measure import Measure
from tinynet.training.objective import Figures, Objective, same_luck

SHOWN = 1000  # test pictures that `show` sees


class PictureObjective(Objective):
    """An Objective whose batches are of pictures."""

    def __init__(
        self,
        make: Inputs,
        function: Callable[..., Figures],
        measures: dict[str, Measure],
        best_by: str,
        glimpse: Callable[[Any], bytes] | None,
        undivided: str = "",
    ):
        super().__init__(make.device, function, measures, best_by, "pictures", glimpse, undivided)
        self.make_inputs = make

    def ahead(self, batches: Generator[Batch, None, None]) -> Generator[Batch, None, None]:
        """As Inputs.ahead."""
        return self.make_inputs.ahead(batches)

    def inputs(self, batch: Batch) -> tuple[Any, ...]:
        """The pictures (N, C, S, S) alone."""
        return self.make_inputs(batch)[:1]

    def count(self, batch: Batch) -> int:
        """Pictures."""
        return len(batch.labels)

    def damaged(self, batch: Batch) -> dict[int, str]:
        """Pictures."""
        return batch.damaged

    def arrays(self) -> dict[str, np.ndarray]:
        """The grey that is subtracted."""
        return {"mean": self.make_inputs.mean}


@dataclass(frozen=True, kw_only=True)
class Unlabelled(Shown, Pictures):  # type: ignore[misc]  # Shown's evaluation, Pictures' data
    """Pictures (N, C, S, S), scale * (bytes - grey).

    loss      (net, pictures) -> "loss", and a value for each of `measures`
    show      (net, test pictures, labels, classes) -> what Shown.samples gives
    say       (net, one picture (1, C, S, S)) -> what the net makes of it
    best_by   the figure that is lowest for the best checkpoint
    glimpse   net -> a PNG that is kept of every epoch
    undivided see Task
    make      (net, codes (N, `codes`) drawn from N(0, 1)) -> pictures: what --export writes of a
              net whose use is to make some
    """

    loss: Callable[..., Figures]
    show: Callable[..., dict[str, Any]]
    say: Callable[[Any, Tensor], str]
    measures: dict[str, Measure] = field(default_factory=dict)
    grey: float = 0.0
    scale: float = 1 / 255
    best_by: str = "loss"
    glimpse: Callable[[Any], bytes] | None = None
    undivided: str = ""
    make: Callable[[Any, Tensor], Tensor] | None = None
    codes: int = 0

    asks = ("FILE", "what the net makes of picture files, or of all in a folder and below it")
    result = "y"

    def arrays(self, about: dict, train: Dataset) -> dict[str, np.ndarray]:
        return {"mean": np.full(train.shape, self.grey, np.float32)}

    def task(  # type: ignore[override]
        self, about: dict, arrays: dict[str, np.ndarray], devices: Sequence[Device]
    ) -> PictureObjective:
        made = super().task(about, arrays, devices).make_inputs
        return PictureObjective(
            made, self.loss, self.measures, self.best_by, self.glimpse, self.undivided
        )

    def zeros(self, about: dict, count: int, device: Device) -> tuple[Tensor]:  # type: ignore[override]
        return super().zeros(about, count, device)[:1]

    def evaluate(  # type: ignore[override]
        self, models: Sequence[Module], task: PictureObjective, tests: Loader, full: bool
    ) -> dict[str, Any]:
        known, given = task.make_inputs.mean.shape, tests.dataset.shape
        if known != given:
            raise CheckpointError(
                f"expected pictures of {known}, as the net was trained on, got {given}; name other "
                "data with --data"
            )
        return Shown.evaluate(self, models, task, tests, full)

    def samples(self, model: Module, task: PictureObjective, tests: Loader) -> dict[str, Any]:
        whole = copy.copy(tests)
        whole.share = (0, 1)  # this rank's alone would be other pictures
        with contextlib.closing(whole.epoch(0)) as batches:
            some = list(islice(batches, -(-SHOWN // tests.batch_size)))
        pictures = np.concatenate([task.inputs(batch)[0].numpy() for batch in some])[:SHOWN]
        labels = np.concatenate([batch.labels for batch in some])[:SHOWN]
        x = tensor(pictures, device=task.device)
        return self.show(model, x, labels, tests.dataset.classes)

    def feeding(  # type: ignore[override]
        self, model: Module, task: PictureObjective, about: dict, raw: bool
    ) -> Feeding:
        """Pictures; or the codes that `make` takes."""
        make = self.make
        if make is None:
            return super().feeding(model, task, about, raw)  # type: ignore[arg-type]
        if raw:
            raise ValueError("--raw is for nets that see pictures, not make them: leave it out")

        def made(codes: Tensor) -> Tensor:
            return make(model, codes)

        example = np.random.default_rng(0).normal(size=(1, self.codes)).astype(np.float32)
        words = f"codes, float32 (N, {self.codes}), drawn from N(0, 1)"
        return Feeding(example, made, words, "pictures", {"codes": "drawn from N(0, 1)"})

    def predict(  # type: ignore[override]
        self, models: Sequence[Module], task: PictureObjective, about: dict, what: str
    ) -> list[str]:
        (x,) = task.inputs(batch_of([self.read(about, what)], about["image_size"]))
        with no_grad(), same_luck():
            return [f"{what}: {self.say(models[0], x)}"]
