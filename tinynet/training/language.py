"""Language models: nets that say which token stands at a place."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.data.sequences import NOWHERE
from tinynet.devices import Device
from tinynet.nn import Module
from tinynet.recording import no_grad
from tinynet.tensors import Tensor
from tinynet.training.evaluate import log_of_truth
from tinynet.training.measure import Measure
from tinynet.training.task import Task


class LanguageModel(Task):
    """Sequences of tokens: cross-entropy, perplexity, tokens named right in % of those asked for.

    A batch is a tuple of arrays of int64: what the net is called with, then the targets (N, T).
    net(*inputs) -> logits (N, T, K). Places with the target NOWHERE count for nothing.

    size  K, how many tokens there are
    """

    measures = {"perplexity": Measure("perplexity", digits=3), "right": Measure("right", "%")}
    measured = ("right",)
    unit = "sequences"

    def __init__(self, device: Device, size: int):
        self.device, self.chance = device, math.log(size)

    def inputs(self, batch: Any) -> tuple[Any, ...]:
        """The batch itself: an operation brings integers to its device."""
        return batch

    def loss(self, model: Module, *inputs: Any) -> tuple[Tensor, list[Any]]:
        """The mean cross-entropy of the tokens asked for; right, of this batch."""
        logits, targets = asked(model(*inputs[:-1]), inputs[-1])
        with self.device.activate("right"):
            right = logits.data.argmax(axis=1) == self.device.upload(targets)
            return F.cross_entropy(logits, targets), [100 * right.mean()]

    def count(self, batch: Any) -> int:
        """Sequences."""
        return len(batch[-1])

    def weight(self, batch: Any) -> float:
        """Tokens that are asked for."""
        return int((batch[-1] != NOWHERE).sum())

    def test(self, model: Module, batches: Iterable[Any]) -> dict[str, float]:
        """loss, perplexity = e^loss, right."""
        return self.measure([model], batches)

    def measure(self, models: Sequence[Module], batches: Iterable[Any]) -> dict[str, float]:
        """The same for the mean of the softmax outputs of several nets, which are in eval mode."""
        loss = right = count = 0.0
        for batch in batches:
            if not self.count(batch):  # the last batch may be smaller than the ranks are many
                continue
            outputs = []
            with no_grad():
                for model in models:
                    logits, targets = asked(model(*batch[:-1]), batch[-1])
                    outputs.append(F.log_softmax(logits, dim=1).numpy())
            mean = np.exp(outputs).mean(axis=0)
            loss -= float(log_of_truth(np.stack(outputs), targets).sum())
            right += float((mean.argmax(axis=1) == targets).sum())
            count += len(targets)
        loss, right, count = self.steps.ranks.sum([loss, right, count]).tolist()
        count = max(count, 1)  # a test that was stopped at its first batch
        loss /= count
        perplexity = math.exp(min(loss, 700))  # e^710 is too large for a float
        return {"loss": loss, "perplexity": perplexity, "right": 100 * right / count}


def asked(logits: Tensor, targets: np.ndarray) -> tuple[Tensor, np.ndarray]:
    """The rows of logits (N, T, K) whose token is asked for, (M, K), and the tokens (M,)."""
    targets = targets.ravel()
    rows = np.flatnonzero(targets != NOWHERE)
    logits = logits.reshape(-1, logits.shape[-1])
    if len(rows) < len(targets):  # else a copy of the logits is saved
        logits = logits[rows]
    return logits, targets[rows]


class Translation(LanguageModel):
    """Pairs of sentences: in tests also `exact`, the share of those translated without a mistake.

    translate  (net, words (N, S)) -> for each the numbers of its translation
    """

    measures = LanguageModel.measures | {"exact": Measure("exact", "%")}
    unit = "pairs"

    def __init__(self, device: Device, size: int, translate: Callable[..., list[list[int]]]):
        super().__init__(device, size)
        self.translate = translate

    def measure(self, models: Sequence[Module], batches: Iterable[Any]) -> dict[str, float]:
        """exact is that of the first net: translations have no mean."""
        exact: list[bool] = []

        def seen() -> Iterable[Any]:
            for batch in batches:
                yield batch
                if not self.count(batch):
                    continue
                said = self.translate(models[0], batch[0])
                for words, targets in zip(said, batch[-1], strict=True):
                    exact.append(words == targets[targets != NOWHERE][:-1].tolist())  # but END

        figures = super().measure(models, seen())
        right, count = self.steps.ranks.sum([sum(exact), len(exact)]).tolist()
        return {**figures, "exact": 100 * right / max(count, 1)}
