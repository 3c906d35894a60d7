"""What readers of foreign files take and refuse, at the very limits; and that the real data sets,
far larger than any test's, are within them.
"""

from __future__ import annotations

import gzip
import io
import itertools
import pickle
import shutil
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from make_archives import make_kaggle, make_official, mat_file
from PIL import Image
from small_tree import make_tree, photo, picture

from tinynet.data import Pairs, SequenceLoader, Vocabulary, cifar, imagenet, matfile, open_data
from tinynet.data.fashion.cut import write_idx
from tinynet.data.folder import Splits, common_size, open_folder
from tinynet.data.idx import find_idx, read_idx
from tinynet.data.imagenet import open_source
from tinynet.data.matfile import read_struct_array
from tinynet.data.tar import read_packed, tar_member, tar_members
from tinynet.data.text import SPECIAL, read_pairs, read_text
from tinynet.errors import DataError

# ---- tar


def archive(rng, form: int, count: int = 12) -> tuple[bytes, list[tuple[str, bytes]]]:
    """An archive by Python's own writer: files of all sizes around a block, long names, folders."""
    data, files = io.BytesIO(), []
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for k in range(count):
            name = f"{'folder/' * (k % 4)}{'long' * (k % 3) * 30}/{k}.jpg"
            if form == tarfile.USTAR_FORMAT:
                name = name[-90:]
            content = rng.bytes((0, 1, 511, 512, 513, 1024, 2000)[k % 7])
            header = tarfile.TarInfo(name)
            header.size = len(content)
            if k % 5 == 4:
                header.type, header.size, content = tarfile.DIRTYPE, 0, b""
            else:
                files.append((name, content))
            tar.addfile(header, io.BytesIO(content))
    return data.getvalue(), files


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_what_pythons_own_writer_wrote(rng, form):
    """Wherever in a file the archive lies."""
    data, files = archive(rng, form)
    for before, behind in ((b"", b""), (rng.bytes(1000), rng.bytes(700))):
        whole = before + data + behind
        end = len(before) + len(data)
        members = list(tar_members(io.BytesIO(whole), "x", len(before), end))
        assert [m.name for m in members] == [name for name, _ in files]
        found = [whole[m.offset : m.offset + m.size] for m in members]
        assert found == [content for _, content in files]


def test_an_archive_inside_another_ends_where_it_ends(rng):
    """One that lacks its end, or the rest of a file, does not go on in what comes behind it."""
    data, files = archive(rng, tarfile.GNU_FORMAT, 4)
    bare = data[: len(data) - len(data) % 10240 or len(data)].rstrip(b"\0")
    bare += bytes(-len(bare) % 512)  # the members alone, without the zeros at the end
    assert list(tar_members(io.BytesIO(bare + bytes(512)), "x"))
    for cut in (len(bare), len(bare) - 512, len(bare) - 1, 512, 511, 0):
        with pytest.raises(DataError, match="^x: cut short"):
            list(tar_members(io.BytesIO(bare[:cut] + data), "x", 0, cut))
        with pytest.raises(DataError, match="^x: cut short"):
            list(tar_members(io.BytesIO(b"12345" + bare[:cut] + data), "x", 5, 5 + cut))


def test_what_is_written_is_a_tar(rng):
    contents = {f"{k:08d}-{'n' * k}.jpg": rng.bytes(k) for k in (0, 1, 60, 511, 512, 513)}
    data = b"".join(tar_member(name[-70:], content) for name, content in contents.items())
    with tarfile.open(fileobj=io.BytesIO(data + bytes(1024))) as tar:
        found = {member.name: tar.extractfile(member).read() for member in tar}
    assert found == {name[-70:]: content for name, content in contents.items()}
    assert data == b"".join(tar_member(name[-70:], content) for name, content in contents.items())


@pytest.mark.parametrize("ending", [".tar.gz", ".tgz", ".tar"])
def test_a_packed_archive_of_exactly_the_limit(tmp_path, rng, ending):
    data, files = archive(rng, tarfile.GNU_FORMAT)
    path = tmp_path / f"a{ending}"
    path.write_bytes(data if ending == ".tar" else gzip.compress(data))
    found = read_packed(path, lambda name: name != "3.jpg", len(data))
    expected = {name.rpartition("/")[2]: content for name, content in files}
    assert found == {name: content for name, content in expected.items() if name != "3.jpg"}
    for limit in (len(data) - 1, len(data) - 512, 10):
        with pytest.raises(DataError, match=rf"a{ending}: unpacks to more than {limit:,} bytes"):
            read_packed(path, lambda name: True, limit)


