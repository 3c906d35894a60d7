"""Folders of pictures: {train,val}/<class>/*.jpg and so on, decoded into memory.

The folder of test pictures may be called val, valid, validation or test. Where there is none, a
share of the training pictures may be split off.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tinynet.data.dataset import ArrayDataset
from tinynet.data.pictures import (
    EXTENSIONS,
    decode,
    in_words,
    list_pictures,
    open_picture,
    read_file,
)
from tinynet.devices.cores import available_cores
from tinynet.errors import DataError

log = logging.getLogger("tinynet.data")

VALS = ("val", "valid", "validation", "test")  # what a folder of test pictures may be called
MAX_SIZE = 256  # larger photographs are shrunk to this unless the caller says otherwise
MAX_BAD = 0.1  # the share of pictures that may be left out before the run ends
MAX_MEMORY = 4 << 30  # bytes of decoded pictures; a larger set is to be prepared into shards


class Splits(NamedTuple):
    """Where training and test pictures lie. With a share, both folders are the same one, and a
    picture's name says which it is (see `held_out`)."""

    train: Path
    val: Path
    share: float | None = None

    def names(self) -> tuple[str, str]:
        """What to call the two."""
        if self.share is None:
            return str(self.train), str(self.val)
        return f"{self.train} without {self.share:.3g} of it", f"{self.share:.3g} of {self.val}"


def find_splits(root: Path, share: float | None = None) -> Splits | None:
    """The folders of training and test pictures under `root`, or None if it has no such folders.

    With `share`, the test pictures are split off the training pictures, which may then lie in class
    folders in `root` itself. Raises DataError where no one folder, or more than one, can be the
    test pictures'.
    """
    if share is not None and not 0 < share < 1:
        raise DataError(f"--val-share: expected a number between 0 and 1, got {share:g}")
    folders = sorted(p for p in root.iterdir() if p.is_dir())
    trains = [p for p in folders if p.name.lower() == "train"]
    vals = [p for p in folders if p.name.lower() in VALS]
    if len(trains) > 1:
        raise DataError(
            f"{root}: expected one folder of training pictures, got {_listed(trains)}; rename "
            f"those not to be used"
        )
    train = trains[0] if trains else None
    if train is None and (vals or share is None or not _class_folders(root)):
        return None
    if share is not None:
        if vals:
            log.warning("%s: not used, since --val-share splits %s", _listed(vals), train)
        base = train or root
        return Splits(base, base, share)
    if len(vals) != 1:
        got = _listed(vals) if vals else "none"
        what = "rename those not to be used" if vals else "add it"
        raise DataError(
            f"{root}: expected one folder of test pictures beside train ({', '.join(VALS)}), got "
            f"{got}; {what}, or split a part of train off with --val-share 0.1"
        )
    assert train is not None  # or there would be no vals
    if train.resolve() == vals[0].resolve():
        raise DataError(
            f"{vals[0]}: expected other pictures than those to train on, got the same folder; "
            f"split a part off with --val-share 0.1"
        )
    return Splits(train, vals[0])


def advice(root: Path) -> str:
    """What to do with a folder without train and val, if it is one of class folders: or ""."""
    if not (found := _class_folders(root)):
        return ""
    return f", but class folders ({_some(found)}): split a part off with --val-share 0.1"


def _class_folders(root: Path) -> list[str]:
    """The names of the folders in `root` that hold pictures themselves."""
    return [name for name in _folders(root) if list_pictures(root / name)[0]]


def _folders(root: Path) -> list[str]:
    return sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listed(paths: list[Path]) -> str:
    return " and ".join(map(str, paths))


def _some(names: list[str]) -> str:
    return ", ".join(names[:10]) + (" ..." if len(names) > 10 else "")


def list_classes(train: Path, test: Path) -> list[str]:
    """The class names, sorted: the sub-folders of both. Raises DataError where they differ, where
    there are none, or where a name cannot be written."""
    found = [set(_folders(folder)) for folder in (train, test)]
    for folder, other, missing in (
        (train, test, found[0] - found[1]),
        (test, train, found[1] - found[0]),
    ):
        if missing:
            raise DataError(
                f"{other}: expected the same sub-folders as in {folder}, got {len(missing)} fewer: "
                f"{_some(sorted(missing))}; add them, or remove them from {folder}"
            )
    if not found[0]:
        raise DataError(
            f"{train}: expected a sub-folder of pictures for each class, got none; make them, and "
            f"move the pictures there"
        )
    for name in found[0]:
        if not name.isprintable():  # bytes that are no UTF-8 are not either
            raise DataError(
                f"{train}: expected class names of printable characters in UTF-8, got "
                f"{ascii(name)}; rename that folder"
            )
    return sorted(found[0])


def list_split(root: Path, classes: list[str]) -> list[tuple[str, int]]:
    """(path, label) of each picture in the class folders of `root`, sorted.

    What else lies there is counted, and told in one warning. DataError for a class without
    pictures.
    """
    listing: list[tuple[str, int]] = []
    outside, passed = list_pictures(root)
    del passed["folder"]  # the classes
    passed += Counter({"unsorted picture": len(outside)})
    for label, name in enumerate(classes):
        pictures, others = list_pictures(root / name)
        if not pictures:
            raise DataError(
                f"{root / name}: expected pictures ({', '.join(EXTENSIONS)}) in this folder, since "
                f"it is a class, got {in_words(others) or 'none'}; convert or move them, or remove "
                f"the folder"
            )
        listing += [(path, label) for path in pictures]
        passed += others
    if passed:
        log.warning("%s: passed over %s", root, in_words(passed))
    return listing


