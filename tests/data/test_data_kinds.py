"""What holds for all data sets and all messages of one kind: types, commands that can be typed,
defaults that prepared folders rest on, and that nothing keeps a program from ending.
"""

from __future__ import annotations

import inspect
import io
import os
import re
import shlex
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from make_archives import DEVKIT, FOLDER, VAL, make_kaggle, make_official, mat_file, tar_of
from PIL import Image
from small_tree import larger_tree, made, make_tree, photo, picture
from test_reading_rules import cifar_files, idx_files

from tinynet.data import (
    ArrayDataset,
    Loader,
    Pairs,
    Vocabulary,
    fashion_mnist,
    matfile,
    open_data,
)
from tinynet.data.folder import MAX_BAD, MAX_MEMORY, MAX_SIZE, open_folder
from tinynet.data.imagenet import open_source, read_devkit
from tinynet.data.matfile import read_struct_array
from tinynet.data.over_ranks import prepare_over
from tinynet.data.pictures import decode, oddities, open_picture, with_end
from tinynet.data.prepare import Options, prepare
from tinynet.data.repair import repair
from tinynet.data.shards import ShardDataset
from tinynet.data.tar import tar_members
from tinynet.errors import DataError

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("threads")


# ---- data sets of every format


@pytest.mark.filterwarnings("error")
def test_every_format_gives_the_same_types(tmp_path, rng):
    tree = make_tree(tmp_path / "tree", 3)
    made(tree, tmp_path / "prepared")
    made(tree, tmp_path / "raw", Options(size=16, form="raw"))
    cifar_files(tmp_path / "cifar")
    idx_files(tmp_path / "idx", [0, 1], [1])
    for name in ("tree", "prepared", "raw", "cifar", "idx"):
        for data in open_data(tmp_path / name):
            assert data.labels.dtype == np.int64 and data.labels.shape == (len(data),), name
            found = data.picture(0)
            assert found.dtype == np.uint8 and found.shape == data.shape, name
            assert all(type(label) is str for label in data.classes)
            assert type(data.shape) is tuple and all(type(n) is int for n in data.shape)
            assert data.source.startswith(str(tmp_path / name)), name
            assert data.in_memory == (name not in ("prepared", "raw"))
            with Loader(data, 1, crop=2, train=False) as loader:
                assert next(loader.epoch(0)).labels.dtype == np.int64
    assert fashion_mnist()[0].labels.dtype == np.int64


def test_one_class_has_nothing_to_tell_apart_in_any_format(tmp_path):
    idx_files(tmp_path / "idx", [0, 0], [0])
    with pytest.raises(DataError, match="idx: expected at least two classes, got 0: there is"):
        open_data(tmp_path / "idx")


def test_an_idx_file_that_promises_more_dimensions_than_it_has(tmp_path):
    folder = idx_files(tmp_path / "idx", [0, 1], [1])
    for split, kind, sizes, more in (
        ("train", "images-idx3", [0], 3), ("train", "images-idx3", [0, 4], 3),
        ("t10k", "labels-idx1", [], 1), ("train", "images-idx3", [2], 1),
    ):  # fmt: skip
        path = folder / f"{split}-{kind}-ubyte.gz"
        whole = path.read_bytes()
        plain = path.with_suffix("")
        path.unlink()
        plain.write_bytes(
            bytes([0, 0, 8, more])
            + struct.pack(f">{len(sizes)}I", *sizes)
            + b"ab" * (more == 1 and bool(sizes))
        )
        with pytest.raises(DataError, match=f"{plain.name}: expected"):
            open_data(folder)
        plain.unlink()
        path.write_bytes(whole)


