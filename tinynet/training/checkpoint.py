"""Checkpoints: one safetensors file each, whole or recognised as damaged.

A file is written aside, flushed to the disk and only then given its name, so that a plug pulled at
any moment leaves either the old state of the folder or the new one. Its metadata hold the SHA-256
of all that is in it: one changed bit anywhere is found before anything in the file is believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from tinynet.errors import CheckpointError
from tinynet.saving import PART, sync_folder, write_arrays, write_parts

SUFFIX = ".safetensors"
BEST = "best" + SUFFIX


@dataclass
class Checkpoint:
    """All that a run needs to go on as if nothing had happened.

    model: parameters by name; optimizer: velocities by name; arrays: what else is an array (the
    mean picture); state: what JSON can hold (position, schedule, random state, classes ...).
    """

    model: dict[str, np.ndarray]
    optimizer: dict[str, np.ndarray] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    state: dict = field(default_factory=dict)


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` training batches lies."""
    return Path(folder) / f"step-{step:08d}{SUFFIX}"


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint. Afterwards `path` is whole and on the disk, or as it was before.

    Raises OSError where the file cannot be written.
    """
    arrays = {
        f"{section}.{name}": np.asarray(array, order="C")
        for section in ("model", "optimizer", "arrays")
        for name, array in getattr(checkpoint, section).items()
    }
    save_arrays(path, arrays, checkpoint.state)


def save_arrays(path: Path, arrays: dict[str, np.ndarray], state: dict | None = None) -> None:
    """Write arrays by name as one safetensors file. Raises OSError."""
    metadata = {"format": "tinynet", "state": json.dumps(state or {})}
    metadata["sha256"] = _digest(arrays, metadata)
    write_arrays(path, arrays, metadata)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint back. Raises CheckpointError if it is missing, damaged or none of ours."""
    path = Path(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no checkpoint {path}; name a run's folder or a file"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"{path} is not a checkpoint of tinynet, or it is damaged (cut short or changed); "
            "use an earlier checkpoint, or --import for weights of others"
        ) from None
    if not {"sha256", "state"} & metadata.keys():
        raise CheckpointError(
            f"{path}: expected a checkpoint, got weights alone; name the folder of their run; "
            "--import takes .onnx files that --export wrote, and weights of others"
        )
    written = metadata.pop("sha256", None)
    if written != _digest(arrays, metadata):
        raise CheckpointError(
            f"{path} is damaged (cut short or changed: its checksum does not match), or not a "
            "checkpoint of tinynet; use an earlier checkpoint"
        )
    sections: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "arrays": {}}
    for key, array in arrays.items():
        section, _, name = key.partition(".")
        if section not in sections:  # what else save_arrays has written
            raise CheckpointError(f"{path} is not a checkpoint of a run: it holds {key}")
        sections[section][name] = array
    with understood(path):
        return Checkpoint(**sections, state=dict(json.loads(metadata["state"])))


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """While entered, a value that a whole checkpoint lacks, or that makes no sense, is a
    CheckpointError that names the file: its checksum says that nothing has changed since it was
    written, not that it was written by a run.
    """
    try:
        yield
    except CheckpointError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{path} is not a checkpoint of a run of this program ({what}); use another one"
        ) from error


def all_in(folder: Path) -> list[Path]:
    """The numbered checkpoints of a run's folder, the newest first."""
    return sorted(Path(folder).glob(f"step-*{SUFFIX}"), reverse=True)


def to_go_on_from(folder: Path) -> list[Path]:
    """The checkpoints that a run can go on from, the first choice first: the best one is the last,
    for when all others are damaged.
    """
    best = Path(folder) / BEST
    return all_in(folder) + [best] * best.exists()


def newest_whole(folder: Path) -> tuple[Path, Checkpoint, list[Path]]:
    """The newest undamaged checkpoint of a folder: its path, itself, the damaged newer ones.

    Raises CheckpointError if the folder has none.
    """
    damaged: list[Path] = []
    for path in to_go_on_from(folder):
        try:
            return path, load(path), damaged
        except CheckpointError:
            damaged.append(path)
    if damaged:
        names = ", ".join(path.name for path in damaged)
        raise CheckpointError(f"every checkpoint in {folder} is damaged ({names}); start a new run")
    raise CheckpointError(f"{folder} has no checkpoint to go on from; start a new run")


def keep_best(path: Path) -> None:
    """Let `best.safetensors` be this checkpoint too: a second name, or a copy of it."""
    best = path.with_name(BEST)
    part = path.with_name(BEST + PART)
    part.unlink(missing_ok=True)
    try:
        os.link(path, part)
    except OSError:  # a file system without hard links
        shutil.copyfile(path, part)
        with open(part, "r+b") as file:
            os.fsync(file.fileno())
    os.replace(part, best)
    sync_folder(path.parent)


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` numbered checkpoints."""
    for path in all_in(folder)[keep:]:
        path.unlink()


def remove_parts(folder: Path) -> None:
    """Delete what a killed run left half-written."""
    for path in Path(folder).glob("*" + PART):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_whole(path: Path, text: str) -> None:
    """Write a small text file so that it is there whole or not at all."""
    write_parts(path, [text.encode()])


def _digest(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> str:
    """SHA-256 of the metadata, and of names, types, shapes and values of the arrays."""
    sha = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        sha.update(f"{name} {array.dtype} {array.shape}".encode())
        sha.update(array.data)
    return sha.hexdigest()
