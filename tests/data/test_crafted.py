"""Files made to harm: one line that names the file, soon, and without filling the memory."""

from __future__ import annotations

import gzip
import hashlib
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from make_archives import DEVKIT, FOLDER, TRAIN, VAL, make_kaggle, make_official, mat_file, tar_of
from small_tree import make_tree, picture

from tinynet.data import progress
from tinynet.data.folder import held_out
from tinynet.data.idx import read_idx
from tinynet.data.imagenet import COUNTS, check_md5, open_source, read_devkit
from tinynet.data.prepare import Options, prepare
from tinynet.data.repair import repair
from tinynet.data.shards import verify
from tinynet.errors import DataError

TRUTH = "ILSVRC2012_validation_ground_truth.txt"


def devkit(path: Path, meta: bytes, truth: bytes = b"1\n") -> Path:
    files = {f"{FOLDER}/data/meta.mat": meta, f"{FOLDER}/data/{TRUTH}": truth}
    path.write_bytes(gzip.compress(tar_of(files)))
    return path


# ---- the devkit


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan, 1.5, 0, -3, 1e300])
def test_an_id_that_is_no_number(tmp_path, number):
    path = devkit(tmp_path / "devkit.tar.gz", mat_file([(number, "n01", "a")]))
    with pytest.raises(
        DataError, match=r"data/meta.mat has a synset without ILSVRC2012_ID \(a who"
    ):
        read_devkit(path)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def packed(body: bytes, times: int = 1) -> bytes:
    """A .mat file of compressed elements."""
    small = zlib.compress(body, 9)
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    return head + (struct.pack("<II", 15, len(small)) + small) * times


HEAD = element(6, struct.pack("<II", 2, 0)) + element(5, struct.pack("<ii", 1, 1))
HEAD += element(1, b"synsets") + element(5, struct.pack("<i", 32))
FIELD = element(1, b"ILSVRC2012_ID".ljust(32, b"\0"))
EMPTY, MANY = struct.pack("<II", 14, 0), 3_900_000
LARGE = element(6, bytes(8)) * 3 + element(1, bytes(20 << 20))
BOMBS = {  # some kilobytes that unpack to so much
    "many entries": lambda: packed(element(14, HEAD + FIELD + EMPTY * MANY)),
    "many names": lambda: packed(element(14, HEAD + element(1, bytes(30 << 20)))),
    "a long value": lambda: packed(element(14, HEAD + FIELD + element(14, EMPTY * MANY))),
    "a huge element": lambda: packed(element(9, bytes(200 << 20))),
    "large elements": lambda: packed(element(14, LARGE), 40),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=() if name in ("many entries", "large elements") else pytest.mark.slow
        )
        for name in BOMBS
    ],
)
def test_a_small_file_that_unpacks_to_a_huge_one(tmp_path, name):
    """In a process of its own, which may take 1 GB: some 0.1 GB of it are Python and NumPy."""
    path = devkit(tmp_path / "devkit.tar.gz", BOMBS[name]())
    assert path.stat().st_size < 1 << 20
    code = (
        "import sys; from pathlib import Path; from tinynet.data.imagenet import read_devkit\n"
        "try: read_devkit(Path(sys.argv[1]))\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [sys.executable, "-c", code, path],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (1 << 30, 1 << 30)),
    )
    assert run.stdout.startswith(f"DataError {path}: data/meta.mat") and run.stderr == ""
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # others may use the processor, too
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 10
    assert run.stdout.count("\n") == 1


def test_a_ground_truth_of_many_lines(tmp_path):
    path = devkit(tmp_path / "devkit.tar.gz", mat_file([(1, "n01", "a")]), b"1\n" * (3 << 20))
    with pytest.raises(
        DataError, match=f"data/{TRUTH}: expected 50,000 short lines, got 6,291,456"
    ):
        read_devkit(path)


