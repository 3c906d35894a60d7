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
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tinynet.data.dataset import Dataset, Moments
from tinynet.data.pictures import decode
from tinynet.data.tar import tar_members
from tinynet.devices.cores import available_cores
from tinynet.errors import DataError

VERSION = 1
INDEX = np.dtype([("shard", "<u4"), ("offset", "<u8"), ("length", "<u4"), ("label", "<u4"),
                  ("crc", "<u4")])  # fmt: skip
_SMALL_FILES = ("dataset.json", "train.npy", "val.npy", "moments.npz", "classes.tsv", "report.tsv")


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


class ShardDataset(Dataset):
    """One split ("train" or "val") of a prepared folder. Pictures are read when asked for."""

    def __init__(self, root: str | Path, split: str):
        self.root = Path(root)
        self.split = split
        sums = read_sums(self.root)
        about = read_about(self.root, sums)
        self.form = about["form"]
        self.size = about["size"]
        self.shape = (self.size, self.size, 3)
        table = _checked(self.root / "classes.tsv", sums).decode().splitlines()
        rows = [line.split("\t") for line in table]
        self.classes = [name if name == key else f"{key} {name}" for _, key, name in rows]
        self.index = np.load(io.BytesIO(_checked(self.root / f"{split}.npy", sums)))
        self.shards = [
            str(self.root / shard_name(split, n)) for n in range(len(about["shards"][split]))
        ]
        for path, size in zip(self.shards, about["shards"][split], strict=True):
            found = os.path.getsize(path) if os.path.exists(path) else 0
            if found != size:
                raise DataError(
                    f"{path}: expected {size:,} bytes, got {found:,}; prepare the folder again"
                )
        self.labels = self.index["label"].astype(np.int64)
        self.source = f"{self.root}: {split}"

    def picture(self, i: int) -> np.ndarray:
        """The picture, uint8 (size, size, 3); DataError if its checksum is not the index's."""
        shard, offset, length, _, crc = self.index[i].item()
        path = self.shards[shard]
        file = os.open(path, os.O_RDONLY)
        try:
            data = os.pread(file, length, offset)
        finally:
            os.close(file)
        if zlib.crc32(data) != crc:
            raise DataError(
                f"{path}: picture {i} at byte {offset} is damaged; run "
                f"`python examples/prepare_imagenet.py --verify {self.root}`"
            )
        if self.form == "raw":
            return np.frombuffer(data, np.uint8).reshape(self.shape)
        cut = self.size if self.form == "full" else None  # the others are cut already
        return decode(data, f"{path}: picture {i}", cut)

    def _count_moments(self) -> Moments:
        """As counted when the set was prepared (over the training pictures)."""
        if self.split != "train":
            return super()._count_moments()
        data = _checked(self.root / "moments.npz", read_sums(self.root))
        with np.load(io.BytesIO(data)) as arrays:
            return Moments.from_arrays(arrays)


def read_about(root: Path, sums: dict[str, str]) -> dict:
    """The content of dataset.json. Raises DataError if it is damaged or of another version."""
    path = root / "dataset.json"
    data = _checked(path, sums)
    try:
        about = json.loads(data)
        version = about["version"]
        about["size"], about["form"], about["shards"]["train"], about["shards"]["val"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error!r}); prepare the folder again") from error
    if version != VERSION:
        raise DataError(
            f"{path}: expected version {VERSION}, got {version}; prepare the folder again"
        )
    return about


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
    if not path.is_file():
        raise DataError(f"{path} is missing; prepare the folder again")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sums.get(path.name):
        raise DataError(
            f"{path}: expected the SHA-256 in SHA256SUMS, got another: it is damaged; prepare the "
            f"folder again"
        )
    return data


def verify(root: str | Path) -> list[str]:
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
    except DataError as error:
        return [str(error)]
    shards = [(split, n) for split, sizes in about["shards"].items() for n in range(len(sizes))]
    names = {*_SMALL_FILES, *(shard_name(*shard) for shard in shards)}
    with ThreadPoolExecutor(available_cores()) as pool:  # hashing runs outside the interpreter lock
        found = pool.map(lambda name: _verify_file(root, name, sums.get(name)), sorted(names))
        problems = [line for line in found if line]
        if problems or names != set(sums):
            return problems or [f"{root}/SHA256SUMS: does not list the files that belong here"]
        indexes = {split: np.load(root / f"{split}.npy") for split in ("train", "val")}
        for lines in pool.map(lambda s: _verify_shard(root, *s, indexes[s[0]]), shards):
            problems += lines
    return problems


def _verify_file(root: Path, name: str, expected: str | None) -> str | None:
    if not (root / name).is_file():
        return f"{root / name}: missing"
    found = file_sha256(root / name)
    return None if found == expected else f"{root / name}: expected SHA-256 {expected}, got {found}"


def _verify_shard(root: Path, split: str, number: int, index: np.ndarray) -> list[str]:
    path = root / shard_name(split, number)
    rows = iter(index[index["shard"] == number])
    problems = []
    with open(path, "rb", buffering=0) as file:
        members = list(tar_members(file, str(path)))
        if len(members) != 2 * int((index["shard"] == number).sum()):
            return [f"{path}: {len(members)} members, not two for each picture of the index"]
        for picture, label in zip(members[0::2], members[1::2], strict=True):
            row = next(rows)
            offset, length = int(row["offset"]), int(row["length"])
            inside = picture.offset <= offset <= offset + length == picture.offset + picture.size
            data = os.pread(file.fileno(), length, offset) if inside else b""
            text = os.pread(file.fileno(), label.size, label.offset)
            if zlib.crc32(data) != row["crc"] or text != str(row["label"]).encode():
                problems.append(f"{path}: {picture.name} differs from the index")
    return problems
