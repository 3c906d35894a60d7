"""A prepared folder that is damaged, half done, or in use: the same bytes in the end, or one line
that says how to get there.

`pytest -m slow -s --times 1000 -k damaged` damages a thousand times and shows the counts, and
`--times 100 -k kills` kills a hundred times.
"""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from make_archives import make_official
from small_tree import SMALL, digests, made, picture, with_sums
from test_data_robust import damage, jpeg

from tinynet.data import Loader, open_data
from tinynet.data import prepare as preparing
from tinynet.data.pictures import decode
from tinynet.data.prepare import Options, prepare
from tinynet.data.repair import repair
from tinynet.data.shards import ShardDataset, verify
from tinynet.errors import DataError, FolderInUseError
from tinynet.lock import locked

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "examples" / "prepare_imagenet.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
COUNTS = [15, pytest.param(200, marks=pytest.mark.slow)]


@pytest.fixture
def source(tmp_path, rng) -> Path:
    pictures = [
        {wnid: [jpeg(rng) for _ in range(count)] for wnid in ("n02", "n01", "n03")}
        for count in (6, 2)
    ]
    make_official(tmp_path / "in", *pictures, {})
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path, source, threads) -> Path:
    """Prepared: train-000000 to train-000003, val-000000 and val-000001."""
    made(source, tmp_path / "out")
    return tmp_path / "out"


def break_pictures(out: Path, *places: int) -> None:
    index = np.load(out / "train.npy")
    for place in places:
        row = index[place]
        path = out / f"train-{row['shard']:06d}.tar"
        data = bytearray(path.read_bytes())
        data[int(row["offset"]) + 9] ^= 1
        path.write_bytes(data)


# ---- a finished folder


def test_repair_writes_what_differs_and_nothing_else(out):
    """All again where a table is damaged, which holds something of every shard."""
    right = digests(out)
    shards, tables = ["train-000001.tar", "val-000001.tar"], sorted({*right} - {"dataset.json"})
    tables = [name for name in tables if not name.endswith(("tar", "SUMS"))]
    for names in (shards, *([name, "train-000000.tar"] for name in tables)):
        before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
        for name in names:
            (out / name).write_bytes(b"damaged")
        (out / names[1]).unlink()
        assert repair(out, progress=False) == sorted(names)
        assert digests(out) == right and verify(out) == []
        now = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
        if names is shards:
            assert {name for name in now if now[name] != before[name]} == set(names)
        assert repair(out, progress=False) == []


def test_a_list_of_checksums_that_is_wrong_comes_back(out):
    right, sums = digests(out), out / "SHA256SUMS"
    text = sums.read_text()
    for wrong, damaged in (
        (text + f"{'0' * 64}  more.tar\n", "SHA256SUMS"),
        (text.replace(right["val-000000.tar"], "0" * 64), "val-000000.tar"),  # it seems to differ
        ("\n".join(line for line in text.split("\n") if "train.npy" not in line), "train.npy"),
    ):
        sums.write_text(wrong)
        assert repair(out, progress=False) == [damaged]
        assert digests(out) == right


def test_what_was_bad_is_bad_at_a_repair_too(tmp_path, rng, threads):
    """Whatever share of the pictures it is."""
    files = {wnid: [jpeg(rng), b"text", b""] for wnid in ("n01", "n02")}
    make_official(tmp_path / "in", files, files, {})
    out = tmp_path / "out"
    assert made(tmp_path / "in", out, max_bad=1)["left_out"] == 8
    right = digests(out)
    for name in ("classes.tsv", "train-000000.tar"):
        (out / name).write_bytes(b"damaged")
        assert repair(out, progress=False) == [name] and digests(out) == right


def test_shards_that_come_out_otherwise_are_all_written_again(out, monkeypatch, caplog):
    """As where Pillow is another version: one of two shards differs, so no old one is mixed in."""
    convert, before = preparing._convert, digests(out)
    for name in ("train-000000.tar", "train-000002.tar"):
        (out / name).write_bytes(b"damaged")

    def otherwise(entry, options):
        content, skip, pixels, notes = convert(entry, options)
        if entry.name == "n02/n02_4.JPEG":  # in train-000002
            pixels = decode(content := picture(7, (16, 16)), "x")
        return content, skip, pixels, notes

    monkeypatch.setattr(preparing, "_convert", otherwise)
    with caplog.at_level(logging.WARNING):
        found = repair(out, workers=1, progress=False)
    assert found == ["train-000000.tar", "train-000002.tar"]
    assert "shards come out otherwise than SHA256SUMS says" in caplog.text
    assert verify(out) == [] and not (out / "parts").exists()
    now = digests(out)
    assert now["train-000000.tar"] == before["train-000000.tar"]
    assert all(now[name] != before[name] for name in ("train-000002.tar", "train.npy"))


