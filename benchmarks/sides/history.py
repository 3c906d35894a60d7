"""The files of examples/history, each as its recipe trains it: net, optimiser, task, real batches.

`ours_history` and `pytorch_history` have the sides. A net is named by its file and a preset,
"gpt/gpt"; by the file alone, it is that of the first preset, or of the one that stands in PRESETS.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

import tinynet

NAMES = (
    "perceptron", "backprop", "lenet5", "autoencoder", "vae", "gan", "vgg", "googlenet", "resnet",
    "transformer", "gpt", "bert",
)  # fmt: skip
PRESETS = {"gpt": "gpt-mini", "bert": "bert-mini"}  # smaller ones, for the time it takes


class Begun(NamedTuple):
    """A run before its first step. batches, tests: one epoch of them at each call of `epoch`."""

    preset: str
    net: Any
    optimizer: Any
    task: Any
    batches: Any
    tests: Any
    epochs: int
    schedule: Any


def file_of(name: str) -> str:
    return name.partition("/")[0]


def find(name: str) -> tuple[Any, str]:
    """The program of a net, and its preset. Raises ValueError for a name that is none."""
    file, _, preset = name.partition("/")
    if file not in NAMES:
        raise ValueError(f"expected names of {', '.join(NAMES)}, got {name!r}")
    folder = str(Path(__file__).parents[2] / "examples" / "history")
    if folder not in sys.path:
        sys.path.insert(0, folder)  # before this one, which has a gan.py too
    program = importlib.import_module(file).main.__self__
    preset = preset or PRESETS.get(file, next(iter(program.recipes)))
    if preset not in program.recipes:
        known = ", ".join(f"{file}/{each}" for each in program.recipes)
        raise ValueError(f"expected a preset of {file} ({known}), got {name!r}")
    return program, preset


def begin(name: str) -> Begun:
    """What `python examples/history/FILE.py --preset PRESET` does before it trains."""
    program, preset = find(name)
    recipe = program.recipes[preset]
    settings = {**recipe.settings(), "data": None, "seed": 0, "workers": None}
    devices = (tinynet.device("cpu"),)
    train, test = recipe.data.open(settings)
    about = {"preset": preset, **recipe.data.describe(settings, train), **recipe.data.state()}
    task = recipe.data.task(about, recipe.data.arrays(about, train), devices)
    tinynet.manual_seed(settings["seed"])
    net = program.build(about, devices)
    optimizer = recipe.optimizer(net, settings["lr"])
    batches = recipe.data.loader(settings, about, train, train=True)
    tests = recipe.data.loader(settings, about, test, train=False)
    schedule = recipe.make_schedule(optimizer, settings)
    return Begun(preset, net, optimizer, task, batches, tests, recipe.epochs, schedule)


def first_batch(begun: Begun) -> Any:
    return next(iter(begun.batches.epoch(0)))
