"""The official CIFAR-10 archives (https://www.cs.toronto.edu/~kriz/cifar.html), python or binary.

Binary: records of one label byte and 3,072 picture bytes (three 32 x 32 planes, R G B).
Python: pickled dictionaries with `data` (10000, 3072) and `labels`. A pickle can run any code;
the reader here lets it build NumPy arrays and nothing else.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.data.dataset import ArrayDataset
from tinynet.data.tar import read_packed
from tinynet.errors import DataError

FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin")
_TRAIN = [f"data_batch_{k}" for k in range(1, 6)]
_MAX_BYTES = 256 << 20  # the real archive unpacks to 186 MB
_SIDE, _PIXELS = 32, 3 * 32 * 32


def open_cifar10(path: Path) -> tuple[ArrayDataset, ArrayDataset]:
    """Training and test set, from the .tar.gz or the folder it unpacks to. Pictures 32 x 32 x 3."""
    if path.is_dir():
        files = {p.name: p.read_bytes() for p in path.iterdir() if p.is_file() and _wanted(p.name)}
    else:
        files = read_packed(path, _wanted, _MAX_BYTES)
    if "data_batch_1.bin" in files:
        names, ending, read = "batches.meta.txt", ".bin", _read_binary
    else:
        names, ending, read = "batches.meta", "", _read_pickled
    for name in [*_TRAIN, "test_batch"]:
        if name + ending not in files:
            raise DataError(f"{path}: {name + ending} is missing; fetch CIFAR-10 again")
    classes = _class_names(files.get(names), f"{path}/{names}")
    return (
        _dataset(files, [name + ending for name in _TRAIN], read, classes, path),
        _dataset(files, ["test_batch" + ending], read, classes, path),
    )


def _wanted(name: str) -> bool:
    return name.startswith(("data_batch_", "test_batch", "batches.meta"))


def _class_names(data: bytes | None, name: str) -> list[str]:
    if data is None:
        raise DataError(f"{name} is missing; fetch CIFAR-10 again")
    if name.endswith(".txt"):
        return data.decode("ascii", "replace").split()
    labels = load_pickle(data, name).get(b"label_names")
    if not isinstance(labels, list):
        raise DataError(f"{name}: expected a list of the classes' names, got none; fetch it again")
    return [
        label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
        for label in labels
    ]


def _dataset(
    files: dict[str, bytes], names: list[str], read: Callable, classes: list[str], path: Path
) -> ArrayDataset:
    parts = [read(files[name], f"{path}/{name}") for name in names]
    planes = np.concatenate([planes for planes, _ in parts]).reshape(-1, 3, _SIDE, _SIDE)
    labels = np.concatenate([labels for _, labels in parts])
    # (N, C, H, W) -> (N, H, W, C)
    pictures = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return ArrayDataset(pictures, labels, classes, str(path))


def _read_binary(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    if not data or len(data) % (1 + _PIXELS):
        raise DataError(
            f"{name}: expected records of {1 + _PIXELS} bytes, got {len(data)} bytes in all; fetch "
            f"it again"
        )
    records = np.frombuffer(data, np.uint8).reshape(-1, 1 + _PIXELS)
    return records[:, 1:], records[:, 0]


def _read_pickled(data: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    batch = load_pickle(data, name)
    planes, labels = batch.get(b"data"), batch.get(b"labels")
    if not (
        isinstance(planes, np.ndarray)
        and planes.dtype == np.uint8
        and planes.shape[1:] == (_PIXELS,)
        and isinstance(labels, list)
        and len(labels) == len(planes)
        and all(isinstance(label, int) for label in labels)
    ):
        raise DataError(
            f"{name}: expected a CIFAR-10 batch (uint8 data of (N, 3072), a list of N labels), got "
            f"something else; fetch it again"
        )
    return planes, np.array(labels)


def _encode(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in old pickles: `_codecs.encode(text, "latin1")`."""
    return text.encode("latin1")


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # NumPy 1
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Finds the four names that NumPy arrays need, whichever NumPy wrote them, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not allowed")
        return _ALLOWED[module, name]


def load_pickle(data: bytes, name: str) -> dict:
    """The dictionary in a pickle of arrays, lists, numbers and strings; runs no code of it."""
    try:
        content = _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # the bytes are not ours: the unpickler may raise anything over them
        raise DataError(f"{name}: damaged or unsafe pickle ({error}); fetch it again") from error
    if not isinstance(content, dict):
        raise DataError(
            f"{name}: expected a dictionary, got {type(content).__name__}; fetch it again"
        )
    return content
