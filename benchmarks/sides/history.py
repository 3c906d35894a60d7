"""The files of examples/history, each as its recipe trains it: net, optimiser, task, real batches.

`ours_history` and `pytorch_history` have the sides. Their net is that of the file's first preset,
or of the one that stands in PRESETS.
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
    """A run before its first step. batches: one epoch of them at each call of `batches.epoch`."""

    preset: str
    net: Any
    optimizer: Any
    task: Any
    batches: Any
    make_schedule: Any  # (optimizer, epochs) -> the schedule of the recipe


def begin(name: str) -> Begun:
    """What `python examples/history/NAME.py` does before it trains."""
    folder = str(Path(__file__).parents[2] / "examples" / "history")
    if folder not in sys.path:
        sys.path.insert(0, folder)  # before this one, which has a gan.py too
    program = importlib.import_module(name).main.__self__
    preset = PRESETS.get(name, next(iter(program.recipes)))
    recipe = program.recipes[preset]
    settings = {**recipe.settings(), "data": None, "seed": 0, "workers": None}
    devices = (tinynet.device("cpu"),)
    train, _ = recipe.data.open(settings)
    about = {"preset": preset, **recipe.data.describe(settings, train), **recipe.data.state()}
    task = recipe.data.task(about, recipe.data.arrays(about, train), devices)
    tinynet.manual_seed(settings["seed"])
    net = program.build(about, devices)
    optimizer = recipe.optimizer(net, settings["lr"])
    batches = recipe.data.loader(settings, about, train, train=True)
    return Begun(preset, net, optimizer, task, batches, recipe.schedule)


def first_batch(begun: Begun) -> Any:
    return next(iter(begun.batches.epoch(0)))