# ---- CIFAR-10 and IDX


def cifar_files(folder: Path, labels: object = None) -> Path:
    folder.mkdir()
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        data = np.full((2, 3072), len(name), np.uint8)
        batch = {b"data": data, b"labels": [0, 1] if labels is None else labels}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    meta = {b"label_names": [b"cat", b"dog"], b"num_cases_per_batch": 2}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "mine.tgz", "mine.tar"])
def test_cifar10_in_any_archive(tmp_path, name, monkeypatch):
    folder = cifar_files(tmp_path / "cifar-10-batches-py")
    (folder / "test_batch_old").mkdir()  # no file, whatever its name
    (folder / "readme.html").write_text("x")
    read, whole = [], Path.read_bytes
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", lambda path: read.append(path.name) or whole(path))
        assert len(open_data(folder)[0]) == 10
    assert len(read) == 7 and "readme.html" not in read  # which may be of any size
    mode = "w:gz" if name.endswith("gz") else "w"
    with tarfile.open(tmp_path / name, mode) as tar:
        tar.add(folder, arcname=folder.name)
    shutil.rmtree(folder)
    train, test = open_data(tmp_path / name)
    assert (len(train), len(test), train.classes) == (10, 2, ["cat", "dog"])
    assert train.picture(0)[0, 0].tolist() == [12] * 3 and test.picture(0)[0, 0, 0] == 10


@pytest.mark.parametrize(
    "labels",
    [[0.0, 1.0], ["0", "1"], [0, None], (0, 1), np.array([0, 1]), [0], [[0], [1]]],
    ids=str,
)
def test_labels_that_are_no_list_of_whole_numbers(tmp_path, labels):
    with pytest.raises(DataError, match="expected a CIFAR-10 batch .* got something else"):
        open_data(cifar_files(tmp_path / "cifar", labels))


@pytest.mark.parametrize(("other", "got"), [(2, "0 to 2"), (300, "0 to 300"), (-1, "-1 to 0")])
def test_labels_beyond_the_classes(tmp_path, other, got):
    with pytest.raises(DataError, match=f"expected labels 0 to 1, one a class, got {got}"):
        open_data(cifar_files(tmp_path / "cifar", [0, other]))


def idx_files(folder: Path, train: list[int], test: list[int]) -> Path:
    folder.mkdir()
    for split, labels in (("train", train), ("t10k", test)):
        pictures = np.zeros((len(labels), 4, 5), np.uint8)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", pictures)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", np.array(labels, np.uint8))
    return folder


def test_classes_are_those_of_both_splits(tmp_path):
    for k, (train, test) in enumerate((([0, 3], [1]), ([0, 1], [3]), ([3], [3]))):
        for found in open_data(idx_files(tmp_path / str(k), train, test)):
            assert found.classes == ["0", "1", "2", "3"]


def test_an_idx_file_of_any_length_but_the_right_one(tmp_path):
    right = b"\0\0\x08\1" + struct.pack(">I", 5) + b"abcde"
    for end in range(len(right)):
        for name, data in (("a", right[:end]), ("a.gz", gzip.compress(right[:end]))):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(DataError, match=f"{name}: expected"):
                read_idx(tmp_path / name)
    (tmp_path / "a").write_bytes(b"\0\0\x08\3" + struct.pack(">II", 0, 28))  # of three sizes two
    with pytest.raises(DataError, match=r"a: expected \(0, 28\) values"):
        read_idx(tmp_path / "a")
    for more in (b"f", b"f" * 99):
        (tmp_path / "a").write_bytes(right + more)
        with pytest.raises(DataError, match=r"a: expected \(5,\) values .*, got more; fetch"):
            read_idx(tmp_path / "a")
    (tmp_path / "a").write_bytes(right)
    assert read_idx(tmp_path / "a").tobytes() == b"abcde"
    large = 1 << 24  # as much as is read at a time
    with open(tmp_path / "a", "r+b") as file:
        file.write(right[:4] + struct.pack(">I", large))
        file.truncate(8 + large)
        assert len(read_idx(tmp_path / "a")) == large
        file.truncate(8 + large + 1)
        with pytest.raises(DataError, match="a: expected .*, got more; fetch"):
            read_idx(tmp_path / "a")
        file.truncate(8)
    (tmp_path / "a").write_bytes(right)
    for wrong in (b"\0\0\x09\1", b"\0\0\x08\2", b"\0\0\x08\4", b"\1\0\x08\1", b"\0\1\x08\1"):
        (tmp_path / "a").write_bytes(wrong + right[4:])
        with pytest.raises(DataError, match="a: expected an IDX file of uint8 .* another header"):
            read_idx(tmp_path / "a")


