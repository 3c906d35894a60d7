"""What is wrong with the data is said in one line that names the file and what to do: every such
line, once.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import pickle
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from make_archives import DEVKIT, FOLDER, TRAIN, VAL, make_kaggle, make_official, mat_file, tar_of
from PIL import Image
from small_tree import WNIDS, make_tree, picture

from tinynet.data import ArrayDataset, Loader, imagenet, open_data
from tinynet.data.cifar import load_pickle
from tinynet.data.fashion import cut
from tinynet.data.folder import Splits, open_folder
from tinynet.data.idx import read_idx
from tinynet.data.imagenet import check_md5, open_source
from tinynet.data.matfile import read_struct_array
from tinynet.data.pictures import decode, keep_freed_memory, oddities
from tinynet.data.shards import file_sha256
from tinynet.errors import DataError

PROGRAM = Path(__file__).parents[2] / "examples" / "prepare_imagenet.py"

# ---- CIFAR-10


def cifar(folder: Path, **changed: object) -> Path:
    """A small CIFAR-10 in pickles; `changed` replaces a file's content, None leaves it out."""
    folder.mkdir()
    batch = {b"data": np.zeros((3, 3072), np.uint8), b"labels": [0, 1, 0]}
    content = {f"data_batch_{k}": batch for k in range(1, 6)} | {"test_batch": batch}
    content |= {"batches.meta": {b"label_names": [b"cat", "dog"]}} | changed
    for name, value in content.items():
        if value is not None:
            (folder / name).write_bytes(pickle.dumps(value, protocol=2))
    return folder


def test_a_class_name_may_be_text_or_bytes(tmp_path):
    train, _ = open_data(cifar(tmp_path / "cifar"))
    assert train.classes == ["cat", "dog"] and len(train) == 15


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data_batch_3": None}, "data_batch_3 is missing; fetch CIFAR-10 again"),
        ({"test_batch": None}, "test_batch is missing"),
        ({"batches.meta": None}, "batches.meta is missing"),
        ({"batches.meta": {}}, "batches.meta: expected a list of the classes' names, got none"),
        (
            {"batches.meta": {b"label_names": 10}},
            "batches.meta: expected a list of the classes' na",
        ),
        ({"data_batch_2": [1, 2]}, "data_batch_2: expected a dictionary, got list"),
        ({"data_batch_2": {b"data": 1, b"labels": [1]}}, "data_batch_2: expected a CIFAR-10 batch"),
        (
            {"test_batch": {b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}},
            "test_batch: expected a CIFAR-10 batch",
        ),
        *(
            ({"data_batch_4": {b"data": data, b"labels": [0, 1]}}, "data_batch_4: expected a CIFAR")
            for data in (
                np.zeros((2, 32, 32, 3), np.uint8),  # as many values, in another order
                np.zeros((2, 3, 32, 32), np.uint8),
                np.zeros((2, 2, 3072), np.uint8),
                np.zeros((3072, 2), np.uint8),
                np.zeros((2, 6144), np.uint8),
                np.zeros((2, 3072), np.int8),
                np.zeros((2, 3072), np.float32),
            )
        ),
    ],
)
def test_cifar10_in_pickles(tmp_path, changed, message):
    with pytest.raises(DataError, match=message) as error:
        open_data(cifar(tmp_path / "cifar", **changed))
    assert str(error.value).startswith(str(tmp_path / "cifar"))  # of many data sets, this one


