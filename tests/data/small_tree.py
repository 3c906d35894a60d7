"""Folder trees of few small pictures, and preparing them."""

from __future__ import annotations

import hashlib
import io
import multiprocessing
import threading
from pathlib import Path

import numpy as np
from PIL import Image

from tinynet.data.prepare import Options, prepare

WNIDS = ["n01", "n02"]
NAMES = ("n01", "n02", "n03")
SMALL = Options(size=16, shard=5)


class InThread:
    """Stands for `Process`: the same work in a thread of this process."""

    def __init__(self, name, target, *arguments):
        self.name = name
        self.pipe, theirs = multiprocessing.Pipe()

        def work():
            with theirs:  # closed, as that of a process, also by an error
                target(theirs, *arguments)

        self.thread = threading.Thread(target=work, name=name)
        self.thread.start()

    def died_of(self):
        return f"{self.name} ended"

    def end(self):
        self.pipe.close()
        self.thread.join(10)


def saved(pixels: np.ndarray, form="JPEG", **options) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form, **options)
    return data.getvalue()


def stored(array: np.ndarray) -> bytes:
    """A .npy file."""
    data = io.BytesIO()
    np.save(data, array)
    return data.getvalue()


def picture(shade: int, size=(12, 10), form="JPEG") -> bytes:
    data = io.BytesIO()
    Image.new("RGB", size, (shade, shade, 40)).save(data, form)
    return data.getvalue()


def make_tree(root: Path, count=2) -> Path:
    for split in ("train", "val"):
        for k, wnid in enumerate(WNIDS):
            (root / split / wnid).mkdir(parents=True)
            for i in range(count):
                (root / split / wnid / f"{i}.jpg").write_bytes(picture(50 + 100 * k))
    return root


def with_sums(folder: Path, name: str, data: bytes) -> None:
    """Change a file, and its line in SHA256SUMS with it."""
    old, new = (hashlib.sha256(d).hexdigest() for d in ((folder / name).read_bytes(), data))
    (folder / name).write_bytes(data)
    sums = folder / "SHA256SUMS"
    sums.write_text(sums.read_text().replace(f"{old}  {name}", f"{new}  {name}"))


def photo(rng, size=(27, 22), **options) -> bytes:
    coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
    data = io.BytesIO()
    Image.fromarray(coarse).resize(size).save(data, "JPEG", quality=92, **options)
    return data.getvalue()


def larger_tree(root: Path, rng, train=8, val=3, **more: bytes) -> Path:
    """Photos of three classes; `more`: further training pictures of n01."""
    for split, count in (("train", train), ("val", val)) if val else (("train", train),):
        for name in NAMES:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                (root / split / name / f"{i}.jpg").write_bytes(photo(rng))
    for name, data in more.items():
        (root / "train/n01" / f"{name}.jpg").write_bytes(data)
    return root


def made(source: Path, out: Path, options: Options = SMALL, **how) -> dict:
    """Prepare by one worker, without a bar."""
    return prepare(source, out, options, **{"workers": 1, "progress": False, **how})


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