def test_a_folder_without_a_fingerprint_is_mended(out):
    """As older versions prepared them."""
    about = json.loads((out / "dataset.json").read_bytes())
    del about["fingerprint"]
    with_sums(out, "dataset.json", json.dumps(about).encode())
    right = digests(out)
    (out / "val-000000.tar").write_bytes(b"damaged")
    assert repair(out, progress=False) == ["val-000000.tar"] and digests(out) == right


def killed(out: Path, monkeypatch, *source: Path) -> None:
    """A repair that is killed before it writes a table."""
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("tinynet.data.repair._prepare", lambda *arguments: 1 / 0)
        repair(out, *source, progress=False)
    assert not (out / "dataset.json").exists()


def test_a_repair_that_is_killed_goes_on(out, monkeypatch):
    right = digests(out)
    for name in ("train-000000.tar", "train-000001.tar", "report.tsv"):
        (out / name).write_bytes(b"damaged")
    killed(out, monkeypatch)
    assert repair(out, progress=False) == [] and digests(out) == right


def test_parts_of_a_finished_folder_cost_no_shard(source, out):
    """A kill while they were removed at the end leaves some, without their plan."""
    right = digests(out)
    (out / "parts").mkdir()
    (out / "parts/train-000001.npz").write_bytes(b"x")
    (out / "val-000001.tar").write_bytes(b"damaged")
    before = (out / "train-000000.tar").stat().st_mtime_ns
    assert repair(out, progress=False) == ["val-000001.tar"] and digests(out) == right
    assert (out / "train-000000.tar").stat().st_mtime_ns == before
    (out / "parts").mkdir()
    prepare(source, out, SMALL, progress=False)
    assert digests(out) == right


def test_repair_needs_the_pictures_of_then(source, out, tmp_path, rng, monkeypatch):
    """Wherever they are now: also for a whole repair, and for one that goes on after a kill."""
    right, moved = digests(out), tmp_path / "moved"
    (out / "val-000000.tar").unlink()
    pictures = {wnid: [jpeg(rng)] * 3 for wnid in ("n01", "n02", "n03")}
    make_official(tmp_path / "others", pictures, pictures, {})
    with pytest.raises(DataError, match="others: expected the pictures that .*, got others; bring"):
        repair(out, tmp_path / "others", progress=False)
    source.rename(moved)
    with pytest.raises(DataError, match=r"in: expected the pictures .* SOURCE --repair /"):
        repair(out, progress=False)
    assert repair(out, moved, progress=False) == ["val-000000.tar"]
    assert digests(out) == right
    for goes_on in (False, True):
        (out / "classes.tsv").write_bytes(b"damaged")
        if goes_on:
            moved = moved.rename(tmp_path / "moved again")
            killed(out, monkeypatch, moved)
            assert repair(out, progress=False) == []
        else:
            assert repair(out, moved, progress=False) == ["classes.tsv"]
        found = digests(out)
        assert {name for name in right if right[name] != found[name]} == {
            "dataset.json", "SHA256SUMS"
        }  # fmt: skip
        about = json.loads((out / "dataset.json").read_bytes())
        assert about["plan"]["source"] == str(moved)


def test_what_cannot_be_repaired_says_what_can_be_done(source, out, tmp_path):
    (out / "dataset.json").write_text("{}")
    for function in (lambda: repair(out), lambda: prepare(source, out, SMALL)):
        with pytest.raises(DataError, match="dataset.json: .*prepare the folder again") as found:
            function()
        assert "\n" not in str(found.value)
    (tmp_path / "parts").mkdir()
    for plan in (None, "{", "[]", "3", '{"source": "x"}', '{"size": 16}'):
        if plan is not None:
            (tmp_path / "parts/plan.json").write_text(plan)
        with pytest.raises(DataError, match="expected a prepared folder, or one begun, got neithe"):
            repair(tmp_path)


