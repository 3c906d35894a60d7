"""What archives hold, by their formats' own definitions: tar, MAT, pickles; and which is taken."""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import tarfile
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from make_archives import DEVKIT, FOLDER, TRAIN, VAL, make_kaggle, make_official, mat_file, tar_of
from small_tree import make_tree, picture

from tinynet.data import open_data
from tinynet.data.cifar import load_pickle
from tinynet.data.imagenet import Entry, Source, open_source, read_devkit
from tinynet.data.matfile import read_struct_array
from tinynet.data.tar import read_packed, tar_member, tar_members
from tinynet.errors import DataError

# ---- tar

FILES = {"empty": b"", "small": b"x" * 5, "block": b"y" * 512, "more": b"z" * 513}


def test_what_is_written_is_read_by_tarfile_and_by_us():
    """Whatever their lengths, to a byte around whole blocks: one follows the other at once."""
    data = b"".join(tar_member(name, content) for name, content in FILES.items()) + bytes(1024)
    assert len(data) == 512 * (4 + 0 + 1 + 1 + 2) + 1024
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {member.name: tar.extractfile(member).read() for member in tar} == FILES
        assert {member.mtime for member in tar} == {0}  # the same bytes at any time
    for start in (0, 100):
        whole = bytes(start) + data
        found = tar_members(io.BytesIO(whole), "x.tar", start)
        assert {m.name: whole[m.offset : m.offset + m.size] for m in found} == FILES


