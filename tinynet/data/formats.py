"""`open_data(path)`: recognises by itself what lies at a path."""

from __future__ import annotations

import shlex
from pathlib import Path

from tinynet.data.cifar import FOLDERS as CIFAR_FOLDERS
from tinynet.data.cifar import open_cifar10
from tinynet.data.dataset import Dataset
from tinynet.data.folder import MAX_SIZE, advice, find_splits, open_folder
from tinynet.data.idx import find_idx, open_idx
from tinynet.data.shards import ShardDataset
from tinynet.errors import DataError


def open_data(
    path: str | Path,
    size: int | None = None,
    largest: int | None = None,
    val_share: float | None = None,
) -> tuple[Dataset, Dataset]:
    """Open the training set and the test (or validation) set at `path`. It may be

    - a folder tree {train,val}/<class>/*.jpg (val: or valid, validation, test; or with `val_share`,
      between 0 and 1, that share of the training pictures, chosen by their names),
    - CIFAR-10 as its authors publish it, python or binary, .tar.gz or unpacked,
    - a folder of IDX files (MNIST, Fashion-MNIST), gzipped or plain,
    - a folder that `examples/prepare_imagenet.py` has prepared.

    Photographs in folders get the side `size`. Without it they keep their own (the most common
    among them) up to `largest` (256), and are shrunk to `largest` beyond. The other formats have
    a side already, which must fit what is asked for.

    Raises DataError, one line that says what is missing.
    """
    path = Path(path)
    train: Dataset
    test: Dataset
    if not path.exists():
        raise DataError(f"{path}: expected a data set, got nothing: the path does not exist")
    if path.is_dir() and (splits := find_splits(path, val_share)):
        train, test = open_folder(splits, size, MAX_SIZE if largest is None else largest)
    else:
        train, test = _open_fixed(path)
        if val_share is not None:
            raise DataError(
                f"{path}: expected folders of pictures to split a share off, got a data set that "
                f"brings test pictures of its own; leave --val-share out"
            )
        _check_side(path, train, size, largest)
    if len(train.classes) < 2:
        raise DataError(
            f"{path}: expected at least two classes, got {' '.join(train.classes) or 'none'}: "
            f"there is nothing to tell apart"
        )
    return train, test


def _check_side(path: Path, train: Dataset, size: int | None, largest: int | None) -> None:
    """DataError for a side that pictures which cannot be resized do not have."""
    side = train.shape[0]
    if size not in (None, side) or (size is None and largest is not None and side > largest):
        asked = size or f"at most {largest}"
        todo = "ask for no other size"
        if isinstance(train, ShardDataset):
            todo = (
                f"prepare it again: `python examples/prepare_imagenet.py --size {size or largest} "
                f"SOURCE OUT`"
            )
        raise DataError(
            f"{path}: expected pictures of side {asked}, got {side}, which cannot be resized; "
            f"{todo}"
        )


def _open_fixed(path: Path) -> tuple[Dataset, Dataset]:
    """The formats that bring their own picture size."""
    if path.is_file():
        if path.name.endswith((".tar.gz", ".tgz", ".tar")):
            return open_cifar10(path)
        raise DataError(f"{path}: expected a folder or a CIFAR-10 .tar.gz, got another file")
    for folder in (path, *(path / name for name in CIFAR_FOLDERS)):
        if (folder / "data_batch_1").is_file() or (folder / "data_batch_1.bin").is_file():
            return open_cifar10(folder)
    if (path / "dataset.json").is_file():
        return ShardDataset(path, "train"), ShardDataset(path, "val")
    if find_idx(path, "train", "images-idx3"):
        return open_idx(path)
    archives = sorted(path.glob("cifar-10-*.tar.gz"))
    if archives:
        return open_cifar10(archives[0])
    if (path / "parts" / "plan.json").is_file():
        raise DataError(
            f"{path}: expected a prepared folder, got one not yet prepared to the end; run "
            f"prepare_imagenet.py again"
        )
    if (path / "ILSVRC").is_dir() or any(path.glob("ILSVRC2012_img_*.tar")):
        raise DataError(
            f"{path}: expected a prepared folder, got ImageNet's archives; first run "
            f"`python examples/prepare_imagenet.py {shlex.quote(str(path))} OUT`, then use OUT"
        )
    raise DataError(
        f"{path}: expected train/<class>/*.jpg and val/<class>/*.jpg (or test), CIFAR-10's "
        f"archive, or IDX files such as train-images-idx3-ubyte.gz, got none of these"
        f"{advice(path)}"
    )