def test_a_plan_that_is_crafted(source, out):
    (out / "val-000000.tar").unlink()
    about = json.loads((out / "dataset.json").read_bytes())
    about["plan"]["size"] = "16"
    with_sums(out, "dataset.json", json.dumps(about).encode())
    with pytest.raises(DataError, match=f"{out}: the plan it was prepared by is damaged"):
        repair(out)
    with pytest.raises(
        DataError, match="TRAIN: expected the pictures that .* was prepared from, g"
    ):
        repair(out, (source / "ILSVRC2012_img_train.tar").rename(source / "TRAIN"))


@pytest.mark.parametrize("count", COUNTS, indirect=True)
def test_damaged_folders_are_repaired(out, rng, count):
    """Any file: the same bytes again, or a line that names it; what is read then is right."""
    right, outcome = digests(out), collections.Counter()
    aside = out.with_name("aside")
    shutil.copytree(out, aside)
    files = sorted(path.name for path in out.iterdir())
    for _ in range(count):
        name = files[rng.integers(len(files))]
        (out / name).write_bytes(damage((out / name).read_bytes(), rng))
        try:
            repair(out, workers=1, progress=False)
        except DataError as error:
            assert str(out) in str(error) and "prepare the folder again" in str(error), error
            outcome["a line"] += 1
            shutil.rmtree(out)
            shutil.copytree(aside, out)
        else:
            outcome["repaired"] += 1
        assert digests(out) == right, name
    print(dict(outcome))
    assert outcome["repaired"]


# ---- a run that was interrupted


def interrupted(source: Path, out: Path, monkeypatch) -> dict[str, str]:
    """Make the folder one just before its end: shards and parts, no index. What it is to become."""
    right = digests(out)
    shutil.rmtree(out)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("tinynet.data.prepare._finish", lambda *arguments: 1 / 0)
        made(source, out)
    assert len(list((out / "parts").glob("*.npz"))) == 6
    return right


@pytest.mark.parametrize("count", COUNTS, indirect=True)
def test_damaged_parts_are_work_not_done(source, out, rng, monkeypatch, count, caplog):
    """Shards, parts and plan of an interrupted run."""
    right, outcome = interrupted(source, out, monkeypatch), collections.Counter()
    aside = out.with_name("aside")
    out.rename(aside)
    files = sorted(path.relative_to(aside) for path in aside.rglob("*.*"))
    for _ in range(count):
        shutil.copytree(aside, out)
        name = files[rng.integers(len(files))]
        (out / name).write_bytes(damage((out / name).read_bytes(), rng))
        caplog.clear()
        try:
            made(source, out)
        except DataError as error:
            assert name.name == "plan.json" and "was begun with another source" in str(error)
            outcome["a line"] += 1
        else:
            assert digests(out) == right, name
            outcome["done again" if caplog.records else "not met"] += 1
        shutil.rmtree(out)
    print(dict(outcome))
    assert outcome["done again"]


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"source": 3}', "\x00", None])
def test_a_plan_that_cannot_be_read_is_no_plan(source, out, monkeypatch, content, caplog):
    right = interrupted(source, out, monkeypatch)
    plan = out / "parts/plan.json"
    plan.unlink() if content is None else plan.write_text(content)
    for name in ("train-000009.tar", "val-000009.tar"):
        (out / name).write_bytes(b"of the plan that was")
    made(source, out)
    assert digests(out) == right and "what was done is done again" in caplog.text


@pytest.mark.parametrize("goes_on", ["prepare", "repair"])
def test_the_plan_says_where_the_pictures_were_last(source, out, tmp_path, monkeypatch, goes_on):
    """Where a run that goes on finds them, however it is told, the next finds them again."""
    right = interrupted(source, out, monkeypatch)
    begun = json.loads((out / "parts/plan.json").read_bytes())
    moved = source.rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr("tinynet.data.prepare._finish", lambda *arguments: 1 / 0)
        if goes_on == "prepare":
            made(Path("moved"), out)
        else:
            repair(out, "moved", progress=False)
    plan = json.loads((out / "parts/plan.json").read_bytes())
    assert plan == begun | {"source": str(moved)}
    monkeypatch.chdir("/")
    assert repair(out, progress=False) == []
    if goes_on == "repair":  # also one of a finished folder
        again = moved.rename(tmp_path / "again")
        (out / "val-000000.tar").unlink()
        monkeypatch.chdir(tmp_path)
        with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
            patch.setattr("tinynet.data.repair.write_shards", lambda *arguments: 1 / 0)
            repair(out, "again", progress=False)
        plan = json.loads((out / "parts/plan.json").read_bytes())
        assert plan == begun | {"source": str(again)}
        assert repair(out, again, progress=False) == ["val-000000.tar"]
    found = digests(out)
    assert {name for name in right if right[name] != found[name]} == {"dataset.json", "SHA256SUMS"}


