"""open_data: each format is recognised and read right; what is wrong is said in one line."""

from __future__ import annotations

import gzip
import io
import itertools
import logging
import pickle
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynet.data import ArrayDataset, fashion, fashion_mnist, open_data
from tinynet.data.pictures import decode
from tinynet.errors import DataError


def jpeg(picture: np.ndarray, **options) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", **{"quality": 95, **options})
    return data.getvalue()


def make_folder(root: Path, rng, size=(40, 30), splits=("train", "val"), count=12) -> Path:
    for split in splits:
        for label, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture = np.full((size[1], size[0], 3), 60 + 100 * label, np.uint8)
                picture += rng.integers(0, 20, picture.shape, np.uint8)
                (folder / f"{i}.jpg").write_bytes(jpeg(picture))
    return root


# ---- the embedded set


def test_fashion_part_is_balanced_and_small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # it lies beside the source, wherever the program runs
    train, test = fashion_mnist()
    assert train.shape == (28, 28, 1) and len(train.classes) == 10
    assert np.bincount(train.labels).tolist() == [1000] * 10
    assert np.bincount(test.labels).tolist() == [200] * 10
    folder = Path(fashion.__file__).parent
    assert sum(path.stat().st_size for path in folder.glob("*.gz")) <= 6_000_000
    assert "MIT License" in (folder / "LICENSE").read_text()


# ---- folders


def test_folder_of_photos(tmp_path, rng):
    train, test = open_data(make_folder(tmp_path, rng))
    assert train.shape == (30, 30, 3)  # the commonest shorter side
    assert train.classes == ["cat", "dog"] and len(train) == 24 and len(test) == 24
    for i in range(len(train)):
        assert abs(train.picture(i).mean() - (69.5 + 100 * train.labels[i])) < 3


def test_folder_size_and_test_instead_of_val(tmp_path, rng):
    train, _ = open_data(make_folder(tmp_path, rng, splits=("train", "test")), size=16)
    assert train.shape == (16, 16, 3)


def test_pictures_keep_their_size_up_to_the_largest(tmp_path, rng, monkeypatch):
    """And each file is decoded once, whatever its size turns out to be."""
    decoded = Counter()

    def counted(data, name, size):
        decoded[name] += 1
        return decode(data, name, size)

    monkeypatch.setattr("tinynet.data.folder.decode", counted)
    make_folder(tmp_path, rng)
    for largest, side in ((16, 16), (30, 30), (64, 30), (None, 30)):
        decoded.clear()
        train, test = open_data(tmp_path, largest=largest)
        assert train.shape == test.shape == (side, side, 3)
        assert len(decoded) == 48 and set(decoded.values()) == {1}
    assert open_data(tmp_path, size=40, largest=16)[0].shape == (40, 40, 3)  # `size` is an order


def test_larger_pictures_of_many_sizes_outvote_a_few_small_ones(tmp_path):
    for split, name in itertools.product(("train", "val"), ("cat", "dog")):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        for i, side in enumerate((9, 9, *range(30, 50))):
            (folder / f"{i}.jpg").write_bytes(jpeg(np.zeros((side, side, 3), np.uint8)))
    assert open_data(tmp_path, largest=20)[0].shape == (20, 20, 3)


def test_shorter_side_is_resized_and_the_centre_cut():
    picture = np.zeros((50, 110, 3), np.uint8)
    picture[:, 30:80, 0] = 200  # the centre square is red
    picture[:, 80:, 1] = 200
    cut = decode(jpeg(picture), "x", 10).astype(int)
    assert cut.shape == (10, 10, 3)
    assert np.abs(cut[:, 1:-1] - [200, 0, 0]).max() < 25
    whole = decode(jpeg(picture), "x", 10, whole=True)
    assert whole.shape == (10, 22, 3)


def test_odd_pictures_become_rgb():
    grey = np.tile(np.arange(64, dtype=np.uint8) * 4, (64, 1))
    variants = {"grey.jpg": jpeg(grey)}
    cmyk, palette, deep, alpha = (io.BytesIO() for _ in range(4))
    colour = Image.fromarray(np.stack([grey] * 3, axis=2))
    colour.convert("CMYK").save(cmyk, "JPEG", quality=95)
    colour.quantize(64).save(palette, "PNG")
    Image.fromarray(grey.astype(np.uint16) * 257).save(deep, "PNG")
    colour.convert("RGBA").save(alpha, "PNG")
    variants |= {"cmyk.jpg": cmyk.getvalue(), "palette.png": palette.getvalue()}
    variants |= {"deep.png": deep.getvalue(), "a PNG named.JPEG": alpha.getvalue()}
    for name, data in variants.items():
        out = decode(data, name)
        assert out.shape == (64, 64, 3) and out.dtype == np.uint8
        error = np.abs(out.astype(int) - grey[..., None]).mean()
        assert error < 3, name
    assert decode(jpeg(grey[:1, :1]), "one pixel", 32).shape == (32, 32, 3)
    assert decode(jpeg(grey[:1, :]), "a thin one", 32).shape == (32, 32, 3)


def test_exif_rotation_is_undone():
    picture = np.zeros((32, 32, 3), np.uint8)
    picture[:8] = 255  # bright at the top
    exif = Image.Exif()
    exif[0x0112] = 8  # "turn by 90 degrees against the clock to see it upright"
    turned = decode(jpeg(np.rot90(picture, -1).copy(), exif=exif), "x")
    assert np.abs(turned.astype(int) - picture).mean() < 5


def test_huge_picture_is_refused_before_decoding(tmp_path):
    data = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(data, "PNG")
    with pytest.raises(DataError, match="bomb.png"):
        decode(data.getvalue(), "bomb.png", 32)


