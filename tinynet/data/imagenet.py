"""What there is to prepare: ImageNet's official archives, Kaggle's layout, or a folder tree.

Whichever it is, it becomes a `Source`: classes, and for each split a list of entries that say
where each picture's bytes lie. Pictures inside the official tars are read where they lie; nothing
is unpacked.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tinynet.data.folder import find_splits, list_classes
from tinynet.data.matfile import read_struct_array
from tinynet.data.pictures import list_pictures
from tinynet.data.tar import read_packed, tar_members
from tinynet.errors import DataError

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
_META, _TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
_MAX_DEVKIT = 256 << 20  # bytes unpacked; the real one has 11 million
_KAGGLE = Path("ILSVRC/Data/CLS-LOC")


class Entry(NamedTuple):
    """One picture of a source."""

    file: str  # the archive it lies in, or the file it is
    offset: int
    size: int
    name: str  # what a report calls it
    label: int

    def read(self) -> bytes:
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
            digest.update(f"{entry.name}\0{entry.offset} {entry.size} {entry.label}\n".encode())
        return digest.hexdigest()


def open_source(path: str | Path) -> Source:
    """Find out what lies at `path`, and list it. Raises DataError that says what is missing."""
    path = Path(path)
    if not path.is_dir():
        raise DataError(
            f"{path}: expected a folder with ImageNet's archives or with pictures, got none"
        )
    if (path / TRAIN).exists() or (path / VAL).exists():
        source = _open_official(path)
    elif (path / _KAGGLE / "train").is_dir():
        source = _open_kaggle(path)
    elif splits := find_splits(path):
        source = _open_tree(path, *splits)
    else:
        raise DataError(
            f"{path}: expected {TRAIN}, {VAL} and {DEVKIT}; or {_KAGGLE}/train and "
            f"LOC_val_solution.csv; or train/<class> and val/<class> with pictures; "
            f"got none of these"
        )
    for split in ("train", "val"):
        if not getattr(source, split):
            raise DataError(f"{path}: expected {split} pictures, got none")
    return source


def check_md5(path: str | Path) -> None:
    """Compare the official archives with their published md5 sums. Reads all of them."""
    for name, expected in MD5.items():
        with open(Path(path) / name, "rb") as file:
            found = hashlib.md5(usedforsecurity=False)
            while block := file.read(1 << 22):
                found.update(block)
        if found.hexdigest() != expected:
            raise DataError(
                f"{Path(path) / name}: expected md5 {expected}, got {found.hexdigest()}; fetch it "
                f"again"
            )


# ---- the official archives


def _open_official(path: Path) -> Source:
    for name in (TRAIN, VAL, DEVKIT):
        if not (path / name).is_file():
            raise DataError(f"{path / name} is missing; all three official archives are needed")
    synsets, truth = read_devkit(path / DEVKIT)
    names = dict(synsets.values())
    train = list(_train_members(path / TRAIN))
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


def _train_members(path: Path) -> Iterator[tuple[str, str, int, int]]:
    """(class, name, offset, size) of each picture in the tar of tars, which is not unpacked."""
    with open(path, "rb", buffering=0) as file:
        for inner in tar_members(file, str(path)):
            wnid = inner.name.rpartition("/")[2].removesuffix(".tar")
            name = f"{path}: {inner.name}"
            if not inner.name.endswith(".tar"):
                raise DataError(f"{name}: expected a tar for each class, got another file")
            for member in tar_members(file, name, inner.offset, inner.offset + inner.size):
                yield wnid, member.name.rpartition("/")[2], member.offset, member.size


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
        number, wnid = entry.get("ILSVRC2012_ID"), entry.get("WNID")
        if not isinstance(number, int | float) or not isinstance(wnid, str):
            raise DataError(f"{path}: data/{_META} has a synset without ILSVRC2012_ID or WNID")
        synsets[int(number)] = wnid, str(entry.get("words") or wnid)
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
    ids = sorted(entry.name for entry in os.scandir(train) if entry.is_dir())
    labels = {wnid: label for label, wnid in enumerate(ids)}
    with open(solution, newline="") as file:  # ImageId, "wnid x1 y1 x2 y2 wnid ..."
        truth = {row[0]: row[1].split(" ")[0] for row in csv.reader(file) if len(row) > 1}
    val_entries = []
    for picture in list_pictures(val) if val.is_dir() else []:
        wnid = truth.get(Path(picture).stem)
        if wnid not in labels:
            raise DataError(f"{picture}: {solution.name} gives it class {wnid}, which train lacks")
        val_entries.append(_entry(picture, Path(picture).name, labels[wnid]))
    classes = _named(ids, path / "LOC_synset_mapping.txt")
    return Source(classes, _class_folders(train, ids), val_entries)


def _open_tree(path: Path, train: Path, val: Path) -> Source:
    ids = list_classes(train, val)
    classes = _named(ids, path / "words.txt")
    return Source(classes, _class_folders(train, ids), _class_folders(val, ids))


def _class_folders(root: Path, ids: list[str]) -> list[Entry]:
    return [
        _entry(picture, f"{name}/{Path(picture).name}", label)
        for label, name in enumerate(ids)
        for picture in list_pictures(root / name)
    ]


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