def test_cifar10_in_records(tmp_path):
    for name in (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"):
        (tmp_path / name).write_bytes(bytes(3073))
    for names in (b"cat\ndog", b"c\xe2t\ndog"):  # in whatever encoding
        (tmp_path / "batches.meta.txt").write_bytes(names)
        assert open_data(tmp_path)[0].classes == names.decode("ascii", "replace").split()
    for content in (b"", bytes(3000)):
        (tmp_path / "data_batch_4.bin").write_bytes(content)
        with pytest.raises(
            DataError,
            match=f"data_batch_4.bin: expected records of 3073 bytes, got {len(content)} bytes",
        ):
            open_data(tmp_path)


def test_arrays_in_pickles_of_the_older_protocols():
    for protocol in range(5):
        content = load_pickle(pickle.dumps({b"data": np.arange(5, dtype=np.uint8)}, protocol), "x")
        assert content[b"data"].tolist() == [0, 1, 2, 3, 4]


# ---- IDX, and the embedded part of Fashion-MNIST


def write_idx(folder: Path, **changed: np.ndarray) -> Path:
    folder.mkdir(exist_ok=True)
    arrays = {
        "train-images-idx3": np.zeros((4, 3, 3), np.uint8),
        "train-labels-idx1": np.arange(4, dtype=np.uint8),
        "t10k-images-idx3": np.zeros((2, 3, 3), np.uint8),
        "t10k-labels-idx1": np.zeros(2, np.uint8),
    }
    for name, array in (arrays | changed).items():
        cut.write_idx(folder / f"{name}-ubyte.gz", array)
    return folder


def test_idx_mistakes(tmp_path):
    train, test = open_data(write_idx(tmp_path))
    assert (len(train), len(test)) == (4, 2)
    for changed, message in [
        (
            {"t10k-labels-idx1": np.zeros((2, 1, 1), np.uint8)},
            "labels-idx1.*: expected 1 dimensions, got 3",
        ),
        ({"train-labels-idx1": np.zeros(5, np.uint8)}, "train picture, got 5 labels for 4 pic"),
        ({"train-labels-idx1": np.zeros(3, np.uint8)}, "train picture, got 3 labels for 4 pic"),
        ({"t10k-labels-idx1": np.zeros(1, np.uint8)}, "t10k picture, got 1 labels for 2 pictures"),
        (
            {"t10k-images-idx3": np.zeros((2, 4, 3), np.uint8)},
            r"expected train and t10k pictures of one size, got \(3, 3\) and \(4, 3\); fetch",
        ),
        ({"t10k-images-idx3": np.zeros((2, 3, 2), np.uint8)}, r"got \(3, 3\) and \(3, 2\); fetch"),
    ]:
        with pytest.raises(DataError, match=message):
            open_data(write_idx(tmp_path, **changed))
    (write_idx(tmp_path) / "t10k-images-idx3-ubyte.gz").unlink()
    with pytest.raises(
        DataError, match=r"expected t10k-images-idx3-ubyte\[.gz\] beside the other IDX files"
    ):
        open_data(tmp_path)


def test_cutting_the_embedded_part_out(tmp_path, monkeypatch, rng):
    """The first 1,000 and 200 of each class, in their order, the same bytes each time."""
    whole = {}
    for split, each in (("train", 1003), ("t10k", 201)):
        labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), each))
        # each picture is its own number
        pictures = np.arange(labels.size, dtype=">u4").view(np.uint8).reshape(-1, 2, 2)
        whole[split] = labels
        (tmp_path / "whole").mkdir(exist_ok=True)
        cut.write_idx(tmp_path / f"whole/{split}-images-idx3-ubyte.gz", pictures)
        cut.write_idx(tmp_path / f"whole/{split}-labels-idx1-ubyte.gz", labels)
    monkeypatch.setattr(cut, "__file__", str(tmp_path / "cut.py"))
    monkeypatch.setattr(sys, "argv", ["cut", str(tmp_path / "whole")])
    cut.main()
    for split, count in (("train", 1000), ("t10k", 200)):
        labels = read_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz")
        numbers = (
            read_idx(tmp_path / f"{split}-images-idx3-ubyte.gz")
            .reshape(-1, 4)
            .copy()
            .view(">u4")
            .ravel()
        )
        expected = [i for i, k in enumerate(whole[split]) if (whole[split][:i] == k).sum() < count]
        assert numbers.tolist() == expected and np.array_equal(labels, whole[split][expected])
    first = {p.name: p.read_bytes() for p in tmp_path.glob("*.gz")}
    cut.main()
    assert first == {p.name: p.read_bytes() for p in tmp_path.glob("*.gz")} and len(first) == 4
    assert all(data[4:8] == bytes(4) for data in first.values())  # no time stamp


# ---- folders of pictures


