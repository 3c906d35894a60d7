"""What there is to prepare: ImageNet's official archives, Kaggle's layout, or a folder tree.

Whichever it is, it becomes a `Source`: classes, and for each split a list of entries that say
where each picture's bytes lie. Pictures inside the official tars are read where they lie; nothing
is unpacked.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from tqdm import tqdm

from tinynet.data.folder import Splits, advice, find_splits, list_classes, list_split, list_splits
from tinynet.data.matfile import read_struct_array
from tinynet.data.pictures import check_size, in_words, list_pictures
from tinynet.data.progress import bar
from tinynet.data.tar import read_packed, tar_members
from tinynet.errors import DataError

log = logging.getLogger("tinynet.data")

TRAIN, VAL, DEVKIT = (
    "ILSVRC2012_img_train.tar",
    "ILSVRC2012_img_val.tar",
    "ILSVRC2012_devkit_t12.tar.gz",
)
MD5 = {
    TRAIN: "1d675b47d978889d74fa0da5fadfb00e",
    VAL: "29b22e2961454d5413ddabcf34fc5622",
    DEVKIT: "fa75699e90414af021442c21a62c3abf",
}
COUNTS = {"classes": 1000, "train": 1_281_167, "val": 50_000}  # of ILSVRC2012
_META, _TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
_MAX_DEVKIT = 64 << 20  # bytes unpacked; the real one has 11 million
_MAX_TRUTH = 4 << 20  # bytes; the real one has 200 thousand
_KAGGLE = Path("ILSVRC/Data/CLS-LOC")


class Entry(NamedTuple):
    """One picture of a source."""

    file: str  # the archive it lies in, or the file it is
    offset: int
    size: int
    name: str  # what a report calls it
    label: int

    def read(self) -> bytes:
        check_size(self.size, self.name)
        with open(self.file, "rb", buffering=0) as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass
class Source:
    classes: list[tuple[str, str]]  # (id, name), sorted by id
    train: list[Entry]
    val: list[Entry]

    def fingerprint(self) -> str:
        """Changes when any picture is added, taken away, or of another size or class."""
        digest = hashlib.sha256(repr(self.classes).encode())
        for entry in (*self.train, *self.val):
            line = f"{entry.name}\0{entry.offset} {entry.size} {entry.label}\n"
            digest.update(line.encode("utf-8", "surrogateescape"))  # names of any bytes
        return digest.hexdigest()


def open_source(path: str | Path, val_share: float | None = None, progress: bool = False) -> Source:
    """Find out what lies at `path`, and list it. Raises DataError that says what is missing.

    `val_share` splits validation pictures off a folder tree (see folder.py). With `progress`, bars
    show how far the listing is: a million members take a minute.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(
            f"{path}: expected a folder with ImageNet's archives or with pictures, got none"
        )
    official = (path / TRAIN).exists() or (path / VAL).exists()
    kaggle = (path / _KAGGLE / "train").is_dir()
    if (official or kaggle) and val_share is not None:
        raise DataError(f"{path}: has validation pictures of its own; leave --val-share out")
    if official:
        source = _open_official(path, progress)
    elif kaggle:
        source = _open_kaggle(path)
    elif splits := find_splits(path, val_share):
        source = _open_tree(path, splits)
    else:
        raise DataError(
            f"{path}: expected {TRAIN}, {VAL} and {DEVKIT}; or {_KAGGLE}/train and "
            f"LOC_val_solution.csv; or train/<class> and val/<class> with pictures; "
            f"got none of these{advice(path)}"
        )
    _check_counts(path, source, official or kaggle, val_share)
    return source