def test_names_of_any_bytes_in_archives(tmp_path, threads):
    files = {"n01": [picture(60)] * 2, "n02": [picture(90)] * 2}
    make_official(tmp_path, files, files, {})
    (tmp_path / TRAIN).write_bytes(
        tar_of(
            {
                f"{wnid}.tar": tar_of({f"{wnid}\udce9{i}.JPEG": d for i, d in enumerate(data)})
                for wnid, data in files.items()
            }
        )
    )
    about = prepare(tmp_path, tmp_path / "out", Options(size=8), workers=1, progress=False)
    assert about["pictures"]["train"] == 4 and verify(tmp_path / "out") == []
    (tmp_path / TRAIN).write_bytes(tar_of({"n\udce9.tar": tar_of({"a.JPEG": picture(1)})}))
    with pytest.raises(DataError, match="expected the classes of the devkit's"):
        open_source(tmp_path)


def test_kaggles_table_of_any_bytes(tmp_path):
    files = {"n01": [picture(60)], "n02": [picture(90)]}
    make_kaggle(tmp_path, files, files, {})
    solution = tmp_path / "LOC_val_solution.csv"
    for text in (b"ImageId,\xff\xfe\n", b'a,"' + b"x" * 200_000 + b'"\n'):
        solution.write_bytes(text)
        with pytest.raises(DataError, match=r"LOC_val_solution.csv: damaged \(.*fetch it again"):
            open_source(tmp_path)


# ---- is it all of ImageNet?


@pytest.mark.parametrize("make", [make_official, make_kaggle])
def test_a_part_of_imagenet_is_told(make, tmp_path, caplog, monkeypatch):
    files = {"n01": [picture(60)] * 3, "n02": [picture(90)] * 3}
    make(tmp_path, files, files, {})
    open_source(tmp_path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path}: not all of ILSVRC2012, which has 1,000 classes, 1,281,167 train, 50,000 val: "
        "got 2 classes, 6 train, 6 val"
    ]
    assert COUNTS == {"classes": 1000, "train": 1281167, "val": 50000}
    right = {"classes": 2, "train": 6, "val": 6}
    for what in right:
        caplog.clear()
        more = right | {what: right[what] + 1}
        monkeypatch.setattr("tinynet.data.imagenet.COUNTS", more)
        open_source(tmp_path)
        assert "got 2 classes, 6 train, 6 val" in caplog.text
    caplog.clear()
    monkeypatch.setattr("tinynet.data.imagenet.COUNTS", right)
    open_source(tmp_path)
    open_source(make_tree(tmp_path / "tree"))
    assert not caplog.records
    with pytest.raises(DataError, match="validation pictures of its own; leave --val-share out"):
        open_source(tmp_path, 0.5)


def test_a_share_may_leave_a_class_without_test_pictures(tmp_path):
    """And a folder of them may not."""
    shutil.rmtree(make_tree(tmp_path) / "val")
    names = [f"n0{k}/{i}.jpg" for k in (1, 2) for i in (0, 1)]
    share = next(k / 99 for k in range(99) if sum(held_out(name, k / 99) for name in names) == 1)
    source = open_source(tmp_path, share)
    assert (len(source.train), len(source.val)) == (3, 1)
    make_tree(tmp_path / "both")
    for path in (tmp_path / "both/val/n02").iterdir():
        path.unlink()
    with pytest.raises(DataError, match=r"expected .*pictures.*, got none"):
        open_source(tmp_path / "both")


def test_a_class_without_pictures_in_archives(tmp_path):
    files = {"n01": [picture(60)], "n02": [picture(90)], "n03": [picture(120)]}
    for n in (1, 2):
        make_official(tmp_path / "a", files, {w: files[w] * (w < f"n0{4 - n}") for w in files}, {})
        more = ("", " and of 1 other classes")[n - 1]
        told = f"a: expected val pictures of each class, got none of n0{4 - n}{more}$"
        with pytest.raises(DataError, match=told):
            open_source(tmp_path / "a")
    make_official(tmp_path / "b", files | {"n02": []}, files | {"n02": []}, {})
    with pytest.raises(DataError, match=r"n02.tar: expected the pictures of a class, got none"):
        open_source(tmp_path / "b")
    make_official(tmp_path / "c", {"n01": files["n01"]}, {"n01": files["n01"]}, {})
    with pytest.raises(DataError, match="c: expected at least two classes, got n01"):
        open_source(tmp_path / "c")


