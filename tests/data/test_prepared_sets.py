"""A prepared folder against its definition: what lies in it, in what order it was written, what a
run that stops leaves behind, and how many bad pictures are too many.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import os
import shutil
import sys
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_tree import with_sums
from test_data_prepare import InThread

from tinynet.data import open_data
from tinynet.data.pictures import decode
from tinynet.data.prepare import Options, prepare
from tinynet.data.shards import ShardDataset, verify
from tinynet.errors import DataError

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which files are open")
SMALL = Options(size=8, shard=3)
COUNTS = {"train": 4, "val": 2}  # of each of two classes: shards of 3, 3, 2 and of 3, 1


def saved(pixels: np.ndarray, form="JPEG", **options) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, form, **options)
    return data.getvalue()


@pytest.fixture(autouse=True)
def in_threads(monkeypatch) -> None:
    """Shards are written by this process, and no disk is waited for: quicker, and what is patched
    here holds there."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    monkeypatch.setattr("tinynet.data.prepare.Process", InThread)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)  # a thread may not


@pytest.fixture
def source(tmp_path, rng) -> Path:
    """Pictures that all differ, 12 x 9, as PNG; the splits' numbers differ, too."""
    for split, count in COUNTS.items():
        for k, wnid in enumerate(("n01", "n02")):
            folder = tmp_path / "in" / split / wnid
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(100 * k, 100 * k + 100, (9, 12, 3), np.uint8)
                (folder / f"picture {i}.png").write_bytes(saved(pixels, "PNG"))
    return tmp_path / "in"


def make(source: Path, out: Path, options: Options = SMALL, **more) -> Path:
    prepare(source, out, options, workers=1, progress=False, **more)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- what lies in it


@pytest.mark.parametrize("form", ["square", "full", "raw"])
def test_shards_index_and_sums_say_the_same(source, tmp_path, form):
    """Read with tarfile, json and hashlib alone."""
    out = make(source, tmp_path / "out", Options(size=8, shard=3, form=form))
    about = json.loads((out / "dataset.json").read_bytes())
    for split, count in COUNTS.items():
        files = sorted((source / split).glob("*/*.png"))
        index, found = np.load(out / f"{split}.npy"), []
        sizes = about["shards"][split]
        for shard, size in enumerate(sizes):
            path = out / f"{split}-{shard:06d}.tar"
            assert path.stat().st_size == size
            with tarfile.open(path) as tar:
                members = [(m.name, m.offset_data, tar.extractfile(m).read()) for m in tar]
            pairs = list(zip(members[0::2], members[1::2], strict=True))
            assert len(pairs) == min(3, 2 * count - 3 * shard)
            found += [(shard, path.read_bytes(), *pair) for pair in pairs]
        assert len(found) == len(index) == about["pictures"][split] == 2 * count
        dataset = ShardDataset(out, split)
        for place, (shard, whole, picture, label) in enumerate(found):
            key = f"{place:08d}-{files[place].stem.replace(' ', '_')}"
            assert (picture[0], label[0]) == (
                f"{key}.{'npy' if form == 'raw' else 'jpg'}",
                f"{key}.cls",
            )
            row = index[place]
            stored = whole[row["offset"] : row["offset"] + row["length"]]
            assert row["shard"] == shard and row["crc"] == zlib.crc32(stored)
            assert row["label"] == int(label[2]) == dataset.labels[place] == place // count
            right = decode(files[place].read_bytes(), "x", 8, whole=form == "full")
            if form == "raw":
                assert np.array_equal(np.load(io.BytesIO(picture[2])), right)
                assert stored == right.tobytes()
            else:
                assert stored == picture[2] == saved(right, quality=90, subsampling="4:2:0")
                right = decode(stored, "x", 8)
            assert np.array_equal(dataset.picture(place), right)
    lines = (out / "SHA256SUMS").read_text().splitlines()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in contents(out).items()}
    del sums["SHA256SUMS"]
    assert lines == [f"{sums[name]}  {name}" for name in sorted(sums)]


@pytest.mark.parametrize("split", ["train", "val"])
def test_moments_are_those_of_their_own_split(source, tmp_path, split):
    dataset = ShardDataset(make(source, tmp_path / "out"), split)
    pixels = np.stack([dataset.picture(i) for i in range(len(dataset))]).astype(np.float64)
    moments = dataset.moments()
    assert moments.count == len(pixels) == 2 * COUNTS[split]
    assert np.array_equal(moments.mean(), pixels.mean(axis=0).astype(np.float32))
    covariance = np.cov(pixels.reshape(-1, 3).T, bias=True)
    np.testing.assert_allclose(moments.covariance(), covariance, rtol=1e-9)


def with_comment(data: bytes, length: int) -> bytes:
    """A JPEG with a comment of so many zeros that it has this length."""
    more = length - len(data)
    return data[:2] + b"\xff\xfe" + (more - 2).to_bytes(2, "big") + bytes(more - 4) + data[2:]