def test_every_name_that_an_idx_file_has(tmp_path):
    for name in ("train-images-idx3-ubyte", "train-images.idx3-ubyte"):
        for ending in ("", ".gz"):
            path = tmp_path / (name + ending)
            path.write_bytes(b"")
            assert find_idx(tmp_path, "train", "images-idx3") == path
            assert find_idx(tmp_path, "t10k", "images-idx3") is None
            path.unlink()
            path.mkdir()  # a folder is no file
            assert find_idx(tmp_path, "train", "images-idx3") is None
            path.rmdir()


def test_a_side_that_cannot_be_changed(tmp_path):
    """Any other size is refused, and a `largest` that is smaller; a larger one is fine."""
    folder = idx_files(tmp_path / "idx", [0, 1], [1])
    for asked in ({}, {"size": 4}, {"largest": 4}, {"largest": 5}, {"largest": 999}):
        assert open_data(folder, **asked)[0].shape == (4, 5, 1)
    for asked, words in (({"size": 3}, "side 3"), ({"size": 5}, "side 5"),
                         ({"largest": 3}, "side at most 3")):  # fmt: skip
        with pytest.raises(DataError, match=f"expected pictures of {words}, got 4, which cannot"):
            open_data(folder, **asked)
    with pytest.raises(DataError, match="test pictures of its own; leave --val-share out"):
        open_data(folder, val_share=0.5)


