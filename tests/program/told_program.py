"""A program whose data and task are told beforehand, and write down what they were asked."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np

import tinynet
from tinynet import nn
from tinynet.errors import DataError
from tinynet.optim import SGD
from tinynet.optim.lr_scheduler import Cosine
from tinynet.program import Program, Recipe
from tinynet.program import program as module
from tinynet.tensors import tensor
from tinynet.training import checkpoint as files
from tinynet.training.measure import Measure
from tinynet.training.metrics import read_config
from tinynet.training.task import Task
from tinynet.training.trainer import Trainer


class Told(Task):
    """The mean of (w x)^2 is made small; tests say what they were told."""

    device = tinynet.device("cpu")
    measures = {"error": Measure("error", "%")}
    best_by = "error"
    unit = "rows"

    def __init__(self, arrays, devices, tests):
        self.mean, self.devices, self.tests = arrays["mean"], devices, tests

    def inputs(self, batch):
        return (tensor(batch),)

    def loss(self, model, x):
        y = model(x)
        return (y * y).mean(), []

    def count(self, batch):
        return len(batch)

    def test(self, model, batches):
        list(batches)
        return {"loss": 1.0, "error": self.tests.pop(0) if self.tests else 50.0}

    def arrays(self):
        return {"mean": self.mean}


class Set(list):
    source = property(lambda self: f"a set of {len(self)}")


class Rows:
    """Batches of a set, in its order; a context that is left."""

    def __init__(self, rows, size, settings, train):
        self.rows, self.batch_size, self.settings, self.train = rows, size, settings, train
        self.left = False

    def __len__(self):
        return len(self.rows) // self.batch_size

    def epoch(self, epoch, start=0):
        for k in range(start, len(self)):
            part = self.rows[k * self.batch_size : (k + 1) * self.batch_size]
            yield np.array(part, np.float32)[:, None] * np.ones((1, 2), np.float32)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.left = True


class Room:
    """The data of a program; writes down what it was asked."""

    changeable = {"width"}
    asks = ("ROW", "what the net says of rows")

    def __init__(self, width=2):
        self.width = width
        self.asked, self.tests, self.loaders, self.evaluated = [], [], [], []

    def add_options(self, parser, defaults):
        add = parser.group("the rows")
        add("--data", "where", metavar="PATH")
        add("--width", f"of a row ({defaults('width')})", type=int)
        add("--side", "of a row", type=int)
        add("--val-share", "of the rows", type=float)

    def settings(self):
        return {"width": self.width, "side": 1}

    def open(self, settings):
        self.asked.append(("open", dict(settings)))
        if settings["data"] == "bad":
            raise DataError("bad: expected rows, got none")
        if settings["data"] == "Ctrl-C":
            raise KeyboardInterrupt
        return Set(np.arange(12.0) / 12), Set(np.arange(100.0, 108.0))

    def describe(self, settings, train):
        return {"side": settings["side"], "rows": len(train)}

    def state(self):
        return {}

    def arrays(self, about, train):
        return {"mean": np.full(2, float(np.mean(train)))}

    def loader(self, settings, about, dataset, train):
        self.loaders.append(Rows(dataset, settings["batch_size"], dict(settings), train))
        return self.loaders[-1]

    def task(self, about, arrays, devices):
        self.made = Told(arrays, devices, self.tests)
        return self.made

    def zeros(self, about, count, device):
        return (tensor(np.zeros((count, 2), np.float32)),)

    def evaluate(self, models, task, tests, full):
        weights = [model.weight.numpy().ravel().tolist() for model in models]
        modes = [model.training for model in models]
        found = {"weights": weights, "modes": modes, "full": full, "rows": list(tests.rows)}
        self.evaluated.append(found)
        return found

    def tell(self, result):
        yield f"{len(result['weights'])} nets"

    def save(self, result, folder):
        (folder / "evaluation.json").write_text(
            json.dumps({"views": {"10": {"top1_error": 12.5, "top5_error": 1}}})
        )
        self.asked.append(("save", folder))

    def reached(self, result):
        return "is small"

    def files(self, what):
        path = Path(what)
        return sorted(map(str, path.iterdir())) if path.is_dir() else [what]

    def predict(self, models, task, about, what):
        if "odd" in what:
            raise DataError(f"{what}: odd")
        return [f"{what}: {models[0].training} {task.mean.tolist()}"]


def started(tmp_path, monkeypatch) -> SimpleNamespace:
    """A program of two recipes, its data, its trainers and their arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["net.py"])
    rooms, trainers = [Room(), Room(3)], []

    class Seen(Trainer):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.options = options
            trainers.append(self)

    monkeypatch.setattr(module, "Trainer", Seen)
    for name in ("draw_curves", "curves"):  # they take long
        monkeypatch.setattr(f"tinynet.training.report.{name}", lambda *args, **options: b"")
    recipes = {
        "first": Recipe("first net", rooms[0], 2, 4, 0.25, advice="Wait."),
        "second": Recipe(
            "second net", rooms[1], 4, 2, 0.5, milestones=[2, 3],
            optimizer=lambda net, lr: SGD(net.parameters(), lr, momentum=0.5),
            schedule=lambda optimizer, epochs: Cosine(optimizer, epochs),
        ),
        "third": Recipe(
            "third net", rooms[1], 4, 2, 0.5, schedule=lambda o, epochs: Cosine(o, epochs)
        ),
    }  # fmt: skip
    program = Program("nets", recipes, lambda about, devices: nn.Linear(2, 1), devices=2)

    def run(*words):
        return program.main([str(word) for word in words])

    return SimpleNamespace(run=run, rooms=rooms, trainers=trainers, program=program)


def settings_in(folder):
    return read_config(Path(folder))["settings"]


def weights_of(path):
    return files.load(path).model["weight"].ravel().tolist()