def test_bytes_are_kept_where_the_picture_stays_as_it_is(tmp_path, rng):
    """A JPEG of the right size, not longer than its pixels; all else is written anew."""
    smooth = np.linspace(0, 200, 32 * 24, dtype=np.uint8).reshape(32, 24, 1) + np.zeros(3, np.uint8)
    square, high, wide = (saved(p) for p in (smooth[:24], smooth, smooth.transpose(1, 0, 2)))
    pixels = 24 * 24 * 3
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = io.BytesIO()
    Image.fromarray(smooth[:24]).save(turned, "JPEG", exif=exif)
    cases = {  # the file, and by which forms it is kept
        "square": (square, ("square", "full")),
        "high": (high, ("full",)),
        "wide": (wide, ("full",)),
        "as long as its pixels": (with_comment(square, pixels), ("square", "full")),
        "a byte longer": (with_comment(square, pixels + 1), ()),
        "long, high": (with_comment(high, pixels + 1), ("full",)),
        "a byte longer, wide": (with_comment(wide, 32 * 24 * 3 + 1), ()),
        "larger": (saved(np.repeat(np.repeat(smooth[:24], 2, 0), 2, 1)), ()),
        "PNG": (saved(smooth[:24], "PNG"), ()),
        "grey": (saved(smooth[:24, :, 0]), ("square", "full")),
        "turned": (turned.getvalue(), ()),
    }
    for split in ("train", "val"):
        for name in ("a", "b"):
            (tmp_path / "in" / split / name).mkdir(parents=True)
            for case, (data, _) in cases.items():
                (tmp_path / "in" / split / name / f"{case}.jpg").write_bytes(data)
    for form in ("square", "full", "raw"):
        out = make(tmp_path / "in", tmp_path / form, Options(size=24, form=form))
        with tarfile.open(out / "train-000000.tar") as tar:
            stored = [tar.extractfile(m).read() for m in tar if not m.name.endswith(".cls")]
        files = sorted(f"{case}.jpg" for case in cases)
        for file, found in zip(files, stored[: len(files)], strict=True):
            case = file.removesuffix(".jpg")
            data, forms = cases[case]
            assert (found == data) == (form in forms), (case, form)


# ---- in what order, and what a run leaves that stops


@linux
def test_a_folder_is_finished_by_the_last_of_its_files(source, tmp_path, monkeypatch):
    """Each is on the disk before it gets its name, and dataset.json comes when all is there."""
    out, replace, synced = tmp_path / "out", os.replace, set()
    named, early, late = [], [], []

    def sync(descriptor):
        synced.add(os.readlink(f"/proc/self/fd/{descriptor}"))

    def name(aside, path):
        early.extend([aside] if str(aside) not in synced else [])
        late.extend([path] if (out / "dataset.json").exists() else [])
        named.append(str(Path(path).relative_to(out)))
        replace(aside, path)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", name)
    make(source, out)
    assert early == [] and late == []
    assert named[0] == "parts/plan.json" and named[-1] == "dataset.json"
    assert {name for name in named if "/" not in name} == {path.name for path in out.iterdir()}


def test_a_run_that_fails_at_any_write_goes_on(source, tmp_path, monkeypatch):
    """The same bytes in the end, and nothing beside them."""
    options = Options(size=8, shard=4)
    right = contents(make(source, tmp_path / "whole", options))
    out, replace = tmp_path / "out", os.replace
    for writes in itertools.count():
        done = itertools.count()

        def full(aside, path, done=done, writes=writes):
            if next(done) == writes:
                raise OSError(28, "No space left on device", str(path))
            replace(aside, path)

        try:
            with monkeypatch.context() as patch:
                patch.setattr(os, "replace", full)
                make(source, out, options)
            break
        except (DataError, OSError) as error:
            assert "No space left on device" in str(error)
            assert not list(out.glob(".[tv]*.tar.*")) and not (out / "dataset.json").exists()
        make(source, out, options)
        assert contents(out) == right, writes
        shutil.rmtree(out)
    assert contents(out) == right
    # the plan; shards and parts; the report; tables and sums; dataset.json
    assert writes == 1 + 2 * 3 + 1 + 6 + 1


def test_what_a_killed_run_was_writing_is_cleared_away(source, tmp_path):
    """By whichever process it was; what is not ours stays."""
    right, out = contents(make(source, tmp_path / "whole")), tmp_path / "out"
    (out / "parts").mkdir(parents=True)
    asides = [f".{name}.4194999" for name in right] + ["parts/.plan.json.4194999"]
    for name in [*asides, ".train-000123.tar.7", "parts/.train-000000.npz.7"]:
        (out / name).write_bytes(b"half")
    for name in (".notes", ".train.npy", ".train-1.tar.7.old", "train.tar.7", "x.train.npy.7"):
        right[name] = b"mine"
        (out / name).write_bytes(b"mine")
    make(source, out)
    assert contents(out) == right


