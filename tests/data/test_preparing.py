"""Runs that prepare: every source gives the right pictures; in what order bytes reach the disk,
what a run leaves that stops, how many bad pictures are too many, who writes how much at once.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import FrozenInstanceError, asdict, fields, replace
from pathlib import Path

import pytest
from make_archives import TRAIN, make_kaggle, make_official, tar_of
from PIL import Image
from small_tree import (
    SMALL,
    InThread,
    digests,
    larger_tree,
    made,
    make_tree,
    photo,
    picture,
)
from test_over_ranks import together as together_by_ranks

from tinynet.data import open_data
from tinynet.data import prepare as preparing
from tinynet.data.folder import held_out
from tinynet.data.imagenet import open_source
from tinynet.data.over_ranks import prepare_over
from tinynet.data.pictures import decode
from tinynet.data.prepare import Options
from tinynet.data.repair import repair
from tinynet.data.shards import SMALL_FILES, verify
from tinynet.data.workers import Process
from tinynet.errors import DataError

PROGRAM = Path(__file__).parents[2] / "examples" / "prepare_imagenet.py"
WORDS = {"n01000009": "goldfish, Carassius", "n02000005": "bé", "n03000001": "bucket, pail"}
OTHER = Options(size=12, form="full", quality=40, shard=3, chroma="4:4:4", val_share=0.3)
pytestmark = pytest.mark.usefixtures("threads")


@pytest.fixture
def source(tmp_path, rng) -> Path:
    """Of 24 + 9 pictures: shards of 5 and 4, or 5 and 4."""
    return larger_tree(tmp_path / "in", rng)


@pytest.fixture
def small(tmp_path) -> Path:
    """Of 6 + 6 pictures: shards of 5 and 1."""
    return make_tree(tmp_path / "in", 3)


# ---- sources


@pytest.mark.parametrize("layout", ["official", "kaggle", "tree"])
def test_every_layout_gives_the_right_pictures_and_labels(tmp_path, rng, layout):
    """Labels are positions in the sorted ids, whatever numbers the devkit uses."""
    out = tmp_path / "out"
    pictures = [{wnid: [photo(rng) for _ in range(n)] for wnid in WORDS} for n in (4, 2)]
    if layout == "official":
        make_official(tmp_path / "in", *pictures, WORDS)
    elif layout == "kaggle":
        make_kaggle(tmp_path / "in", *pictures, WORDS)
    else:
        for split, classes in zip(("train", "val"), pictures, strict=True):
            for wnid, files in classes.items():
                (tmp_path / "in" / split / wnid).mkdir(parents=True)
                for i, data in enumerate(files):
                    (tmp_path / "in" / split / wnid / f"{i}.JPEG").write_bytes(data)
        (tmp_path / "in/words.txt").write_text("".join(f"{k}\t{v}\n" for k, v in WORDS.items()))
    made(tmp_path / "in", out, replace(SMALL, form="raw"))
    assert verify(out) == []
    for dataset, classes in zip(open_data(out), pictures, strict=True):
        assert dataset.classes == [f"{wnid} {WORDS[wnid]}" for wnid in sorted(WORDS)]
        expected = {
            decode(data, "x", 16).tobytes(): sorted(WORDS).index(wnid)
            for wnid, files in classes.items()
            for data in files
        }
        found = [expected.pop(dataset.picture(i).tobytes()) for i in range(len(dataset))]
        assert not expected and found == dataset.labels.tolist()


def test_no_path_in_an_archive_leaves_the_folder(tmp_path):
    files = {wnid: [picture(60)] * 2 for wnid in ("n01", "n02")}
    make_official(tmp_path / "in", files, files, {})
    evil = {"../../../escaped.JPEG": picture(60), "/tmp/a\nb\t.JPEG": b"text"}
    (tmp_path / "in" / TRAIN).write_bytes(tar_of({f"{wnid}.tar": tar_of(evil) for wnid in files}))
    before = set(tmp_path.rglob("*"))
    made(tmp_path / "in", tmp_path / "out", max_bad=0.5)
    new = set(tmp_path.rglob("*")) - before
    assert all(path == tmp_path / "out" or path.parent == tmp_path / "out" for path in new)
    assert "a\\nb\\t.JPEG\tleft out" in (tmp_path / "out/report.tsv").read_text()


def test_the_source_is_not_written_into(tmp_path, small, monkeypatch):
    before = sorted(small.rglob("*"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("in")
    for out in (small, small / "train" / "..", Path("in"), tmp_path / "link"):
        with pytest.raises(DataError, match="expected a folder beside the source, got the source"):
            made(small, out)
    assert sorted(small.rglob("*")) == before


def test_what_is_no_source_leaves_no_folder(tmp_path):
    out = tmp_path / "new" / "out"
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match="in: expected"):
        made(tmp_path / "in", out)
    for error in together_by_ranks(2, lambda rank: prepare_over(rank, tmp_path / "in", out, SMALL)):
        assert isinstance(error, DataError)
    assert not out.parent.exists()


# ---- options


def test_every_option_is_kept_and_another_value_is_another_folder(tmp_path, rng):
    """Each changes what is written; none is dropped on the way to the workers, or at a repair."""
    source = larger_tree(tmp_path / "in", rng, 6, 0)
    about = made(source, tmp_path / "out", OTHER)
    assert about["plan"] == {"source": str(source), **asdict(OTHER)}
    right = digests(tmp_path / "out")
    values = asdict(Options(size=14, quality=80, shard=4, val_share=0.5))
    for field in fields(Options):
        changed = replace(OTHER, **{field.name: values[field.name]})
        out = tmp_path / field.name
        made(source, out, changed)
        assert verify(out) == []
        tars = [{p.name: p.read_bytes() for p in f.glob("*.tar")} for f in (out, tmp_path / "out")]
        assert tars[0] != tars[1], field.name
        old, new = getattr(OTHER, field.name), values[field.name]
        with pytest.raises(
            DataError,
            match=rf"of another source or other options \({field.name} {old}, not {new}\); choose",
        ):
            made(source, tmp_path / "out", changed)
    for names in (["val-000000.tar"], ["report.tsv"], ["train.npy", "train-000001.tar"]):
        for name in names:
            (tmp_path / "out" / name).write_bytes(b"damaged")
        assert repair(tmp_path / "out", workers=1, progress=False) == sorted(names)
        assert digests(tmp_path / "out") == right


def test_options_at_their_limits(tmp_path):
    for field, least, most, words in (
        ("size", 1, 4096, "a size of 1 to 4096"), ("quality", 1, 95, "a quality of 1 to 95"),
        ("shard", 1, 10**9, "at least 1 picture a shard"),
    ):  # fmt: skip
        for value in (least, most):
            assert getattr(Options(**{field: value}), field) == value
        for value in (least - 1, *([most + 1] if field != "shard" else [])):
            with pytest.raises(DataError, match=f"expected {words}, got {value}"):
                Options(**{field: value})
    for field, words in (("form", '"square", "full" or "raw"'), ("chroma", '"4:2:0" or "4:4:4"')):
        with pytest.raises(DataError, match=f"expected the {field} {words}, got 'other'"):
            Options(**{field: "other"})
    with pytest.raises(FrozenInstanceError):  # or a size could come that nobody asked about
        Options().size = 0
    for share in (-0.1, 1.1, float("nan"), float("inf")):
        with pytest.raises(DataError, match=f"expected max_bad of 0 to 1, got {share}"):
            made(tmp_path, tmp_path / "none", max_bad=share)


# ---- what reaches the disk, and when


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_every_file_is_whole_on_the_disk_before_it_has_its_name(tmp_path, source, monkeypatch):
    synced, named, rename, ignored, kept = {}, [], os.replace, [], []

    def sync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced[path] = os.stat(path).st_size

    def name(aside, path):
        assert Path(aside).parent == Path(path).parent and Path(aside).name.startswith(".")
        assert str(os.getpid()) in Path(aside).name  # so that of another process stays apart
        assert synced.pop(str(aside)) == os.stat(aside).st_size, path
        assert not (out / "dataset.json").exists()
        rename(aside, path)
        named.append(Path(path).relative_to(out).as_posix())

    out = tmp_path / "out"
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", name)
    monkeypatch.setattr("signal.signal", lambda number, handler: ignored.append((number, handler)))
    monkeypatch.setattr(preparing, "keep_freed_memory", lambda: kept.append(True))
    about = made(source, out)
    assert kept == [True]  # by the one worker
    shards = [f"{s}-{n:06d}" for s, sizes in about["shards"].items() for n in range(len(sizes))]
    assert len(shards) == 7
    expected = ["parts/plan.json"]
    for shard in shards:
        expected += [f"{shard}.tar", f"parts/{shard}.npz"]
    assert named[: len(expected)] == expected and named[-1] == "dataset.json"
    rest = {*SMALL_FILES, "SHA256SUMS"}
    assert set(named[len(expected) :]) == rest
    assert {path.name for path in out.iterdir()} == rest | {f"{shard}.tar" for shard in shards}
    assert set(ignored) == {(signal.SIGINT, signal.SIG_IGN), (signal.SIGHUP, signal.SIG_IGN)}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_run_that_fails_at_any_write_goes_on(small, tmp_path, monkeypatch, call):
    """As where the disk is full: a line, and in the end the same bytes, and nothing beside them."""
    right, out = made(small, tmp_path / "whole"), tmp_path / "out"
    original, step = getattr(os, call), 1 if call == "replace" else 5
    for writes in itertools.count(step=step):
        done = itertools.count()

        def full(*arguments, done=done, writes=writes):
            if next(done) == writes:
                raise OSError(28, "No space left on device")
            return original(*arguments)

        try:
            with monkeypatch.context() as patch:
                patch.setattr(os, call, full)
                made(small, out)
            break
        except (DataError, OSError) as error:
            assert "No space left on device" in str(error)
            if writes in range(1, 9, 2):  # a shard
                assert f"-00000{writes // 2 % 2}.tar: [Errno 28]" in str(error)
            assert not list(out.glob(".[tv]*.tar.*")) and not (out / "dataset.json").exists()
        assert made(small, out) == right
        assert digests(out) == digests(tmp_path / "whole"), writes
        shutil.rmtree(out)
    assert digests(out) == digests(tmp_path / "whole")
    # the plan; shards and parts; the report; tables and sums; dataset.json
    assert writes - step < 1 + 2 * 4 + 1 + 6 + 1 <= writes


def test_what_a_killed_run_was_writing_is_cleared_away(small, tmp_path):
    """By whichever process it was; what is not ours stays."""
    made(small, tmp_path / "whole")
    right, out = digests(tmp_path / "whole"), tmp_path / "out"
    asides = [f".{name}.4194999" for name in right] + ["parts/.plan.json.4194999"]
    # In a folder that lost its plan; in one that goes on, and is stopped; in one that is finished.
    for ends in (False, False, True):
        (out / "parts").mkdir(parents=True, exist_ok=True)
        for name in [*asides, ".train-000123.tar.7", "parts/.train-000000.npz.7"]:
            (out / name).write_bytes(b"half")
        mine = [".notes", ".train.npy", ".train-1.tar.7.old", "train.tar.7", "x.train.npy.7"]
        for name in mine:
            (out / name).write_bytes(b"mine")
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(ZeroDivisionError):
            patch.setattr(preparing, "_finish", preparing._finish if ends else stopped)
            made(small, out)
        assert ends or not list((out / "parts").glob(".*"))
    found = digests(out)
    assert [(out / name).read_bytes() for name in mine if found.pop(name)] == [b"mine"] * 5
    assert found == right


def stopped(*arguments):
    raise ZeroDivisionError


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, rng):
    source = larger_tree(tmp_path / "in", rng, 1, 1)
    for k in range(60):
        (source / "train/n02" / f"more {k}.jpg").write_bytes(photo(rng, (300, 200)))
    out, options = tmp_path / "out", Options(size=100, shard=2)
    made(source, tmp_path / "whole", options)
    command = [sys.executable, PROGRAM, source, out, "--size=100", "--shard=2"]
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[1])}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    shards = rng.integers(0, 30)
    while run.poll() is None and len(list(out.glob("*.tar"))) < shards:
        time.sleep(0.002)
    time.sleep(0.01 * rng.random())
    run.send_signal(signal.SIGKILL)
    assert run.wait() in (0, -signal.SIGKILL)  # 0: it was done before
    made(source, out, options)
    assert digests(out) == digests(tmp_path / "whole")


def test_a_process_of_a_killed_run_ends_its_file_meanwhile(tmp_path, small, monkeypatch):
    """What is to be removed may just have got its name."""
    whole, out, glob = tmp_path / "whole", tmp_path / "out", Path.glob
    made(small, whole)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(preparing, "write_shards", stopped)
        made(small, out)
    left = [out / ".train-000001.tar.7", out / "parts" / ".train-000000.npz.7"]
    for path in left:
        path.write_bytes(b"half")

    def ends(self, pattern):
        for path in glob(self, pattern):
            if path in left:
                left.remove(path)
                path.unlink()
            yield path

    monkeypatch.setattr(Path, "glob", ends)
    made(small, out)
    assert not left and digests(out) == digests(whole)


def test_a_second_run_does_nothing(tmp_path, small, monkeypatch):
    """It does not even list the source; unless a folder is being mended, which others wait for."""
    out = tmp_path / "not there yet" / "out"
    right = made(small, out)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    monkeypatch.setattr(preparing, "open_source", None)
    lock = preparing.locked
    for waits in (None, "parts", preparing.LOCK):
        held = []
        if waits == "parts":
            (out / waits).mkdir()
        elif waits:
            (out / waits).write_text("1")
        with monkeypatch.context() as patch:
            patch.setattr(preparing, "locked", lambda f, held=held: held.append(f) or lock(f))
            assert made(small, out) == right
        assert held == ([out] if waits else [])
        (out / preparing.LOCK).unlink(missing_ok=True)
        assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_folder_begun_with_another_source_is_not_gone_on_with(tmp_path, small):
    out, bad = tmp_path / "out", small / "train/n01/bad.jpg"
    bad.write_text("text")
    with pytest.raises(DataError, match="max_bad"):
        made(small, out, max_bad=0)
    with pytest.raises(DataError, match=r"begun with .* other options \(quality 90, not 80\);"):
        made(small, out, replace(SMALL, quality=80))
    bad.unlink()
    with pytest.raises(DataError, match=r"out was begun with another source .* \(the pictures\);"):
        made(small, out)
    bad.write_text("text")
    moved = small.rename(tmp_path / "moved")  # the same pictures elsewhere
    assert made(moved, out, max_bad=0.1)["plan"]["source"] == str(moved)
    with pytest.raises(DataError, match=r"other options \(source .*/moved, not .*/in\); choose"):
        made(small, out, max_bad=0.1)


# ---- how many bad pictures are too many


@pytest.mark.parametrize(
    ("bad", "max_bad", "passes"),
    [(0, 0, True), (1, 0, False), (1, 1 / 12, True), (1, 0.08, False), (2, 0.16, False),
     (2, 2 / 12, True), (2, 0.24, True), (2, 1, True)],
)  # fmt: skip
def test_bad_pictures_up_to_the_share_and_no_more(small, tmp_path, bad, max_bad, passes, caplog):
    """Of twelve; whether they are found in one run, or by a run that goes on with another. What is
    odd about others, and told, does not count.
    """
    Image.new("L", (12, 10)).save(small / "train/n01/0.jpg")
    for i in range(bad):
        (small / ("train/n01/1.jpg", "val/n02/1.jpg")[i]).write_text("no picture")  # two shards
    for interrupted in (False, True):
        out = tmp_path / f"out {interrupted}"
        if interrupted:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
                patch.setattr(preparing, "_finish", stopped)
                made(small, out, max_bad=1)
        for _ in range(1 + (not passes)):  # a second run finds the shards done, and says it again
            if passes:
                assert made(small, out, max_bad=max_bad)["left_out"] == bad
            else:
                message = f"got {bad} of 12 .*; mend .*--max-bad.*; the first: train\tn01/1.jpg"
                with pytest.raises(DataError, match=message):
                    made(small, out, max_bad=max_bad)
    assert not caplog.records  # no shard is damaged


def test_a_class_with_test_pictures_alone(tmp_path, rng, caplog):
    """Where a share is split off, a class may lack test pictures, but never training pictures."""
    source = larger_tree(tmp_path / "in", rng, 12, 0)
    held, other = (
        next(f"{i}.jpg" for i in range(99) if held_out(f"n09/{i}.jpg", 0.3) is side)
        for side in (True, False)
    )
    folder = source / "train/n09"
    folder.mkdir()
    (folder / held).write_bytes(photo(rng))
    (folder / other).write_text("text")
    options = replace(SMALL, val_share=0.3)
    message = "train: expected pictures of each class that can be used, got none of n09"
    with pytest.raises(DataError, match=message):
        made(source, tmp_path / "out", options, max_bad=0.5)
    (folder / held).write_text("text")
    (folder / other).write_bytes(photo(rng))
    with caplog.at_level(logging.WARNING):
        assert made(source, tmp_path / "out2", options, max_bad=0.5)["classes"] == 4
    assert "val: no picture of n09" in caplog.text
    for path in source.glob("train/*/*"):
        if held_out(str(path), 0.3):
            path.write_text("text")
    with pytest.raises(
        DataError, match="val: expected pictures .*, got none of n01, n02, n03, n09"
    ):
        made(source, tmp_path / "out3", options, max_bad=1)


def test_pictures_that_are_gone_and_splits_of_bad_ones(tmp_path, small, monkeypatch):
    found = open_source(small)
    for path in small.glob("val/*/*"):
        path.write_text("text")
    message = "val: expected pictures of each class .* got none of n01, n02"
    with pytest.raises(DataError, match=message):
        made(small, tmp_path / "out", max_bad=1)
    monkeypatch.setattr(preparing, "open_source", lambda *arguments: found)
    (small / "train/n01/0.jpg").unlink()  # between listing and reading
    with pytest.raises(DataError, match=r"train-000000.tar: .*No such file"):
        made(small, tmp_path / "out2")


# ---- who writes, and how much at a time


def test_the_bytes_do_not_depend_on_who_writes_them(tmp_path, small, monkeypatch):
    by_threads = made(small, tmp_path / "a", workers=2)
    monkeypatch.undo()
    by_processes = made(small, tmp_path / "b", workers=2)
    assert by_processes == by_threads and digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_worker_that_dies(tmp_path, small, monkeypatch):
    class Killed(Process):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.join()

    monkeypatch.setattr(preparing, "Process", Killed)
    with pytest.raises(DataError, match="SIGKILL.* while it wrote .*; is there enough memory"):
        made(small, tmp_path / "out")


def test_all_workers_work_at_once_and_no_more_than_there_is_work(tmp_path, source, monkeypatch):
    """All have ended when the run has, also when it ends with an error."""
    crew, write, met = [], preparing._write_shard, threading.Barrier(3, timeout=30)

    class Counted(InThread):
        def __init__(self, name, *arguments):
            crew.append(self)
            super().__init__(name, *arguments)

    def together(job, pipe):
        if job.split == "train" and job.number < 3:
            met.wait()  # three at once, or nobody goes on
        return write(job, pipe)

    monkeypatch.setattr(preparing, "Process", Counted)
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_write_shard", together)
        made(source, tmp_path / "a", workers=3)
    assert len(crew) == 3 and not any(each.thread.is_alive() for each in crew)
    monkeypatch.setattr(preparing, "available_cores", lambda: 2)
    for workers, count in ((50, 7), (None, 2), (1, 1)):
        crew.clear()
        made(source, tmp_path / f"{workers}", workers=workers)
        assert len(crew) == count
        assert digests(tmp_path / f"{workers}") == digests(tmp_path / "a")
    monkeypatch.setattr(preparing, "available_cores", lambda: 1)
    for names in (["train-000000.tar", "val-000000.tar", "train-000001.tar"], ["report.tsv"]):
        crew.clear()
        for name in names:
            (tmp_path / "a" / name).write_bytes(b"damaged")
        repair(tmp_path / "a", workers=2, progress=False)
        assert len(crew) == 2
    crew.clear()
    together_by_ranks(2, lambda rank: prepare_over(rank, source, tmp_path / "b", SMALL, workers=2))
    assert len(crew) == 4
    (source / "val/n02/1.jpg").write_text("no picture")
    crew.clear()
    with pytest.raises(DataError):
        made(source, tmp_path / "bad", workers=3, max_bad=0)
    assert len(crew) == 3 and not any(each.thread.is_alive() for each in crew)


def test_another_process_may_have_ended_it_or_begun_to_mend_it(tmp_path, source, monkeypatch):
    """While this one was listing the source, or waiting for the folder."""
    made(source, tmp_path / "ready")
    right, out, locked = digests(tmp_path / "ready"), tmp_path / "out", preparing.locked

    @contextlib.contextmanager
    def after(change, folder):
        change()
        with locked(folder):
            yield

    def ended():
        shutil.copytree(tmp_path / "ready", out, dirs_exist_ok=True)

    def mended():
        (out / "dataset.json").unlink()

    for change in (ended, mended):
        with monkeypatch.context() as patch:
            patch.setattr(preparing, "locked", lambda folder, c=change: after(c, folder))
            if change is ended:
                patch.setattr(preparing, "write_shards", None)  # nothing is written again
            else:
                (out / "parts").mkdir()
            made(source, out)
        assert digests(out) == right