def _check_counts(path: Path, source: Source, imagenet: bool, val_share: float | None) -> None:
    """DataError for a class without pictures, or a single class. Where the source should be
    ILSVRC2012, a warning if it is not all of it."""
    names = [wnid for wnid, _ in source.classes]
    if len(names) < 2:
        raise DataError(
            f"{path}: expected at least two classes, got {' '.join(names) or 'none'}: there is "
            f"nothing to tell apart"
        )
    for split in ("train", "val"):
        counts = Counter(entry.label for entry in getattr(source, split))
        empty = [name for label, name in enumerate(names) if not counts[label]]
        if empty and (split == "train" or val_share is None):
            raise DataError(
                f"{path}: expected {split} pictures of each class, got none of {empty[0]}"
                + (f" and of {len(empty) - 1} other classes" if len(empty) > 1 else "")
            )
    found = {"classes": len(names), "train": len(source.train), "val": len(source.val)}
    if imagenet and found != COUNTS:
        expected, got = (
            ", ".join(f"{n:,} {what}" for what, n in c.items()) for c in (COUNTS, found)
        )
        log.warning("%s: not all of ILSVRC2012, which has %s: got %s", path, expected, got)


def check_md5(path: str | Path, progress: bool = False) -> None:
    """Compare the official archives with their published md5 sums. Reads all of them."""
    for name, expected in MD5.items():
        found = hashlib.md5(usedforsecurity=False)
        with open(Path(path) / name, "rb") as file, _bar(file, f"md5 of {name}", progress) as read:
            while block := file.read(1 << 22):
                found.update(block)
                read.update(len(block))
        if found.hexdigest() != expected:
            raise DataError(
                f"{Path(path) / name}: expected md5 {expected}, got {found.hexdigest()}; fetch it "
                f"again"
            )


def _bar(file: BinaryIO, what: str, progress: bool) -> tqdm:
    """A bar over the bytes of a file."""
    size = os.fstat(file.fileno()).st_size
    return bar(total=size, desc=what, unit="B", unit_scale=True, shown=progress)


# ---- the official archives


def _open_official(path: Path, progress: bool) -> Source:
    for name in (TRAIN, VAL, DEVKIT):
        if not (path / name).is_file():
            raise DataError(f"{path / name} is missing; all three official archives are needed")
    synsets, truth = read_devkit(path / DEVKIT)
    names = dict(synsets.values())
    train = list(_train_members(path / TRAIN, progress))
    ids = sorted({wnid for wnid, *_ in train})
    unknown = [wnid for wnid in ids if wnid not in names]
    if unknown:
        raise DataError(
            f"{path / TRAIN}: expected the classes of the devkit's {_META}, got {unknown[0]}.tar"
        )
    labels = {wnid: label for label, wnid in enumerate(ids)}

    with open(path / VAL, "rb", buffering=0) as file:
        # The n-th line of the ground truth belongs to the n-th picture by name.
        pictures = sorted(tar_members(file, str(path / VAL)), key=lambda member: member.name)
    if len(pictures) != len(truth):
        raise DataError(
            f"{path / VAL}: expected {len(truth)} pictures, the lines of {_TRUTH}, got "
            f"{len(pictures)}; fetch both again"
        )
    val = []
    for member, number in zip(pictures, truth, strict=True):
        wnid = synsets.get(number, ("nothing", ""))[0]
        if wnid not in labels:
            raise DataError(
                f"{path / VAL}: {member.name} is of class {number} ({wnid}), which {TRAIN} lacks"
            )
        val.append(Entry(str(path / VAL), member.offset, member.size, member.name, labels[wnid]))
    return Source(
        [(wnid, names[wnid]) for wnid in ids],
        [
            Entry(str(path / TRAIN), offset, size, f"{wnid}/{name}", labels[wnid])
            for wnid, name, offset, size in sorted(train)
        ],
        val,
    )


def _train_members(path: Path, progress: bool) -> Iterator[tuple[str, str, int, int]]:
    """(class, name, offset, size) of each picture in the tar of tars, which is not unpacked.

    Raises DataError for a class without pictures.
    """
    with open(path, "rb", buffering=0) as file, _bar(file, f"listing {TRAIN}", progress) as read:
        for inner in tar_members(file, str(path)):
            wnid = inner.name.rpartition("/")[2].removesuffix(".tar")
            name = f"{path}: {inner.name}"
            if not inner.name.endswith(".tar"):
                raise DataError(f"{name}: expected a tar for each class, got another file")
            members = list(tar_members(file, name, inner.offset, inner.offset + inner.size))
            if not members:
                raise DataError(f"{name}: expected the pictures of a class, got none")
            for member in members:
                yield wnid, member.name.rpartition("/")[2], member.offset, member.size
            read.update(inner.offset + inner.size - read.n)


