"""Error of one net, or of several averaged, on labelled pictures."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import json
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import tinynet.functional as F
from tinynet.data import Batch, ten_views
from tinynet.parallel.ranks import ALONE, Ranks
from tinynet.recording import no_grad
from tinynet.training.checkpoint import write_whole
from tinynet.training.inputs import Inputs
from tinynet.training.plots import as_image

SHOWN = 12  # sample pictures of each kind, right and wrong, that an evaluation keeps


@dataclass
class Evaluation:
    """What a test found. Errors are in % of the pictures.

    confusion[true, said] and wrong[true] count pictures; samples are by kind and class.
    log_losses: of each batch the place of its first picture, and the sum over its pictures of
    -log(probability of the true class).
    """

    classes: list[str]
    confusion: np.ndarray
    wrong: np.ndarray
    count: int = 0
    wrong5: int = 0
    log_losses: list[tuple[int, float]] = field(default_factory=list)
    samples: dict[str, dict[int, dict]] = field(default_factory=lambda: {"wrong": {}, "right": {}})

    @property
    def loss(self) -> float:
        """Mean negative log-probability of the true class."""
        in_order = sorted(self.log_losses, key=operator.itemgetter(0))
        return sum(loss for _, loss in in_order) / max(self.count, 1)

    @property
    def top1_error(self) -> float:
        return 100 * float(self.wrong.sum()) / max(self.count, 1)

    @property
    def top5_error(self) -> float:
        return 100 * self.wrong5 / max(self.count, 1)

    def plus(self, other: Evaluation) -> Evaluation:
        """The result on the pictures of both; samples: those that come first in the data."""
        samples = {}
        for kind, kept in self.samples.items():
            both = sorted([*kept.items(), *other.samples[kind].items()], key=_place)
            samples[kind] = dict(reversed(both))
        names = ("confusion", "wrong", "count", "wrong5")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        losses = [*self.log_losses, *other.log_losses]
        return Evaluation(self.classes, samples=samples, log_losses=losses, **sums)

    def error_by_class(self) -> dict[str, float]:
        """Top-1 error, in %, of every class that has pictures."""
        pictures = self.confusion.sum(axis=1)
        return {
            name: float(100 * self.wrong[k] / pictures[k])
            for k, name in enumerate(self.classes)
            if pictures[k]
        }


def evaluate(
    models: Sequence,
    batches: Iterable[Batch],
    inputs: Inputs | Sequence[Inputs],
    classes: Sequence[str],
    views: int = 1,
    ranks: Ranks = ALONE,
) -> Evaluation:
    """Top-1 and top-5 error, and which class was taken for which.

    The softmax outputs of all models and all views of a picture are averaged (paper, sections 4.1
    and 6.1). views: 1, the centre; or more, as many of `ten_views`, for which the batches must hold
    whole pictures. The models must be in eval() mode, on the devices of `inputs`: what all of them
    see, or one for each. ranks: the result is of the batches of all of them.
    """
    count = len(classes)
    result = Evaluation(list(classes), np.zeros((count, count), int), np.zeros(count, int))
    shown = set(np.linspace(0, count - 1, min(SHOWN, count)).astype(int).tolist())
    for batch in batches:
        if len(batch.labels):  # the last batch may be smaller than the ranks are many
            _count(result, log_softmaxes(models, batch, inputs, views), batch, shown)
    return functools.reduce(Evaluation.plus, ranks.gather(result))


def probabilities(
    models: Sequence, batch: Batch, inputs: Inputs | Sequence[Inputs], views: int = 1
) -> np.ndarray:
    """The mean of the softmax outputs of all models and views: (N, classes) float32."""
    return np.exp(log_softmaxes(models, batch, inputs, views)).mean(axis=0)


def log_softmaxes(
    models: Sequence, batch: Batch, inputs: Inputs | Sequence[Inputs], views: int
) -> np.ndarray:
    """Logarithms of the softmax outputs of each view and model: (views x models, N, classes)
    float32.
    """
    each = list(inputs) if isinstance(inputs, Sequence) else [inputs] * len(models)
    seen = [batch] if views == 1 else islice(views_of(batch, each[0].size), views)
    outputs = []
    with no_grad():
        for view in seen:
            x = {make: make(view)[0] for make in dict.fromkeys(each)}
            pairs = zip(models, each, strict=True)
            outputs += [F.log_softmax(model(x[make]), dim=1).numpy() for model, make in pairs]
    return np.stack(outputs)


def log_of_truth(outputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The logarithms of the true classes' mean probabilities, (N,) float64, from log_softmaxes: a
    probability that float32 would round to 0 costs what it costs in training.
    """
    truth = outputs[:, np.arange(len(labels)), labels].astype(np.float64)
    with np.errstate(invalid="ignore"):  # a NaN stays one
        return np.logaddexp.reduce(truth) - math.log(len(outputs))