def test_damaged_shards_are_told_and_written_again(source, out, monkeypatch, caplog):
    right = interrupted(source, out, monkeypatch)
    part, shard = out / "parts/train-000001.npz", out / "train-000002.tar"
    part.write_bytes(part.read_bytes()[:-30])
    bad = bytearray(shard.read_bytes())
    bad[600] ^= 1
    shard.write_bytes(bad)
    made(source, out)
    assert digests(out) == right and "2 damaged shards: written again" in caplog.text


def test_a_folder_begun_by_an_older_version_is_gone_on_with(source, out, monkeypatch):
    """Its plan has no word of today's newer options."""
    right = interrupted(source, out, monkeypatch)
    path = out / "parts/plan.json"
    plan = json.loads(path.read_bytes())
    del plan["chroma"], plan["val_share"]
    path.write_text(json.dumps(plan))
    before = (out / "train-000000.tar").stat().st_mtime_ns
    made(source, out)
    assert digests(out) == right and (out / "train-000000.tar").stat().st_mtime_ns == before
    with pytest.raises(DataError, match=r"other options \(chroma 4:2:0, not 4:4:4\)"):
        prepare(source, out, Options(size=16, shard=5, chroma="4:4:4"), progress=False)


# ---- two at once, and signals


def test_a_folder_that_another_process_prepares(source, out, tmp_path):
    (tmp_path / "new").mkdir()
    for folder, function in (
        (out, lambda: repair(out, progress=False)),
        (out, lambda: prepare(source, out, SMALL, progress=False)),
        (tmp_path / "new", lambda: prepare(source, tmp_path / "new", SMALL, progress=False)),
    ):
        with (
            locked(folder),
            pytest.raises(FolderInUseError, match=f"in use by process {os.getpid()} "),
        ):
            function()
    assert not list((tmp_path / "new").iterdir())