# ---- folders


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_tenth_of_bad_pictures_and_no_more(tmp_path, bad):
    root = make_tree(tmp_path, 10)  # 20 a split
    for i in range(1 + bad):
        (root / "val" / ("n01", "n02")[i % 2] / f"{i}.jpg").write_text("text")
    if bad < 2:
        _, test = open_data(root)
        assert len(test) == 20 - 1 - bad and test.labels.tolist() == [0] * 9 + [1] * (10 - bad)
        assert [test.picture(i)[0, 0, 0] // 100 for i in range(len(test))] == test.labels.tolist()
    else:
        with pytest.raises(DataError, match="val: expected at most 10% bad pictures, got 3 of 20"):
            open_data(root)


def test_the_common_size_of_what_can_be_read(tmp_path, rng):
    """Files that are gone, locked or no pictures are left to who decodes them."""
    paths = []
    for k, size in enumerate(((30, 20), (20, 31), (25, 40), (99, 80))):
        paths.append(str(tmp_path / f"{k}.jpg"))
        Path(paths[-1]).write_bytes(photo(rng, size))
    (tmp_path / "text.jpg").write_text("text")
    odd = [str(tmp_path / name) for name in ("gone.jpg", "text.jpg")] + [str(tmp_path)]
    assert common_size(odd + paths) == 20
    assert common_size(odd + paths[2:], 24) == 24 and common_size(paths[3:], 81) == 80
    assert common_size(odd) == 256 and common_size(odd, 40) == 40 and common_size([], 7) == 7


def test_a_side_above_the_default_is_as_asked_for(tmp_path):
    """256 is what photographs are shrunk to if nothing is said, and no limit of what may be."""
    for split, name in itertools.product(("train", "val"), ("cat", "dog")):
        (tmp_path / split / name).mkdir(parents=True)
        Image.new("RGB", (300, 310)).save(tmp_path / split / name / "0.png")
    for asked, side in (({}, 256), ({"largest": 280}, 280), ({"largest": 999}, 300),
                        ({"size": 257}, 257), ({"size": 320}, 320),
                        ({"size": 320, "largest": 280}, 320)):  # fmt: skip
        for found in open_data(tmp_path, **asked):
            assert found.shape == (side, side, 3)


def test_many_pictures_are_sampled_all_over(tmp_path, rng, monkeypatch):
    """Some 500 of them, wherever they lie in the list."""
    (tmp_path / "small.jpg").write_bytes(photo(rng, (10, 10)))
    (tmp_path / "large.jpg").write_bytes(photo(rng, (30, 30)))
    small, large = str(tmp_path / "small.jpg"), str(tmp_path / "large.jpg")
    seen = []
    monkeypatch.setattr(
        "tinynet.data.folder.read_file", lambda path: seen.append(path) or Path(path).read_bytes()
    )
    assert common_size([small] * 700 + [large] * 900) == 30
    assert 500 <= len(seen) <= 600 and 0.4 < seen.count(small) / len(seen) < 0.47


def test_memory_counts_both_splits_and_names_what_to_prepare(tmp_path, monkeypatch):
    root = make_tree(tmp_path / "with space", 3)
    splits = Splits(root / "train", root / "val")
    monkeypatch.setattr("tinynet.data.folder.MAX_MEMORY", 12 * 10 * 10 * 3)
    assert open_folder(splits)[0].shape == (10, 10, 3)
    monkeypatch.setattr("tinynet.data.folder.MAX_MEMORY", 12 * 10 * 10 * 3 - 1)
    for found, folder in ((splits, root), (Splits(root / "train", root / "train", 0.5), "train")):
        with pytest.raises(DataError, match=f"{folder}: expected at most .*{folder}' OUT"):
            open_folder(found, None if found is splits else 15)


# ---- ImageNet


def test_only_a_tree_can_be_split(tmp_path):
    files = {wnid: [picture(60)] * 2 for wnid in ("n01", "n02")}
    make_official(tmp_path / "official", files, files, {})
    make_kaggle(tmp_path / "kaggle", files, files, {})
    for name in ("official", "kaggle"):
        assert len(open_source(tmp_path / name).val) == 4
        with pytest.raises(DataError, match=f"{name}: has validation pictures of its own; leave"):
            open_source(tmp_path / name, 0.5)


def test_a_member_too_large_to_be_a_picture_is_not_read(tmp_path, monkeypatch):
    files = {wnid: [picture(60)] for wnid in ("n01", "n02")}
    make_official(tmp_path, files, files, {})
    entry = open_source(tmp_path).train[0]
    monkeypatch.setattr("tinynet.data.pictures.MAX_BYTES", entry.size)
    assert entry.read() == files["n01"][0]
    monkeypatch.setattr("tinynet.data.pictures.MAX_BYTES", entry.size - 1)
    with pytest.raises(DataError, match=f"n01/n01_0.JPEG: {entry.size:,} bytes, more than"):
        entry.read()


def test_the_real_data_sets_are_within_the_limits():
    """CIFAR-10 unpacked has six batches of 31,035,704 bytes and more; the devkit of ImageNet 11
    million, with 1,860 classes of eight fields and 50,000 numbers; its words are 1 MB."""
    assert cifar._MAX_BYTES > 6 * 31_035_999 + (1 << 20)
    assert imagenet._MAX_DEVKIT > 12_000_000 and imagenet._MAX_TRUTH > 50_000 * 5
    rows = [(k, f"n{k:08d}", "a word, another") for k in range(1, 1861)]
    found = read_struct_array(mat_file(rows), "synsets", "meta.mat")
    assert [(e["ILSVRC2012_ID"], e["WNID"], e["words"]) for e in found] == rows
    assert matfile._MAX_ELEMENTS > 1860 * 8 + 5 and matfile._MAX_NAMES >= 8 * 32


def test_a_table_that_unpacks_to_the_limit_and_another_behind_it(monkeypatch):
    """What is left after the first is nothing, which to zlib means: as much as you like."""
    data = mat_file([(1, "n01", "a")])
    inner = zlib.decompress(data[136:])
    monkeypatch.setattr(matfile, "_MAX_BYTES", len(inner) + 1)
    assert read_struct_array(data, "synsets", "x")[0]["WNID"] == "n01"
    bomb = zlib.compress(bytes(1 << 22))
    more = data + struct.pack("<II", 15, len(bomb)) + bomb
    for limit in (len(inner), len(inner) + 1, len(inner) + 1000):
        monkeypatch.setattr(matfile, "_MAX_BYTES", limit)
        with pytest.raises(DataError, match=f"x: unpacks to more than {limit:,} bytes"):
            read_struct_array(more, "cats", "x")


def test_an_entry_that_lacks_a_field(monkeypatch):
    """A table of two classes whose last field is missing: damaged, not a table of one class."""
    data = mat_file([(1, "n01", "a"), (2, "n02", "b")])
    inner = zlib.decompress(data[136:])
    length, last = len(inner) - 8, len(inner) - inner.rindex(struct.pack("<II", 14, 56)[:4])
    shorter = struct.pack("<II", 14, length - last) + inner[8:-last]
    packed = zlib.compress(shorter)
    data = data[:128] + struct.pack("<II", 15, len(packed)) + packed
    with pytest.raises(DataError, match="meta.mat: 5 values for entries of 3 fields"):
        read_struct_array(data, "synsets", "meta.mat")


# ---- text


def test_lines_that_are_no_pairs(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("un chat\ta cat\nle  chien \tthe dog\n")
    assert read_pairs(path) == [(["un", "chat"], ["a", "cat"]), (["le", "chien"], ["the", "dog"])]
    for wrong in ("no tab", "one\ttwo\tthree", "\tempty", "empty\t", "empty\t ", ""):
        path.write_text(f"un\tone\n{wrong}\ndeux\ttwo\n")
        with pytest.raises(DataError, match=r"a.tsv, line 2: expected a sentence, a TAB and its"):
            read_pairs(path)


def test_a_text_packed_or_plain(tmp_path):
    text = "Zürich\r\n\n two \r end\n"
    for name, data in (("a.txt", text.encode()), ("a.gz", gzip.compress(text.encode()))):
        (tmp_path / name).write_bytes(data)
        assert read_text(tmp_path / name) == "Zürich\n\n two \r end\n"


def test_a_vocabulary_is_its_symbols_in_their_order(tmp_path):
    given = ["b", "a", "c"]
    known = Vocabulary(given)
    given.append("d")
    assert len(known) == 3 and known.encode("cab").tolist() == [2, 1, 0]
    assert known.encode("cab").dtype == np.int64 and known.encode([]).shape == (0,)
    assert known.decode([2, 1, 0]) == list("cab")
    with pytest.raises(DataError, match="here: expected nothing but the 3 symbols .*, got 'd'"):
        known.encode("ad", "here")


def test_shares_of_sequences_have_the_whole_batchs_length():
    """Rows are as long as the longest of all ranks' rows; tests may have fewer rows than ranks."""
    words = Vocabulary([*SPECIAL, *"abcdefg"])
    pairs = [(list("abcdefg"[:n]), list("gfedcba"[: 8 - n])) for n in range(1, 8)]
    data = Pairs(pairs, (words, words))
    for train, size in ((True, 3), (False, 2)):
        whole = list(SequenceLoader(data, size, train=train, seed=2).epoch(1))
        assert [len(batch[0]) for batch in whole] == ([3, 3] if train else [2, 2, 2, 1])
        loader = SequenceLoader(data, size, train=train, seed=2)
        parts = []
        for rank in range(3):
            loader.share = rank, 3
            parts.append(list(loader.epoch(1)))
        for number, batch in enumerate(whole):
            for k, array in enumerate(batch):
                mine = [part[number][k] for part in parts]
                assert all(each.shape[1:] == array.shape[1:] for each in mine)
                np.testing.assert_array_equal(np.concatenate(mine), array)
    loader = SequenceLoader(data, 2, train=True)
    loader.share = 0, 3
    with pytest.raises(DataError, match="batch size of at least 3, the number of ranks"):
        next(loader.epoch(0))
    for size, train, message in ((0, True, "at least 1, got 0"), (8, True, "at most 7, .* got 8")):
        with pytest.raises(DataError, match=message):
            SequenceLoader(data, size, train=train)
    assert (
        len(SequenceLoader(data, 7, train=True)) == len(SequenceLoader(data, 9, train=False)) == 1
    )
