"""What is wrong with prepared data, or while it is prepared, is told in one line."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from small_tree import make_tree, picture, with_sums

from tinynet.data import ArrayDataset, Loader
from tinynet.data.imagenet import open_source
from tinynet.data.prepare import Options, prepare
from tinynet.data.shards import ShardDataset, verify
from tinynet.data.workers import Process, _Block
from tinynet.errors import DataError

# ---- preparing, and what is prepared


def test_options_of_preparing():
    for options, message in [
        ({"size": 0}, "expected a size of 1 to 4096, got 0"),
        ({"size": 4097}, "expected a size of 1 to 4096, got 4097"),
        ({"form": "round"}, 'expected the form "square", "full" or "raw", got \'round\''),
        ({"quality": 0}, "expected a quality of 1 to 95, got 0"),
        ({"quality": 96}, "expected a quality of 1 to 95, got 96"),
    ]:
        with pytest.raises(DataError, match=message):
            Options(**options)
    assert Options(size=4096, quality=95) and Options(size=1, quality=1)


def test_preparing_ends_with_one_line(tmp_path, monkeypatch):
    source, out = make_tree(tmp_path / "in"), tmp_path / "out"
    for i in range(2):
        (source / "val/n01" / f"{i}.jpg").write_text("text")
        (source / "val/n02" / f"{i}.jpg").write_text("text")
    with pytest.raises(
        DataError, match="val: expected pictures of each class .* got none of n01, n02"
    ):
        prepare(source, out, Options(size=8), workers=1, max_bad=1, progress=False)
    source = make_tree(tmp_path / "in2")
    (source / "train/n01/0.jpg").unlink()
    (source / "train/n01/0.jpg").symlink_to(tmp_path / "later.jpg")
    (tmp_path / "later.jpg").write_bytes(picture(9))
    found = open_source(source)
    monkeypatch.setattr("tinynet.data.prepare.open_source", lambda *arguments: found)
    (tmp_path / "later.jpg").unlink()  # gone between listing and reading
    with pytest.raises(DataError, match=r"train-000000.tar: .*No such file"):
        prepare(source, tmp_path / "out2", Options(size=8), workers=1, progress=False)


def test_a_worker_that_dies_while_it_prepares(tmp_path, monkeypatch):
    source = make_tree(tmp_path / "in", count=40)

    class Killed(Process):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.join()

    monkeypatch.setattr("tinynet.data.prepare.Process", Killed)
    with pytest.raises(DataError, match="SIGKILL.* while it wrote .*; is there enough memory"):
        prepare(source, tmp_path / "out", Options(size=8), workers=1, progress=False)


@pytest.fixture
def prepared(tmp_path) -> Path:
    prepare(
        make_tree(tmp_path / "in"), tmp_path / "out", Options(size=8), workers=1, progress=False
    )
    return tmp_path / "out"


def test_a_prepared_set_of_another_source(prepared, tmp_path):
    with pytest.raises(
        DataError,
        match=r"a data set of another source or other options \(size 8, not 9\); choose another",
    ):
        prepare(tmp_path / "in", prepared, Options(size=9), workers=1, progress=False)


def test_prepared_sets_that_are_not_whole(prepared):
    assert ShardDataset(prepared, "val").moments().count == 4  # of the four pictures
    about = json.loads((prepared / "dataset.json").read_bytes())
    for content, message in [
        (b"{", "dataset.json: damaged"),
        (
            json.dumps({"version": 1}).encode(),
            r"dataset.json: damaged \(KeyError\('size'\)\); prepare the folder again",
        ),
        (
            json.dumps({**about, "version": 7}).encode(),
            "expected version 1, got 7; prepare the folder again",
        ),
    ]:
        with_sums(prepared, "dataset.json", content)
        with pytest.raises(DataError, match=message):
            ShardDataset(prepared, "train")
        assert len(verify(prepared)) == 1
    with_sums(prepared, "dataset.json", json.dumps(about).encode())
    assert len(ShardDataset(prepared, "train")) == 4


def test_files_that_lack(prepared):
    for name, message in [
        ("classes.tsv", "is missing; prepare the folder again"),
        ("train-000000.tar", "got 0; run `python examples/prepare_imagenet.py --repair "),
    ]:
        (prepared / name).rename(prepared / "aside")
        with pytest.raises(DataError, match=f"{name}.*{message}"):
            ShardDataset(prepared, "train")
        assert f"{prepared / name}: missing" in verify(prepared)
        (prepared / "aside").rename(prepared / name)
    assert verify(prepared) == []
    sums = (prepared / "SHA256SUMS").read_text()
    (prepared / "SHA256SUMS").write_text(sums + f"{'0' * 64}  more.tar\n")
    assert verify(prepared) == [f"{prepared}/SHA256SUMS: does not list the files that belong here"]
    (prepared / "SHA256SUMS").write_text(sums.replace("\n", "\v", 1))  # one bit of a newline
    assert verify(prepared) != []
    (prepared / "SHA256SUMS").unlink()
    with pytest.raises(DataError, match="SHA256SUMS is missing"):
        ShardDataset(prepared, "train")


def test_an_index_that_is_not_the_shards(prepared):
    index = np.load(prepared / "val.npy")

    def stored(array: np.ndarray) -> bytes:
        data = io.BytesIO()
        np.save(data, array)
        return data.getvalue()

    with_sums(prepared, "val.npy", stored(index[:-1]))
    assert verify(prepared) == [
        f"{prepared / 'val-000000.tar'}: 8 members, not two for each picture of the index"
    ]
    wrong = index.copy()
    wrong["crc"][1] ^= 1
    wrong["label"][2] += 1
    wrong["offset"][3] += 4
    with_sums(prepared, "val.npy", stored(wrong))
    lines = verify(prepared)
    assert len(lines) == 3 and all("differs from the index" in line for line in lines)


def test_an_epoch_at_a_time(rng):
    dataset = ArrayDataset(np.zeros((8, 2, 2, 3), np.uint8), np.zeros(8, int), ["a"])
    with Loader(dataset, 2, crop=2, train=True, workers=1) as loader:
        first = loader.epoch(0)
        next(first)
        with pytest.raises(DataError, match="an epoch of this loader is still running"):
            next(loader.epoch(1))
        first.close()
        assert len(list(loader.epoch(1))) == 4


def test_shared_memory_without_memfd(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    block = _Block(100)
    assert len(block.memory) == 100 and os.fstat(block.file.fileno()).st_size == 100