def list_splits(splits: Splits, classes: list[str]) -> tuple[list[tuple[str, int]], ...]:
    """`list_split` of the training and of the test pictures."""
    listing = list_split(splits.train, classes)
    if splits.share is None:
        return listing, list_split(splits.val, classes)
    parts: tuple[list, list] = [], []
    for item in listing:
        parts[held_out(item[0], splits.share)].append(item)
    if not all(parts):
        raise DataError(
            f"{splits.train}: expected a share that leaves pictures on both sides, got --val-share "
            f"{splits.share:g}, which takes {len(parts[1])} of {len(listing)}"
        )
    return parts


def held_out(path: str, share: float) -> bool:
    """Whether a picture is split off as a test picture: by a hash of its class and name, so that
    the answer never changes, also where the folder is moved or more pictures are added.
    """
    name = "/".join(Path(path).parts[-2:])
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8], "big") < share * 2**64


def check_classes(labels: np.ndarray, classes: list[str], where: str, share: float | None) -> None:
    """DataError for a class that has no picture left, neither bad ones nor those split off; of
    test pictures, if a share was split off, which may hit a small class: a warning."""
    counts = np.bincount(labels, minlength=len(classes))
    if empty := [name for name, count in zip(classes, counts, strict=True) if not count]:
        if share is None or len(empty) == len(classes):
            raise DataError(
                f"{where}: expected pictures of each class that can be used, got none of "
                f"{_some(empty)}; add some, or remove the class"
            )
        log.warning("%s: no picture of %s", where, _some(empty))


def common_size(paths: list[str], largest: int = MAX_SIZE) -> int:
    """The most common shorter side among some of the pictures, where each counts as `largest` at
    most. Only headers are read."""
    sides: Counter[int] = Counter()
    for path in paths[:: max(1, len(paths) // 500)]:
        try:
            sides[min(*open_picture(read_file(path), path).size, largest)] += 1
        except (DataError, OSError):
            continue  # named when it is decoded
    return max(sides, key=sides.__getitem__, default=largest)


def open_folder(
    splits: Splits, size: int | None = None, largest: int = MAX_SIZE
) -> tuple[ArrayDataset, ArrayDataset]:
    """Training and test set as RGB pictures of `size` x `size`, decoded on all cores.

    The shorter side becomes `size` (default: the most common among the training pictures, at most
    `largest`) and the centre is cut out. A file that is no whole picture is left out with a
    warning that names it; DataError when more than a tenth is, or all of a class.
    """
    classes, names = list_classes(splits.train, splits.val), splits.names()
    listings = list_splits(splits, classes)
    size = size or common_size([path for path, _ in listings[0]], largest)
    needed = sum(map(len, listings)) * size * size * 3
    if needed > MAX_MEMORY:
        root = splits.train if splits.share else splits.train.parent
        raise DataError(
            f"{root}: expected at most {MAX_MEMORY / 2**30:g} GiB of pictures, got "
            f"{sum(map(len, listings)):,} of {size} x {size}, which take "
            f"{needed / 2**30:.1f} GiB of memory; prepare them once with "
            f"`python examples/prepare_imagenet.py {shlex.quote(str(root))} OUT` and use OUT"
        )
    train, test = (
        _decode_all(name, listing, size, classes)
        for name, listing in zip(names, listings, strict=True)
    )
    check_classes(train.labels, classes, names[0], None)
    check_classes(test.labels, classes, names[1], splits.share)
    return train, test


def _decode_all(
    name: str, listing: list[tuple[str, int]], size: int, classes: list[str]
) -> ArrayDataset:
    pictures = np.empty((len(listing), size, size, 3), np.uint8)
    problems: list[str | None] = [None] * len(listing)

    def fill(block: range) -> None:
        for i in block:
            path = listing[i][0]
            try:
                pictures[i] = decode(read_file(path), path, size)
            except (DataError, OSError) as error:
                # a name may be any bytes, what is printed is text
                problems[i] = str(error).encode("utf-8", "backslashreplace").decode()

    blocks = [range(i, min(i + 64, len(listing))) for i in range(0, len(listing), 64)]
    with ThreadPoolExecutor(
        available_cores()
    ) as pool:  # Pillow decodes outside the interpreter lock
        list(pool.map(fill, blocks))
    bad = [problem for problem in problems if problem]
    for problem in bad[:50]:
        log.warning("left out: %s", problem)
    if len(bad) > 50:
        log.warning("left out: %d more", len(bad) - 50)
    if len(bad) > MAX_BAD * len(listing):
        raise DataError(
            f"{name}: expected at most {MAX_BAD:.0%} bad pictures, got {len(bad)} of "
            f"{len(listing)}; mend or remove them; the first: {bad[0]}"
        )
    labels = np.array([label for _, label in listing])
    if bad:
        good = np.array([problem is None for problem in problems])
        pictures, labels = pictures[good], labels[good]
    return ArrayDataset(pictures, labels, classes, name)
