"""Folders of pictures: {train, val|test}/<class>/*.jpg|jpeg|png, decoded into memory."""

from __future__ import annotations

import logging
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tinynet.data.dataset import ArrayDataset
from tinynet.data.pictures import EXTENSIONS, decode, list_pictures, open_picture
from tinynet.devices.cores import available_cores
from tinynet.errors import DataError

log = logging.getLogger("tinynet.data")

MAX_SIZE = 256  # larger photographs are shrunk to this unless the caller says otherwise
MAX_BAD = 0.1  # the share of pictures that may be left out before the run ends
MAX_MEMORY = 4 << 30  # bytes of decoded pictures; a larger set is to be prepared into shards


def find_splits(root: Path) -> tuple[Path, Path] | None:
    """The folders of training and test pictures under `root`, if it has them."""
    for name in ("val", "test"):
        if (root / "train").is_dir() and (root / name).is_dir():
            return root / "train", root / name
    return None


def list_classes(train: Path, test: Path) -> list[str]:
    """The class names, sorted: the sub-folders of both. Raises DataError where they differ."""
    found = [
        {p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")}
        for folder in (train, test)
    ]
    for folder, other, missing in (
        (train, test, found[0] - found[1]),
        (test, train, found[1] - found[0]),
    ):
        if missing:
            names = ", ".join(sorted(missing)[:10]) + (" ..." if len(missing) > 10 else "")
            raise DataError(
                f"{other}: expected the same sub-folders as in {folder}, got {len(missing)} fewer: "
                f"{names}; add them, or remove them from {folder}"
            )
    return sorted(found[0])


def common_size(paths: list[str], largest: int = MAX_SIZE) -> int:
    """The most common shorter side among some of the pictures, where each counts as `largest` at
    most. Only headers are read."""
    sides: Counter[int] = Counter()
    for path in paths[:: max(1, len(paths) // 500)]:
        try:
            with open(path, "rb") as file:
                sides[min(*open_picture(file.read(), path).size, largest)] += 1
        except DataError:
            continue  # named when it is decoded
    return sides.most_common(1)[0][0] if sides else largest


def open_folder(
    train: Path, test: Path, size: int | None = None, largest: int = MAX_SIZE
) -> tuple[ArrayDataset, ...]:
    """Training and test set as RGB pictures of `size` x `size`, decoded on all cores.

    The shorter side becomes `size` (default: the most common among the training pictures, at most
    `largest`) and the centre is cut out. A file that is no whole picture is left out with a
    warning that names it; DataError when more than a tenth is.
    """
    classes = list_classes(train, test)
    listings = [
        [(path, label) for label, name in enumerate(classes) for path in list_pictures(root / name)]
        for root in (train, test)
    ]
    for root, listing in zip((train, test), listings, strict=True):
        if not listing:
            endings = ", ".join(EXTENSIONS)
            raise DataError(
                f"{root}: expected pictures ({endings}) in sub-folders named by class, got none"
            )
    size = size or common_size([path for path, _ in listings[0]], largest)
    needed = sum(map(len, listings)) * size * size * 3
    if needed > MAX_MEMORY:
        raise DataError(
            f"{train.parent}: expected at most {MAX_MEMORY / 2**30:g} GiB of pictures, got "
            f"{sum(map(len, listings)):,} of {size} x {size}, which take "
            f"{needed / 2**30:.1f} GiB of memory; prepare them once with "
            f"`python examples/prepare_imagenet.py {train.parent} OUT` and use OUT"
        )
    return tuple(
        _decode_all(root, listing, size, classes)
        for root, listing in zip((train, test), listings, strict=True)
    )


def _decode_all(
    root: Path, listing: list[tuple[str, int]], size: int, classes: list[str]
) -> ArrayDataset:
    pictures = np.empty((len(listing), size, size, 3), np.uint8)
    problems: list[str | None] = [None] * len(listing)

    def fill(block: range) -> None:
        for i in block:
            path = listing[i][0]
            try:
                with open(path, "rb") as file:
                    pictures[i] = decode(file.read(), path, size)
            except (DataError, OSError) as error:
                problems[i] = str(error)

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
            f"{root}: expected at most {MAX_BAD:.0%} bad pictures, got {len(bad)} of "
            f"{len(listing)}; the first: {bad[0]}"
        )
    labels = np.array([label for _, label in listing])
    if bad:
        good = np.array([problem is None for problem in problems])
        pictures, labels = pictures[good], labels[good]
    return ArrayDataset(pictures, labels, classes, str(root))
