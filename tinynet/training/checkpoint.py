"""Checkpoints: one safetensors file each, whole or recognised as damaged.

A file is written aside, flushed to the disk and only then given its name, so that a plug pulled at
any moment leaves either the old state of the folder or the new one. The header holds the SHA-256
of the whole file (taken with the 64 digits of the hash themselves as zeros): one changed bit
anywhere is found before anything in the file is believed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinynet.errors import CheckpointError

SUFFIX = ".safetensors"
PART = ".part"  # a file still being written
BEST = "best" + SUFFIX

_HASH = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_NO_HASH = "0" * 64
_LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format itself
_DTYPES = {"float32": "F32", "float64": "F64", "int64": "I64", "uint8": "U8"}


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
    """Writes a checkpoint. Afterwards `path` is whole and on the disk, or as it was before.

    Raises OSError where the file cannot be written.
    """
    arrays = {
        f"{room}.{name}": np.asarray(array, order="C")
        for room in ("model", "optimizer", "arrays")
        for name, array in getattr(checkpoint, room).items()
    }
    save_arrays(path, arrays, checkpoint.state)


def save_arrays(path: Path, arrays: dict[str, np.ndarray], state: dict | None = None) -> None:
    """Writes arrays by name, C-contiguous, as one safetensors file. Raises OSError."""
    header = _header(arrays, state or {})
    sha = hashlib.sha256(header)
    for array in arrays.values():
        sha.update(array.data)
    part = path.with_name(path.name + PART)
    try:
        with open(part, "wb") as file:
            file.write(header.replace(_NO_HASH.encode(), sha.hexdigest().encode(), 1))
            for array in arrays.values():
                file.write(array.data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def load(path: Path) -> Checkpoint:
    """Reads a checkpoint back. Raises CheckpointError if it is missing, damaged or none of ours."""
    path = Path(path)
    try:
        with open(path, "rb") as file:
            position, written = _find_hash(file)
            digest = _digest(file, position)
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except ValueError:
        raise CheckpointError(
            f"{path} is not a checkpoint of tinynet, or its beginning is damaged"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if digest != written:
        raise CheckpointError(
            f"{path} is damaged (cut short or changed: its checksum does not match); "
            "use an earlier checkpoint"
        )
    header, arrays = _read(path)
    rooms: dict[str, dict[str, np.ndarray]] = {"model": {}, "optimizer": {}, "arrays": {}}
    for key, array in arrays.items():
        room, name = key.split(".", 1)
        rooms[room][name] = array
    return Checkpoint(**rooms, state=json.loads(header["__metadata__"]["state"]))


def all_in(folder: Path) -> list[Path]:
    """The numbered checkpoints of a run's folder, the newest first."""
    return sorted(Path(folder).glob(f"step-*{SUFFIX}"), reverse=True)


def newest_whole(folder: Path) -> tuple[Path, Checkpoint, list[Path]]:
    """The newest undamaged checkpoint of a folder: its path, itself, the damaged newer ones.

    Raises CheckpointError if the folder has none.
    """
    damaged = []
    for path in all_in(folder):
        try:
            return path, load(path), damaged
        except CheckpointError:
            damaged.append(path)
    if damaged:
        names = ", ".join(path.name for path in damaged)
        raise CheckpointError(f"every checkpoint in {folder} is damaged: {names}")
    raise CheckpointError(
        f"{folder} has no checkpoint to resume from; start the run without --resume"
    )


def keep_best(path: Path) -> None:
    """Lets `best.safetensors` be this checkpoint too: a second name, or a copy of it."""
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
    """Deletes all but the newest `keep` numbered checkpoints."""
    for path in all_in(folder)[keep:]:
        path.unlink()


def remove_parts(folder: Path) -> None:
    """Deletes what a killed run left half-written."""
    for path in Path(folder).glob("*" + PART):
        path.unlink()


def sync_folder(folder: Path) -> None:
    """Makes new names in a folder survive a power cut (where the system lets folders be synced)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, text: str) -> None:
    """Writes a small text file so that it is there whole or not at all."""
    part = path.with_name(path.name + PART)
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)
    sync_folder(path.parent)


# The format (https://github.com/huggingface/safetensors): the header's length as a little-endian
# uint64, the header as JSON (names, types, shapes, places), the arrays' bytes one after another.


def _header(arrays: dict[str, np.ndarray], state: dict) -> bytes:
    """Length and JSON, with zeros where the hash will stand; padded so that arrays are aligned."""
    metadata = {"sha256": _NO_HASH, "format": "tinynet", "state": json.dumps(state)}
    fields: dict[str, dict] = {"__metadata__": metadata}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        kind = _DTYPES[array.dtype.name]
        fields[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _read(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The header and the arrays of a file whose checksum has been found right."""
    dtypes = {kind: name for name, kind in _DTYPES.items()}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        arrays = {}
        for name, field in header.items():  # in the order of their bytes
            if name != "__metadata__":
                array = np.empty(field["shape"], dtypes[field["dtype"]])
                file.readinto(array.reshape(-1).view(np.uint8).data)
                arrays[name] = array
    return header, arrays


def _find_hash(file) -> tuple[int, str]:
    """Where the 64 digits of the hash stand, and what they say. ValueError if there are none.

    Quotes inside the header's own strings are escaped, so the pattern can match one place only.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= _LARGEST_HEADER:
        raise ValueError("no safetensors header")
    match = _HASH.search(file.read(length))
    if not match:
        raise ValueError("no checksum")
    return 8 + match.start(1), match.group(1).decode()


def _digest(file, position: int) -> str:
    """SHA-256 of a file with the 64 bytes at `position` read as zeros' digits."""
    sha = hashlib.sha256()
    file.seek(0)
    sha.update(file.read(position))
    sha.update(_NO_HASH.encode())
    file.seek(position + len(_NO_HASH))
    while piece := file.read(1 << 20):
        sha.update(piece)
    return sha.hexdigest()
