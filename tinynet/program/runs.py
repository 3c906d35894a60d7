"""Folders of runs, what lies in them, and the devices a run may have."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tinynet.devices import Device, find_device
from tinynet.errors import CheckpointError, DataError, DeviceUnavailableError
from tinynet.lock import locked
from tinynet.training.checkpoint import BEST, all_in, to_go_on_from
from tinynet.training.metrics import CONFIG, read_config, read_metrics

RUNS = Path("runs")


def find_devices(names: str, most: int) -> tuple[Device, ...]:
    """The devices of `D0[,D1]`: always `most` of them, the last one named repeated if need be.

    Raises ValueError for more names than `most`, or a name that is none.
    """
    devices = [find_device(name.strip()) for name in names.split(",")]
    if len(devices) > most:
        raise ValueError(
            f"--device: expected one device{' or two' * (most == 2)}, got {len(devices)}: {names}"
        )
    if len(devices) == 2 and devices[0] == devices[1] and devices[0].kind == "cuda":
        first: Any = devices[0]
        devices[1] = first.twin()  # one GPU as two logical devices
    return tuple(devices + [devices[-1]] * (most - len(devices)))


def default_devices(most: int, ranks: int = 1) -> str:
    """The GPUs that can be used, at most `most` for each of so many ranks on this host, or else the
    CPU as so many logical devices.
    """
    for count in range(most, 0, -1):
        try:
            find_device(f"cuda:{count * ranks - 1}")
        except DeviceUnavailableError:
            continue
        return ",".join(f"cuda:{index}" for index in range(count))
    return ",".join(f"cpu:{index}" for index in range(most))


def devices_of_rank(names: str, local: int) -> str:
    """The devices of rank number `local` on its host, where `names` are those of number 0: the next
    GPUs. All ranks of a host share its CPU.
    """
    known = [name.strip() for name in names.split(",")]
    shift = local * len({name for name in known if name.startswith("cuda")})

    def of_rank(name: str) -> str:
        kind, _, index = name.partition(":")
        return f"cuda:{int(index or 0) + shift}" if kind == "cuda" else name

    return ",".join(map(of_rank, known))


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


def newest_folder(owns: Callable[[dict], bool], root: Path = RUNS) -> Path:
    """The newest run under `root` that has a checkpoint and whose config.json is one that `owns`
    says yes to: other programs keep their runs there, too. Raises CheckpointError if there is none.
    """
    folders = [
        folder
        for folder in (path.parent for path in Path(root).glob(f"*/{CONFIG}"))
        if to_go_on_from(folder) and owns(read_config(folder) or {})
    ]
    if not folders:
        raise CheckpointError(
            f"there is no run of this program to resume under {root}/; say which with --out DIR"
        )
    return max(folders, key=lambda folder: to_go_on_from(folder)[0].stat().st_mtime)


@contextlib.contextmanager
def start_in(folder: Path | None, name: str) -> Iterator[Path]:
    """The folder of a new run, for this process alone: `folder`, or one of its own under runs/.

    Raises CheckpointError if it holds a run already, FolderInUseError if another process has it,
    OSError if it cannot be written.
    """
    if folder is None:
        folder = new_folder(RUNS, name)
    if folder.is_file():
        raise CheckpointError(f"{folder}: expected a folder or a new name, got a file")
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if to_go_on_from(folder):
            raise CheckpointError(
                f"{folder} holds a run already: add --resume, or choose another --out"
            )
        yield folder


@contextlib.contextmanager
def go_on_in(folder: Path | None, owns: Callable[[dict], bool]) -> Iterator[Path]:
    """The folder of a run that goes on, for this process alone: `folder`, or the newest_folder.

    Raises CheckpointError if it holds no run, FolderInUseError if another process has it.
    """
    folder = folder or newest_folder(owns)
    if not folder.exists():
        raise CheckpointError(f"there is no {folder}; say with --out DIR which run goes on")
    if read_config(folder) is None:
        kept = "; to train what --import keeps: --import FILE --data PATH --epochs N"
        raise CheckpointError(
            f"{folder} is not the folder of a run: it has no {CONFIG}"
            f"{kept * bool(to_go_on_from(folder))}"
        )
    with locked(folder):
        yield folder


def data_settings(checkpoint: str | Path, data: str | None) -> dict:
    """What DataRoom.open needs: `data`, or else what the run a checkpoint belongs to was given."""
    path = Path(checkpoint)
    config = read_config(path if path.is_dir() else path.parent)
    return config["settings"] if config and data is None else {"data": data}


def open_data(
    room: Any, settings: dict, run: str | Path | None, data: str | None
) -> tuple[Any, Any]:
    """DataRoom.open; where `settings` are those of `run` and no `data` were given instead, a path
    that does not exist is named as the run's: it may be a relative one.
    """
    try:
        return room.open(settings)
    except DataError as error:
        path = settings["data"]
        if run is None or data is not None or path is None or Path(path).exists():
            raise
        raise DataError(
            f"{error}; the run {run} was trained on {path}: give --data PATH, where it is now"
        ) from None


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint at `path`: itself, or a run's best (before the first test: its newest)."""
    path = Path(path)
    if not path.is_dir():
        return path
    if (path / BEST).exists():
        return path / BEST
    if found := all_in(path):
        return found[0]
    raise CheckpointError(f"{path} holds no checkpoint; name a run's folder or a file")


def chosen_on(checkpoints: Sequence[str | Path], data: str | None) -> str:
    """ "the best of 6 epochs", if one of `checkpoints` was chosen so by its test on `data`."""
    for path in map(find_checkpoint, checkpoints):
        if path.name != BEST or data_settings(path, None)["data"] != data:
            continue
        tests = sum(line["kind"] == "test" for line in read_metrics(path.parent))
        if tests > 1:
            return f"{path} is the best of {tests} epochs"
    return ""


def settings_of(folder: Path, given: dict, changeable: set[str]) -> dict:
    """The settings of the run in `folder`, with those of `given` in their place.

    Raises CheckpointError where a setting is given that a run keeps from its start to its end.
    """
    settings = (read_config(folder) or {})["settings"]
    for name, value in given.items():
        if value == settings.get(name):
            continue
        if name in settings and name not in changeable:  # else it is newer than the run
            flag = name.replace("_", "-")
            raise CheckpointError(
                f"the run in {folder} was started with {name} {settings.get(name)}, not {value}: "
                f"leave --{flag} out, or start a new run"
            )
        settings[name] = value
    return settings
