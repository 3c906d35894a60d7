"""A resume brings back every field of a run, after every kind of edit, under every schedule and
rule."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers import Net, pictures

import tinynet
from tinynet import random
from tinynet.data import Loader, mean_picture
from tinynet.optim import SGD, Adam, RMSprop
from tinynet.optim.lr_scheduler import Constant, Cosine, DivideOnPlateau, MultiStep, WarmUp
from tinynet.training import checkpoint as files
from tinynet.training.inputs import Inputs
from tinynet.training.metrics import read_metrics
from tinynet.training.task import Classification
from tinynet.training.trainer import Trainer

RULES = {
    "sgd": lambda groups, lr, odd: SGD(groups, lr, 0.9 - odd, 5e-4 + odd),
    "nesterov": lambda groups, lr, odd: SGD(groups, lr, 0.8 - odd, nesterov=True),
    "adam": lambda groups, lr, odd: Adam(groups, lr, (0.8 - odd, 0.95), amsgrad=True),
    "rmsprop": lambda groups, lr, odd: RMSprop(groups, lr, 0.9 - odd, momentum=0.5, centered=True),
}
SCHEDULES = {
    "constant": Constant,
    "milestones": lambda o: MultiStep(o, [1, 2]),
    "cosine": lambda o: Cosine(o, 5),
    "plateau": lambda o: DivideOnPlateau(o, factor=2, patience=0),
    "warm-up": lambda o: WarmUp(MultiStep(o, [2]), 1.5),
}
EDITS = {
    "nothing": [],
    "lr": [("lr", "0.3")],
    "momentum": [("momentum", "0.25")],
    "decay": [("weight_decay", "0.125")],
    "freeze": [("freeze", "conv")],
    "freeze and thaw": [("freeze", "fc"), ("freeze", "conv"), ("thaw", "fc")],
    "all": [("lr", "0.02"), ("freeze", "fc"), ("weight_decay", "0"), ("lr", "0.4")],
}
EPOCHS, BATCHES = 4, 3


def make(folder, rule, schedule, *, odd=0.0, epochs=EPOCHS):
    """A trainer; with `odd`, one whose weights, rates, options and seed are all others."""
    folder.mkdir(exist_ok=True)
    train, test = pictures(48), pictures(16, seed=6)
    tinynet.manual_seed(3 + int(100 * odd))
    model = Net()
    groups = [
        {"name": f"{name}.all", "params": list(layer.parameters()), "lr_scale": scale + odd}
        for name, layer, scale in (("conv", model.conv, 2.0), ("fc", model.fc, 0.5))
    ]
    optimizer = RULES[rule](groups, 0.01 + odd, odd)
    return Trainer(
        model,
        optimizer,
        Loader(train, 16, crop=7, train=True, seed=3, flip=False),
        Loader(test, 16, crop=7, train=False),
        Classification(Inputs("cpu", mean_picture(train), 7, scale=0.01, border=1), train.classes),
        folder,
        epochs=epochs,
        about={"classes": train.classes},
        schedule=SCHEDULES[schedule](optimizer),
        log_every=2,
        keep=1,
    )


def run_to(trainer, step: int | None) -> None:
    """Train until so many batches are done in all (None: to the end); saved as a stop saves."""
    if step is not None:
        trainer._stopping = lambda: "time" if trainer.step >= step else None
    assert trainer.fit() == ("done" if step is None else "time")


def numbers_of(schedule) -> dict:
    found = {k: v for k, v in vars(schedule).items() if k not in ("optimizer", "after")}
    return found | ({"after": numbers_of(schedule.after)} if hasattr(schedule, "after") else {})


def fields(trainer) -> dict:
    """All that a run is made of, as values that can be compared."""
    optimizer = trainer.optimizer
    arrays = {**trainer.model.state_dict(), **optimizer.state_dict(), **trainer.saver.arrays}
    found = {name: array.tobytes() for name, array in arrays.items()}
    for number, group in enumerate(optimizer.param_groups):
        options = {k: v for k, v in group.items() if k != "params"}
        found[f"group {number}"] = json.dumps(options)  # which makes lists of tuples
    position = "epoch", "batch", "step", "best", "_stuck", "epochs", "damaged"
    found |= {name: getattr(trainer, name) for name in position}
    return found | {
        "lr": optimizer.lr,
        "steps": list(optimizer.steps.values()) if optimizer.counts_steps else None,
        "schedule": numbers_of(trainer.schedule),
        "random": random.get_state(),
        "totals": trainer._totals.tolist(),
        "last": trainer.saver.last.name,
    }


def lines_of(folder) -> list[dict]:
    """The metrics without what a clock says."""
    clock = "seconds", "images_per_second"
    return [{k: v for k, v in line.items() if k not in clock} for line in read_metrics(folder)]


def check_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    assert {k for k in found if found[k] != expected[k]} == set()


# Each edit, schedule and rule, and each moment: in an epoch, at its end before the test, after it.
COMBINATIONS = [
    (edit, list(SCHEDULES)[(n + turn) % 5], list(RULES)[(n + 2 * turn + 1) % 4], stops)
    for turn, stops in enumerate([(2, 5), (3, 7)])
    for n, edit in enumerate(EDITS)
]


@pytest.mark.parametrize(("edit", "schedule", "rule", "stops"), COMBINATIONS)
def test_every_field_comes_back_after_every_edit(edit, schedule, rule, stops, tmp_path):
    """Stopped, resumed with an edit, run to the end: the same whether stopped once more or not."""
    ends = []
    for again in (False, True):
        folder = tmp_path / f"{again}"
        first = make(folder, rule, schedule)
        run_to(first, stops[0])
        saved = fields(first)
        second = make(folder, rule, schedule, odd=0.05)
        second.resume()
        check_same(fields(second), saved)
        assert second.watch.seconds == first.watch.seconds
        kept = files.load(first.saver.last).arrays
        assert {k: v.tobytes() for k, v in kept.items()} == {
            "mean": first.task.arrays()["mean"].tobytes()
        }
        second.edit(EDITS[edit])
        if again:
            run_to(second, stops[1])
            saved = fields(second)
            third = make(folder, rule, schedule, odd=0.1)
            third.resume()
            check_same(fields(third), saved)
            assert third.watch.seconds == second.watch.seconds
            second = third
        run_to(second, None)
        ends.append((fields(second), lines_of(folder)))
        assert len(files.all_in(folder)) == 1  # keep=1, and the best beside it
        assert files.load(folder / files.BEST).state["step"] == second.best["step"]
    check_same(ends[1][0], ends[0][0])
    assert ends[1][1] == ends[0][1]


@pytest.mark.parametrize("stop", [2, 3, 4])
def test_more_epochs_than_planned_are_as_if_planned(stop, tmp_path):
    """A schedule that does not ask for the number of epochs takes no notice of it."""
    whole = make(tmp_path / "whole", "sgd", "milestones")
    run_to(whole, None)
    short = make(tmp_path / "short", "sgd", "milestones", epochs=2)
    run_to(short, stop)
    longer = make(tmp_path / "short", "sgd", "milestones", odd=0.05)
    longer.resume()
    run_to(longer, None)
    check_same(fields(longer), fields(whole))
    assert lines_of(tmp_path / "short") == lines_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("schedule", "stop", "expected"),
    [
        ("constant", 4, [0.3] * 3),
        ("milestones", 2, [0.3, 0.03, 0.003, 0.003]),  # before the first
        ("milestones", 4, [0.3, 0.03, 0.03]),  # one is reached, one is to come
        ("milestones", 7, [0.3, 0.3]),  # all are reached
        ("warm-up", 7, [0.3, 0.3]),
    ],
)
def test_a_rate_that_is_set_holds_and_later_changes_go_on_from_it(
    schedule, stop, expected, tmp_path
):
    """The rates of the tests that follow; those of a test are its epoch's, before the change."""
    run_to(make(tmp_path, "sgd", schedule), stop)
    trainer = make(tmp_path, "sgd", schedule, odd=0.05)
    trainer.resume()
    trainer.edit([("lr", "0.7"), ("lr", "0.3")])  # the second one counts
    assert trainer.optimizer.lr == 0.3
    trainer._stopping = lambda: "time"  # before any other batch: saved nevertheless
    assert trainer.fit() == "time"
    trainer = make(tmp_path, "sgd", schedule, odd=0.1)
    trainer.resume()
    assert trainer.optimizer.lr == 0.3
    run_to(trainer, None)
    rates = [line["lr"] for line in lines_of(tmp_path) if line["kind"] == "test"]
    np.testing.assert_allclose(rates[-len(expected) :], expected)


