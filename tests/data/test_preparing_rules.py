"""Rules that preparing and repairing keep, whatever is prepared: in what order bytes reach the
disk, what an option changes, what each file of a finished folder says, who writes how much at once.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import sys
import tarfile
import threading
import zlib
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_tree import NAMES, SMALL, digests, larger_tree, made, photo, picture, with_sums
from test_data_prepare import InThread

from tinynet.data import prepare as preparing
from tinynet.data.folder import held_out
from tinynet.data.imagenet import open_source
from tinynet.data.pictures import decode
from tinynet.data.prepare import Options
from tinynet.data.repair import repair
from tinynet.data.shards import INDEX, SMALL_FILES, ShardDataset, read_about, read_sums, verify
from tinynet.errors import DataError

OTHER = Options(size=12, form="full", quality=40, shard=3, chroma="4:4:4", val_share=0.3)


@pytest.fixture
def source(tmp_path, rng) -> Path:
    return larger_tree(tmp_path / "in", rng)


@pytest.fixture(autouse=True)
def ignored(monkeypatch) -> list:
    """Shards are written by threads of this process; the signals that they leave aside."""
    found: list = []
    monkeypatch.setattr("tinynet.data.prepare.Process", InThread)
    monkeypatch.setattr("signal.signal", lambda number, handler: found.append((number, handler)))
    return found


# ---- what reaches the disk, and when


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is synced")
def test_every_file_is_whole_on_the_disk_before_it_has_its_name(
    tmp_path, source, monkeypatch, ignored
):
    synced, named, fsync, rename = {}, [], os.fsync, os.replace

    def sync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        fsync(descriptor)
        synced[path] = os.stat(path).st_size

    def name(aside, path):
        assert Path(aside).parent == Path(path).parent and Path(aside).name.startswith(".")
        assert synced.pop(str(aside)) == os.stat(aside).st_size, path
        assert not (out / "dataset.json").exists()
        rename(aside, path)
        named.append(Path(path).relative_to(out).as_posix())

    out = tmp_path / "out"
    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", name)
    about = made(source, out)
    shards = [f"{s}-{n:06d}" for s, sizes in about["shards"].items() for n in range(len(sizes))]
    assert len(shards) == 7
    expected = ["parts/plan.json"]
    for shard in shards:
        expected += [f"{shard}.tar", f"parts/{shard}.npz"]
    assert named[: len(expected)] == expected and named[-1] == "dataset.json"
    rest = {*SMALL_FILES, "SHA256SUMS"}
    assert set(named[len(expected) :]) == rest
    assert {path.name for path in out.iterdir()} == rest | {f"{shard}.tar" for shard in shards}
    assert {number for number, _ in ignored} == {signal.SIGINT, signal.SIGHUP}
    assert {handler for _, handler in ignored} == {signal.SIG_IGN}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_ends_in_a_line_and_the_same_command_goes_on(
    tmp_path, source, monkeypatch, call
):
    right = made(source, tmp_path / "right")
    count, original = [0], getattr(os, call)

    def full(*arguments):
        count[0] += 1
        if count[0] == 4:
            raise OSError(28, "No space left on device")
        return original(*arguments)

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(DataError, match=r"out/train-0{5}1.tar: .*No space left on device"):
            made(source, out)
    assert not list(out.glob(".*")) and not (out / "dataset.json").exists()
    assert made(source, out) == right and digests(out) == digests(tmp_path / "right")


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
        with pytest.raises(DataError, match=rf"options \({field.name} {old}, not {new}\)"):
            made(source, tmp_path / "out", changed)
    for names in (["val-000000.tar"], ["report.tsv"], ["train.npy", "train-000001.tar"]):
        for name in names:
            (tmp_path / "out" / name).write_bytes(b"damaged")
        assert repair(tmp_path / "out", workers=1, progress=False) == sorted(names)
        assert digests(tmp_path / "out") == right


def test_options_at_their_limits():
    for field, least, most in (("size", 1, 4096), ("quality", 1, 95), ("shard", 1, 10**9)):
        for value in (least, most):
            assert getattr(Options(**{field: value}), field) == value
        for value in (least - 1, *([most + 1] if field != "shard" else [])):
            with pytest.raises(DataError, match=f"got {value}"):
                Options(**{field: value})
    for field in ("form", "chroma"):
        with pytest.raises(DataError, match="got 'other'"):
            Options(**{field: "other"})


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_so_many_pictures_may_be_bad_and_no_more(tmp_path, rng, bad):
    """Also where those of a run before count: 2 of 40 are 5 %."""
    source = larger_tree(tmp_path / "in", rng, 10)
    for k in range(bad):
        (source / "train" / NAMES[k] / "9.jpg").write_text("text")
    (source / "val/n03/2.jpg").unlink()
    (source / "train/n02/0 more.jpg").write_bytes(photo(rng))
    (source / "train/n02/1 more.jpg").write_bytes(photo(rng))
    for share, fine in (((bad - 1) / 40, False), (bad / 40, True)):
        if share < 0:
            continue
        for _ in range(1 + (not fine)):  # a second run finds the shards done, and says it again
            if fine:
                assert made(source, tmp_path / "out", max_bad=share)["left_out"] == bad
            else:
                with pytest.raises(DataError, match=f"got {bad} of 40 pictures; the first: train"):
                    made(source, tmp_path / "out", max_bad=share)
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(DataError, match="expected max_bad of 0 to 1, got"):
            made(source, tmp_path / "none", max_bad=share)


def test_what_was_bad_is_bad_at_a_repair_too(tmp_path, rng):
    source = larger_tree(tmp_path / "in", rng, a=b"text", b=b"more text", c=b"")
    out = tmp_path / "out"
    assert made(source, out, max_bad=0.5)["left_out"] == 3
    right = digests(out)
    for name in ("classes.tsv", "train-000000.tar"):
        (out / name).write_bytes(b"damaged")
        assert repair(out, workers=1, progress=False) == [name] and digests(out) == right


# ---- what a finished folder says


@pytest.mark.parametrize("form", ["square", "full", "raw"])
def test_every_field_is_what_the_shards_hold(tmp_path, rng, form):
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {
        "fits": photo(rng, (16, 16)),
        "turned": photo(rng, (16, 16), exif=exif),
        "large": picture(90, (300, 200)),
        "none": b"text",
    }
    data = io.BytesIO()
    Image.open(io.BytesIO(more["fits"])).convert("CMYK").save(data, "JPEG")
    source = larger_tree(tmp_path / "in", rng, cmyk=data.getvalue(), **more)
    out, options = tmp_path / "out", replace(SMALL, form=form)
    about = made(source, out, options, max_bad=0.1)
    assert json.loads((out / "dataset.json").read_bytes()) == about
    sums = dict(
        reversed(line.split("  ")) for line in (out / "SHA256SUMS").read_text().split("\n")[:-1]
    )
    assert sums == {name: d for name, d in digests(out).items() if name != "SHA256SUMS"}
    assert about["pictures"] == {"train": 24 + 4, "val": 9} and about["left_out"] == 1
    assert (about["size"], about["form"], about["classes"]) == (16, form, 3)
    found = open_source(source)
    assert about["fingerprint"] == found.fingerprint()
    for split in ("train", "val"):
        data_set, index = ShardDataset(out, split), np.load(out / f"{split}.npy")
        files = [out / f"{split}-{n:06d}.tar" for n in range(len(about["shards"][split]))]
        assert about["shards"][split] == [path.stat().st_size for path in files]
        assert index.dtype == INDEX
        keys, rows = [], []
        for number, path in enumerate(files):
            with tarfile.open(path) as tar:
                members = [(m.name, m.offset_data, tar.extractfile(m).read()) for m in tar]
            assert len(members) <= 2 * 5
            for (name, offset, content), (second, _, label) in zip(
                members[::2], members[1::2], strict=True
            ):
                key, ending = name.split(".")
                assert ending == ("npy" if form == "raw" else "jpg") and second == f"{key}.cls"
                skip = len(content) - 16 * 16 * 3 if form == "raw" else 0
                piece = content[skip:]
                rows.append((number, offset + skip, len(piece), int(label), zlib.crc32(piece)))
                keys.append(key)
                i = len(rows) - 1
                if form == "raw":
                    pixels = np.load(io.BytesIO(content))
                else:  # as any other reader sees it: upright, of three colours, not enlarged
                    image = Image.open(io.BytesIO(content))
                    assert image.mode == "RGB" and 0x0112 not in image.getexif()
                    assert min(image.size) == 16 and (form == "full" or max(image.size) == 16)
                    pixels = decode(content, "x", 16)
                assert np.array_equal(pixels, data_set.picture(i))
        assert index.tolist() == rows
        entries = [e for e in getattr(found, split) if not e.name.endswith("none.jpg")]
        assert [row[3] for row in rows] == [e.label for e in entries] == data_set.labels.tolist()
        places = [k for k, e in enumerate(getattr(found, split)) if e in entries]
        assert keys == [
            f"{k:08d}-{Path(e.name).stem}" for k, e in zip(places, entries, strict=True)
        ]
    train = ShardDataset(out, "train")
    stack = np.stack([train.picture(i) for i in range(len(train))]).astype(float)
    with np.load(out / "moments.npz") as arrays:
        assert arrays["count"] == 28 and (arrays["sum"] == stack.sum(axis=0)).all()
        pixels = stack.reshape(-1, 3)
        assert (arrays["products"] == pixels.T @ pixels).all()
        np.testing.assert_allclose(arrays["mean"], stack.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(arrays["covariance"], np.cov(pixels.T, bias=True), rtol=1e-9)
    np.testing.assert_allclose(about["channel_means"], pixels.mean(axis=0), atol=6e-4)
    report = [line.split("\t") for line in (out / "report.tsv").read_text().splitlines()]
    assert report[0] == ["split", "picture", "what", "why"]
    assert [line[:3] for line in report[1:]] == [
        ["train", "n01/cmyk.jpg", "converted"],
        ["train", "n01/none.jpg", "left out"],
        ["train", "n01/turned.jpg", "converted"],
    ]


def test_any_change_of_a_finished_folder_is_seen_by_who_would_use_it(tmp_path, source):
    """By who goes on preparing: every file. By a reader: what belongs to its split."""
    out = tmp_path / "out"
    made(source, out)
    for path in sorted(out.iterdir()):
        whole, name = path.read_bytes(), path.name
        half = len(whole) // 2
        flipped = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
        changes = (None,) if name == "SHA256SUMS" else (None, whole + b"0", whole[:-9], flipped)
        for change in changes:
            path.unlink() if change is None else path.write_bytes(change)
            splits = {"train", "val"}
            if name.startswith(("train", "val")):
                splits = {name.partition("-")[0].partition(".")[0]}
            if name in ("report.tsv", "moments.npz"):
                splits = set()
            if path.suffix == ".tar" and change == flipped:  # a picture's reader sees that
                splits = set()
            elif name != "dataset.json" or change is not None:  # that it is not there, we see
                with pytest.raises(DataError, match=rf"{name}|SHA256SUMS"):
                    made(source, out)
            for split in ("train", "val"):
                if split not in splits:
                    ShardDataset(out, split)
                    continue
                with pytest.raises(DataError, match=rf"{name}|SHA256SUMS"):
                    ShardDataset(out, split)
            assert verify(out), (name, change)
            path.write_bytes(whole)
    assert made(source, out) and verify(out) == []


def test_what_dataset_json_must_say(tmp_path, source):
    out = tmp_path / "out"
    right = made(source, out)
    shards = right["shards"]
    for change in (
        {"size": 0}, {"size": 4097}, {"form": "other"}, {"plan": []},
        {"shards": {**shards, "val": []}}, {"shards": {**shards, "train": []}},
        {"shards": {**shards, "train": [-1]}}, {"shards": {**shards, "val": [5, -1]}},
    ):  # fmt: skip
        with_sums(out, "dataset.json", json.dumps(right | change).encode())
        with pytest.raises(DataError, match="dataset.json: damaged"):
            read_about(out, read_sums(out))
        with_sums(out, "dataset.json", json.dumps(right, indent=1).encode() + b"\n")
    assert read_about(out, read_sums(out)) == right


def test_a_part_of_a_picture_is_not_the_picture(tmp_path, source):
    """An index that points into a member with the right checksum of that piece: verify says no."""
    out = tmp_path / "out"
    made(source, out)
    index, shard = np.load(out / "train.npy"), (out / "train-000000.tar").read_bytes()
    for shift, longer in ((0, -1), (1, -1), (-512, 512), (0, 1)):
        changed = index.copy()
        row = changed[1]
        row["offset"] = int(row["offset"]) + shift
        row["length"] = int(row["length"]) + longer
        begin, length = int(row["offset"]), int(row["length"])
        row["crc"] = zlib.crc32(shard[begin : begin + length])
        data = io.BytesIO()
        np.save(data, changed)
        whole = (out / "train.npy").read_bytes()
        with_sums(out, "train.npy", data.getvalue())
        found = verify(out)
        if (shift, longer) == (1, -1):  # the end of the member: as of a .npy behind its header
            assert found == []
        else:
            assert len(found) == 1 and "differs from the index" in found[0], (shift, longer)
        with_sums(out, "train.npy", whole)
    assert verify(out) == []


# ---- who writes, and how much at a time


def test_all_workers_work_at_once_and_no_more_than_there_is_work(tmp_path, source, monkeypatch):
    crew, write, met = [], preparing._write_shard, threading.Barrier(3, timeout=30)

    class Counted(InThread):
        def __init__(self, *arguments):
            crew.append(self)
            super().__init__(*arguments)

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


def test_the_source_is_not_written_into(tmp_path, source, monkeypatch):
    before = sorted(path for path in source.rglob("*"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("in")
    for out in (source, source / "train" / "..", Path("in"), tmp_path / "link"):
        with pytest.raises(DataError, match="expected a folder beside the source, got the source"):
            made(source, out)
    assert sorted(path for path in source.rglob("*")) == before


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