@pytest.mark.parametrize("fails", [False, True])
def test_whoever_wrote_shards_has_ended(source, tmp_path, monkeypatch, fails):
    """Also when the run ends with an error, in the middle of what the others do."""
    made, ended = [], []

    class Noted(InThread):
        def __init__(self, name, *arguments):
            made.append(name)
            super().__init__(name, *arguments)

        def end(self):
            ended.append(self.thread.name)
            super().end()

    monkeypatch.setattr("tinynet.data.prepare.Process", Noted)
    if fails:
        (source / "val/n02/picture 1.png").write_text("no picture")
    with pytest.raises(DataError) if fails else contextlib.nullcontext():
        prepare(source, tmp_path / "out", SMALL, workers=3, max_bad=0, progress=False)
    assert made == ended == ["worker 0", "worker 1", "worker 2"]


@linux
def test_no_file_stays_open(source, tmp_path):
    out = make(source, tmp_path / "out")

    def opened() -> list[str]:
        links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
        return [os.readlink(link) for link in links if os.path.exists(link)]

    train, val = open_data(out)
    for dataset in (train, val):
        dataset.moments()
        for i in range(len(dataset)):
            dataset.picture(i)
    assert verify(out) == []
    data = bytearray((out / "train-000000.tar").read_bytes())
    data[train.index[1]["offset"] + 9] ^= 1
    (out / "train-000000.tar").write_bytes(data)
    with pytest.raises(DataError, match="picture 1 at byte"):
        train.picture(1)
    assert verify(out)
    assert [name for name in opened() if str(tmp_path) in name] == []


# ---- how many bad pictures are too many


@pytest.mark.parametrize(
    ("bad", "max_bad", "passes"),
    [(0, 0, True), (1, 0, False), (1, 1 / 12, True), (1, 0.08, False), (2, 0.16, False),
     (2, 2 / 12, True), (2, 0.24, True), (2, 1, True)],
)  # fmt: skip
def test_bad_pictures_up_to_the_share_and_no_more(source, tmp_path, bad, max_bad, passes):
    """Of twelve; whether they are found in one run, or by a run that goes on with another."""
    for i in range(bad):
        (source / "train/n01" / f"picture {i}.png").write_text("no picture")
    for interrupted in (False, True):
        out = tmp_path / f"out {interrupted}"
        if interrupted:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(ZeroDivisionError):
                patch.setattr("tinynet.data.prepare._finish", lambda *arguments: 1 / 0)
                make(source, out, max_bad=1)
        if passes:
            make(source, out, max_bad=max_bad)
            assert json.loads((out / "dataset.json").read_bytes())["left_out"] == bad
        else:
            with pytest.raises(DataError, match=f"pictures, got {bad} of 12 pictures; the first: "):
                make(source, out, max_bad=max_bad)


# ---- what is not as it was


def test_a_shard_of_another_size_is_refused(source, tmp_path):
    out = make(source, tmp_path / "out")
    for split in COUNTS:
        for path in sorted(out.glob(f"{split}-*.tar")):
            data = path.read_bytes()
            for changed in (data + bytes(512), data + b"x", data[:-1], b""):
                path.write_bytes(changed)
                words = f"{path.name}: expected {len(data):,} bytes, got {len(changed):,}; run"
                for function in (
                    lambda split=split: ShardDataset(out, split),
                    lambda: make(source, out),
                ):
                    with pytest.raises(DataError, match=words):
                        function()
                assert len(verify(out)) == 1 and path.name in verify(out)[0]
            path.write_bytes(data)


def test_verify_compares_every_picture_of_every_shard(source, tmp_path):
    """An index whose checksum is right, but of which one row is not that of its picture."""
    out = make(source, tmp_path / "out")
    for split in COUNTS:
        whole = (out / f"{split}.npy").read_bytes()
        for place, row in enumerate(np.load(out / f"{split}.npy")):
            field = ("crc", "label")[place % 2]
            index = np.load(out / f"{split}.npy")
            index[field][place] ^= 1
            data = io.BytesIO()
            np.save(data, index)
            with_sums(out, f"{split}.npy", data.getvalue())
            (line,) = verify(out)
            shard = f"{split}-{row['shard']:06d}.tar"
            assert line.startswith(f"{out / shard}: {place:08d}-"), line
            with_sums(out, f"{split}.npy", whole)
    assert verify(out) == []


@pytest.mark.parametrize("version", [-1, 0, 2, "1", None])
def test_a_folder_of_another_version_is_refused(source, tmp_path, version):
    out = make(source, tmp_path / "out")
    about = json.loads((out / "dataset.json").read_bytes()) | {"version": version}
    with_sums(out, "dataset.json", json.dumps(about).encode())
    words = f"dataset.json: expected version 1, got {version}; prepare the folder again"
    for function in (lambda: open_data(out), lambda: make(source, out)):
        with pytest.raises(DataError, match=words):
            function()
    assert len(verify(out)) == 1 and words in verify(out)[0]