def test_what_kind_of_data_a_path_holds(tmp_path):
    (tmp_path / "notes.txt").write_text("no pictures")
    with pytest.raises(DataError, match=r"notes.txt: expected a folder or a CIFAR-10 .tar.gz, got"):
        open_data(tmp_path / "notes.txt")
    write_idx(tmp_path / "idx")
    for asked, message in (
        ({"size": 8}, "idx: expected pictures of side 8, got 3, which cannot be resized"),
        ({"largest": 2}, "idx: expected pictures of side at most 2, got 3"),
    ):
        with pytest.raises(DataError, match=message):
            open_data(tmp_path / "idx", **asked)
    for asked in ({"size": 3}, {"largest": 3}, {"size": 3, "largest": 2}):
        assert open_data(tmp_path / "idx", **asked)[0].shape == (3, 3, 1)
    (tmp_path / "begun/parts").mkdir(parents=True)
    (tmp_path / "begun/parts/plan.json").write_text("{}")
    with pytest.raises(
        DataError, match="not yet prepared to the end; run prepare_imagenet.py again"
    ):
        open_data(tmp_path / "begun")
    for name in ("official", "kaggle"):
        (tmp_path / name).mkdir()
    (tmp_path / "official" / TRAIN).write_bytes(b"")
    (tmp_path / "kaggle" / "ILSVRC").mkdir()
    for name in ("official", "kaggle"):
        with pytest.raises(
            DataError, match=r"first run `python examples/prepare_imagenet.py .*" + name
        ):
            open_data(tmp_path / name)


def test_a_folder_that_does_not_fit_into_memory(tmp_path, monkeypatch):
    root = make_tree(tmp_path)
    monkeypatch.setattr("tinynet.data.folder.MAX_MEMORY", 8 * 10 * 10 * 3 - 1)
    with pytest.raises(
        DataError, match="got 8 of 10 x 10, which take .* of memory; prepare them once with"
    ):
        open_data(root)
    smaller, _ = open_folder(Splits(root / "train", root / "val"), size=9)
    assert smaller.shape == (9, 9, 3)


def test_many_bad_pictures_are_named_up_to_fifty(tmp_path, monkeypatch, caplog):
    root = make_tree(tmp_path)
    for i in range(53):
        (root / "train/n01" / f"bad{i:02d}.jpg").write_text("text")
    monkeypatch.setattr("tinynet.data.folder.MAX_BAD", 1.0)
    with caplog.at_level(logging.WARNING):
        train, _ = open_data(root)
    assert len(train) == 4 and "bad49.jpg" in caplog.text and "bad50.jpg" not in caplog.text
    assert "left out: 3 more" in caplog.text
    for i in range(50, 53):
        (root / "train/n01" / f"bad{i}.jpg").unlink()
    caplog.clear()
    open_data(root)
    assert caplog.text.count("left out: ") == 50 and "more" not in caplog.text


def test_labels_need_pictures():
    with pytest.raises(DataError, match="at least one picture, got none"):
        ArrayDataset(np.zeros((0, 2, 2, 3), np.uint8), np.zeros(0), ["a"])
    dataset = ArrayDataset(np.zeros((4, 2, 2, 3), np.uint8), np.zeros(4, int), ["a"])
    with pytest.raises(DataError, match=r"expected colour axes of \(3, 3\), got \(2, 2\)"):
        Loader(dataset, 2, crop=2, train=True, colour=np.eye(2, dtype=np.float32))


# ---- one picture


def test_pngs_whose_checksum_or_end_is_wrong():
    data = picture(70, form="PNG")
    place = data.index(b"IDAT") + 6
    with pytest.raises(DataError, match="x.png: damaged PNG file, a checksum differs at byte"):
        decode(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :], "x.png")
    for end in range(data.index(b"IDAT") + 4, len(data)):  # before that it is no picture
        with pytest.raises(DataError, match="x.png: truncated PNG file"):
            decode(data[:end], "x.png")


def test_what_is_odd_about_a_picture():
    assert oddities(Image.open(io.BytesIO(picture(1))), "a.jpg", 10) == []
    png = Image.open(io.BytesIO(picture(1, (3, 2), "PNG")))
    assert oddities(png, "a.JPEG", 8) == ["a PNG file in spite of its name"]
    assert oddities(png, "a.png", 9) == ["enlarged from 3 x 2"]
    data, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 3
    Image.new("L", (9, 9)).save(data, "JPEG", exif=exif)
    assert oddities(Image.open(data), "a.jpg", 9) == [
        "grey made RGB",
        "turned upright as its EXIF says",
    ]
    data = io.BytesIO()
    Image.new("LA", (9, 9)).save(data, "PNG")
    assert oddities(Image.open(data), "a.png", 9) == ["LA made RGB"]
    for mode in ("I;16", "I;16B"):
        data = io.BytesIO()
        Image.new(mode, (9, 9)).save(data, "TIFF")
        assert oddities(Image.open(data), "a.tif", 9) == ["16-bit grey made RGB"]


