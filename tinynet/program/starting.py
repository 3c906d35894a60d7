"""What a run begins with: weights of another net, a batch size that fits, rates for it; and what is
told of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import tinynet
from tinynet.devices import Device
from tinynet.nn import Module
from tinynet.optim import Optimizer
from tinynet.program import runs
from tinynet.program.recipe import Recipe
from tinynet.training import checkpoint
from tinynet.training.batch_size import fitting_batch_size
from tinynet.training.metrics import read_config
from tinynet.training.task import Task
from tinynet.training.trainer import Trainer

# How many times larger rates are where a batch is k times larger. Krizhevsky, "One weird trick for
# parallelizing convolutional neural networks", 2014: the root by theory, k by trial.
SCALES = {"linear": lambda k: k, "sqrt": math.sqrt}
TOLD = 0.1  # a larger share of the examples left out in each epoch is told


def scaled(settings: dict, recipe: Recipe) -> dict:
    """The settings of a new run with the rates that `scale_lr` says."""
    rule = settings["scale_lr"]
    if rule is None:
        return settings
    if settings["batch_size"] == "auto":
        raise ValueError("--scale-lr: expected --batch-size N, got auto")
    factor = SCALES[rule](settings["batch_size"] / recipe.batch_size)
    story = [
        [epoch, name, f"{factor * float(value):g}" if name.endswith("lr") else value]
        for epoch, name, value in settings["story"]
    ]
    return {**settings, "lr": factor * recipe.lr, "story": story}


def scale_fixed(optimizer: Optimizer, settings: dict, recipe: Recipe) -> None:
    """Scale the rates that groups have of their own as the common one was scaled."""
    for group in optimizer.param_groups if settings.get("scale_lr") else ():
        if group["fixed_lr"] is not None:
            group["fixed_lr"] *= settings["lr"] / recipe.lr


def _told_of_rate(settings: dict, recipe: Recipe) -> str:
    """A line on the rate of a batch that is not the recipe's; "" where there is nothing to tell."""
    k = settings["batch_size"] / recipe.batch_size
    if settings.get("scale_lr"):
        return (
            f"the rate is {settings['lr']:g}, the recipe's {recipe.lr:g} scaled for batches "
            f"{k:g} times as large (--scale-lr {settings['scale_lr']})"
        )
    if k <= 1 or settings["lr"] != recipe.lr:
        return ""
    rates = " or ".join(f"{of(k) * recipe.lr:.3g} ({name})" for name, of in SCALES.items())
    return (
        f"the batch is {k:g} times the recipe's {recipe.batch_size}, and the rate stays "
        f"{recipe.lr:g}: --scale-lr would make it {rates}"
    )


def begin_from(model: Module, about: dict, path: str, head: str) -> str:
    """Copy the layers that another net has, too; a line that says which are new. Its last layer,
    `head`, is left out if it names other classes.
    """
    found = runs.find_checkpoint(path)
    saved, mine = checkpoint.load(found), model.state_dict()
    with checkpoint.understood(found):
        same = saved.state["about"]["classes"] == about["classes"]
    layers: dict[str, list[str]] = {}
    for name in mine:
        layers.setdefault(name.rpartition(".")[0], []).append(name)
    shapes = {name: array.shape for name, array in saved.model.items()}
    fit = {name for name, array in mine.items() if shapes.get(name) == array.shape}
    new = {layer for layer, names in layers.items() if not fit.issuperset(names)}
    new |= set() if same else {head}
    if len(new) == len(layers):
        raise tinynet.CheckpointError(f"{found}: expected layers of this net, got none of them")
    for layer in layers.keys() - new:
        mine.update((name, saved.model[name]) for name in layers[layer])
    model.load_state_dict(mine)
    return f"first weights from {found}; new: {', '.join(sorted(new)) or 'none'}"


def batch_size_that_fits(
    model: Module,
    recipe: Recipe,
    about: dict,
    devices: tuple[Device, ...],
    task: Task,
    examples: int,
) -> int:
    """--batch-size auto: the recipe's if it fits the memory and there are so many examples,
    else the largest of its halves for which both hold. Says so.
    """
    optimizer = recipe.optimizer(model, recipe.lr)

    def step(count: int) -> None:
        loss, _ = task.loss(model, *recipe.data.zeros(about, count, devices[0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    size, reason = fitting_batch_size(step, devices, recipe.batch_size)
    if size > examples:
        reason = f"there are {examples} {task.unit} to train on"
    while size > examples:
        size //= 2
    print(f"batch size {size}: {reason}; the recipe of {about['preset']} has {recipe.batch_size}")
    return size


def other_data(folder: Path, data: dict, had: dict[str, np.ndarray], task: Task) -> str:
    """A line where the run in `folder` goes on with other data than it had, as their numbers or
    what its checkpoint keeps of them (`had`: a mean picture) tell; or "".
    """
    before = (read_config(folder) or {})["data"]
    counts = [count for count, _ in before.values()]
    told = f"other {task.unit} than this run had"
    if counts and counts != [count for count, _ in data.values()]:
        train, test = counts
        return f"{told}: those were {train:,} to train on and {test:,} to test on"
    differ = [name for name, x in task.arrays().items() if not np.array_equal(x, had.get(name, ()))]
    return f"{told}: their {' and '.join(differ)} differs" if differ else ""


def tell(
    settings: dict, recipe: Recipe, trainer: Trainer, data: dict, set_rate: bool = False
) -> None:
    """What is about to be trained on what, and what of it is not as in the recipe. set_rate:
    whether --set gave a rate.
    """
    unit = trainer.task.unit
    (count, source), (tests, test_source) = data["train"], data["test"]
    print(
        f"training {recipe.title} on {settings['device']} with {count:,} {unit} ({source}), "
        f"tested on {tests:,} ({test_source}); see {trainer.out}"
    )
    if line := _told_of_milestones(settings, recipe, set_rate):
        print(line)
    if line := _told_of_rate(settings, recipe):
        print(line)
    if story := settings.get("story"):
        told = ", ".join(f"{name}={value} after epoch {epoch}" for epoch, name, value in story)
        print(f"as the recipe has it: {told}")
    if trainer.limit_batches:
        print(
            f"an epoch is {trainer.batches:,} of {len(trainer.train):,} batches "
            "(--limit-batches); the test is whole"
        )
    left = count - len(trainer.train) * settings["batch_size"]
    if left > TOLD * count:
        print(
            f"an epoch leaves out {left:,} of the {count:,} {unit}, others each time: they do not "
            f"fill a batch of {settings['batch_size']}"
        )


def _told_of_milestones(settings: dict, recipe: Recipe, set_rate: bool) -> str:
    """After which epochs the rate is divided by ten, if not after the recipe's."""
    given, own = settings["milestones"] or [], list(recipe.milestones or [])
    epochs = settings["epochs"]
    if given == own or not own:
        return ""
    before = [epoch for epoch in given if epoch < epochs]
    when = f"after epoch{'s' * (len(before) > 1)} {_list(before)}" if before else "after no epoch"
    recipes = f"the {_list(own)} of the recipe's {recipe.epochs}"
    if given != recipe.milestones_of(epochs):
        advice = "" if set_rate else "; --resume --set lr=RATE gives it another rate"
        return f"the rate is divided by ten {when}, not {recipes}: as this run is set{advice}"
    if not before:
        return f"so few epochs end before the rate is divided by ten: {recipes}"
    return f"the rate is divided by ten {when}: {recipes}, at the same shares of {epochs}"


def _list(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