@pytest.mark.parametrize("count", [63, 64, 65, 129])
def test_every_picture_of_a_folder_is_decoded_whatever_the_blocks(tmp_path, count):
    for split in ("train", "val"):
        for k, name in enumerate(("a", "b")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range((count - 1, 1)[k]):
                image = Image.new("RGB", (2, 2), (i, 255 - i, 9))
                image.save(tmp_path / split / name / f"{i:03d}.bmp")
    for data in open_data(tmp_path):
        assert [data.picture(i)[1, 1, 0] for i in range(count)] == [*range(count - 1), 0]


@pytest.mark.parametrize("kind", [MemoryError, KeyError])
def test_an_error_that_no_picture_is_to_blame_for_ends_the_opening(tmp_path, monkeypatch, kind):
    def fails(data, name, size):
        if name.endswith("val/n02/1.jpg"):
            raise kind("no room")
        return decode(data, name, size)

    monkeypatch.setattr("tinynet.data.folder.decode", fails)
    with pytest.raises(kind):
        open_data(make_tree(tmp_path))


# ---- commands in messages


def commands(function: Callable) -> list[str]:
    """The words of the command that a refusal tells one to type."""
    with pytest.raises(DataError) as error:
        function()
    return shlex.split(re.search("`(.*)`", str(error.value))[1])


def test_commands_in_messages_can_be_typed(tmp_path, rng, monkeypatch):
    """Whatever the folders are called."""
    root = tmp_path / "it's a folder; $HOME"
    root.mkdir()
    tree, out = make_tree(root / "tree", 3), root / "out of it"
    made(tree, out)
    program = ["python", "examples/prepare_imagenet.py"]
    for name in ("train.npy", "train-000000.tar", "classes.tsv"):
        whole = (out / name).read_bytes()
        (out / name).write_bytes(b"damaged")
        assert commands(lambda: ShardDataset(out, "train")) == [*program, "--repair", str(out)]
        (out / name).write_bytes(whole)
    train = ShardDataset(out, "train")
    (out / "train-000000.tar").write_bytes(bytes(len((out / "train-000000.tar").read_bytes())))
    assert commands(lambda: train.picture(0)) == [*program, "--repair", str(out)]
    tree.rename(root / "moved")
    assert commands(lambda: repair(out, progress=False)) == [
        *program, "SOURCE", "--repair", str(out)
    ]  # fmt: skip
    (root / "official").mkdir()
    (root / "official" / VAL).write_bytes(b"")
    assert commands(lambda: open_data(root / "official")) == [
        *program, str(root / "official"), "OUT"
    ]  # fmt: skip
    monkeypatch.setattr("tinynet.data.folder.MAX_MEMORY", 10)
    assert commands(lambda: open_data(root / "moved")) == [*program, str(root / "moved"), "OUT"]


# ---- defaults


def defaults(function: Callable) -> dict:
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def test_defaults_are_those_that_older_folders_and_runs_rest_on():
    """A folder that was begun by an older version lacks newer options: it has the defaults."""
    options = ("size", 256), ("form", "square"), ("quality", 90), ("shard", 2000)
    assert [(name, getattr(Options(), name)) for name, _ in options] == list(options)
    assert (Options().chroma, Options().val_share) == ("4:2:0", None)
    assert defaults(Loader) == dict(
        seed=0, workers=0, flip=True, colour=None, colour_sigma=0.1, colour_story=(), crop_chunk=1,
        centred=False, ahead=2, skip_damaged=False,
    )  # fmt: skip
    assert defaults(prepare) == dict(options=Options(), workers=None, max_bad=0.01, progress=True)
    assert defaults(prepare_over) == dict(workers=None, max_bad=0.01)
    assert defaults(repair) == dict(source=None, workers=None, progress=True)
    assert defaults(open_data) == dict(size=None, largest=None, val_share=None)
    assert defaults(decode) == dict(size=None, whole=False)
    assert defaults(open_folder) == dict(size=None, largest=256)
    assert (MAX_SIZE, MAX_BAD, MAX_MEMORY) == (256, 0.1, 4 << 30)


@pytest.mark.parametrize("sides", [(5, 7), (7, 5)])
def test_a_loader_cuts_what_is_there(sides, rng):
    """From pictures that are wide, and from those that are high."""
    pictures = rng.integers(0, 256, (4, *sides, 1), np.uint8)
    dataset = ArrayDataset(pictures, np.zeros(4, int), ["a"])
    for train in (True, False):
        for crop in (0, -1, 6, 7):
            with pytest.raises(DataError, match=f"Loader: expected a crop of 1 to 5, got {crop}$"):
                Loader(dataset, 2, crop=crop, train=train)
        for crop in (1, 5):
            batch = next(Loader(dataset, 2, crop=crop, train=train).epoch(0))
            assert batch.pictures.shape == ((2, crop, crop, 1) if train else (2, *sides, 1))


# ---- ImageNet's archives


def test_pictures_may_be_links(tmp_path, rng):
    source = larger_tree(tmp_path / "in", rng, 2, 1)
    for path in sorted(source.rglob("*.jpg")):
        moved = tmp_path / f"{path.parent.parent.name}-{path.parent.name}-{path.name}"
        path.rename(moved)
        path.symlink_to(moved)
    found = open_source(source)
    for entry in (*found.train, *found.val):
        assert entry.read() == Path(entry.file).read_bytes() and entry.size > 100
    assert made(source, tmp_path / "out")["left_out"] == 0


def test_a_synset_without_words(tmp_path):
    files = {wnid: [picture(60)] for wnid in ("n01", "n02")}
    make_official(tmp_path, files, files, {"n01": "fish", "n02": ""})
    assert open_source(tmp_path).classes == [("n01", "fish"), ("n02", "n02")]
    make_kaggle(tmp_path / "kaggle", files, files, {})
    (tmp_path / "kaggle/LOC_synset_mapping.txt").write_text("n02 dog\n\nn07 more\n")
    assert open_source(tmp_path / "kaggle").classes == [("n01", "n01"), ("n02", "dog")]
    (tmp_path / "kaggle/LOC_synset_mapping.txt").unlink()
    assert open_source(tmp_path / "kaggle").classes == [("n01", "n01"), ("n02", "n02")]


def test_what_lies_beside_kaggles_pictures_is_told(tmp_path, caplog):
    files = {wnid: [picture(60)] for wnid in ("n01", "n02")}
    make_kaggle(tmp_path, files, files, {})
    caplog.clear()
    (tmp_path / "ILSVRC/Data/CLS-LOC/val/notes.txt").write_text("x")
    assert len(open_source(tmp_path).val) == 2
    assert "CLS-LOC/val: passed over 1 .txt file" in caplog.text


@pytest.mark.parametrize("number", [1.5, 0, -1, 1 << 20])
def test_numbers_that_are_no_class(tmp_path, number):
    meta = mat_file([(number, "n01", "a"), (2, "n02", "b")])
    truth = b"ILSVRC2012_validation_ground_truth.txt"
    files = {f"{FOLDER}/data/meta.mat": meta, f"{FOLDER}/data/{truth.decode()}": b"2\n"}
    with tarfile.open(tmp_path / DEVKIT, "w:gz") as tar:
        for name, data in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))
    with pytest.raises(DataError, match=r"a synset without ILSVRC2012_ID \(a whole number\)"):
        read_devkit(tmp_path / DEVKIT)