@pytest.mark.parametrize("start", [0, 100])
def test_a_tar_that_is_cut_anywhere_says_where(start):
    """At a header, or inside a file; also where the file that holds it goes on."""
    whole = b"".join(tar_member(name, content) for name, content in FILES.items())
    ends, position = {}, 0  # of each member: where its header ends, and its padding
    for name, content in FILES.items():
        ends[name] = position + 512, position + 512 + -(-len(content) // 512) * 512
        position = ends[name][1]
    file = io.BytesIO(bytes(start) + whole + tar_of({"other": b"more"}))
    for cut in sorted({*range(0, len(whole), 100), *range(511, len(whole), 512), len(whole)}):
        inside = [name for name, (header, end) in ends.items() if header <= cut < end]
        headers = [0, *(end for _, end in ends.values())]
        last = max(place for place in headers if place <= cut)
        words = f"inside {inside[0]}" if inside else f"after {last:,} bytes"
        with pytest.raises(DataError, match=f"^x.tar: cut short {words}$"):
            list(tar_members(file, "x.tar", start, start + cut))


def test_an_archive_that_unpacks_to_too_much_is_not_unpacked(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(24 << 20), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than 1,048,576 bytes"):
        read_packed(tmp_path / "x.tar.gz", lambda name: True, 1 << 20)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    data = tar_of(FILES)
    (tmp_path / "y.tar").write_bytes(data)
    assert read_packed(tmp_path / "y.tar", lambda name: True, len(data)) == FILES
    with pytest.raises(DataError, match="unpacks to more than"):
        read_packed(tmp_path / "y.tar", lambda name: True, len(data) - 1)


def test_a_giant_name_is_refused():
    for size, told in (
        (1 << 16, "cut short after"),
        ((1 << 16) + 1, "a name of 65,537 bytes at b"),
    ):
        header = tarfile.TarInfo("n01.tar")
        header.type, header.size = tarfile.GNUTYPE_LONGNAME, size
        data = header.tobuf(tarfile.GNU_FORMAT) + bytes(-(-size // 512) * 512)
        with pytest.raises(DataError, match=f"evil.tar: {told}"):
            list(tar_members(io.BytesIO(data), "evil.tar"))


# ---- ImageNet's archives


def test_pictures_are_listed_by_class_and_name_wherever_they_lie(tmp_path):
    """And each is read from where it lies: every picture has a shade of its own."""
    shades = iter(range(10, 250, 10))
    files = [
        {wnid: [picture(next(shades)) for _ in range(count)] for wnid in ("n3", "n1", "n2")}
        for count in (3, 2)
    ]
    make_official(tmp_path, *files, {})
    inner = {  # pictures within a class are not in the order of their names, either
        f"{wnid}.tar": tar_of({f"{wnid}_{i}.JPEG": data for i, data in [*enumerate(each)][::-1]})
        for wnid, each in files[0].items()
    }
    (tmp_path / TRAIN).write_bytes(tar_of(inner))
    source = open_source(tmp_path)
    assert [wnid for wnid, _ in source.classes] == ["n1", "n2", "n3"]
    assert [(entry.name, entry.label) for entry in source.train] == [
        (f"{wnid}/{wnid}_{i}.JPEG", label)
        for label, wnid in enumerate(("n1", "n2", "n3"))
        for i in range(3)
    ]
    assert [entry.read() for entry in source.train] == files[0]["n1"] + files[0]["n2"] + files[0][
        "n3"
    ]
    assert [entry.name for entry in source.val] == sorted(entry.name for entry in source.val)
    for entry in source.val:
        assert entry.read() in files[1][source.classes[entry.label][0]]


@pytest.mark.parametrize("folder", ["./", "a/b/"])
def test_folders_inside_the_archives_are_no_part_of_a_name(tmp_path, folder):
    """As `tar cf ARCHIVE .` writes them."""
    files = {wnid: [picture(60 + k), picture(80 + k)] for k, wnid in enumerate(("n1", "n2"))}
    make_official(tmp_path, files, files, {})

    def listed() -> tuple:
        found = open_source(tmp_path)
        names = [entry.name for entry in found.train]
        entries = [(entry.label, entry.read()) for entry in (*found.train, *found.val)]
        return found.classes, names, entries

    def moved(data: bytes) -> bytes:
        members = tar_members(io.BytesIO(data), "plain.tar")
        return tar_of({folder + m.name: data[m.offset : m.offset + m.size] for m in members})

    plain = listed()
    data = (tmp_path / TRAIN).read_bytes()
    inner = tar_members(io.BytesIO(data), TRAIN)
    inner = {m.name: moved(data[m.offset : m.offset + m.size]) for m in inner}
    (tmp_path / TRAIN).write_bytes(moved(tar_of(inner)))
    (tmp_path / VAL).write_bytes(moved((tmp_path / VAL).read_bytes()))
    devkit = gzip.decompress((tmp_path / DEVKIT).read_bytes())
    (tmp_path / DEVKIT).write_bytes(gzip.compress(moved(devkit)))
    assert listed() == plain


@pytest.fixture
def official(tmp_path) -> Path:
    files = {wnid: [picture(60)] * 2 for wnid in ("n01", "n02")}
    make_official(tmp_path / "official", files, files, {})
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


def test_a_decompression_bomb_in_the_devkit_is_refused(official, monkeypatch):
    monkeypatch.setattr("tinynet.data.imagenet._MAX_DEVKIT", 1 << 20)
    (official / DEVKIT).write_bytes(gzip.compress(bytes(20 << 20)))
    with pytest.raises(DataError, match="unpacks to more than"):
        open_source(official)


def test_ground_truth_must_fit_the_archive(official):
    synsets, truth = read_devkit(official / DEVKIT)
    assert sorted(wnid for wnid, _ in synsets.values()) == ["n00001740", "n01", "n02"]
    for bad, match in (
        (truth[:-1], "expected 3 pictures, .* got 4"),
        ([3, *truth[1:]], "n00001740"),  # an inner node is no class
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


def test_a_class_whose_tar_has_no_end_is_refused(tmp_path):
    """What follows it in the archive is another class."""
    files = {"n01": [picture(60)] * 2, "n02": [picture(90)] * 2, "n03": [picture(120)] * 2}
    for wnid in files:
        make_official(tmp_path, files, files, {})
        inner = {
            f"{each}.tar": tar_of({f"{i}.JPEG": data for i, data in enumerate(pictures)})
            for each, pictures in files.items()
        }
        whole = inner[f"{wnid}.tar"]
        inner[f"{wnid}.tar"] = whole[: len(whole.rstrip(b"\0")) // 512 * 512 + 512]
        (tmp_path / TRAIN).write_bytes(tar_of(inner))
        with pytest.raises(DataError, match=f"{TRAIN}: {wnid}.tar: cut short after"):
            open_source(tmp_path)


def test_a_fingerprint_is_of_every_field_but_where_the_files_lie():
    entry = Entry("a.tar", 512, 700, "n01/a.JPEG", 0)
    other = Entry("a.tar", 512, 700, "n02/b.JPEG", 1)

    def print_of(train, val, classes=(("n01", "fish"), ("n02", "frog"))):
        return Source(list(classes), train, val).fingerprint()

    changed = [
        entry._replace(offset=1024), entry._replace(size=701), entry._replace(name="n01/c.JPEG"),
        entry._replace(label=1),
    ]  # fmt: skip
    found = [print_of([entry, other], [entry]), print_of([other, entry], [entry])]
    found += [print_of([entry], [entry]), print_of([entry, other], [])]
    found += [print_of([each, other], [entry]) for each in changed]
    found += [print_of([entry, other], [each]) for each in changed]
    found += [
        print_of([entry, other], [entry], classes)
        for classes in ([("n01", "fish"), ("n02", "toad")], [("n01", "fish"), ("n03", "frog")])
    ]
    assert len(set(found)) == len(found)
    moved = entry._replace(file="elsewhere/a.tar")
    assert print_of([moved, other], [moved]) == found[0]


@pytest.mark.parametrize("make", [make_official, make_kaggle, lambda root, *_: make_tree(root)])
def test_the_same_pictures_elsewhere_have_the_same_fingerprint(make, tmp_path):
    files = {wnid: [picture(60)] * 2 for wnid in ("n01", "n02")}
    make(tmp_path / "here", files, files, {})
    before = open_source(tmp_path / "here").fingerprint()
    (tmp_path / "here").rename(tmp_path / "there")
    assert open_source(tmp_path / "there").fingerprint() == before


# ---- MATLAB's tables


def packed(body: bytes) -> bytes:
    """A compressed element, whose data is not padded."""
    small = zlib.compress(body)
    return struct.pack("<II", 15, len(small)) + small


def test_the_table_of_that_name_behind_others_of_any_length(monkeypatch):
    whole = mat_file([(7, "n01", "a")])
    table = zlib.decompress(whole[136:])
    lengths = set()
    for length in range(24):
        others = packed(table.replace(b"synsets", b"sunsets") + bytes(range(length)))
        lengths.add(len(others) % 8)
        data = whole[:128] + others + packed(table)
        found = read_struct_array(data, "synsets", "meta.mat")
        assert found == [{"ILSVRC2012_ID": 7.0, "WNID": "n01", "words": "a"}]
        with pytest.raises(DataError, match="no struct array named cats"):
            read_struct_array(data, "cats", "meta.mat")
    assert len(lengths) > 1  # some end within eight bytes
    limit = 3 * len(table) // 2
    monkeypatch.setattr("tinynet.data.matfile._MAX_BYTES", limit)  # of all of them together
    assert read_struct_array(whole, "synsets", "meta.mat") == found
    with pytest.raises(DataError, match=f"unpacks to more than {limit:,} bytes"):
        read_struct_array(data, "synsets", "meta.mat")


def test_a_matrix_of_that_name_that_is_no_table_is_passed_over():
    whole = mat_file([(7, "n01", "a")])
    table = zlib.decompress(whole[136:])
    number = table.replace(struct.pack("<III", 6, 8, 2), struct.pack("<III", 6, 8, 6), 1)
    assert number != table
    found = read_struct_array(whole[:128] + packed(number) + packed(table), "synsets", "x")
    assert found[0]["WNID"] == "n01"
    with pytest.raises(DataError, match="no struct array named synsets"):
        read_struct_array(whole[:128] + packed(number), "synsets", "x")


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


# ---- CIFAR-10's pickles, and its archives


NAMES = [
    "os.system", "builtins.eval", "numpy.load", "numpy.encode", "numpy.testing.ndarray",
    "numpy.core.multiarray.dtype", "evil.ndarray", "evil.numpy.ndarray",
    "evil.multiarray._reconstruct",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_pickle_gets_no_name_but_those_of_arrays(name):
    """Nor what is called as one of them elsewhere."""
    module, _, attribute = name.rpartition(".")
    with pytest.raises(DataError, match=f"^x: .*it asks for {name}, which is not allowed"):
        load_pickle(f"c{module}\n{attribute}\n.".encode(), "x")


@pytest.mark.parametrize("package", ["numpy.core", "numpy._core"])
def test_arrays_of_every_numpy_and_bytes_of_every_python(package):
    """A module's name is text in protocol 0; bytes are written by way of a function of _codecs."""
    values = np.array([0, 10, 127, 200, 255], np.uint8)
    data = pickle.dumps({b"data": values, b"name": b"caf\xe9"}, protocol=0)
    own = type(values).__reduce__(values)[0].__module__.encode()
    found = load_pickle(data.replace(b"c" + own, b"c" + package.encode() + b".multiarray"), "x")
    assert found[b"data"].tolist() == values.tolist() and found[b"name"] == b"caf\xe9"


def test_of_two_archives_the_first_by_name_is_taken(tmp_path):
    """Whatever the file system lists first."""
    for name in ("python", "binary"):
        label = b"\0" if name == "binary" else b"\1"
        files = {f"data_batch_{k}.bin": label + bytes(3072) for k in range(1, 6)}
        files |= {"test_batch.bin": label + bytes(3072), "batches.meta.txt": b"cat\ndog\n"}
        data = gzip.compress(tar_of({f"cifar/{file}": content for file, content in files.items()}))
        (tmp_path / f"cifar-10-{name}.tar.gz").write_bytes(data)
    train, _ = open_data(tmp_path)
    assert train.labels.tolist() == [0] * 5
    assert train.source == str(tmp_path / "cifar-10-binary.tar.gz")