def views_of(batch: Batch, size: int) -> Iterator[Batch]:
    """A batch of whole pictures seen through its corners and its centre, and the same flipped."""
    count, shape = batch.pictures.shape[0], batch.pictures.shape[1:]
    for top, left, flip in ten_views(shape, size):
        yield dataclasses.replace(
            batch,
            top=np.full(count, top, np.int32),
            left=np.full(count, left, np.int32),
            flip=np.full(count, flip),
        )


def rank_of_truth(xp: ModuleType, scores: Any, labels: Any) -> Any:
    """How many classes came before each picture's true one: 0 is right, under 5 right in the top 5.

    scores (N, classes) and labels (N,) are arrays of xp, NumPy or CuPy. Ties, and NaN, count
    against the net: one that gives all classes the same score has recognised nothing.
    """
    truth = xp.take_along_axis(scores, labels[:, None], axis=1)  # (N, 1)
    return (~(scores < truth)).sum(axis=1) - 1


def _count(result: Evaluation, outputs: np.ndarray, batch: Batch, shown: set[int]) -> None:
    """Add one batch's log_softmaxes to the result."""
    output = np.exp(outputs).mean(axis=0)
    rank = rank_of_truth(np, output, batch.labels)
    said = output.argmax(axis=1)
    np.add.at(result.confusion, (batch.labels, said), 1)
    np.add.at(result.wrong, batch.labels, rank > 0)
    result.count += len(rank)
    result.wrong5 += int((rank >= 5).sum())
    log_truth = log_of_truth(outputs, batch.labels)
    result.log_losses.append((int(batch.indices[0]), -float(log_truth.sum())))
    for index, label in enumerate(batch.labels.tolist()):
        kept = result.samples["wrong" if rank[index] else "right"]
        if label in shown and label not in kept:
            kept[label] = {
                "place": int(batch.indices[index]),
                "picture": _data_uri(batch.pictures[index]),
                "was": result.classes[label],
                "said": result.classes[said[index]],
                "probability": float(output[index, said[index]]),
            }


def save_evaluation(results: dict[int, Evaluation], folder: Path) -> None:
    """Write `evaluation.json`; results are keyed by the number of views."""
    first = next(iter(results.values()))
    found = {
        "views": {
            str(views): {
                "pictures": result.count,
                "loss": result.loss,
                "top1_error": result.top1_error,
                "top5_error": result.top5_error,
            }
            for views, result in results.items()
        },
        "error_by_class": first.error_by_class(),
        "classes": first.classes,
        "confusion": first.confusion.tolist(),
        "samples": {
            kind: [
                {name: value for name, value in sample.items() if name != "place"}
                for _, sample in sorted(kept.items(), key=_place)
            ]
            for kind, kept in first.samples.items()
        },
    }
    write_whole(Path(folder) / "evaluation.json", json.dumps(found))


def _place(sample: tuple[int, dict]) -> int:
    """Where in the data set the picture of a (class, sample) is."""
    return sample[1]["place"]


def _data_uri(picture: np.ndarray) -> str:
    """A uint8 picture (H, W, C) as a PNG inside a URI."""
    buffer = io.BytesIO()
    as_image(picture).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
