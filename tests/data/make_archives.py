"""Archives of ImageNet's official layout, made of other pictures: to try the real code without it.

    python tests/data/make_archives.py FOLDER OUT

FOLDER holds {train,val}/<wnid>/*.JPEG. OUT gets the three archives of ILSVRC2012: a tar of tars,
a flat tar, and the devkit with its table of classes (numbered otherwise than sorted) and the
ground truth. With a folder `kaggle` beside them: the same pictures in Kaggle's layout.
"""

from __future__ import annotations

import gzip
import io
import struct
import sys
import tarfile
import zlib
from pathlib import Path

TRAIN, VAL = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT, FOLDER = "ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12"
Pictures = dict[str, list[bytes]]  # the files of each class


def tar_of(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return data.getvalue()


def devkit_numbers(wnids: list[str]) -> dict[str, int]:
    """The devkit's own numbers, 1 and up; as in the real one, not in the order of the ids."""
    return {wnid: number for number, wnid in enumerate(sorted(wnids, key=lambda w: w[::-1]), 1)}


def make_official(out: Path, train: Pictures, val: Pictures, words: dict[str, str]) -> None:
    """Write the three archives into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    inner = {
        f"{wnid}.tar": tar_of({f"{wnid}_{i}.JPEG": data for i, data in enumerate(files)})
        for wnid, files in train.items()
    }
    (out / TRAIN).write_bytes(tar_of(inner))
    numbers = devkit_numbers(list(train))
    # Deal the classes out, so that the names' order is not the classes'.
    longest = max(map(len, val.values()))
    dealt = [(w, files[i]) for i in range(longest) for w, files in val.items() if i < len(files)]
    names = [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, len(dealt) + 1)]
    pairs = dict(zip(names, (data for _, data in dealt), strict=True))
    (out / VAL).write_bytes(tar_of(dict(reversed(pairs.items()))))  # nor in the order of names
    truth = "".join(f"{numbers[wnid]}\n" for wnid, _ in dealt)
    rows = [(number, wnid, words.get(wnid, wnid)) for wnid, number in numbers.items()]
    rows.append((len(rows) + 1, "n00001740", "entity"))  # an inner node of the hierarchy
    files = {
        f"{FOLDER}/readme.txt": b"made for a test",
        f"{FOLDER}/data/meta.mat": mat_file(rows),
        f"{FOLDER}/data/ILSVRC2012_validation_ground_truth.txt": truth.encode(),
    }
    (out / DEVKIT).write_bytes(gzip.compress(tar_of(files)))


def make_kaggle(out: Path, train: Pictures, val: Pictures, words: dict[str, str]) -> None:
    """Write the same in the layout of Kaggle's unpacked download."""
    root = out / "ILSVRC/Data/CLS-LOC"
    for wnid, files in train.items():
        (root / "train" / wnid).mkdir(parents=True)
        for i, data in enumerate(files):
            (root / "train" / wnid / f"{wnid}_{i}.JPEG").write_bytes(data)
    (root / "val").mkdir()
    lines, count = ["ImageId,PredictionString"], 0
    for wnid, files in val.items():
        for data in files:
            count += 1
            name = f"ILSVRC2012_val_{count:08d}"
            (root / "val" / f"{name}.JPEG").write_bytes(data)
            lines.append(f"{name},{wnid} 1 2 30 40 {wnid} 5 6 70 80 ")
    (out / "LOC_val_solution.csv").write_text("\n".join([lines[0], *lines[:0:-1]]) + "\n")
    mapping = "".join(f"{wnid} {words.get(wnid, wnid)}\n" for wnid in train)
    (out / "LOC_synset_mapping.txt").write_text(mapping)


# ---- the MATLAB file (see tinynet/data/matfile.py for the format)


def mat_file(rows: list[tuple[int, str, str]]) -> bytes:
    """meta.mat with a compressed struct array `synsets`."""
    fields = ("ILSVRC2012_ID", "WNID", "words")
    body = _element(6, struct.pack("<II", 2, 0)) + _element(5, struct.pack("<ii", len(rows), 1))
    body += _element(1, b"synsets") + _element(5, struct.pack("<i", 32))
    body += _element(1, b"".join(name.encode().ljust(32, b"\0") for name in fields))
    for number, wnid, words in rows:
        body += _matrix(6, _element(9, struct.pack("<d", number)), 1)
        for text in (wnid, words):
            body += _matrix(4, _element(4, text.encode("utf-16-le")), len(text))
    packed = zlib.compress(_element(14, body))
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    return header + struct.pack("<II", 15, len(packed)) + packed


def _matrix(kind: int, content: bytes, length: int) -> bytes:
    flags = _element(6, struct.pack("<II", kind, 0))
    return _element(
        14, flags + _element(5, struct.pack("<ii", 1, length)) + _element(1, b"") + content
    )


def _element(kind: int, data: bytes) -> bytes:
    if 0 < len(data) <= 4:
        return struct.pack("<HH", kind, len(data)) + data.ljust(4, b"\0")
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def main() -> None:
    folder, out = map(Path, sys.argv[1:3])
    sets = [
        {
            wnid.name: [path.read_bytes() for path in sorted(wnid.iterdir())]
            for wnid in sorted((folder / split).iterdir())
        }
        for split in ("train", "val")
    ]
    table = folder / "classes.tsv"
    lines = table.read_text().splitlines() if table.exists() else []
    words = {line.split("\t")[-2]: line.split("\t")[-1] for line in lines}
    make_official(out, *sets, words)
    make_kaggle(out / "kaggle", *sets, words)


if __name__ == "__main__":
    main()