def read_devkit(path: Path) -> tuple[dict[int, tuple[str, str]], list[int]]:
    """From the devkit: {its own number from 1 on: (synset id, words)}, and the validation
    pictures' numbers in the order of their names.

    These numbers are not the positions of the sorted synset ids that networks use as labels.
    """
    files = read_packed(path, lambda name: name in (_META, _TRUTH), _MAX_DEVKIT)
    for name in (_META, _TRUTH):
        if name not in files:
            raise DataError(f"{path}: data/{name} is missing in it")
    synsets = {}
    for entry in read_struct_array(files[_META], "synsets", f"{path}: data/{_META}"):
        number: Any = entry.get("ILSVRC2012_ID")
        wnid = entry.get("WNID")
        if number not in range(1, 1 << 20) or not isinstance(wnid, str):
            raise DataError(
                f"{path}: data/{_META} has a synset without ILSVRC2012_ID (a whole number) or WNID"
            )
        synsets[int(number)] = wnid, str(entry.get("words") or wnid)
    if len(files[_TRUTH]) > _MAX_TRUTH:
        raise DataError(
            f"{path}: data/{_TRUTH}: expected 50,000 short lines, got {len(files[_TRUTH]):,} bytes"
        )
    try:
        truth = [int(line) for line in files[_TRUTH].split()]
    except ValueError as error:
        raise DataError(f"{path}: data/{_TRUTH}: {error}") from error
    return synsets, truth


# ---- folders


def _open_kaggle(path: Path) -> Source:
    solution = path / "LOC_val_solution.csv"
    if not solution.is_file():
        raise DataError(f"{solution} is missing; it says which class each val picture is of")
    train, val = path / _KAGGLE / "train", path / _KAGGLE / "val"
    ids = list_classes(train, train)
    labels = {wnid: label for label, wnid in enumerate(ids)}
    try:
        with open(solution, newline="", encoding="utf-8") as file:
            # ImageId, "wnid x1 y1 x2 y2 wnid ..."
            truth = {row[0]: row[1].split(" ")[0] for row in csv.reader(file) if len(row) > 1}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{solution}: damaged ({error}); fetch it again") from error
    pictures, others = list_pictures(val) if val.is_dir() else ([], Counter())
    if others:
        log.warning("%s: passed over %s", val, in_words(others))
    val_entries = []
    for picture in pictures:
        wnid = truth.get(Path(picture).stem)
        if wnid not in labels:
            raise DataError(f"{picture}: {solution.name} gives it class {wnid}, which train lacks")
        val_entries.append(_entry(picture, Path(picture).name, labels[wnid]))
    classes = _named(ids, path / "LOC_synset_mapping.txt")
    return Source(classes, _entries(list_split(train, ids)), val_entries)


def _open_tree(path: Path, splits: Splits) -> Source:
    ids = list_classes(splits.train, splits.val)
    classes = _named(ids, path / "words.txt")
    return Source(classes, *map(_entries, list_splits(splits, ids)))


def _entries(listing: list[tuple[str, int]]) -> list[Entry]:
    return [_entry(path, "/".join(Path(path).parts[-2:]), label) for path, label in listing]


def _entry(picture: str, name: str, label: int) -> Entry:
    return Entry(picture, 0, os.stat(picture).st_size, name, label)


def _named(ids: list[str], table: Path) -> list[tuple[str, str]]:
    """The ids with the names that a table of "id name" lines gives them, or else themselves."""
    names = {}
    if table.is_file():
        for line in table.read_text("utf-8", "replace").splitlines():
            wnid, *rest = re.split(r"\s+", line.strip(), maxsplit=1)
            names[wnid] = rest[0] if rest else wnid
    return [(wnid, names.get(wnid, wnid)) for wnid in ids]
