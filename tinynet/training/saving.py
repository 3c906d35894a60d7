"""What a run needs to go on as if nothing had happened: into a checkpoint, and out of one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinynet import random
from tinynet.errors import CheckpointError, TinynetError
from tinynet.nn import Module
from tinynet.optim import Optimizer
from tinynet.optim.optimizer import UNSET
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

    def save(self, step: int, position: dict, best_step: int) -> Path:
        """Write a checkpoint; if this test was the best, link best.safetensors; drop the oldest.
        Returns its path.

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
        return path

    def keep_best(self, step: int) -> None:
        """Let best.safetensors be the newest checkpoint too, if the best test was at its step."""
        if self.last == files.path_of(self.folder, step):
            files.keep_best(self.last)

    def newest(self) -> tuple[Checkpoint, str, Path]:
        """The newest whole checkpoint of the folder, a line that says which it is, and its path.

        Damaged newer ones are renamed, not lost. Raises CheckpointError if there is none, or if it
        is of another net or other classes.
        """
        path, found, damaged = files.newest_whole(self.folder)
        with files.understood(path):
            check_same(found, self.about, path)
        for each in damaged:
            each.rename(each.with_name(each.name + ".damaged"))
        passed = f" (passing over {', '.join(p.name for p in damaged)}: damaged)" if damaged else ""
        return found, f"resuming from {path}{passed}", path

    def restore(self, checkpoint: Checkpoint) -> dict:
        """Set net, optimiser, schedule and random numbers; return the position that was saved."""
        state = checkpoint.state
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        for group, saved in zip(self.optimizer.param_groups, state["groups"], strict=True):
            group.update(_group_of_today(saved))
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


def _group_of_today(saved: dict) -> dict:
    """The options of a group as a checkpoint has them. Before a group could be `frozen` or have a
    `fixed_lr`, a scale of 0 froze it, and 1 let it learn again.
    """
    if "frozen" in saved:
        return saved
    frozen = saved["lr_scale"] == 0
    return saved | {"frozen": frozen, "fixed_lr": None} | ({"lr_scale": 1.0} if frozen else {})


class Change(NamedTuple):
    """An edit, understood: the option of these groups gets this value; None: the common rate."""

    groups: list[dict] | None
    option: str
    value: float | bool


def edit(optimizer: Optimizer, schedule, epoch: float, edits: Iterable[Sequence[str]]) -> None:
    """Change rates in the middle of a run, as it was done in 2012.

    ("lr", X) sets the common rate; the schedule goes on from it. ("conv1.lr", X) sets a rate of
    their own for the groups whose name begins with conv1; no schedule changes it. ("freeze", NAME)
    stops such groups, ("thaw", NAME) lets them learn again, each at its own rate. Any other name is
    an option of the groups, of all or of some: ("momentum", X), ("fc6.weight_decay", X). Groups
    that were made without weight decay stay without. epoch: how many are over, a fraction inside
    one.

    Raises ValueError, and changes nothing, for a name or a value that makes no sense.
    """
    for change in understand(optimizer, edits):
        if change.groups is None:
            schedule.set_lr(change.value, epoch)
        for group in change.groups or ():
            group[change.option] = change.value


def understand(optimizer: Optimizer, edits: Iterable[Sequence[str]]) -> list[Change]:
    """What edits would change. Raises ValueError for a name or a value that makes no sense."""
    return [_understand(optimizer, name, value) for name, value in edits]


def _understand(optimizer: Optimizer, name: str, value: str) -> Change:
    edit, every = f"{name}={value}", optimizer.param_groups
    if name in ("freeze", "thaw"):
        return Change(_called(edit, every, value), "frozen", name == "freeze")
    layer, _, option = name.rpartition(".")
    numbers = [key for key in every[0] if all(_is_number(group.get(key)) for group in every)]
    known = ["lr", *(key for key in numbers if key not in ("lr_scale", *UNSET))]
    if option not in known:
        raise ValueError(
            f"{edit}: {type(optimizer).__name__} has no {option} that is a number; it has "
            f"{', '.join(known)}"
        )
    groups = _called(edit, every, layer) if layer else every
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise ValueError(f"{edit}: expected a number of at least 0")
    if option == "lr":
        return Change(groups, "fixed_lr", number) if layer else Change(None, "lr", number)
    if option == "weight_decay":
        without = [
            group for group, decays in zip(every, optimizer.decays, strict=True) if not decays
        ]
        groups = [group for group in groups if not any(group is one for one in without)]
        if not groups:
            raise ValueError(f"{edit}: expected groups with weight decay, got those made without")
    for group in groups:
        optimizer.check({**group, option: number})
    return Change(groups, option, number)


def _called(edit: str, groups: list[dict], name: str) -> list[dict]:
    """The groups whose name begins with `name`."""
    if chosen := [group for group in groups if (group["name"] or "").startswith(name)]:
        return chosen
    known = ", ".join(group["name"] for group in groups if group["name"])
    among = f"the beginning of a name among {known}" if known else "named groups, got none"
    raise ValueError(f"{edit}: expected {among}")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
