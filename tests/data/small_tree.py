"""A folder tree of few small pictures."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

WNIDS = ["n01", "n02"]


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