def start(source: Path | str, out: Path, *options: str) -> subprocess.Popen:
    """The program, on SOURCE and OUT, or on "--repair" and OUT."""
    if source != "--repair":
        options += ("--size=200", "--shard=2")
    return subprocess.Popen(
        [sys.executable, PROGRAM, source, out, *options],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def begun(out: Path, process: subprocess.Popen, shards: int = 1) -> None:
    """Wait until some shards are done."""
    while process.poll() is None and len(list((out / "parts").glob("[tv]*.npz"))) < shards:
        time.sleep(0.01)


@pytest.fixture
def larger(tmp_path, rng) -> Path:
    pictures = [
        {wnid: [jpeg(rng, (400, 300)) for _ in range(count)] for wnid in ("n01", "n02")}
        for count in (60, 3)
    ]
    make_official(tmp_path / "larger", *pictures, {})
    return tmp_path / "larger"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_is_answered_in_a_line(larger, tmp_path, name):
    out = tmp_path / "out"
    process = start(larger, out, "--workers=1")
    begun(out, process)
    os.killpg(process.pid, getattr(signal, name))  # as a terminal does: the workers get it too
    said = process.communicate()[0].decode()
    assert process.returncode == 128 + getattr(signal, name), said
    assert re.search(
        rf"stopped by {name}: \d+ shards are done, and the same command goes on from here\n$", said
    )
    assert "Traceback" not in said and not (out / ".lock").exists()


@pytest.mark.parametrize("count", [pytest.param(15, marks=pytest.mark.slow)], indirect=True)
def test_kills_with_damage_in_between(larger, tmp_path, rng, count):
    """Prepare is killed while it writes, or repair, which it advises; then a shard, a part or a
    table is cut or changed. A run that comes to its end has the right bytes, or says what to do;
    what it took for finished is right too, or --verify says no.
    """
    out, outcome = tmp_path / "out", collections.Counter()
    assert start(larger, tmp_path / "whole").wait() == 0
    right, command = digests(tmp_path / "whole"), (larger, out)
    while outcome["killed"] < count:
        finished = (out / "dataset.json").exists()
        process, written = start(*command), time.time()
        wait = rng.choice([0.1, 0.5, 3.0]) * rng.random()  # seconds after its first shard
        while process.poll() is None and newest(out) < written:
            time.sleep(0.01)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(wait)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        said, code = process.communicate()[0].decode(), process.returncode
        if code == -signal.SIGKILL:
            outcome["killed"] += 1
        elif code == 0 and digests(out) != right:
            # It was finished when it was damaged inside a shard: a reader sees that, and --verify.
            assert finished and verify(out), said
            outcome["ended, and --verify saw the damage"] += 1
            command = "--repair", out
            continue
        elif code == 0:
            outcome["ended, with the same bytes"] += 1
            if command == (larger, out) and outcome["ended, with the same bytes"] % 2:
                shutil.rmtree(out)
                continue
            command = larger, out
        else:
            line = re.search(r"^error: \S+: .* run `python \S+ --repair (\S+)`$", said, re.M)
            assert code == 2 and line and line[1] == str(out), said
            outcome["ended, and said how to repair"] += 1
            command = "--repair", out
            continue
        files = [path for path in out.rglob("*.*") if path.suffix in (".tar", ".npz", ".npy")]
        files = [path for path in files if not path.name.startswith(".")]
        path = files[rng.integers(len(files))]
        path.write_bytes(damage(path.read_bytes(), rng))
    subprocess.run([sys.executable, PROGRAM, "--repair", out], env=ENVIRONMENT, check=True)
    assert digests(out) == right and verify(out) == []
    print(dict(outcome))


def newest(out: Path) -> float:
    """When the newest shard was written."""
    with contextlib.suppress(FileNotFoundError):  # written again just now
        return max((path.stat().st_mtime for path in out.glob("[tv]*.tar")), default=0.0)
    return 0.0


# ---- training on a damaged folder


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_picture_ends_training_in_a_line_or_is_left_out(out, workers, forks):
    options = {"crop": 12, "train": True, "seed": 3, "colour": np.eye(3, dtype="f4")}
    with Loader(open_data(out)[0], 6, **options) as loader:
        expected = [batch for epoch in range(2) for batch in loader.epoch(epoch)]
    break_pictures(out, 4, 11)
    train = ShardDataset(out, "train")
    command = re.escape(f"run `python examples/prepare_imagenet.py --repair {out}`")
    with (
        Loader(train, 6, workers=workers, **options) as loader,
        pytest.raises(DataError, match=f"tar: picture (4|11) at byte .* is damaged; {command}$"),
    ):
        list(loader.epoch(0))
    with Loader(train, 6, workers=workers, skip_damaged=True, **options) as loader:
        found = [batch for epoch in range(2) for batch in loader.epoch(epoch)]
    assert sorted(place for batch in found for place in batch.damaged) == [4, 4, 11, 11]
    for batch, right in zip(found, expected, strict=True):
        keep = ~np.isin(right.indices, [4, 11])
        for name in ("pictures", "labels", "top", "left", "flip", "colour", "indices"):
            assert np.array_equal(getattr(batch, name), getattr(right, name)[keep]), name
    assert sum(len(batch.labels) for batch in found) == 2 * (18 - 2)


def test_a_shard_that_is_gone_counts_picture_by_picture(out):
    test = ShardDataset(out, "val")
    (out / "val-000001.tar").unlink()
    with Loader(test, 4, crop=16, train=False, skip_damaged=True) as loader:
        batches = list(loader.epoch(0))
    assert [len(batch.labels) for batch in batches] == [4, 1]
    assert list(batches[1].damaged) == [5]
    assert "No such file or directory; run `python ex" in batches[1].damaged[5]
    with (
        Loader(test, 1, crop=16, train=False, skip_damaged=True) as loader,
        pytest.raises(DataError, match="; no other picture of its batch can be read"),
    ):
        list(loader.epoch(0))


def test_a_batch_is_not_held_while_its_user_is_busy(out, forks):
    """Its memory is free for the next as soon as the user lets go of it."""
    with Loader(ShardDataset(out, "train"), 6, crop=12, train=True, workers=1) as loader:
        epoch = loader.epoch(0)
        kept = weakref.ref(next(epoch).pictures)
        assert kept() is None
        epoch.close()
