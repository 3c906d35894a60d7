"""What a run needs to go on as if nothing had happened: into a checkpoint, and out of one."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from tinynet import random
from tinynet.errors import CheckpointError, TinynetError
from tinynet.nn import Module
from tinynet.optim import Optimizer
from tinynet.training import checkpoint as files
from tinynet.training.checkpoint import Checkpoint


class TrainingError(TinynetError, RuntimeError):
    """A run that cannot go on; the message names the cause and the last good checkpoint."""


class NotFiniteError(ArithmeticError):
    """The loss, or a weight about to be saved, is NaN or infinite."""


class Saver:
    """The checkpoints of one run, to write and to read: net, optimiser, schedule, random numbers.

    about: what must be the same when a checkpoint is loaded again (JSON). arrays: what is kept
    besides (Task.arrays). keep: how many of the newest checkpoints stay, besides the best.
    """

    def __init__(
        self,
        folder: Path,
        model: Module,
        optimizer: Optimizer,
        schedule,
        about: dict,
        arrays: dict[str, np.ndarray],
        keep: int,
    ) -> None:
        self.folder, self.model, self.optimizer = folder, model, optimizer
        self.schedule, self.about, self.arrays, self.keep = schedule, about, arrays, keep
        self.last: Path | None = None

    def save(self, step: int, position: dict, best_step: int) -> None:
        """Write a checkpoint; if this test was the best, link best.safetensors; drop the oldest.

        position: where the run stands, JSON. Raises NotFiniteError, and writes nothing, if a value
        of the net is NaN or infinite; OSError if the file cannot be written.
        """
        model = self.model.state_dict()
        for name, array in model.items():
            if not np.isfinite(array).all():
                raise NotFiniteError(f"{name} holds NaN or infinite values")
        state = {
            "about": self.about,
            **position,
            "random": random.get_state(),
            "lr": self.optimizer.lr,
            "groups": [
                {key: value for key, value in group.items() if key != "params"}
                for group in self.optimizer.param_groups
            ],
            "schedule": self.schedule.state_dict(),
        }
        path = files.path_of(self.folder, step)
        files.save(path, Checkpoint(model, self.optimizer.state_dict(), self.arrays, state))
        self.last = path
        self.keep_best(best_step)
        files.prune(self.folder, self.keep)

    def keep_best(self, step: int) -> None:
        """Let best.safetensors be the newest checkpoint too, if the best test was at its step."""
        if self.last == files.path_of(self.folder, step):
            files.keep_best(self.last)

    def newest(self) -> tuple[Checkpoint, str]:
        """The newest whole checkpoint of the folder, and a line that says which it is.

        Damaged newer ones are renamed, not lost. Raises CheckpointError if there is none, or if it
        is of another net or other classes.
        """
        path, found, damaged = files.newest_whole(self.folder)
        with files.understood(path):
            check_same(found, self.about, path)
        for each in damaged:
            each.rename(each.with_name(each.name + ".damaged"))
        self.last = path
        passed = f" (passing over {', '.join(p.name for p in damaged)}: damaged)" if damaged else ""
        return found, f"resuming from {path}{passed}"

    def restore(self, checkpoint: Checkpoint) -> dict:
        """Set net, optimiser, schedule and random numbers; return the position that was saved."""
        state = checkpoint.state
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        for group, saved in zip(self.optimizer.param_groups, state["groups"], strict=True):
            group.update(saved)
        if state["schedule"] is not None:  # None: a run without a schedule, before there was one
            self.schedule.load_state_dict(state["schedule"])
        self.optimizer.lr = state["lr"]
        random.set_state(state["random"])
        return state

    def last_good(self) -> str:
        """Half a sentence for errors."""
        if self.last is None:
            return "nothing had been saved yet"
        return f"the last good checkpoint is {self.last}"


def check_same(checkpoint: Checkpoint, about: dict, path: Path) -> None:
    """Raise CheckpointError if a checkpoint is not of the net and the classes in `about`."""
    saved = checkpoint.state["about"]
    for key, wanted in about.items():
        if saved.get(key) != wanted:
            if key == "classes" and len(saved[key]) != len(wanted):
                raise CheckpointError(
                    f"{path}: expected a checkpoint of {len(wanted)} classes, as the data has, got "
                    f"one of {len(saved[key])}; name the data that its run had"
                )
            raise CheckpointError(
                f"{path}: expected a checkpoint with {key} {wanted!r}, as this run has, got "
                f"{saved.get(key)!r}; start a new run"
            )


def edit(optimizer: Optimizer, schedule, epoch: float, edits: list[tuple[str, str]]) -> None:
    """Change rates in the middle of a run, as it was done in 2012.

    ("lr", X) sets the rate (the schedule goes on from it); ("freeze", NAME) stops the groups whose
    name begins with NAME, ("thaw", NAME) lets them learn again at the common rate; any other name
    is an option of the groups: ("momentum", X), ("weight_decay", X). Raises ValueError for a name
    or a value that makes no sense. epoch: how many are over, a fraction inside one.
    """
    groups = optimizer.param_groups
    options = [name for name in groups[0] if all(_is_number(group.get(name)) for group in groups)]
    for name, value in edits:
        if name in ("freeze", "thaw"):
            known = [group["name"] for group in groups if group["name"]]
            chosen = [group for group in groups if (group["name"] or "").startswith(value)]
            if not chosen:
                among = f"the name of a layer among {', '.join(known)}" if known else "named groups"
                raise ValueError(f"{name}={value}: expected {among}")
            for group in chosen:
                group["lr_scale"] = 0.0 if name == "freeze" else 1.0
            continue
        if name not in ("lr", *options):
            raise ValueError(
                f"{name}={value}: {type(optimizer).__name__} has no {name} that is a number; it "
                f"has lr, {', '.join(options)}"
            )
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            raise ValueError(f"{name}={value}: expected a number of at least 0")
        if name == "lr":
            schedule.set_lr(number, epoch)
            continue
        for group in groups:
            optimizer.check({**group, name: number})
            group[name] = number


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
