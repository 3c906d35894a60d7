"""Prepared data sets: pictures of one size in tar shards, with an index for random access.

A prepared folder holds

    dataset.json          size, form, pictures and shards of each split; written last
    train-000000.tar ...  WebDataset shards: for each picture KEY.jpg (or .npy) and KEY.cls, a label
    val-000000.tar ...
    train.npy, val.npy    the index: shard, offset, length, label, CRC-32 of each picture
    moments.npz           mean picture, channels' covariance, and the sums behind them (train)
    classes.tsv           label, id, name
    report.tsv            what was left out or is odd: split, picture, what was done, why
    SHA256SUMS            of all of them; `sha256sum -c` reads it
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shlex
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np

from tinynet.data.dataset import Dataset, Moments
from tinynet.data.pictures import decode
from tinynet.data.progress import bar
from tinynet.data.tar import tar_members
from tinynet.devices.cores import available_cores
from tinynet.errors import DataError

VERSION = 1
INDEX = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("length", "<u4"), ("label", "<u4"),
                  ("crc", "<u4")])  # fmt: skip
SMALL_FILES = ("dataset.json", "train.npy", "val.npy", "moments.npz", "classes.tsv", "report.tsv")


def shard_name(split: str, number: int) -> str:
    return f"{split}-{number:06d}.tar"


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(aside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def repair_command(root: Path) -> str:
    """What to type to mend a prepared folder."""
    return f"`python examples/prepare_imagenet.py --repair {shlex.quote(str(root))}`"


class ShardDataset(Dataset):
    """One split ("train" or "val") of a prepared folder. Pictures are read when asked for."""

    def __init__(self, root: str | Path, split: str):
        self.root, self.split = Path(root), split
        sums = read_sums(self.root)
        about = read_about(self.root, sums)
        self.form = about["form"]
        self.size = about["size"]
        self.shape = (self.size, self.size, 3)
        self.classes = _read_classes(self.root, sums)
        check_sizes(self.root, about, split)
        self.shards = [
            str(self.root / shard_name(split, n)) for n in range(len(about["shards"][split]))
        ]
        self.index = _read_index(self.root, split, sums)
        if self.index["shard"].max() >= len(self.shards) or (
            self.index["label"].max() >= len(self.classes)
        ):
            raise DataError(f"{self.root / split}.npy: expected the index of this folder's shards")
        self.labels = self.index["label"].astype(np.int64)
        self.source = f"{self.root}: {split}"

    def picture(self, i: int) -> np.ndarray:
        """The picture, uint8 (size, size, 3); DataError if its checksum is not the index's."""
        shard, offset, length, _, crc = self.index[i].item()
        path = self.shards[shard]
        try:
            with open(path, "rb", buffering=0) as file:
                data = _read(file, offset, length)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; run {repair_command(self.root)}") from error
        if zlib.crc32(data) != crc:
            raise DataError(
                f"{path}: picture {i} at byte {offset} is damaged; run {repair_command(self.root)}"
            )
        if self.form == "raw":
            return np.frombuffer(data, np.uint8).reshape(self.shape)
        cut = self.size if self.form == "full" else None  # the others are cut already
        return decode(data, f"{path}: picture {i}", cut)

    def _count_moments(self) -> Moments:
        """As counted when the set was prepared (over the training pictures)."""
        if self.split != "train":
            return super()._count_moments()
        path = self.root / "moments.npz"
        data = _checked(path, read_sums(self.root))
        try:
            with np.load(io.BytesIO(data)) as arrays:
                moments = Moments.from_arrays(arrays)
            if moments.sum.shape != self.shape or moments.count != len(self):
                raise ValueError(f"sums of {moments.count} pictures {moments.sum.shape}")
        except Exception as error:  # zipfile and NumPy may raise anything over a crafted file
            raise DataError(
                f"{path}: damaged ({error!r}); run {repair_command(self.root)}"
            ) from error
        return moments


def read_about(root: Path, sums: dict[str, str]) -> dict:
    """The content of dataset.json. Raises DataError if it is damaged or of another version."""
    path = root / "dataset.json"
    data = _checked(path, sums)
    try:
        about = json.loads(data)
        version = about["version"]
        fine = 1 <= about["size"] <= 4096 and about["form"] in ("square", "full", "raw")
        shards = [about["shards"]["train"], about["shards"]["val"]]
        about["plan"].keys()
        if not fine or not all(size >= 0 for sizes in shards for size in [*sizes, len(sizes) - 1]):
            raise ValueError("impossible sizes")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: damaged ({error!r}); prepare the folder again") from error
    if version != VERSION:
        raise DataError(
            f"{path}: expected version {VERSION}, got {version}; prepare the folder again"
        )
    return about


def check_sizes(root: Path, about: dict, *splits: str) -> None:
    """DataError for a shard that is missing or of another size than dataset.json says."""
    for split in splits:
        for number, size in enumerate(about["shards"][split]):
            path = root / shard_name(split, number)
            found = os.path.getsize(path) if os.path.exists(path) else 0
            if found != size:
                raise DataError(
                    f"{path}: expected {size:,} bytes, got {found:,}; run {repair_command(root)}"
                )


def check_small_files(root: Path, sums: dict[str, str]) -> None:
    """DataError for a file beside the shards that is missing or damaged."""
    for name in SMALL_FILES:
        _checked(root / name, sums)


