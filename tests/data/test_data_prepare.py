"""Preparing: every source gives the right pictures and labels; kills, oddities and malice."""

from __future__ import annotations

import gzip
import hashlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from make_archives import DEVKIT, FOLDER, TRAIN, VAL, make_kaggle, make_official, mat_file, tar_of
from PIL import Image

from tinynet.data import open_data
from tinynet.data.imagenet import open_source, read_devkit
from tinynet.data.matfile import read_struct_array
from tinynet.data.pictures import decode
from tinynet.data.prepare import Options, prepare
from tinynet.data.shards import ShardDataset, verify
from tinynet.data.tar import tar_members
from tinynet.errors import DataError

PROGRAM = Path(__file__).parents[2] / "examples" / "prepare_imagenet.py"
SMALL = Options(size=16, shard=7)
WNIDS = ["n03000001", "n01000009", "n02000005"]
WORDS = {"n01000009": "goldfish, Carassius", "n02000005": "bé", "n03000001": "bucket, pail"}


def picture_file(rng, base, size=(24, 20)) -> bytes:
    pixels = np.clip(np.array(base) + rng.integers(-20, 20, (size[1], size[0], 3)), 0, 255)
    data = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(data, "JPEG", quality=92)
    return data.getvalue()


@pytest.fixture
def pictures(rng):
    """(train, val): 12 and 4 picture files of each class; each class has a colour of its own."""
    colours = dict(zip(WNIDS, ([200, 30, 30], [30, 200, 30], [30, 30, 200]), strict=True))
    return tuple(
        {wnid: [picture_file(rng, colours[wnid]) for _ in range(count)] for wnid in WNIDS}
        for count in (12, 4)
    )


def make_tree(root: Path, pictures) -> Path:
    for split, classes in zip(("train", "val"), pictures, strict=True):
        for wnid, files in classes.items():
            (root / split / wnid).mkdir(parents=True)
            for i, data in enumerate(files):
                (root / split / wnid / f"{wnid}_{i}.JPEG").write_bytes(data)
    return root


