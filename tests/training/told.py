"""A run whose figures are told beforehand, by a clock of our own."""

from __future__ import annotations

import numpy as np

import tinynet
from tinynet import nn
from tinynet.optim import SGD
from tinynet.tensors import tensor
from tinynet.training import trainer as loop
from tinynet.training.measure import Measure
from tinynet.training.metrics import read_metrics
from tinynet.training.task import Task

BATCHES, SIZE = 5, 4


class Clock:
    """Seconds that pass only when told."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    perf_counter = monotonic


class Rows:
    """Five batches of four rows an epoch; all values of a batch are 10 * epoch + its number."""

    batch_size = SIZE

    def __init__(self):
        self.open = 0

    def __len__(self):
        return BATCHES

    def epoch(self, epoch, start=0):
        self.open += 1
        try:
            for number in range(start, BATCHES):
                yield np.full((SIZE, 2), 10.0 * epoch + number, np.float32)
        finally:
            self.open -= 1


class Told(Task):
    """A task whose figures are told beforehand: in training by the batch, in tests by a list."""

    device = tinynet.device("cpu")
    measures = {"error": Measure("error", "%", 1), "size": Measure("size", "m", 3)}
    measured = ("error",)
    best_by = "error"
    unit = "rows"

    def __init__(self, tests=(), chance=None, loss=None):
        self.tests, self.chance, self.told = list(tests), chance, loss
        self.seen, self.modes = [], []

    def inputs(self, batch):
        return (tensor(batch),)

    def loss(self, model, x):
        self.seen.append(float(x.data[0, 0]))
        self.modes.append(model.training)
        y = model(x)
        value = self.told if self.told is not None else self.seen[-1] + 0.5
        loss = (y * 0).mean() + np.float32(value)
        return loss, [np.float32(self.seen[-1] * 2)]

    def count(self, batch):
        return len(batch)

    def weight(self, batch):
        return 7 * len(batch)  # of what a row's loss is the mean, such as tokens

    def test(self, model, batches):
        self.modes.append(model.training)
        assert len(list(batches)) == BATCHES
        error = self.tests.pop(0) if self.tests else 50.0
        return {"loss": 100.0 - error, "error": error, "size": 0.25}


def make(folder, task, clock=None, model=None, lr=0.5, **options):
    folder.mkdir(exist_ok=True)
    model = model or nn.Linear(2, 1)
    rows = options.pop("train", None) or Rows()
    options = {"epochs": 2, "about": {}, "log_every": 2, **options}
    trainer = loop.Trainer(
        model, SGD(model.parameters(), lr), rows, Rows(), task, folder, **options
    )
    if clock is not None:  # a batch takes ten seconds, a test a hundred
        step, test = trainer._train_step, task.test
        trainer._train_step = lambda batch: (step(batch), setattr(clock, "now", clock.now + 10))[0]

        def slow(model, batches):
            clock.now += 100
            return test(model, batches)

        task.test = slow
    return trainer


def set_clock(monkeypatch):
    """The loop's clock is one of our own from now on; it is returned."""
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    return clock


def of_kind(folder, kind):
    return [line for line in read_metrics(folder) if line["kind"] == kind]


def stop_at(trainer, step):
    trainer._stopping = lambda: "time" if trainer.step >= step else None
    assert trainer.fit() == "time"