# ---- MATLAB and tar


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def struct_array(cells: list[bytes]) -> bytes:
    """A .mat file with one entry, whose fields are these matrices."""
    names = b"".join(f"f{k}".encode().ljust(8, b"\0") for k in range(len(cells)))
    body = element(6, struct.pack("<II", 2, 0)) + element(5, struct.pack("<ii", 1, 1))
    body += element(1, b"table") + element(5, struct.pack("<i", 8)) + element(1, names)
    return b"MATLAB".ljust(124) + b"\x00\x01IM" + element(14, body + b"".join(cells))


def cell(kind: int, content: bytes, length: int = 1) -> bytes:
    flags = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", 1, length))
    return element(14, flags + element(1, b"") + content)


def test_every_type_of_number_and_text_in_a_matlab_file():
    types = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8",
             12: "<i8", 13: "<u8"}  # fmt: skip
    values = {
        kind: np.array([-3 if "u" not in name else 200], name) for kind, name in types.items()
    }
    numbers = [cell(6, element(kind, value.tobytes())) for kind, value in values.items()]
    encodings = {1: "latin1", 2: "latin1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}
    encodings[18] = "latin1"  # or any type unknown
    texts = [cell(4, element(kind, "bé".encode(code)), 2) for kind, code in encodings.items()]
    texts.append(cell(4, element(4, b"\x00\xd8"), 1))  # half a letter
    others = [cell(6, element(9, bytes(16)), 2), cell(6, element(9, b""), 0), cell(1, b"")]
    found = read_struct_array(struct_array(numbers + texts + others), "table", "x")
    expected = [value.item() for value in values.values()] + ["bé"] * 6 + ["\ufffd"] + [None] * 3
    assert found == [{f"f{k}": value for k, value in enumerate(expected)}]
    for other in ("tabl", "tables", "Table"):
        with pytest.raises(DataError, match=f"x: no struct array named {other} in it"):
            read_struct_array(struct_array(numbers), other, "x")


def test_limits_of_a_matlab_file_are_allowed(monkeypatch):
    data = struct_array([cell(6, element(2, b"\x07"))] * 9)
    for name, limit, words in (
        ("_MAX_ELEMENTS", 5 + 9, "more than 13 elements in a row"),
        ("_MAX_NAMES", 9 * 8, "72 bytes of fields' names"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(matfile, name, limit)
            assert read_struct_array(data, "table", "x") == [{f"f{k}": 7 for k in range(9)}]
            patch.setattr(matfile, name, limit - 1)
            with pytest.raises(DataError, match=f"x: {words}"):
                read_struct_array(data, "table", "x")


def test_every_type_of_a_tars_member():
    """Files of all kinds of file; folders and headers for all are passed over; nothing else."""
    kinds = {name: getattr(tarfile, name) for name in dir(tarfile) if name.endswith("TYPE")}
    for name, kind in kinds.items():
        if not isinstance(kind, bytes) or name in ("GNUTYPE_LONGNAME", "XHDTYPE"):
            continue
        header = tarfile.TarInfo("odd")
        header.type, header.linkname = kind, "a.jpg"
        header.size = 0 if name in ("DIRTYPE", "LNKTYPE", "SYMTYPE") else 5
        data = header.tobuf(tarfile.GNU_FORMAT) + (b"hello".ljust(512, b"\0") * (header.size > 0))
        whole = data + tar_of({"a.jpg": b"picture"})
        if name in ("REGTYPE", "AREGTYPE", "CONTTYPE", "DIRTYPE", "XGLTYPE"):
            names = [member.name for member in tar_members(io.BytesIO(whole), "x")]
            assert names == ["odd"] * (name[-7:] != "DIRTYPE" and "XGL" not in name) + ["a.jpg"]
        else:
            with pytest.raises(DataError, match="x: expected only files, got odd, a link or"):
                list(tar_members(io.BytesIO(whole), "x"))


def test_a_header_without_a_name_keeps_the_name_before():
    """Both kinds of header before one file, as some writers do it; a name is for one file only."""

    def header(kind: bytes, data: bytes) -> bytes:
        info = tarfile.TarInfo("header")
        info.type, info.size = kind, len(data)
        return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)

    long = b"l" * 200
    times = header(tarfile.XHDTYPE, b"20 mtime=1234567890\n18 linkpath=other\n")
    named = header(tarfile.XHDTYPE, b"17 path=new name\n")
    old = header(tarfile.GNUTYPE_LONGNAME, long + b"\0")
    for before, name in (
        (old + times, long.decode()), (times + old, long.decode()), (named, "new name"),
        (times, "a"), (old + named, "new name"), (named + times, "new name"),
    ):  # fmt: skip
        data = before + tar_of({"a": b"1", "b": b"2"})
        assert [member.name for member in tar_members(io.BytesIO(data), "x")] == [name, "b"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_long_name_is_for_one_file_or_folder_alone(form):
    long, data = "l" * 200, io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=form) as tar:
        for name in (f"{long}/", "a", f"{long}/b", "c"):
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(member)
    assert [member.name for member in tar_members(data, "x")] == ["a", f"{long}/b", "c"]


# ---- one picture


def test_grey_values_of_more_than_16_bits_either_way():
    for values, said in (([-1, 5], "-1 to 5"), ([0, 65536], "0 to 65536")):
        data = io.BytesIO()
        Image.fromarray(np.array([values], np.int32)).save(data, "TIFF")
        with pytest.raises(DataError, match=f"grey values from {said}, more than 16 bits"):
            decode(data.getvalue(), "x")
    data = io.BytesIO()
    Image.fromarray(np.array([[0, 255, 256, 65535]], np.int32)).save(data, "TIFF")
    assert decode(data.getvalue(), "x")[0, :, 0].tolist() == [0, 0, 1, 255]


def test_a_second_picture_that_cannot_be_looked_for(rng):
    """Pillow raises over the bytes behind the first: it is a picture all the same."""

    class Broken:
        format, mode, size = "GIF", "RGB", (40, 30)

        @property
        def is_animated(self):
            raise SyntaxError("broken")

        def getexif(self):
            raise SyntaxError("broken")

    assert oddities(Broken(), "a.gif", 20) == []


def test_a_scan_is_whole_whatever_follows_it(rng):
    """Cut by a byte or two of the scan itself, it may look whole with one ending, not with all."""
    for _ in range(12):
        data = photo(rng, (24, 16))
        assert with_end(data[:-2]) == data
        assert open_picture(with_end(data[:-1]), "x").size == (24, 16)
        for missing in range(3, 12):
            cut = data[:-missing]
            assert with_end(cut) is cut, missing


# ---- text, and the program's end


def test_pairs_that_are_none_or_of_other_words():
    with pytest.raises(DataError, match="here: expected pairs to train on and to test on, got no"):
        Pairs([], (None, None), "here")
    one, other = Vocabulary("ab"), Vocabulary("bc")
    assert Pairs([(["a"], ["c"])], (one, other), "here").source == "here"
    for pair in ((["c"], ["b"]), (["b"], ["a"])):  # each by its own language
        with pytest.raises(
            DataError, match="here: expected nothing but the 2 symbols .*, got .[ac]"
        ):
            Pairs([pair], (one, other), "here")


def test_processes_start_with_the_first_epoch():
    dataset = ArrayDataset(np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, int), ["a"])
    with Loader(dataset, 2, crop=2, train=False, workers=2) as loader:
        assert loader._pool.workers == []


def test_a_program_ends_in_the_middle_of_an_epoch():
    """Though its loaders are open, by a thread and by a process, and have no room to go on."""
    code = (
        "import numpy as np\n"
        "from tinynet.data import ArrayDataset, Loader\n"
        "if __name__ == '__main__':\n"
        "    data = ArrayDataset(np.zeros((40, 2, 2, 1), np.uint8), np.zeros(40, int), ['a'])\n"
        "    for workers in (0, 1):\n"
        "        epoch = Loader(data, 2, crop=2, train=False, workers=workers).epoch(0)\n"
        "        print(len(next(epoch).labels), flush=True)\n"
        "        held = [epoch]; held.append(held)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.stdout, run.returncode) == ("2\n2\n", 0), run.stderr
