"""IDX, the file format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist).

Two zero bytes, a type (8 = uint8), the number of dimensions, each dimension as a big-endian
uint32, then the values in C order. Often the whole is gzipped.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from tinynet.data.dataset import ArrayDataset
from tinynet.errors import DataError

FASHION_CLASSES = [
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
]  # fmt: skip


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file, gzipped or plain. Raises DataError that names the file."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(4)
            if head[:3] != b"\0\0\x08" or len(head) < 4 or head[3] not in (1, 3):
                raise DataError(
                    f"{path}: expected an IDX file of uint8 pictures or labels, got another header"
                )
            sizes = file.read(4 * head[3])
            shape = struct.unpack(f">{len(sizes) // 4}I", sizes[: len(sizes) // 4 * 4])
            count = math.prod(shape)
            # One byte more than promised is asked for, so that a file too long shows as well; in
            # pieces, so that a false promise of a huge array takes the memory of what really comes.
            data = bytearray()
            while len(data) <= count and (piece := file.read(min(count + 1 - len(data), 1 << 24))):
                data += piece
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short ({error}); fetch it again") from error
    if len(shape) != head[3] or len(data) != count:
        raise DataError(
            f"{path}: expected {shape} values as its header says, got "
            f"{'more' if len(data) > count else len(data)}; fetch it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def find_idx(folder: Path, split: str, kind: str) -> Path | None:
    """The file of `kind` ("images-idx3" or "labels-idx1") for `split` ("train" or "t10k")."""
    for stem in (f"{split}-{kind}-ubyte", f"{split}-{kind.replace('-', '.')}-ubyte"):
        for name in (stem, stem + ".gz"):
            if (folder / name).is_file():
                return folder / name
    return None


def open_idx(
    folder: Path, classes: list[str] | None = None, source: str = ""
) -> tuple[ArrayDataset, ArrayDataset]:
    """Training and test set from the four IDX files in a folder; pictures (N, H, W, 1)."""
    arrays = {}
    for split in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            path = find_idx(folder, split, kind)
            if path is None:
                raise DataError(
                    f"{folder}: expected {split}-{kind}-ubyte[.gz] beside the other IDX files, "
                    f"got none; fetch it"
                )
            array = read_idx(path)
            if array.ndim != int(kind[-1]):
                raise DataError(f"{path}: expected {kind[-1]} dimensions, got {array.ndim}")
            arrays[split, kind] = array
        pictures, labels = arrays[split, "images-idx3"], arrays[split, "labels-idx1"]
        if len(pictures) != len(labels):
            raise DataError(
                f"{folder}: expected a label for each {split} picture, got {len(labels)} labels "
                f"for {len(pictures)} pictures; fetch them again"
            )
    sides = [arrays[s, "images-idx3"].shape[1:] for s in ("train", "t10k")]
    if sides[0] != sides[1]:
        raise DataError(
            f"{folder}: expected train and t10k pictures of one size, got {sides[0]} and "
            f"{sides[1]}; fetch them again"
        )
    if classes is None:
        highest = max(int(arrays[s, "labels-idx1"].max(initial=0)) for s in ("train", "t10k"))
        classes = [str(k) for k in range(highest + 1)]
    train, test = (
        ArrayDataset(
            arrays[s, "images-idx3"][..., None],
            arrays[s, "labels-idx1"],
            classes,
            source or str(folder),
        )
        for s in ("train", "t10k")
    )
    return train, test


def fashion_mnist() -> tuple[ArrayDataset, ArrayDataset]:
    """The embedded part of Fashion-MNIST: 10,000 + 2,000 grey 28 x 28 pictures, balanced."""
    return open_idx(Path(__file__).parent / "fashion", FASHION_CLASSES, "embedded Fashion-MNIST")