def _read_classes(root: Path, sums: dict[str, str]) -> list[str]:
    rows = [line.split("\t") for line in _checked(root / "classes.tsv", sums).decode().splitlines()]
    if any(len(row) != 3 for row in rows):
        raise DataError(
            f"{root / 'classes.tsv'}: expected lines of label, id, name, got others; prepare the "
            f"folder again"
        )
    return [name if name == key else f"{key} {name}" for _, key, name in rows]


def _read_index(root: Path, split: str, sums: dict[str, str]) -> np.ndarray:
    path = root / f"{split}.npy"
    data = _checked(path, sums)
    try:
        index = np.load(io.BytesIO(data))
    except Exception as error:  # NumPy may raise anything over a crafted file
        raise DataError(f"{path}: damaged ({error!r}); prepare the folder again") from error
    if index.dtype != INDEX or index.ndim != 1 or len(index) == 0:
        raise DataError(f"{path}: expected an index, got something else; prepare the folder again")
    return index


def read_sums(root: Path) -> dict[str, str]:
    """{file: SHA-256} from SHA256SUMS."""
    path = root / "SHA256SUMS"
    if not path.is_file():
        raise DataError(f"{path} is missing; prepare the folder again")
    # Not splitlines(), for which a newline with one bit changed (0x0b) is a newline as well.
    lines = [line.split("  ", 1) for line in path.read_text("utf-8", "replace").split("\n")]
    return {line[1]: line[0] for line in lines if len(line) == 2}


def _checked(path: Path, sums: dict[str, str]) -> bytes:
    """A small file's content, which must have its checksum."""
    todo = "prepare the folder again"
    if path.name != "dataset.json":  # without which there is nothing to repair by
        todo += f", or run {repair_command(path.parent)}"
    if not path.is_file():
        raise DataError(f"{path} is missing; {todo}")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sums.get(path.name):
        raise DataError(
            f"{path}: expected the SHA-256 in SHA256SUMS, got another: it is damaged; {todo}"
        )
    return data


def verify(root: str | Path, progress: bool = False) -> list[str]:
    """Read everything in a prepared folder and list what is wrong with it, one line each.

    Checked are each file's SHA-256, and each shard's members against the index: place, length,
    CRC-32 and label.
    """
    root = Path(root)
    if not (root / "dataset.json").is_file():
        return [f"{root}: no dataset.json: not prepared, or not to the end"]
    try:
        sums = read_sums(root)
        about = read_about(root, sums)
        problems = [
            f"{root / name}: expected SHA-256 {sums.get(name)}, got {found}"
            if found
            else f"{root / name}: missing"
            for name, found in differing(root, about, sums, progress).items()
        ]
        if problems or names_of(about) != set(sums):
            return problems or [f"{root}/SHA256SUMS: does not list the files that belong here"]
        indexes = {split: _read_index(root, split, sums) for split in ("train", "val")}
    except DataError as error:
        return [str(error)]
    shards = [(split, n) for split, sizes in about["shards"].items() for n in range(len(sizes))]
    with ThreadPoolExecutor(available_cores()) as pool:
        found = pool.map(lambda s: _verify_shard(root, s[0], s[1], indexes[s[0]]), shards)
        for lines in _bar(found, len(shards), "pictures", progress):
            problems += lines
    return problems


def names_of(about: dict) -> set[str]:
    """The files that belong into a folder with this dataset.json, besides SHA256SUMS."""
    shards = {shard_name(s, n) for s, sizes in about["shards"].items() for n in range(len(sizes))}
    return shards.union(SMALL_FILES)


def differing(root: Path, about: dict, sums: dict[str, str], progress: bool) -> dict[str, str]:
    """The files whose SHA-256 is not the one in SHA256SUMS, and the one they have ("": missing)."""
    names = sorted(names_of(about))
    paths = [root / name for name in names]
    with ThreadPoolExecutor(available_cores()) as pool:  # hashing runs outside the interpreter lock
        found = pool.map(lambda path: file_sha256(path) if path.is_file() else "", paths)
        both = zip(names, _bar(found, len(names), "checksums", progress), strict=True)
        return {name: digest for name, digest in both if digest != sums.get(name)}


def _bar(found: Iterator, total: int, what: str, progress: bool) -> Iterator:
    return iter(bar(found, desc=what, total=total, unit=" files", shown=progress))


def _verify_shard(root: Path, split: str, number: int, index: np.ndarray) -> list[str]:
    path = root / shard_name(split, number)
    rows = iter(index[index["shard"] == number])
    problems = []
    with open(path, "rb", buffering=0) as file:
        try:
            members = list(tar_members(file, str(path)))
        except DataError as error:
            return [str(error)]
        if len(members) != 2 * int((index["shard"] == number).sum()):
            return [f"{path}: {len(members)} members, not two for each picture of the index"]
        for picture, label in zip(members[0::2], members[1::2], strict=True):
            row = next(rows)
            offset, length = int(row["offset"]), int(row["length"])
            inside = picture.offset <= offset and offset + length == picture.offset + picture.size
            data = _read(file, offset, length) if inside else b""
            text = _read(file, label.offset, label.size)
            if zlib.crc32(data) != row["crc"] or text != str(row["label"]).encode():
                problems.append(f"{path}: {picture.name} differs from the index")
    return problems


def _read(file: IO[bytes], offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)
