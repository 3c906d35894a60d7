"""Tensors by name in a file: safetensors, a plain format that runs no code when it is loaded.

    tinynet.save(net.state_dict(), "net.safetensors")
    net.load_state_dict(tinynet.load("net.safetensors"))

A file is written aside, flushed to the disk and only then given its name, so that a plug pulled at
any moment leaves either the old file or the new one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tinynet.tensors import Tensor, as_array, tensor

PART = ".part"  # a file still being written


def save(tensors: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write tensors or arrays by name. Afterwards the file is whole, or as it was before.

    TypeError for anything but a mapping from names; OSError where the file cannot be written.
    """
    if not isinstance(tensors, Mapping) or not all(isinstance(name, str) for name in tensors):
        raise TypeError(
            f"save: expected tensors by name, such as net.state_dict() or {{'x': x}}, got "
            f"{type(tensors).__name__}"
        )
    arrays = {
        name: np.asarray(
            x.numpy() if isinstance(x, Tensor) else as_array(f"save: {name}", x), order="C"
        )
        for name, x in tensors.items()
    }
    write_arrays(Path(path), arrays, {"format": "tinynet"})


def load(path: str | os.PathLike, device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a file by name, on a device.

    FileNotFoundError, or ValueError for what is no safetensors file or is damaged.
    """
    if os.path.isdir(path):
        raise ValueError(f"load: expected a safetensors file, got a folder: {os.fspath(path)}")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: tensor(file.get_tensor(name), device=device) for name in file.keys()}
    except SafetensorError as error:
        raise ValueError(
            f"load: expected a safetensors file, got {os.fspath(path)!r}, which is none or is "
            f"damaged ({error}); torch's own files hold code: write them with safetensors"
        ) from None


def write_arrays(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Write C-contiguous arrays by name as one safetensors file, whole or not at all. OSError."""
    # a folder, since the library has a half-written file of its own in it
    part = path.with_name(path.name + PART)
    file = part / path.name
    try:
        shutil.rmtree(part, ignore_errors=True)  # what a kill left
        part.mkdir()
        file.touch()
        mode = file.stat().st_mode
        save_file(arrays, file, metadata)
        file.chmod(mode)  # the library writes files that their owner alone may read
        with open(file, "r+b") as opened:
            os.fsync(opened.fileno())
        os.replace(file, path)
        part.rmdir()
        sync_folder(path.parent)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        if isinstance(error, SafetensorError):  # what the library makes of a full disk
            raise OSError(f"{path}: {error}") from None
        raise


def write_parts(path: Path, parts: Iterable[Any]) -> None:
    """Write bytes, or arrays in C order, one after another; the file is there whole, or as it was
    before. OSError.
    """
    part = path.with_name(path.name + PART)
    try:
        with open(part, "wb") as file:
            for data in parts:
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder survive a power cut (where the system lets folders be synced)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
