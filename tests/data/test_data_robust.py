"""Damaged copies of everything: each is refused by name, or read as if nothing had happened.

Bytes are changed, cut away, swapped, zeroed, put in between. Only where a format has no checksum
(a JPEG file by itself) may a damaged picture pass, and even then nothing but DataError is raised.
`pytest -m slow -s --times 1000` does a thousand of each and shows the counts.
"""

from __future__ import annotations

import collections
import io
import tarfile
import time
import warnings

import numpy as np
import pytest
from make_archives import DEVKIT, TRAIN, VAL, make_official
from PIL import Image
from test_data_formats import NAMES, cifar_arrays, make_cifar

from tinynet.data import open_data
from tinynet.data.fashion.cut import write_idx
from tinynet.data.imagenet import open_source
from tinynet.data.pictures import decode
from tinynet.data.prepare import Options, prepare
from tinynet.data.shards import verify
from tinynet.errors import DataError

COUNTS = [25, pytest.param(500, marks=pytest.mark.slow)]


def damage(data: bytes, rng) -> bytes:
    """A copy that differs."""
    length = len(data)
    while True:
        bad = bytearray(data)
        start = int(rng.integers(length))
        run = int(rng.integers(1, max(2, min(length - start, 600) + 1)))
        match rng.integers(5):
            case 0:
                for _ in range(rng.integers(1, 20)):
                    bad[rng.integers(length)] ^= int(rng.integers(1, 256))
            case 1:
                del bad[start:]
            case 2:
                other = int(rng.integers(length))
                bad[start : start + run], bad[other : other + run] = (
                    bad[other : other + run],
                    bad[start : start + run],
                )
            case 3:
                bad[start : start + run] = bytes(run)
            case 4:
                bad[start:start] = rng.bytes(run)
        if bytes(bad) != data:
            return bytes(bad)


def jpeg(rng, size=(40, 30), form="JPEG") -> bytes:
    smooth = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8)).resize(size)
    data = io.BytesIO()
    smooth.save(data, form, **({"quality": 90, "progressive": bool(rng.integers(2))}))
    return data.getvalue()


@pytest.mark.parametrize("count", COUNTS, indirect=True)
def test_damaged_pictures(rng, count):
    outcome = collections.Counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's doubts count as damage
        for i in range(4 * count):
            data = jpeg(rng, form="PNG" if i % 4 == 0 else "JPEG")
            start = time.perf_counter()
            try:
                picture = decode(damage(data, rng), "bad.jpg", 24)
            except DataError as error:
                assert str(error).startswith("bad.jpg: ")
                outcome["refused"] += 1
            else:
                assert picture.shape == (24, 24, 3) and picture.dtype == np.uint8
                same = np.array_equal(picture, decode(data, "good", 24))
                outcome["same" if same else "different, no checksum"] += 1
                # PNG has checksums: what passes must be right.
                assert i % 4 or same
            assert time.perf_counter() - start < 5
    print(dict(outcome))
    assert outcome["refused"] > count


@pytest.fixture
def pictures(rng):
    return tuple(
        {wnid: [jpeg(rng) for _ in range(n)] for wnid in ("n02", "n01", "n03")} for n in (4, 2)
    )


@pytest.mark.parametrize("count", COUNTS, indirect=True)
def test_damaged_archives(tmp_path, rng, pictures, count):
    """Archives: DataError that names one, or a source all of whose entries can be tried."""
    make_official(tmp_path, *pictures, {})
    outcome = collections.Counter()
    for _ in range(count):
        name = [TRAIN, VAL, DEVKIT][rng.integers(3)]
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(damage(whole, rng))
        try:
            source = open_source(tmp_path)
        except DataError as error:
            assert any(archive in str(error) for archive in (TRAIN, VAL, DEVKIT)), error
            outcome["archive refused"] += 1
        else:
            bad = 0
            for entry in (*source.train, *source.val):
                try:
                    decode(entry.read(), entry.name, 16)
                except DataError as error:
                    assert entry.name in str(error)
                    bad += 1
            outcome["picture refused" if bad else "taken"] += 1
        (tmp_path / name).write_bytes(whole)
    print(dict(outcome))
    assert outcome["archive refused"] and sum(outcome.values()) == count


@pytest.mark.parametrize("count", COUNTS, indirect=True)
def test_damaged_prepared_sets(tmp_path, rng, pictures, count, threads):
    """Shards, indexes, tables: refused by name or bit for bit right; and verify always sees it."""
    make_official(tmp_path / "in", *pictures, {})
    out = tmp_path / "out"
    prepare(tmp_path / "in", out, Options(size=16, shard=5), progress=False)

    def read():
        train, val = open_data(out)
        shown = [(ds.picture(i).tobytes(), ds.labels[i]) for ds in (train, val) for i in range(6)]
        return shown, train.classes, train.moments().mean().tobytes()

    right, outcome = read(), collections.Counter()
    files = sorted(out.iterdir())
    for _ in range(count):
        path = files[rng.integers(len(files))]
        whole = path.read_bytes()
        path.write_bytes(damage(whole, rng))
        try:
            assert read() == right
            outcome["not met"] += 1
        except DataError as error:
            assert str(out) in str(error)
            outcome["refused"] += 1
        assert verify(out), path
        path.write_bytes(whole)
    print(dict(outcome))
    assert outcome["refused"] and read() == right and verify(out) == []


@pytest.mark.parametrize("count", COUNTS, indirect=True)
def test_damaged_downloads(tmp_path, rng, count):
    """Gzipped IDX files and CIFAR's .tar.gz: refused by name or right, for gzip has a checksum."""
    for split in ("train", "t10k"):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", rng.integers(0, 9, (20, 8, 8), "u1"))
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", np.arange(20, dtype="u1") % 10)
    folder = make_cifar(tmp_path / "cifar-10-batches-py", cifar_arrays(rng), binary=False)
    (tmp_path / "cifar").mkdir()
    archive = tmp_path / "cifar/cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()

    outcome = collections.Counter()
    files = [*sorted(tmp_path.glob("*.gz")), archive]
    right = {path.parent: open_data(path.parent) for path in files}
    for _ in range(count):
        path = files[rng.integers(len(files))]
        whole = path.read_bytes()
        path.write_bytes(damage(whole, rng))
        try:
            found = open_data(path.parent)
        except DataError as error:
            assert path.name in str(error) or path.parent.name in str(error)
            outcome["refused"] += 1
        else:
            for a, b in zip(found, right[path.parent], strict=True):
                assert np.array_equal(a.pictures, b.pictures)
                assert np.array_equal(a.labels, b.labels) and a.classes == b.classes
            outcome["same"] += 1
        path.write_bytes(whole)
    print(dict(outcome))
    assert outcome["refused"] and right[archive.parent][0].classes == NAMES