def test_a_picture_too_long_to_be_kept_whole():
    assert decode(picture(9, (160, 10)), "x.jpg", 10, whole=True).shape == (10, 160, 3)
    assert decode(picture(9, (10, 160)), "x.jpg", 5, whole=True).shape == (80, 5, 3)
    with pytest.raises(DataError, match="x.jpg: 170 x 10 is too long and thin to be kept whole"):
        decode(picture(9, (170, 10)), "x.jpg", 5, whole=True)


def test_without_glibc_freed_memory_is_left_alone(monkeypatch):
    class Other:  # a C library that has no mallopt
        pass

    monkeypatch.setattr("ctypes.CDLL", lambda name: Other())
    assert keep_freed_memory() is None
    told = []
    Other.mallopt = lambda self, *option: told.append(option)
    keep_freed_memory()
    trim, mmap = -1, -3  # of malloc.h: what is free at the end, what is mapped by itself
    assert told == ([(trim, 256 << 20), (mmap, 32 << 20)] if sys.platform == "linux" else [])


# ---- ImageNet's archives


@pytest.fixture
def official(tmp_path) -> Path:
    files = ({wnid: [picture(60)] * 2 for wnid in WNIDS}, {wnid: [picture(60)] for wnid in WNIDS})
    make_official(tmp_path / "official", *files, {})
    return tmp_path / "official"


def test_no_source_of_pictures(tmp_path):
    with pytest.raises(
        DataError, match="nowhere: expected a folder with ImageNet's archives or with pictures"
    ):
        open_source(tmp_path / "nowhere")
    with pytest.raises(
        DataError,
        match=f"expected {TRAIN}, {VAL} and {DEVKIT}; or .*LOC_val_solution.csv; or train/<class>",
    ):
        open_source(tmp_path)
    make_tree(tmp_path, count=0)
    with pytest.raises(DataError, match="train/n01: expected pictures .* got none"):
        open_source(tmp_path)


def test_md5_of_the_archives(official, monkeypatch, rng):
    """However many blocks they are read in."""
    (official / DEVKIT).write_bytes(rng.bytes((9 << 20) + 1))
    sums = {
        name: hashlib.md5((official / name).read_bytes(), usedforsecurity=False).hexdigest()
        for name in imagenet.MD5
    }
    monkeypatch.setattr(imagenet, "MD5", sums)
    check_md5(official)
    data = (official / VAL).read_bytes()
    (official / VAL).write_bytes(data[:-1] + b"x")
    digest = hashlib.sha256((official / DEVKIT).read_bytes()).hexdigest()
    assert file_sha256(official / DEVKIT) == digest
    with pytest.raises(
        DataError, match=f"{VAL}: expected md5 {sums[VAL]}, got [0-9a-f]{{32}}; fetch it again"
    ):
        check_md5(official)


def test_archives_of_other_things(official):
    whole = (official / TRAIN).read_bytes()
    (official / TRAIN).write_bytes(tar_of({"n07.tar": tar_of({"a.JPEG": picture(1)})}))
    with pytest.raises(
        DataError, match="expected the classes of the devkit's meta.mat, got n07.tar"
    ):
        open_source(official)
    (official / TRAIN).write_bytes(tar_of({"a.JPEG": picture(1)}))
    with pytest.raises(DataError, match="a.JPEG: expected a tar for each class, got another file"):
        open_source(official)
    (official / TRAIN).write_bytes(whole)
    rows, truth = [(1, "n01", "a"), (2, "n02", "b")], "ILSVRC2012_validation_ground_truth.txt"
    for files, message in [
        ({truth: b"1\n2\n"}, "data/meta.mat is missing in it"),
        ({"meta.mat": mat_file(rows)}, f"data/{truth} is missing in it"),
        ({"meta.mat": mat_file(rows), truth: b"1\ntwo\n"}, f"data/{truth}: invalid literal"),
        (
            {"meta.mat": renamed(b"synsets", b"sunsets"), truth: b"1"},
            "data/meta.mat: no struct array named synsets in it",
        ),
        (
            {"meta.mat": renamed(b"ILSVRC2012_ID", b"ILSVRC2013_ID"), truth: b"1"},
            r"a synset without ILSVRC2012_ID \(a whole number\) or WNID",
        ),
    ]:
        content = tar_of({f"{FOLDER}/data/{name}": data for name, data in files.items()})
        (official / DEVKIT).write_bytes(gzip.compress(content))
        with pytest.raises(DataError, match=message):
            open_source(official)