def test_long_work_shows_how_far_it_is(tmp_path, capsys, threads, monkeypatch):
    """On a terminal a bar, which ends where the work ends; in a log a line of what takes long."""
    files = {"n01": [picture(60)] * 3, "n02": [picture(90)] * 2 + [b"text"]}
    make_official(tmp_path, files, files, {})
    sums = {
        name: hashlib.md5((tmp_path / name).read_bytes(), usedforsecurity=False).hexdigest()
        for name in (TRAIN, VAL, DEVKIT)
    }
    monkeypatch.setattr("tinynet.data.imagenet.MD5", sums)
    md5 = hashlib.md5  # some systems have it for checksums only
    monkeypatch.setattr(hashlib, "md5", lambda usedforsecurity: usedforsecurity or md5())
    out, bars, options = tmp_path / "out", [], Options(size=8, shard=2)

    def everything(shown: bool) -> None:
        check_md5(tmp_path, progress=shown)
        open_source(tmp_path, progress=shown)
        if out.exists():
            shutil.rmtree(out)
        with pytest.raises(DataError, match="2 of 12 pictures"):
            prepare(tmp_path, out, options, workers=1, max_bad=0.1, progress=shown)
        prepare(tmp_path, out, options, workers=1, max_bad=0.2, progress=shown)
        assert verify(out, progress=shown) == []
        (out / "train-000001.tar").write_bytes(b"damaged")
        assert repair(out, workers=1, progress=shown) == ["train-000001.tar"]

    class Noted(progress.tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            bars.extend([] if self.disable else [self])

    everything(False)
    everything(True)
    assert capsys.readouterr().err == ""  # a log gets lines of what takes long, nothing else
    with monkeypatch.context() as patch:
        patch.setattr(progress, "LOG", 0.0)
        check_md5(tmp_path, progress=True)
        assert list(progress.bar(range(3), shown=True, leave=True)) == [0, 1, 2]
    said = capsys.readouterr().err
    assert f"md5 of {TRAIN}: 100%" in said and "\r" not in said and "\n\n" not in said
    lines = said.splitlines()[-4:]
    assert [line.partition("|")[0] for line in lines] == ["  0%", " 33%", " 67%", "100%"]
    log = progress.bar(range(9), shown=True, leave=True)
    assert [log.delay, log.mininterval, log.maxinterval] == [60, 60, 60] and list(log)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda stream: True)
    everything(False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "tqdm", Noted)
    everything(True)
    assert all(bar.disable for bar in bars)  # closed, also by an error
    assert all(bar.unit_scale == (bar.unit == "B") for bar in bars)  # 138G, not 137950000000
    sizes = {name: (tmp_path / name).stat().st_size for name in sums}
    found = [(bar.desc, bar.unit, bar.total, bar.initial, bar.n, bar.leave) for bar in bars]
    listing = (f"listing {TRAIN}", "B", 30720, 0, 2 * (512 + 10240), False)  # without the tar's end
    files = ("checksums", " files", 12, 0, 12, False)
    assert found == [
        *((f"md5 of {name}", "B", size, 0, size, False) for name, size in sizes.items()), listing,
        listing, ("", " pictures", 12, 0, 12, True),
        listing, ("checking", " shards", 6, 0, 6, False), ("", " pictures", 12, 12, 12, True),
        files, ("pictures", " files", 6, 0, 6, False),
        files, listing, ("", " pictures", 2, 0, 2, True),
    ]  # fmt: skip


# ---- IDX


@pytest.mark.parametrize("open_file", [gzip.open, open])
@pytest.mark.parametrize("shape", [(2**31, 2**31, 1), (2**32 - 1,) * 3, (2**30, 8, 8)])
def test_a_header_that_promises_too_much(tmp_path, open_file, shape):
    path = tmp_path / ("x.gz" if open_file is gzip.open else "x")
    with open_file(path, "wb") as file:
        file.write(b"\0\0\x08\x03" + struct.pack(">III", *shape) + bytes(1000))
    with pytest.raises(
        DataError, match=r"expected \(\d+, \d+, \d+\) values .*, got 1000; fetch it"
    ):
        read_idx(path)
