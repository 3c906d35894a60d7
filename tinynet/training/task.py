"""Task: what a batch is to a net. The loop, the checkpoints and the report know nothing else of it.

A task makes tensors of a batch, gives the loss that is minimised, and measures how good the net is.
So one loop trains a classifier, an autoencoder or a language model.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.devices import Device
from tinynet.nn import Module
from tinynet.parallel.steps import Steps
from tinynet.tensors import Tensor
from tinynet.training.evaluate import evaluate, rank_of_truth, save_evaluation
from tinynet.training.inputs import Inputs
from tinynet.training.measure import Measure


class Task:
    """What a batch is, what is minimised, and what is measured. Subclasses write the five methods.

    device    where inputs live, and where the loop sums what it measures
    measures  every figure that `loss` (in training) or `test` gives besides the loss, and its words
    measured  those of `loss`, in its order
    best_by   the figure of `test` that is lowest for the best checkpoint
    unit      what `count` counts, as the progress bar names it
    chance    the loss of a net that has learnt nothing, or None: the loop warns if it stays there
    undivided why ranks cannot share a batch, in words; "": they can
    steps     how ranks share a batch; `test` gives the figures of all shares together
    """

    device: Device
    measures: dict[str, Measure] = {}
    measured: tuple[str, ...] = ()
    best_by = "loss"
    unit = "examples"
    chance: float | None = None
    undivided = ""
    steps = Steps()

    def ahead(self, batches: Generator[Any, None, None]) -> Generator[Any, None, None]:
        """The batches that `inputs` will be given, with what can be done for them in advance."""
        return batches

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        """The tensors that `loss` needs, on the device; `inputs(batch)[0]` is what the net sees."""
        raise NotImplementedError

    def loss(self, model: Module, *inputs: Any) -> tuple[Tensor, list[Any]]:
        """The loss of one batch (a tensor without axes), and a value for each name in `measured`.

        The values are arrays without axes, on the device: they are summed there, so that nothing
        waits for a GPU.
        """
        raise NotImplementedError

    def count(self, batch: Any) -> int:
        """How many examples a batch holds."""
        raise NotImplementedError

    def weight(self, batch: Any) -> float:
        """How many values its loss is a mean of."""
        return self.count(batch)

    def damaged(self, batch: Any) -> dict[int, str]:
        """The examples that could not be read and so are not in the batch: {place: why}."""
        return {}

    def test(self, model: Module, batches: Iterable[Any]) -> dict[str, float]:
        """The figures of a test: "loss", and others that `measures` names."""
        raise NotImplementedError

    def also(self, other: Task) -> None:
        """Another net, which sees what `other` makes, will be averaged with those before."""

    def save(self, folder: Path) -> None:
        """Write what the last test found besides its figures; called when it was the best one."""

    def after_epoch(self, model: Module, folder: Path, epoch: int) -> None:
        """Write what is to be seen of the net after every epoch; it is in eval mode."""

    def arrays(self) -> dict[str, np.ndarray]:
        """What a checkpoint keeps besides the net, to use it alone (a mean picture)."""
        return {}


class Classification(Task):
    """Pictures and their classes: cross-entropy, top-1 and top-5 error in % of the pictures.

    inputs     makes the net's input of a Batch
    classes    the names of the classes
    auxiliary  in training a net may give a list of logits, its own and those of classifiers that
               help lower layers to learn; the loss of these counts so much
    """

    measures = {
        "top1_error": Measure("top-1 error", "%"),
        "top5_error": Measure("top-5 error", "%"),
    }
    measured = ("top1_error",)
    best_by = "top1_error"
    unit = "pictures"

    def __init__(
        self,
        inputs: Inputs,
        classes: Sequence[str],
        label_smoothing: float = 0.0,
        auxiliary: float = 0.0,
    ):
        self.make_inputs, self.classes = inputs, list(classes)
        self.each = [inputs]  # of nets that are averaged
        self.label_smoothing, self.auxiliary = label_smoothing, auxiliary
        self.device = inputs.device
        self.chance = math.log(len(self.classes))
        if len(self.classes) <= 5:  # of five, five are always right
            self.measures = {"top1_error": self.measures["top1_error"]}

    def ahead(self, batches: Generator[Any, None, None]) -> Generator[Any, None, None]:
        """As Inputs.ahead."""
        return self.make_inputs.ahead(batches)

    def inputs(self, batch: Any) -> tuple[Any, Tensor]:
        """The pictures (N, C, size, size), and the labels (N,)."""
        return self.make_inputs(batch)

    def loss(self, model: Module, x: Any, labels: Tensor) -> tuple[Tensor, list[Any]]:
        """The mean cross-entropy, and that of auxiliary classifiers; top1_error of this batch."""
        said = model(x)
        logits, *early = said if isinstance(said, list) else [said]
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        for each in early:
            loss = loss + self.auxiliary * F.cross_entropy(each, labels)
        with self.device.activate("top1_error"):
            wrong = rank_of_truth(self.device.xp, logits.data, labels.data) > 0
            return loss, [100 * wrong.mean()]

    def count(self, batch: Any) -> int:
        """Pictures."""
        return len(batch.labels)

    def damaged(self, batch: Any) -> dict[int, str]:
        """Pictures."""
        return batch.damaged

    def test(self, model: Module, batches: Iterable[Any]) -> dict[str, float]:
        """loss, top1_error and, of more than five classes, top5_error through the centre view."""
        self._found = found = evaluate(
            [model], batches, self.make_inputs, self.classes, ranks=self.steps.ranks
        )
        return {"loss": found.loss} | {name: getattr(found, name) for name in self.measures}

    def also(self, other: Task) -> None:
        """Its pictures may have another mean, scale or border."""
        assert isinstance(other, Classification)
        mine, its = self.make_inputs, other.make_inputs
        alike = (mine.scale, mine.border) == (its.scale, its.border)
        alike = alike and np.array_equal(mine.mean, its.mean)
        self.each.append(mine if alike else its)  # what is alike is made once

    def save(self, folder: Path) -> None:
        """Confusion, errors by class, samples."""
        save_evaluation({1: self._found}, folder)

    def arrays(self) -> dict[str, np.ndarray]:
        """The mean picture."""
        return {"mean": self.make_inputs.mean}
