"""Command lines and folders of runs: what the example programs share."""

from __future__ import annotations

import argparse
import contextlib
import math
import re
import time
from pathlib import Path

from tinynet.devices import Device
from tinynet.devices import device as find_device
from tinynet.errors import CheckpointError, DeviceUnavailableError
from tinynet.training.checkpoint import BEST, all_in
from tinynet.training.metrics import read_config


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that answers a mistake with one line instead of the whole usage."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message} (--help tells more)\n")


def at_least(least: int):
    """For `type=`: whole numbers from `least` on."""

    def number(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(
                f"a whole number of at least {least} was expected, got {text!r}"
            )
        return int(text)

    return number


def batch_size(text: str) -> int | str:
    """For `type=`: a whole number from 1 on, or `auto`."""
    return text if text == "auto" else at_least(1)(text)


def device_pair(names: str) -> tuple[Device, Device]:
    """The two devices of `D0[,D1]`; both towers live on D0 if it stands alone.

    Raises ValueError for another number of names, or a name that is none.
    """
    devices = [find_device(name.strip()) for name in names.split(",")]
    if len(devices) > 2:
        raise ValueError(f"--device takes one device or two, got {len(devices)}: {names}")
    first, second = devices[0], devices[-1]
    if len(devices) == 2 and first == second and first.kind == "cuda":
        second = first.twin()  # one GPU as two logical devices
    return first, second


def default_devices() -> str:
    """The GPUs that can be used, at most two, or else the CPU as two logical devices."""
    found = []
    for name in ("cuda:0", "cuda:1"):
        try:
            find_device(name)
        except DeviceUnavailableError:
            break
        found.append(name)
    return ",".join(found) or "cpu:0,cpu:1"


def new_folder(root: Path, name: str) -> Path:
    """`root/<time>-<name>`; a number is added where two runs start within a second."""
    stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
    for number in range(1000):
        folder = Path(root) / (stem if number == 0 else f"{stem}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise OSError(f"{root} holds a thousand runs called {stem}")


def newest_folder(root: Path) -> Path:
    """The newest run under `root` that has a checkpoint. Raises CheckpointError if none has."""
    folders = [path.parent for path in Path(root).glob("*/config.json") if all_in(path.parent)]
    if not folders:
        raise CheckpointError(f"there is no run to resume under {root}/; say which with --out DIR")
    return max(folders, key=lambda folder: all_in(folder)[0].stat().st_mtime)


def make_folder(folder: Path | None, name: str) -> Path:
    """The folder of a new run: `folder`, or one of its own under runs/.

    Raises CheckpointError if it holds a run already, OSError if it cannot be written.
    """
    if folder is None:
        return new_folder(Path("runs"), name)
    folder.mkdir(parents=True, exist_ok=True)
    if all_in(folder):
        raise CheckpointError(
            f"{folder} holds a run already: add --resume, or choose another --out"
        )
    return folder


def data_of(checkpoint: str | Path) -> str | None:
    """The pictures that the run a checkpoint belongs to was trained on; None: the embedded ones."""
    path = Path(checkpoint)
    config = read_config(path if path.is_dir() else path.parent)
    return config["settings"]["data"] if config else None


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint at `path`: itself, or a run's best (before the first test: its newest)."""
    path = Path(path)
    if not path.is_dir():
        return path
    if (path / BEST).exists():
        return path / BEST
    if found := all_in(path):
        return found[0]
    raise CheckpointError(f"{path} holds no checkpoint")


def settings_of(folder: Path, given: dict, changeable: set[str]) -> dict:
    """The settings of the run in `folder`, with those of `given` in their place.

    Raises CheckpointError where a setting is given that a run keeps from its start to its end.
    """
    config = read_config(folder)
    if config is None:
        raise CheckpointError(f"{folder} is not the folder of a run: it has no config.json")
    settings = config["settings"]
    for name, value in given.items():
        if value == settings.get(name):
            continue
        if name not in changeable:
            flag = name.replace("_", "-")
            raise CheckpointError(
                f"the run in {folder} was started with {name} {settings.get(name)}, not {value}: "
                f"leave --{flag} out, or start a new run"
            )
        settings[name] = value
    return settings


def parse_edits(text: str) -> list[tuple[str, str]]:
    """For `type=`: `lr=0.001,freeze=conv1` as [("lr", "0.001"), ("freeze", "conv1")]."""
    edits = [tuple(part.strip() for part in each.split("=", 1)) for each in text.split(",")]
    names = ("lr", "momentum", "weight_decay", "freeze", "thaw")
    for edit in edits:
        if len(edit) != 2 or edit[0] not in names or not edit[1]:
            raise argparse.ArgumentTypeError(
                f"NAME=VALUE[,NAME=VALUE] with the names {', '.join(names)} was expected, got "
                f"{text!r}"
            )
    return edits


def whole_numbers(text: str) -> list[int]:
    """For `type=`: `25,51,79` as [25, 51, 79]."""
    return [at_least(1)(number) for number in text.split(",")]


def rate(text: str) -> float:
    """For `type=`: a number above 0."""
    with contextlib.suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"a number above 0 was expected, got {text!r}")


def parse_interval(text: str) -> dict[str, float]:
    """For `type=`: `500` (batches) or `10m` as Trainer's arguments for checkpoints inside epochs."""
    if text.isdecimal() and int(text) > 0:
        return {"checkpoint_batches": int(text), "checkpoint_minutes": None}
    return {"checkpoint_minutes": parse_duration(text)}


def parse_duration(text: str) -> float:
    """For `type=`: minutes in `90s`, `10m`, or `1.5h`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|m|h)", text)
    if not match:
        raise argparse.ArgumentTypeError(
            f"a time such as 90s, 10m or 2h was expected, got {text!r}"
        )
    return float(match[1]) * {"s": 1 / 60, "m": 1.0, "h": 60.0}[match[2]]
