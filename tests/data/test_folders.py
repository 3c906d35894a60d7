"""Folders as people have them: other kinds of files, other names, no test pictures, odd bytes."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynet.data import open_data
from tinynet.data.folder import held_out
from tinynet.data.imagenet import open_source
from tinynet.data.pictures import in_words, list_pictures
from tinynet.data.prepare import Options, prepare
from tinynet.errors import DataError
from tinynet.program import Pictures

pytestmark = pytest.mark.usefixtures("threads")


def save(path: Path, shade: int = 90, size=(12, 10), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, shade // 2, 40)).save(path, **options)


def make_tree(root: Path, splits=("train", "val"), classes=("cat", "dog"), count=3) -> Path:
    for split in splits:
        for k, name in enumerate(classes):
            for i in range(count):
                save(root / split / name / f"{i}.png", 60 + 100 * k)
    return root


def both(root: Path, message: str, **options) -> None:
    """Training and preparing refuse `root` with the same words."""
    for function in (open_data, open_source):
        with pytest.raises(DataError, match=message) as found:
            function(root, **options)
        assert "\n" not in str(found.value)


# ---- what lies in the folders of classes


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("kind", ["empty", "of another kind", "one level down"])
def test_a_class_without_pictures_is_refused(tmp_path, split, kind):
    make_tree(tmp_path, classes=("cat", "dog", "fox"))
    folder, got = tmp_path / split / "dog", "got none;"
    for path in folder.iterdir():
        path.unlink()
    if kind == "of another kind":
        for name in ("a.heic", "b.HEIC", "notes.txt", "README"):
            (folder / name).write_text("x")
        got = "got 2 .heic files, 1 .txt file, 1 other file;"
    if kind == "one level down":
        save(folder / "more" / "0.png")
        got = "got 1 folder;"
    both(tmp_path, rf"{split}/dog: expected pictures \(.jpg, .*\) in this folder, .*{got}")


@pytest.mark.parametrize("pictures", [0, 3])
@pytest.mark.parametrize("options", [{}, {"val_share": 0.5}])
def test_pictures_without_class_folders_are_refused(tmp_path, pictures, options):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for i in range(pictures):
            save(tmp_path / split / f"{i}.png")
    both(tmp_path, "train: expected a sub-folder of pictures for each class, got none; ", **options)


def test_what_is_passed_over_is_told_once_for_each_folder(tmp_path, caplog):
    make_tree(tmp_path)
    for name in ("cat/a.heic", "dog/b.heic", "dog/Thumbs.db", "cat/.hidden.txt"):
        (tmp_path / "train" / name).write_text("x")
    (tmp_path / "train/dog/deeper.jpg").mkdir()
    for name in ("outside.png", "another.png"):
        save(tmp_path / "train" / name)
    told = "2 .heic files, 2 unsorted pictures, 1 .db file, 1 folder"
    for function in (open_data, open_source):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            function(tmp_path)
        assert [record.getMessage() for record in caplog.records] == [
            f"{tmp_path / 'train'}: passed over {told}"
        ]


def test_classes_and_pictures_are_in_the_order_of_their_names(tmp_path, rng):
    """In whatever order they were made; hidden folders are no classes."""
    names = [f"Größe {k:02d}" for k in range(12)]
    for split in ("train", "val"):
        (tmp_path / split / ".ipynb_checkpoints").mkdir(parents=True)
        for k in rng.permutation(12):
            for i in rng.permutation(6):
                save(tmp_path / split / names[k] / f"{i}.png", 10 * k + i, (4, 4))
    for data in open_data(tmp_path):
        assert data.classes == names
        assert data.labels.tolist() == [k for k in range(12) for _ in range(6)]
        found = [data.picture(i)[0, 0, 0] for i in range(72)]  # threads take 64 at a time
        assert found == [10 * k + i for k in range(12) for i in range(6)]
    source = open_source(tmp_path)
    assert [name for _, name in source.classes] == names
    assert [entry.name for entry in source.val] == sorted(entry.name for entry in source.val)


def test_at_most_five_kinds_are_named(tmp_path):
    for k, ending in enumerate("abcdefg"):
        for i in range(9 - k):
            (tmp_path / f"{i}.{ending}").write_text("x")
    _, others = list_pictures(tmp_path)
    assert in_words(others) == (
        "9 .a files, 8 .b files, 7 .c files, 6 .d files, 5 .e files, 7 of other kinds"
    )


def test_pictures_of_every_kind_that_pillow_reads(tmp_path):
    endings = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "TIF")
    for split in ("train", "val"):
        for k, name in enumerate(("cat", "dog")):
            for ending in endings:
                save(tmp_path / split / name / f"a{ending}.{ending}", 60 + 100 * k, (16, 16))
    train, _ = open_data(tmp_path)
    assert len(train) == 2 * len(endings)
    means = [train.picture(i)[..., 0].mean() for i in range(len(train))]
    assert np.allclose(means, 60 + 100 * train.labels, atol=3)
    about = prepare(tmp_path, tmp_path / "out", Options(size=16), workers=1, progress=False)
    assert about["pictures"]["train"] == len(train) and about["left_out"] == 0


def test_one_class_has_nothing_to_tell_apart(tmp_path):
    both(
        make_tree(tmp_path, classes=("cat",)),
        "expected at least two classes, got cat: there is nothing to tell apart",
    )


def test_a_class_of_bad_pictures_alone_is_refused(tmp_path):
    """With so many others that the share of bad pictures is small."""
    make_tree(tmp_path, count=30)
    for split in ("train", "val"):
        (tmp_path / split / "fox").mkdir()
        (tmp_path / split / "fox/0.png").write_text("x")
    message = "of each class that can be used, got none of fox"
    with pytest.raises(DataError, match=f"train: {message}|train: expected pictures {message}"):
        open_data(tmp_path)
    with pytest.raises(DataError, match=f"train: expected pictures {message}"):
        prepare(tmp_path, tmp_path / "out", Options(size=8), workers=1, max_bad=0.5, progress=False)
    assert "fox/0.png\tleft out" in (tmp_path / "out/report.tsv").read_text()


# ---- how large the pictures become


@pytest.mark.parametrize("val_share", [None, 0.5])
def test_pictures_become_as_large_as_most_to_train_on(tmp_path, val_share):
    """By their shorter side, which is at most `largest`; the test pictures do not count."""
    for k, name in enumerate(("cat", "dog")):
        for i in range(8):
            save(tmp_path / "train" / name / f"{i}.png", 60, (9, 11) if i < 5 else (20, 16))
            if val_share is None:
                save(tmp_path / "val" / name / f"{i}.png", 60, (13, 17 + k))
    for options, side in (({}, 9), ({"largest": 7}, 7), ({"size": 12, "largest": 7}, 12)):
        for data in open_data(tmp_path, val_share=val_share, **options):
            assert data.shape == (side, side, 3)
            assert all((data.picture(i) == (60, 30, 40)).all() for i in range(len(data)))


# ---- where the test pictures are


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test", "Validation"])
def test_a_folder_of_test_pictures_by_any_of_its_names(tmp_path, name):
    make_tree(tmp_path, splits=("train", name))
    assert open_data(tmp_path)[1].source == str(tmp_path / name)
    assert len(open_source(tmp_path).val) == 6


def test_two_folders_of_test_pictures_are_one_too_many(tmp_path):
    make_tree(tmp_path, splits=("train", "val", "test"))
    both(tmp_path, r"one folder of test pictures beside train .*got \S+/test and \S+/val; rename")
    (tmp_path / "test").rename(tmp_path / "Val")
    both(tmp_path, r"got \S+/Val and \S+/val; rename")
    (tmp_path / "Val").rename(tmp_path / "Train")
    both(tmp_path, r"one folder of training pictures, got \S+/Train and \S+/train; rename")


def test_the_pictures_to_train_on_are_no_test(tmp_path):
    make_tree(tmp_path, splits=("train",))
    (tmp_path / "val").symlink_to("train")
    both(tmp_path, "val: expected other pictures than those to train on, got the same folder")


def test_no_folder_of_test_pictures(tmp_path):
    both(
        make_tree(tmp_path / "a", splits=("train",)),
        "beside train .*, got none; add it, or split a part of train off with --val-share 0.1",
    )
    root = make_tree(tmp_path / "b", splits=("",))
    both(root, r"got none of these, but class folders \(cat, dog\): split a part off with --val-sh")
    for other in ("notes/readme.txt", "deep/more/0.png", ".hidden/0.png", "nothing/.0.png"):
        (root / other).parent.mkdir(parents=True)
        (root / other).write_bytes((root / "cat/0.png").read_bytes())
    both(root, r"got none of these, but class folders \(cat, dog\): split a part off with --val-sh")
    for name in ("cat", "dog"):
        shutil.rmtree(root / name)
    with pytest.raises(DataError) as found:  # none of these is a class
        open_data(root)
    assert "class folders" not in str(found.value)
    names = [f"c{k:02d}" for k in range(11)]
    for many, end in ((10, ""), (11, r" \.\.\.")):  # ten are named
        make_tree(tmp_path / f"{many}", splits=("",), classes=names[:many], count=1)
        both(tmp_path / f"{many}", rf"class folders \({', '.join(names[:10])}{end}\): split a part")


@pytest.mark.parametrize("layout", ["train", ""])
def test_a_share_is_split_off_by_name(tmp_path, layout):
    root = make_tree(tmp_path, splits=(layout,), count=40)
    train, val = open_data(root, val_share=0.25)
    assert len(train) + len(val) == 80 and 8 < len(val) < 32
    source = open_source(root, 0.25)
    names = [{entry.name for entry in part} for part in (source.train, source.val)]
    assert (len(names[0]), len(names[1])) == (len(train), len(val)) and not names[0] & names[1]
    assert "0.25 of" in val.source and "without 0.25" in train.source
    # Elsewhere, with others beside them, each stays where it was.
    folder = root / layout
    for i in range(40, 60):
        save(folder / "cat" / f"{i}.png")
    os.rename(folder, tmp_path.with_name(tmp_path.name + "-moved"))
    moved = open_source(tmp_path.with_name(tmp_path.name + "-moved"), 0.25)
    for before, now in zip(names, (moved.train, moved.val), strict=True):
        assert before <= {entry.name for entry in now}


def test_the_hash_does_not_change():
    """The same pictures today as in any earlier version: a run that goes on must find its own."""
    held = [i for i in range(60) if held_out(f"/anywhere/cat/{i}.png", 0.1)]
    assert held == HELD and held == [i for i in range(60) if held_out(f"cat/{i}.png", 0.1)]
    assert held != [i for i in range(60) if held_out(f"dog/{i}.png", 0.1)]
    assert set(held) < {i for i in range(60) if held_out(f"cat/{i}.png", 0.3)}


HELD = [8, 10, 29, 30, 41, 42, 47, 49]


def test_shares_that_cannot_be(tmp_path, caplog):
    make_tree(tmp_path / "a", splits=("train",))
    for share, message in (
        (0.0, "expected a number between 0 and 1, got 0"),
        (1.0, "expected a number between 0 and 1, got 1"),
        (float("nan"), "expected a number between 0 and 1, got nan"),
        (
            1e-9,
            "a share that leaves pictures on both sides, got --val-share 1e-09, which takes 0 of",
        ),
    ):
        both(tmp_path / "a", message, val_share=share)
    with pytest.raises(ValueError, match="--val-share is for folders of pictures"):
        Pictures().open({"data": None, "picture_size": None, "val_share": 0.1})
    prepare(make_tree(tmp_path / "b", count=20), tmp_path / "out", Options(size=8), progress=False)
    with pytest.raises(DataError, match="test pictures of its own; leave --val-share out"):
        open_data(tmp_path / "out", val_share=0.1)
    with caplog.at_level(logging.WARNING):
        open_data(tmp_path / "b", val_share=0.5)
    assert f"{tmp_path / 'b/val'}: not used, since --val-share splits" in caplog.text


def test_a_small_class_may_have_no_test_picture(tmp_path, caplog):
    root = make_tree(tmp_path, splits=("train",), count=40)
    name = next(f"{i}.png" for i in range(99) if not held_out(f"fox/{i}.png", 0.2))
    save(root / "train/fox" / name)
    with caplog.at_level(logging.WARNING):
        train, val = open_data(root, val_share=0.2)
        prepare(root, tmp_path / "out", Options(size=8, val_share=0.2), progress=False)
    assert 2 in train.labels and 2 not in val.labels
    assert caplog.text.count("no picture of fox") == 2
    assert open_data(tmp_path / "out")[0].classes == ["cat", "dog", "fox"]


# ---- names that are no UTF-8


def test_names_of_any_bytes(tmp_path, caplog):
    root = make_tree(tmp_path / "in")
    odd = os.fsdecode(b"caf\xe9.png")
    save(root / "train/cat" / odd)
    (root / "train/cat" / os.fsdecode(b"bad\xe9.png")).write_text("x")
    train, _ = open_data(make_tree(tmp_path / "in", count=20))
    assert len(train) == 41 and "left out: " in caplog.text
    assert rb"bad\udce9.png: not a picture" in caplog.text.encode()  # a terminal can show it
    assert sum(map(len, open_data(root, val_share=0.5))) == 41
    prepare(root, tmp_path / "out", Options(size=8), max_bad=0.5, progress=False)
    assert "cat/bad\\udce9.png\tleft out" in (tmp_path / "out/report.tsv").read_text()
    for name in (b"caf\xe9", b"zo\xe9"):  # the first of the classes, the last
        for split in ("train", "val"):
            save(root / split / os.fsdecode(name) / "0.png")
        shown = ascii(os.fsdecode(name)).replace("\\", r"\\")
        both(root, rf"expected class names of printable characters in UTF-8, got {shown}; rename")
        for split in ("train", "val"):
            shutil.rmtree(root / split / os.fsdecode(name))