def test_bad_files_are_named_and_left_out(tmp_path, rng, caplog):
    make_folder(tmp_path, rng)
    whole = (tmp_path / "train/cat/3.jpg").read_bytes()
    (tmp_path / "train/cat/3.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "train/dog/note.jpg").write_text("this is text")
    with caplog.at_level(logging.WARNING):
        train, _ = open_data(tmp_path)
    assert len(train) == 23 and np.bincount(train.labels).tolist() == [11, 12]
    assert "left out" in caplog.text and "3.jpg" in caplog.text and "note.jpg" in caplog.text


def test_too_many_bad_files_end_the_run(tmp_path, rng):
    make_folder(tmp_path, rng)
    for i in range(4):
        (tmp_path / f"train/cat/{i}.jpg").write_text("text")
    with pytest.raises(DataError, match="at most 10% bad pictures, got 4 of 24; mend or"):
        open_data(tmp_path)


def test_classes_that_differ_are_named(tmp_path, rng):
    make_folder(tmp_path, rng)
    (tmp_path / "val/horse").mkdir()
    with pytest.raises(DataError, match="horse"):
        open_data(tmp_path)


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_data(tmp_path / "nowhere")
    with pytest.raises(DataError, match="expected train/<class>.*got none of these"):
        open_data(tmp_path)
    for split in ("train", "val"):
        (tmp_path / split / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match=r"train/cat: expected pictures \(.jpg.* got none"):
        open_data(tmp_path)


# ---- CIFAR-10

NAMES = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def cifar_arrays(rng):
    batches = {}
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        planes = rng.integers(0, 256, (20, 3072), np.uint8)
        batches[name] = planes, rng.integers(0, 10, 20)
    return batches


def make_cifar(folder: Path, batches, binary: bool) -> Path:
    folder.mkdir(parents=True)
    for name, (planes, labels) in batches.items():
        if binary:
            records = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
            (folder / f"{name}.bin").write_bytes(records.tobytes())
        else:
            content = {b"data": planes, b"labels": labels.tolist(), b"batch_label": b"1 of 5"}
            (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    if binary:
        (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")
    else:
        meta = {b"label_names": [name.encode() for name in NAMES]}
        (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))
    return folder


@pytest.mark.parametrize("binary", [False, True])
def test_cifar10_packed_and_unpacked(tmp_path, rng, binary):
    batches = cifar_arrays(rng)
    name = "cifar-10-batches-bin" if binary else "cifar-10-batches-py"
    folder = make_cifar(tmp_path / name, batches, binary)
    archive = tmp_path / "cifar-10.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, arcname=folder.name)
    for path in (folder, tmp_path, archive):
        train, test = open_data(path)
        assert len(train) == 100 and len(test) == 20 and train.classes == NAMES
        planes, labels = batches["data_batch_2"]
        assert train.labels[20:40].tolist() == labels.tolist()
        red = planes[7, :1024].reshape(32, 32)
        assert np.array_equal(train.picture(27)[:, :, 0], red)
        # as crops are read, row by row
        assert all(part.picture(0).flags.c_contiguous for part in (train, test))
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(DataError, match="cut short"):
        open_data(archive)


def test_a_pickle_cannot_run_code(tmp_path, rng):
    class Attack:
        def __reduce__(self):
            return Path.touch, (tmp_path / "owned",)

    folder = make_cifar(tmp_path / "cifar", cifar_arrays(rng), binary=False)
    (folder / "data_batch_1").write_bytes(pickle.dumps({b"data": Attack()}, protocol=2))
    with pytest.raises(DataError, match="data_batch_1.*not allowed"):
        open_data(folder)
    assert not (tmp_path / "owned").exists()


# ---- IDX


@pytest.mark.parametrize("packed", [False, True])
def test_idx(tmp_path, rng, packed):
    arrays = {}
    for split, count in (("train", 30), ("t10k", 10)):
        arrays[split] = rng.integers(0, 256, (count, 9, 7), np.uint8), np.arange(count) % 3
        for kind, array in zip(("images-idx3", "labels-idx1"), arrays[split], strict=True):
            array = array.astype(np.uint8)
            data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            data += array.tobytes()
            path = tmp_path / (f"{split}-{kind}-ubyte" + ".gz" * packed)
            path.write_bytes(gzip.compress(data) if packed else data)
    train, test = open_data(tmp_path)
    assert train.shape == (9, 7, 1) and len(test) == 10 and train.classes == ["0", "1", "2"]
    assert np.array_equal(train.picture(5)[..., 0], arrays["train"][0][5])
    path = next(tmp_path.glob("train-images*"))
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(DataError, match="train-images"):
        open_data(tmp_path)


def test_array_dataset_checks_what_it_is_given():
    pictures = np.zeros((4, 2, 2, 3), np.uint8)
    with pytest.raises(DataError, match="labels"):
        ArrayDataset(pictures, np.arange(3), ["a"])
    with pytest.raises(DataError, match="expected labels 0 to 1, one a class, got 0 to 3"):
        ArrayDataset(pictures, np.arange(4), ["a", "b"])
    with pytest.raises(DataError, match="uint8"):
        ArrayDataset(pictures.astype(np.float32), np.arange(4), ["a"])


def test_a_data_set_says_what_it_is(tmp_path, rng):
    train, _ = open_data(make_folder(tmp_path, rng))
    source = tmp_path / "train"
    assert repr(train) == f"ArrayDataset(2 classes, 24 pictures 30x30x3, from {source})"
    made = ArrayDataset(np.zeros((1234, 2, 3, 1), np.uint8), np.zeros(1234), ["a", "b"])
    assert repr(made) == "ArrayDataset(2 classes, 1,234 pictures 2x3x1)"
    assert [each.source for each in fashion_mnist()] == 2 * ["embedded Fashion-MNIST"]