def digests(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


# ---- the sources


@pytest.mark.parametrize("layout", ["official", "kaggle", "tree"])
def test_every_layout_gives_the_right_pictures_and_labels(tmp_path, pictures, layout):
    source, out = tmp_path / "source", tmp_path / "out"
    if layout == "official":
        make_official(source, *pictures, WORDS)
    elif layout == "kaggle":
        make_kaggle(source, *pictures, WORDS)
    else:
        make_tree(source, pictures)
        (source / "words.txt").write_text("".join(f"{k}\t{v}\n" for k, v in WORDS.items()))
    about = prepare(source, out, SMALL, progress=False)
    assert about["pictures"] == {"train": 36, "val": 12} and about["left_out"] == 0
    assert verify(out) == []
    for split, dataset in zip(("train", "val"), open_data(out), strict=True):
        assert dataset.shape == (16, 16, 3)
        # Labels are positions in the sorted ids, whatever numbers the devkit uses.
        assert dataset.classes == [f"{wnid} {WORDS[wnid]}" for wnid in sorted(WNIDS)]
        expected = {
            decode_stored(data).tobytes(): sorted(WNIDS).index(wnid)
            for wnid, files in pictures[split == "val"].items()
            for data in files
        }
        found = [expected.pop(dataset.picture(i).tobytes()) for i in range(len(dataset))]
        assert not expected and found == dataset.labels.tolist()


def decode_stored(data: bytes) -> np.ndarray:
    """What is to come out: the picture cut to size and once more through JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(decode(data, "x", 16)).save(buffer, "JPEG", quality=90)
    return decode(buffer.getvalue(), "x")


def test_statistics_are_those_of_the_prepared_pictures(tmp_path, pictures):
    prepare(make_tree(tmp_path / "in", pictures), tmp_path / "out", SMALL, progress=False)
    train, _ = open_data(tmp_path / "out")
    pixels = np.stack([train.picture(i) for i in range(len(train))])
    assert np.array_equal(train.moments().mean(), pixels.mean(axis=0).astype(np.float32))
    covariance = np.cov(pixels.reshape(-1, 3).T.astype(float), bias=True)
    assert np.allclose(train.moments().covariance(), covariance)
    with np.load(tmp_path / "out/moments.npz") as arrays:
        assert np.array_equal(arrays["mean"], train.moments().mean())


def test_shards_are_webdataset_tars(tmp_path, pictures):
    prepare(make_tree(tmp_path / "in", pictures), tmp_path / "out", SMALL, progress=False)
    train = ShardDataset(tmp_path / "out", "train")
    with tarfile.open(tmp_path / "out/train-000001.tar") as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar}
    keys = {name.partition(".")[0] for name in members}
    assert len(keys) == 7 and len(members) == 14
    for i, key in enumerate(sorted(keys), 7):
        assert np.array_equal(decode(members[key + ".jpg"], key), train.picture(i))
        assert int(members[key + ".cls"]) == train.labels[i]


def test_shards_say_what_they_are_and_how_to_have_them_smaller(tmp_path, pictures):
    out = tmp_path / "out"
    about = prepare(make_tree(tmp_path / "in", pictures), out, SMALL, progress=False)
    train, count = ShardDataset(out, "train"), about["pictures"]["train"]
    size = f"{about['size']}x{about['size']}x3"
    classes = about["classes"]
    assert repr(train) == (
        f"ShardDataset({classes} classes, {count} pictures {size}, from {out}: train)"
    )
    assert open_data(out, largest=about["size"])[0].shape == train.shape
    for asked in ({"size": 5}, {"largest": 5}):
        with pytest.raises(DataError, match=r"cannot be resized; prepare it again: .*--size 5 "):
            open_data(out, **asked)


def test_raw_and_full(tmp_path, pictures):
    source = make_tree(tmp_path / "in", pictures)
    prepare(source, tmp_path / "raw", Options(16, "raw"), progress=False)
    prepare(source, tmp_path / "full", Options(16, "full"), progress=False)
    assert verify(tmp_path / "raw") == verify(tmp_path / "full") == []
    raw, full = open_data(tmp_path / "raw")[0], open_data(tmp_path / "full")[0]
    files = [data for wnid in sorted(WNIDS) for data in sorted_by_name(pictures[0][wnid])]
    for i, data in enumerate(files):
        assert np.array_equal(raw.picture(i), decode(data, "x", 16))
        assert full.picture(i).shape == (16, 16, 3)
    with tarfile.open(tmp_path / "full/train-000000.tar") as tar:
        assert Image.open(tar.extractfile(tar.next())).size == (19, 16)
    with tarfile.open(tmp_path / "raw/train-000000.tar") as tar:
        pixels = np.load(io.BytesIO(tar.extractfile(tar.next()).read()))
        assert np.array_equal(pixels, raw.picture(0))


def sorted_by_name(files: list[bytes]) -> list[bytes]:
    return [files[i] for i in sorted(range(len(files)), key=str)]


def test_a_jpeg_of_the_right_size_is_kept_byte_for_byte(tmp_path, rng):
    data = picture_file(rng, [90, 90, 90], (16, 16))
    source = make_tree(tmp_path / "in", ({"a": [data], "b": [data]},) * 2)
    prepare(source, tmp_path / "out", SMALL, progress=False)
    with tarfile.open(tmp_path / "out/train-000000.tar") as tar:
        assert tar.extractfile(tar.next()).read() == data


# ---- going on


def test_a_second_run_does_nothing(tmp_path, pictures):
    source, out = make_tree(tmp_path / "in", pictures), tmp_path / "out"
    prepare(source, out, SMALL, progress=False)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    prepare(source, out, SMALL, progress=False)
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(DataError, match="other options"):
        prepare(source, out, Options(size=12, shard=7), progress=False)


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tmp_path, rng):
    files = [picture_file(rng, [99, 99, 99], (300, 200)) for _ in range(60)]
    pictures = ({"a": files[:30], "b": files[30:]}, {"a": files[:3], "b": files[3:5]})
    source, out = make_tree(tmp_path / "in", pictures), tmp_path / "out"
    options = Options(size=100, shard=2)
    prepare(source, tmp_path / "whole", options, progress=False)
    command = [sys.executable, PROGRAM, source, out, "--size=100", "--shard=2"]
    environment = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[1])}
    run = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    shards = rng.integers(0, 30)
    while run.poll() is None and len(list(out.glob("*.tar"))) < shards:
        time.sleep(0.002)
    time.sleep(0.01 * rng.random())
    run.send_signal(signal.SIGKILL)
    assert run.wait() in (0, -signal.SIGKILL)  # 0: it was done before
    prepare(source, out, options, progress=False)
    assert digests(out) == digests(tmp_path / "whole")


def test_a_folder_begun_with_another_source_is_not_gone_on_with(tmp_path, pictures):
    source, out = make_tree(tmp_path / "in", pictures), tmp_path / "out"
    with pytest.raises(DataError, match="max_bad"):
        (source / "train" / WNIDS[0] / "bad.jpg").write_text("text")
        prepare(source, out, SMALL, max_bad=0, progress=False)
    (source / "train" / WNIDS[0] / "bad.jpg").unlink()
    with pytest.raises(DataError, match="begun with another source"):
        prepare(source, out, SMALL, progress=False)


# ---- odd and bad pictures


def test_odd_pictures_are_converted_and_bad_ones_left_out_and_all_are_listed(tmp_path, pictures):
    source = make_tree(tmp_path / "in", pictures)
    folder = source / "train" / WNIDS[0]
    image = Image.open(io.BytesIO(pictures[0][WNIDS[0]][0]))
    image.convert("CMYK").save(folder / "cmyk.jpg", "JPEG")
    image.convert("L").save(folder / "grey.jpg", "JPEG")
    image.save(folder / "png named.JPEG", "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(folder / "turned.jpg", "JPEG", exif=exif)
    image.resize((1, 1)).save(folder / "pixel.jpg", "JPEG")
    Image.new("L", (20_000, 20_000)).save(folder / "huge.jpg", "JPEG")
    (folder / "text.jpg").write_text("no picture")
    (folder / "empty.jpg").write_bytes(b"")
    whole = pictures[0][WNIDS[0]][1]
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    about = prepare(source, tmp_path / "out", SMALL, max_bad=0.1, progress=False)
    assert about["left_out"] == 4 and about["pictures"]["train"] == 36 + 5
    lines = (tmp_path / "out/report.tsv").read_text().splitlines()[1:]
    report = {line.split("\t")[1].split("/")[1]: line.split("\t")[2:] for line in lines}
    assert set(report) == {
        "cmyk.jpg", "grey.jpg", "png named.JPEG", "turned.jpg", "pixel.jpg",
        "huge.jpg", "text.jpg", "empty.jpg", "truncated.jpg",
    }  # fmt: skip
    for name in ("huge.jpg", "text.jpg", "empty.jpg", "truncated.jpg"):
        assert report[name][0] == "left out"
    assert "CMYK" in report["cmyk.jpg"][1] and "pixels" in report["huge.jpg"][1]
    assert "runcated" in report["truncated.jpg"][1]
    train = ShardDataset(tmp_path / "out", "train")
    red = [train.picture(i).mean(axis=(0, 1)) for i in np.flatnonzero(train.labels == 2)]
    assert len(red) == 17 and all(r > 60 for r, _, _ in red)


def test_too_many_bad_pictures_end_the_run(tmp_path, pictures):
    source = make_tree(tmp_path / "in", pictures)
    for i in range(3):
        (source / "train" / WNIDS[0] / f"bad{i}.jpg").write_text("no picture")
    with pytest.raises(DataError, match="3 of 51 pictures.*bad0.jpg"):
        prepare(source, tmp_path / "out", SMALL, progress=False)
    about = prepare(source, tmp_path / "out", SMALL, max_bad=0.1, progress=False)
    assert about["left_out"] == 3


# ---- damaged and hostile archives


@pytest.fixture
def official(tmp_path, pictures) -> Path:
    make_official(tmp_path / "official", *pictures, WORDS)
    return tmp_path / "official"


@pytest.mark.parametrize("name", [TRAIN, VAL, DEVKIT])
def test_a_missing_or_truncated_archive_is_named(official, name):
    data = (official / name).read_bytes()
    for keep in (len(data) // 2, 300, 100, 0):
        (official / name).write_bytes(data[:keep])
        with pytest.raises(DataError, match=name):
            open_source(official)
    (official / name).unlink()
    with pytest.raises(DataError, match=f"{name} is missing"):
        open_source(official)


def test_no_path_in_an_archive_leaves_the_folder(tmp_path, official, pictures):
    evil = {"../../../escaped.JPEG": pictures[0][WNIDS[0]][0], "/tmp/a\nb\t.JPEG": b"text"}
    inner = {f"{wnid}.tar": tar_of(evil) for wnid in WNIDS}
    (official / TRAIN).write_bytes(tar_of(inner))
    before = {path for path in tmp_path.rglob("*")}
    prepare(official, tmp_path / "out", SMALL, max_bad=0.5, progress=False)
    new = {path for path in tmp_path.rglob("*")} - before
    assert all(path == tmp_path / "out" or path.parent == tmp_path / "out" for path in new)
    report = (tmp_path / "out/report.tsv").read_text()
    assert "a\\nb\\t.JPEG\tleft out" in report


def test_links_and_giant_names_are_refused(tmp_path):
    for kind, size in ((tarfile.SYMTYPE, 0), (tarfile.GNUTYPE_LONGNAME, 1 << 20)):
        header = tarfile.TarInfo("n01.tar")
        header.type, header.size, header.linkname = kind, size, "/etc/passwd"
        data = header.tobuf(tarfile.GNU_FORMAT) + bytes(size + 1024)
        with pytest.raises(DataError, match="evil.tar"):
            list(tar_members(io.BytesIO(data), "evil.tar"))


def test_long_names_are_read():
    name = "n01/" + "x" * 150 + ".JPEG"
    for kind in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        data = io.BytesIO()
        with tarfile.open(fileobj=data, mode="w", format=kind) as tar:
            for member in (name, "short.JPEG"):
                header = tarfile.TarInfo(member)
                header.size = 5
                tar.addfile(header, io.BytesIO(b"hello"))
        members = list(tar_members(data, "long.tar"))
        assert [member.name for member in members] == [name, "short.JPEG"]
        assert all(data.getvalue()[m.offset :][:5] == b"hello" for m in members)


def test_a_decompression_bomb_in_the_devkit_is_refused(official, monkeypatch):
    monkeypatch.setattr("tinynet.data.imagenet._MAX_DEVKIT", 1 << 20)
    (official / DEVKIT).write_bytes(gzip.compress(bytes(20 << 20)))
    with pytest.raises(DataError, match="unpacks to more than"):
        open_source(official)


def test_ground_truth_must_fit_the_archive(official):
    synsets, truth = read_devkit(official / DEVKIT)
    assert sorted(wnid for wnid, _ in synsets.values()) == sorted([*WNIDS, "n00001740"])
    for bad, match in (
        (truth[:-1], "expected 11 pictures, .* got 12"),
        ([4, *truth[1:]], "n00001740"),  # an inner node is no class
        ([99, *truth[1:]], "class 99"),
    ):
        rows = [(number, wnid, words) for number, (wnid, words) in synsets.items()]
        text = "\n".join(map(str, bad)).encode()
        files = {
            f"{FOLDER}/data/meta.mat": mat_file(rows),
            f"{FOLDER}/data/ILSVRC2012_validation_ground_truth.txt": text,
        }
        (official / DEVKIT).write_bytes(gzip.compress(tar_of(files)))
        with pytest.raises(DataError, match=match):
            open_source(official)


def test_the_matlab_reader_and_damaged_tables(rng):
    data = mat_file([(1, "n01", "bé, a"), (2, "n02", "b")])
    assert read_struct_array(data, "synsets", "meta.mat") == [
        {"ILSVRC2012_ID": 1.0, "WNID": "n01", "words": "bé, a"},
        {"ILSVRC2012_ID": 2.0, "WNID": "n02", "words": "b"},
    ]
    for _ in range(200):
        bad = bytearray(data)
        bad[rng.integers(len(bad))] ^= int(rng.integers(1, 256))
        try:
            read_struct_array(bytes(bad[: rng.integers(1, len(bad) + 1)]), "synsets", "meta.mat")
        except DataError as error:
            assert "meta.mat" in str(error)


# ---- verify, and the program


def test_verify_and_the_reader_find_any_change(tmp_path, pictures, rng):
    prepare(make_tree(tmp_path / "in", pictures), tmp_path / "out", SMALL, progress=False)
    for path in sorted((tmp_path / "out").iterdir()):
        data = path.read_bytes()
        bad = bytearray(data)
        bad[rng.integers(len(bad))] ^= 1
        path.write_bytes(bytes(bad))
        assert any(path.name in line or "SHA256SUMS" in path.name for line in verify(path.parent))
        path.write_bytes(data)
    assert verify(tmp_path / "out") == []
    train = ShardDataset(tmp_path / "out", "train")
    row = train.index[9]
    path = tmp_path / "out" / "train-000001.tar"
    bad = bytearray(path.read_bytes())
    bad[int(row["offset"]) + int(row["length"]) // 2] ^= 4
    path.write_bytes(bytes(bad))
    with pytest.raises(DataError, match="train-000001.tar: picture 9 "):
        train.picture(9)
    train.picture(8)


def test_the_program_says_what_is_wrong_in_one_line(tmp_path, capsys):
    sys.path.insert(0, str(PROGRAM.parent))
    from prepare_imagenet import main

    (tmp_path / "empty").mkdir()
    for arguments in (
        [str(tmp_path / "nowhere"), str(tmp_path / "out")],
        [str(tmp_path / "empty"), str(tmp_path / "out")],
        [str(tmp_path / "empty"), str(tmp_path / "out"), "--size", "0"],
    ):
        assert main(arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: ")
    assert main(["--verify", str(tmp_path / "empty")]) == 1
    capsys.readouterr()
    for option in (["--quality", "50"], ["--chroma", "4:4:4"]):
        with pytest.raises(SystemExit):
            main([str(tmp_path / "empty"), str(tmp_path / "out"), "--raw", *option])
        assert f"--raw does not take {option[0][2:]}: it keeps pixels" in capsys.readouterr().err


# ---- who writes


class InThread:
    """Stands for `Process`: the same work in a thread of this process."""

    def __init__(self, name, target, *arguments):
        self.pipe, theirs = multiprocessing.Pipe()
        self.thread = threading.Thread(target=target, args=(theirs, *arguments), name=name)
        self.thread.start()

    def end(self):
        self.pipe.close()
        self.thread.join(10)


@pytest.mark.parametrize("form", ["square", "full", "raw"])
def test_the_bytes_do_not_depend_on_who_writes_them(tmp_path, pictures, rng, form, monkeypatch):
    source = make_tree(tmp_path / "in", pictures)
    folder = source / "train" / WNIDS[0]
    (folder / "text.jpg").write_text("no picture")
    (folder / "fits.jpg").write_bytes(picture_file(rng, [9, 99, 9], (16, 16)))
    image = Image.open(io.BytesIO(pictures[0][WNIDS[0]][0]))
    image.convert("CMYK").save(folder / "cmyk.jpg", "JPEG")
    options = Options(size=16, shard=7, form=form)
    by_processes = prepare(source, tmp_path / "a", options, workers=2, max_bad=0.1, progress=False)
    monkeypatch.setattr("tinynet.data.prepare.Process", InThread)
    monkeypatch.setattr("signal.signal", lambda number, handler: None)  # a thread may not
    by_threads = prepare(source, tmp_path / "b", options, workers=2, max_bad=0.1, progress=False)
    assert by_processes == by_threads and by_threads["left_out"] == 1
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