def test_frozen_layers_stand_still_and_thawed_ones_learn(tmp_path):
    weights = []
    for stop, edits in ((3, []), (6, [("freeze", "conv")]), (9, [("thaw", "conv")])):
        trainer = make(tmp_path, "sgd", "constant", odd=0.05 * (stop > 3))
        if stop > 3:
            trainer.resume()
        trainer.edit(edits)
        run_to(trainer, stop)
        weights.append([trainer.model.conv.weight.numpy(), trainer.model.fc.weight.numpy()])
        if stop == 9:
            assert [g["lr_scale"] for g in trainer.optimizer.param_groups] == [
                2.0,
                0.5,
            ]  # as it had
    moved = [
        [(a != b).any() for a, b in zip(weights[k], weights[k + 1], strict=True)] for k in (0, 1)
    ]
    assert moved == [[False, True], [True, True]]


def test_a_checkpoint_without_a_schedule_keeps_its_rate(tmp_path):
    """One from before every run had a schedule: the rate is the optimiser's."""
    run_to(make(tmp_path, "sgd", "constant"), 2)
    path, found, _ = files.newest_whole(tmp_path)
    found.state |= {"schedule": None, "lr": 0.375}
    files.save(path, found)
    trainer = make(tmp_path, "sgd", "constant", odd=0.05)
    trainer.resume()
    assert trainer.optimizer.lr == 0.375