def repacked(data: bytes, change) -> bytes:
    """A .mat file with its compressed element changed."""
    packed = zlib.compress(change(zlib.decompress(data[136:])))
    return data[:128] + struct.pack("<II", 15, len(packed)) + packed


def renamed(old: bytes, new: bytes) -> bytes:
    return repacked(mat_file([(1, "n01", "a")]), lambda inner: inner.replace(old, new))


def test_matlab_files():
    data = mat_file([(7, "n01", "a")])
    assert read_struct_array(data, "synsets", "meta.mat") == [
        {"ILSVRC2012_ID": 7.0, "WNID": "n01", "words": "a"}
    ]
    with pytest.raises(DataError, match="meta.mat: no struct array named cats in it"):
        read_struct_array(data, "cats", "meta.mat")
    with pytest.raises(DataError, match="meta.mat: not a little-endian MATLAB 5 file"):
        read_struct_array(data[:126] + b"MI" + data[128:], "synsets", "meta.mat")
    with pytest.raises(DataError, match="meta.mat: cut short at byte 0"):
        read_struct_array(data[:-20], "synsets", "meta.mat")
    # An element that is no matrix is passed over; so is a matrix of another name.
    other = struct.pack("<II", 9, 8) + bytes(8)
    assert (
        read_struct_array(data[:128] + other + data[128:], "synsets", "meta.mat")[0]["WNID"]
        == "n01"
    )
    # What follows the zero that ends a field's name says nothing.
    rest = repacked(data, lambda inner: inner.replace(b"WNID\0\0\0", b"WNID\0ID"))
    assert read_struct_array(rest, "synsets", "meta.mat")[0]["WNID"] == "n01"
    # A field that is neither one number nor text is None: here the number's class becomes that of a
    # cell array.
    number = struct.pack("<IIII", 6, 8, 6, 0)
    cell = repacked(data, lambda inner: inner.replace(number, struct.pack("<IIII", 6, 8, 1, 0)))
    assert read_struct_array(cell, "synsets", "meta.mat")[0]["ILSVRC2012_ID"] is None


def test_kaggles_layout(tmp_path):
    files = ({wnid: [picture(60)] for wnid in WNIDS}, {wnid: [picture(60)] for wnid in WNIDS})
    make_kaggle(tmp_path, *files, {"n01": "fish"})
    # n02 is a class without words.
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01 fish, fishes\nn02\n")
    source = open_source(tmp_path)
    assert source.classes == [("n01", "fish, fishes"), ("n02", "n02")] and len(source.val) == 2
    solution = tmp_path / "LOC_val_solution.csv"
    text = solution.read_text()
    solution.write_text(text + "\n\n")  # empty lines say nothing
    assert len(open_source(tmp_path).val) == 2
    (tmp_path / "LOC_synset_mapping.txt").write_bytes(b"n01 p\xe9ch\n")  # in whatever encoding
    assert open_source(tmp_path).classes == [("n01", "p\ufffdch"), ("n02", "n02")]
    for changed, wnid in (
        (text.replace(",n02 ", ",n09 "), "n09"),
        (text.rpartition("ILS")[0], None),
    ):
        solution.write_text(changed)
        told = f"LOC_val_solution.csv gives it class {wnid}, which train lacks"
        with pytest.raises(DataError, match=told):
            open_source(tmp_path)
    solution.unlink()
    with pytest.raises(
        DataError,
        match="LOC_val_solution.csv is missing; it says which class each val picture is of",
    ):
        open_source(tmp_path)


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
