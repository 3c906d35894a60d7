"""In what order bytes and names reach the disk; no file is written through another name."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest

from tinynet.data.shards import write_file
from tinynet.training import checkpoint as files
from tinynet.training import report
from tinynet.training.checkpoint import Checkpoint
from tinynet.training.metrics import MetricsLog, write_config
from tinynet.training.report import write_report
from tinynet.training.task import Classification

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")


def make(step):
    return Checkpoint({"w": np.full(3, step, np.float32)}, state={"step": step})


@pytest.fixture
def events(monkeypatch):
    """("sync", name, bytes in it), ("name", from, to), ("link", from, to), as they happen."""
    found, fsync, replace, link = [], os.fsync, os.replace, os.link

    def synced(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        size = None if os.path.isdir(path) else os.stat(path).st_size
        found.append(("sync", os.path.basename(path), size))
        fsync(descriptor)

    def named(source, target):
        found.append(("name", os.path.basename(source), os.path.basename(target)))
        replace(source, target)

    def linked(source, target):
        found.append(("link", os.path.basename(source), os.path.basename(target)))
        link(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", named)
    monkeypatch.setattr(os, "link", linked)
    return found


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, events):
    files.save(tmp_path / "c.safetensors", make(1))
    size = (tmp_path / "c.safetensors").stat().st_size
    assert events == [
        ("sync", "c.safetensors", size),
        ("name", "c.safetensors", "c.safetensors"),
        ("sync", tmp_path.name, None),
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_best_is_a_second_name(tmp_path, events):
    files.save(tmp_path / "a.safetensors", make(1))
    del events[:]
    files.keep_best(tmp_path / "a.safetensors")
    assert events == [
        ("link", "a.safetensors", "best.safetensors.part"),
        ("name", "best.safetensors.part", "best.safetensors"),
        ("sync", tmp_path.name, None),
    ]


def test_best_as_a_copy_is_on_the_disk_before_it_has_its_name(tmp_path, events, monkeypatch):
    def no_links(source, target):
        raise PermissionError("this file system has no hard links")

    files.save(tmp_path / "a.safetensors", make(1))
    monkeypatch.setattr(os, "link", no_links)
    del events[:]
    files.keep_best(tmp_path / "a.safetensors")
    assert events == [
        ("sync", "best.safetensors.part", (tmp_path / "a.safetensors").stat().st_size),
        ("name", "best.safetensors.part", "best.safetensors"),
        ("sync", tmp_path.name, None),
    ]


def test_what_a_killed_run_left_beside_best_is_no_way_into_another_checkpoint(tmp_path):
    older, newer = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    files.save(older, make(1)), files.save(newer, make(2))
    os.link(older, tmp_path / "best.safetensors.part")  # killed before it had its name
    files.keep_best(newer)
    assert [files.load(each).state["step"] for each in (older, newer)] == [1, 2]
    assert files.load(tmp_path / "best.safetensors").state["step"] == 2


def test_a_text_is_on_the_disk_before_it_has_its_name(tmp_path, events):
    files.write_whole(tmp_path / "t.json", "äöü")
    assert events == [
        ("sync", "t.json.part", 6),
        ("name", "t.json.part", "t.json"),
        ("sync", tmp_path.name, None),
    ]


def test_a_file_of_a_prepared_set_is_on_the_disk_before_it_has_its_name(tmp_path, events):
    write_file(tmp_path / "f.npy", b"12345")
    aside = f".f.npy.{os.getpid()}"
    assert events == [("sync", aside, 5), ("name", aside, "f.npy")]
    assert (tmp_path / "f.npy").read_bytes() == b"12345"


def test_metrics_are_on_the_disk_before_a_checkpoint_counts_them(tmp_path, events):
    log = MetricsLog(tmp_path)
    log._file.write('{"kind": "held back"}\n')  # as in a buffer that no line has flushed yet
    assert log.sync() == 22
    assert events == [("sync", "metrics.jsonl", 22)]
    log.close()


@pytest.mark.parametrize("links", [True, False])
def test_no_checkpoint_is_written_through_another_name(tmp_path, links, monkeypatch):
    """`best` is a second name of a file: a write into it would change the other one too."""
    if not links:
        monkeypatch.setattr(os, "link", lambda *names: (_ for _ in ()).throw(OSError()))
    a, b, best = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "best"))
    files.save(a, make(1))
    files.keep_best(a)
    files.save(b, make(2))
    files.keep_best(b)
    assert [files.load(path).state["step"] for path in (a, b, best)] == [1, 2, 2]
    files.save(b, make(3))  # as a resume does at the step it stood at
    assert [files.load(path).state["step"] for path in (a, b, best)] == [1, 3, 2]
    a.unlink()
    (tmp_path / "best.safetensors.part").write_bytes(b"of a kill")
    files.keep_best(b)
    assert files.load(best).state["step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [b.name, best.name]


def test_steps_are_sorted_as_numbers(tmp_path):
    for step in (9, 10, 100, 1_000_000):
        files.save(files.path_of(tmp_path, step), make(step))
    files.prune(tmp_path, 2)
    assert [files.load(path).state["step"] for path in files.all_in(tmp_path)] == [1_000_000, 100]


def test_the_newest_is_the_one_of_the_last_step(tmp_path):
    """Not the one that was written last: a copy of a folder has any times."""
    for step in (1, 2, 3):
        path = files.path_of(tmp_path, step)
        files.save(path, make(step))
        os.utime(path, (1000 - step, 1000 - step))
    files.prune(tmp_path, 2)
    assert [files.load(path).state["step"] for path in files.all_in(tmp_path)] == [3, 2]
    assert files.newest_whole(tmp_path)[0] == files.path_of(tmp_path, 3)


def test_nothing_stays_open(tmp_path):
    """A run saves thousands of times; a process may have some 1,000 files open."""
    files.save(tmp_path / "a.safetensors", make(1))  # so that all is imported
    before = len(os.listdir("/proc/self/fd"))
    for step in range(5):
        files.save(tmp_path / "a.safetensors", make(step))
        files.keep_best(tmp_path / "a.safetensors")
        files.write_whole(tmp_path / "t.json", "{}")
        files.load(tmp_path / "best.safetensors")
        MetricsLog(tmp_path).close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, OSError, MemoryError])
def test_whatever_ends_a_write_leaves_the_file_of_before_and_nothing_else(
    error, tmp_path, monkeypatch
):
    files.save(tmp_path / "a.safetensors", make(1))
    files.write_whole(tmp_path / "t.json", "{}")
    write_config(tmp_path, {"lr": 1}, "a net", Classification)
    write_report(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".png"}

    def interrupted(descriptor):
        raise error

    for name in ("draw_curves", "curves"):  # which is no part of the page
        monkeypatch.setattr(report, name, lambda *args: [])
    monkeypatch.setattr(os, "fsync", interrupted)
    for write in (
        lambda: files.save(tmp_path / "a.safetensors", make(2)),
        lambda: files.write_whole(tmp_path / "t.json", "[]"),
        lambda: write_config(tmp_path, {"lr": 2}, "a net", Classification),
        lambda: write_report(tmp_path),
    ):
        with pytest.raises(error):
            write()
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix != ".png"}
    assert after == before


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path):
    files.save(tmp_path / "a.safetensors", make(1))
    (tmp_path / "b.safetensors.part").mkdir()
    (tmp_path / "b.safetensors.part" / "b.safetensors").write_bytes(b"half")
    (tmp_path / "config.json.part").write_text("{")
    files.remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_arrays_are_kept_by_their_whole_names(tmp_path):
    written = Checkpoint(
        {"a.b.c": np.arange(6.0).reshape(2, 3).T}, {"a.b": np.zeros(0)}, {"x": np.array(7)}
    )
    files.save(tmp_path / "c.safetensors", written)
    read = files.load(tmp_path / "c.safetensors")
    assert list(read.model) == ["a.b.c"] and list(read.optimizer) == ["a.b"]
    assert read.model["a.b.c"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert read.arrays["x"].shape == () and read.optimizer["a.b"].shape == (0,)


def test_the_checksum_is_of_names_types_shapes_values_and_state():
    """Two contents that differ in one of these only differ in their checksums; order is nothing."""
    a, b = np.arange(6, dtype=np.float32), np.ones(6, np.float32)
    same = files._digest({"a": a, "b": b}, {"state": "1"})
    one, two = {"x": "1", "y": "2"}, {"y": "2", "x": "1"}  # a file tells them in any order
    assert files._digest({}, one) == files._digest({}, two) != files._digest({}, {"x": "1"})
    assert same == files._digest({"b": b, "a": a}, {"state": "1"})
    others = [
        ({"a": a, "c": b}, "1"),
        ({"b": a, "a": b}, "1"),
        ({"a": a.view(np.int32), "b": b}, "1"),
        ({"a": a.reshape(2, 3), "b": b}, "1"),
        ({"a": a + 1, "b": b}, "1"),
        ({"a": a, "b": b}, "2"),
    ]
    digests = {files._digest(arrays, {"state": state}) for arrays, state in others}
    assert len(digests | {same}) == len(others) + 1
    grid = a.reshape(2, 3)
    assert files._digest({"a": grid.T}, {}) == files._digest({"a": grid.T.copy()}, {})
