"""A prepared folder against its definition: what each of its files says, that any change of it is
seen, and what its readers refuse though its checksum is right.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import tarfile
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_tree import (
    NAMES,
    SMALL,
    digests,
    larger_tree,
    made,
    make_tree,
    photo,
    picture,
    saved,
    stored,
    with_sums,
)

from tinynet.data import open_data
from tinynet.data.imagenet import open_source
from tinynet.data.pictures import decode
from tinynet.data.prepare import Options
from tinynet.data.shards import INDEX, ShardDataset, read_about, read_sums, verify
from tinynet.errors import DataError

pytestmark = pytest.mark.usefixtures("threads")


@pytest.fixture
def out(tmp_path) -> Path:
    """Prepared, of 6 + 6 pictures: shards of 5 and 1."""
    made(make_tree(tmp_path / "in", 3), tmp_path / "out")
    return tmp_path / "out"


# ---- what each file says


def odd_tree(root: Path, rng) -> tuple[Path, list[list[str]]]:
    """Photos of three classes, odd and bad ones among them, and what a report must say of those."""
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, tall = photo(rng), np.asarray(Image.open(io.BytesIO(photo(rng))))
    cmyk = io.BytesIO()
    Image.fromarray(tall).convert("CMYK").save(cmyk, "JPEG")
    source = larger_tree(
        root, rng, 3, 2, fits=picture(90, (16, 16)), turned=photo(rng, exif=exif), bare=plain[:-2],
        cmyk=cmyk.getvalue(), pixel=picture(200, (1, 1)), large=picture(90, (300, 200)),
        **{"n" * 230: plain},
    )  # fmt: skip
    for name, data in (
        ("grey.jpg", saved(tall[..., 0], "PNG")), ("left out.png", saved(tall[..., 0], "PNG")),
        ("a.b.png", saved(tall, "PNG")), ("no picture\t.jpg", b"text"), ("none.gif", b""),
        ("half.jpg", plain[: len(plain) // 2]),
    ):  # fmt: skip
        (source / "train/n01" / name).write_bytes(data)
    (source / "val/n03/none.jpg").write_text("text")
    (source / "words.txt").write_text("n01 one\ttab  and \x1f more\nn02\ttwo\n")
    return source, [
        ["train", "n01/bare.jpg", "converted", "given the end marker it lacked"],
        ["train", "n01/cmyk.jpg", "converted", "CMYK made RGB"],
        ["train", "n01/grey.jpg", "converted", "a PNG file in spite of its name"],
        ["train", "n01/grey.jpg", "converted", "grey made RGB"],
        ["train", "n01/half.jpg", "left out", r".*[Tt]runcated.*"],
        ["train", "n01/left out.png", "converted", "grey made RGB"],
        ["train", r"n01/no picture\\t.jpg", "left out", r"not a picture \(.*"],
        ["train", "n01/none.gif", "left out", r"not a picture \(.*"],
        ["train", "n01/pixel.jpg", "converted", "enlarged from 1 x 1"],
        ["train", "n01/turned.jpg", "converted", "turned upright as its EXIF says"],
        ["val", "n03/none.jpg", "left out", r"not a picture \(.*"],
    ]


@pytest.mark.parametrize(
    "options",
    [
        replace(SMALL, form="square", quality=90, chroma="4:2:0"),
        replace(SMALL, form="full", quality=60, chroma="4:4:4"),
        replace(SMALL, form="raw"),
    ],
    ids=lambda options: options.form,
)
def test_every_file_says_what_the_pictures_are(tmp_path, rng, options, caplog):
    """All fields of all files, read with tarfile, json, zlib and hashlib alone. Nothing is warned
    of: what is odd stands in the report.
    """
    source, oddities = odd_tree(tmp_path / "in", rng)
    out, form = tmp_path / "out", options.form
    about = made(source, out, options, max_bad=0.2)
    assert not caplog.records
    lines = (out / "report.tsv").read_text().splitlines()
    assert lines[0] == "split\tpicture\twhat\twhy" and len(lines) == 1 + len(oddities)
    for line, right in zip(lines[1:], oddities, strict=True):
        assert re.fullmatch("\t".join(right), line), line
    assert (out / "classes.tsv").read_text() == (
        "0\tn01\tone tab and more\n1\tn02\ttwo\n2\tn03\tn03\n"
    )
    bad = {Path(name.replace(r"\\t", "\t")).name for _, name, what, _ in oddities if what[0] == "l"}
    pixels, sizes = {}, {}
    for split in ("train", "val"):
        files = sorted(source.glob(f"{split}/*/*"))
        data_set, index = ShardDataset(out, split), np.load(out / f"{split}.npy")
        assert data_set.classes == ["n01 one tab and more", "n02 two", "n03"]
        assert index.dtype == INDEX and data_set.form == form
        sizes[split], rows, pixels[split] = [], [], []
        for number in range(-(-len(files) // 5)):
            path = out / f"{split}-{number:06d}.tar"
            sizes[split].append(path.stat().st_size)
            with tarfile.open(path) as tar:
                members = iter([(m.name, m.offset_data, tar.extractfile(m).read()) for m in tar])
            for place, file in list(enumerate(files))[5 * number : 5 * number + 5]:
                if file.name in bad:
                    continue
                key = f"{place:08d}-{re.sub('[^a-z0-9]', '_', file.stem)[:60]}"
                name, offset, found = next(members)
                label = NAMES.index(file.parent.name)
                assert next(members)[::2] == (f"{key}.cls", str(label).encode())
                assert name == f"{key}.{'npy' if form == 'raw' else 'jpg'}"
                right = decode(file.read_bytes(), "x", 16, whole=form == "full")
                if form == "raw":
                    skip = len(found) - right.nbytes
                    assert np.array_equal(np.load(io.BytesIO(found)), right)
                else:
                    how = {"quality": options.quality, "subsampling": options.chroma}
                    kept = file.stem == "fits"
                    skip = 0
                    assert found == (file.read_bytes() if kept else saved(right, **how)), file
                    right = decode(found, "x", 16)
                assert np.array_equal(data_set.picture(len(rows)), right)
                assert right.shape == data_set.shape == (16, 16, 3)
                rows.append(
                    (number, offset + skip, len(found) - skip, label, zlib.crc32(found[skip:]))
                )
                pixels[split].append(right)
            assert next(members, None) is None  # no pair more
        assert index.tolist() == rows and data_set.labels.tolist() == [row[3] for row in rows]
        stack = np.stack(pixels[split]).astype(float)
        moments, flat = data_set.moments(), stack.reshape(-1, 3)
        assert moments.count == len(rows) and (moments.sum == stack.sum(axis=0)).all()
        assert (moments.products == flat.T @ flat).all()
    stack = np.stack(pixels["train"]).astype(float)
    with np.load(out / "moments.npz") as arrays:
        assert arrays["count"] == len(stack) and (arrays["sum"] == stack.sum(axis=0)).all()
        flat = stack.reshape(-1, 3)
        assert (arrays["products"] == flat.T @ flat).all()
        assert np.array_equal(arrays["mean"], stack.mean(axis=0).astype(np.float32))
        np.testing.assert_allclose(arrays["covariance"], np.cov(flat.T, bias=True), rtol=1e-9)
    means = about.pop("channel_means")
    np.testing.assert_allclose(means, flat.mean(axis=0), atol=6e-4)
    assert about == {
        "version": 1, "size": 16, "form": form, "classes": 3, "left_out": 4, "shards": sizes,
        "pictures": {split: len(each) for split, each in pixels.items()},
        "plan": {"source": str(source), **asdict(options)},
        "fingerprint": open_source(source).fingerprint(),
    }  # fmt: skip
    assert json.loads((out / "dataset.json").read_bytes()) == {**about, "channel_means": means}
    sums = digests(out)
    del sums["SHA256SUMS"]
    lines = (out / "SHA256SUMS").read_text().splitlines()
    assert lines == [f"{sums[name]}  {name}" for name in sorted(sums)] and verify(out) == []
    assert repr(ShardDataset(out, "val")) == (
        f"ShardDataset(3 classes, {len(pixels['val'])} pictures 16x16x3, from {out}: val)"
    )


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
    turned, cmyk = io.BytesIO(), io.BytesIO()
    Image.fromarray(smooth[:24]).save(turned, "JPEG", exif=exif)
    Image.fromarray(smooth[:24]).convert("CMYK").save(cmyk, "JPEG")
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
        "CMYK": (cmyk.getvalue(), ()),
    }
    (folder := make_tree(tmp_path / "in", 1) / "train/n01/0.jpg").unlink()
    for case, (data, _) in cases.items():
        folder.with_name(f"{case}.jpg").write_bytes(data)
    for form in ("square", "full", "raw"):
        made(tmp_path / "in", tmp_path / form, Options(size=24, form=form))
        with tarfile.open(tmp_path / form / "train-000000.tar") as tar:
            members = [tar.extractfile(m).read() for m in tar if not m.name.endswith(".cls")]
        files = sorted(f"{case}.jpg" for case in cases)
        for file, found in zip(files, members[: len(files)], strict=True):
            case = file.removesuffix(".jpg")
            data, forms = cases[case]
            assert (found == data) == (form in forms), (case, form)


def test_a_member_is_named_by_its_place_and_its_picture(tmp_path):
    """Letters, digits, - and _ are kept, of 60 characters; another one, a dot too, is a _."""
    first = make_tree(tmp_path / "in", 1) / "train/n01/0.jpg"
    for name in ("Aé-1_b.c d", "B" + 70 * "x"):
        first.with_name(f"{name}.jpg").write_bytes(first.read_bytes())
    first.unlink()
    made(tmp_path / "in", tmp_path / "out", Options(size=24))
    with tarfile.open(tmp_path / "out/train-000000.tar") as tar:
        names = tar.getnames()
    assert names[:2] == ["00000000-A_-1_b_c_d.jpg", "00000000-A_-1_b_c_d.cls"]
    assert names[2] == f"00000001-B{'x' * 59}.jpg"


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc which files are open")
def test_no_file_stays_open(out, tmp_path):
    for dataset in open_data(out):
        dataset.moments()
        for i in range(len(dataset)):
            dataset.picture(i)
    assert verify(out) == []
    path = out / "val-000000.tar"
    path.write_bytes(path.read_bytes().replace(b"JFIF", b"JFXF"))
    with pytest.raises(DataError, match="is damaged"):
        dataset.picture(1)
    assert verify(out)
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    opened = [os.readlink(link) for link in links if os.path.exists(link)]
    assert [name for name in opened if str(tmp_path) in name] == []


# ---- that any change is seen


def changes_of(path: Path) -> list[bytes | None]:
    """Gone, emptied, cut, made longer; and with a bit in its middle changed."""
    whole, half = path.read_bytes(), path.stat().st_size // 2
    flipped = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
    return [None, b"", whole[:-9], whole + b"0", *([flipped] if path.suffix != ".tar" else [])]


def test_any_change_is_seen_by_who_would_use_it(tmp_path, out):
    """By who goes on preparing and by verify: each file. By a reader: what is of its split."""
    for path in sorted(set(out.iterdir()) - {out / "SHA256SUMS"}):
        whole, name = path.read_bytes(), path.name
        splits = {"train", "val"}
        if name.startswith(("train", "val")):
            splits = {name.partition("-")[0].partition(".")[0]}
        if name in ("report.tsv", "moments.npz"):
            splits = set()
        for change in changes_of(path):
            path.unlink() if change is None else path.write_bytes(change)
            told = "damaged" if change is not None else "is missing"
            if path.suffix == ".tar":
                told = rf"expected {len(whole):,} bytes, got {len(change or b''):,}; run `python .*"
            if (name, change) == ("dataset.json", None):  # a folder not begun, or not ended
                assert verify(out) == [f"{out}: no dataset.json: not prepared, or not to the end"]
            else:
                (line,) = verify(out)
                assert str(path) in line and (change is not None or "missing" in line)
                with pytest.raises(DataError, match=f"{name}.*{told}"):
                    made(tmp_path / "in", out)
            for split in ("train", "val"):
                if split not in splits:
                    ShardDataset(out, split)
                    continue
                with pytest.raises(DataError, match=f"{name}.*{told}"):
                    ShardDataset(out, split)
            path.write_bytes(whole)
    assert made(tmp_path / "in", out) and verify(out) == []


def test_a_list_of_checksums_that_is_wrong(tmp_path, out):
    """Verify says so, and a reader where a file of its own is concerned; other files do no harm."""
    sums = out / "SHA256SUMS"
    whole, read = sums.read_bytes(), lambda: ShardDataset(out, "train")
    first, rest = whole.split(b"\n", 1)  # of classes.tsv
    for content, refused in (
        (None, "SHA256SUMS is missing; prepare the folder again"), (b"", "dataset.json: expected"),
        (b"\xff\xfe" + whole, "classes.tsv: expected the SHA-256 in SHA256SUMS, got another"),
        (b"0" * 64 + first[64:] + b"\n" + rest, "classes.tsv: expected the SHA-256"),
        (rest, "classes.tsv: expected the SHA-256"),
        (whole.replace(b"\n", b"\v", 1), "dataset.json: expected the SHA-256"),  # one bit changed
        (whole + b"0" * 64 + b"  more.tar\n", ""),
    ):  # fmt: skip
        sums.unlink() if content is None else sums.write_bytes(content)
        if refused:
            for function in (read, lambda: made(tmp_path / "in", out)):
                with pytest.raises(DataError, match=refused):
                    function()
            assert verify(out)
        else:
            assert verify(out) == [f"{sums}: does not list the files that belong here"]
            read()
        sums.write_bytes(whole)


def test_a_damaged_picture_is_named_and_harms_no_other(out):
    for split in ("train", "val"):
        data = ShardDataset(out, split)
        right = [data.picture(i) for i in range(6)]
        for bad, row in enumerate(data.index):
            path = out / f"{split}-{row['shard']:06d}.tar"
            whole, place = path.read_bytes(), int(row["offset"])
            end = place + int(row["length"])
            for k in (place, end - 1):
                path.write_bytes(whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :])
                for i in range(6):
                    if i != bad:
                        assert np.array_equal(data.picture(i), right[i])
                told = rf"{path.name}: picture {bad} at byte {place} is damaged; run `.*--repair"
                with pytest.raises(DataError, match=told):
                    data.picture(bad)
            (line,) = verify(out)
            assert line.startswith(f"{path}: expected SHA-256 ")
            path.write_bytes(whole)
        (out / f"{split}-000001.tar").rename(out / "aside")
        with pytest.raises(DataError, match=f"{split}-000001.tar: No such file or directory; run"):
            data.picture(5)
        (out / "aside").rename(out / f"{split}-000001.tar")
        assert np.array_equal(data.picture(5), right[5])


def test_an_index_that_is_not_the_shards(out):
    """Its checksum is right, and what it says of a picture wrong: verify names that picture."""
    for split in ("train", "val"):
        whole = (out / f"{split}.npy").read_bytes()
        shards = [(out / f"{split}-{n:06d}.tar").read_bytes() for n in range(2)]
        for place in range(6):
            right = np.load(out / f"{split}.npy")
            number, begin, length, label, crc = right[place].tolist()
            changes = [
                {"crc": crc ^ 1}, {"label": label ^ 1}, {"offset": begin + 4},
                # a part of the member, or more than it, with the right checksum of that piece
                {"length": length - 1}, {"length": length + 1},
                {"offset": begin - 512, "length": length + 512},
            ]  # fmt: skip
            for change in changes[place % 3 :: 3]:
                index = right.copy()
                for field, value in change.items():
                    index[field][place] = value
                begin, length = (int(index[name][place]) for name in ("offset", "length"))
                if "length" in change:
                    index["crc"][place] = zlib.crc32(shards[number][begin : begin + length])
                with_sums(out, f"{split}.npy", stored(index))
                (line,) = verify(out)
                shard = out / f"{split}-{number:06d}.tar"
                assert re.fullmatch(rf"{shard}: {place:08d}-.* differs from the index", line), (
                    change
                )
                with_sums(out, f"{split}.npy", whole)
        all_wrong = right.copy()
        all_wrong["label"] ^= 1
        with_sums(out, f"{split}.npy", stored(all_wrong))
        assert len(verify(out)) == 6  # each is named
        with_sums(out, f"{split}.npy", stored(right[:-1]))
        assert verify(out) == [
            f"{out / split}-000001.tar: 2 members, not two for each picture of the index"
        ]
        far, strange = right.copy(), right.copy()
        far["shard"][3], strange["label"][4] = 2, 2
        for array in (far, strange, right[:0], right["shard"], right[None], np.zeros(3)):
            with_sums(out, f"{split}.npy", stored(array))
            with pytest.raises(DataError, match=f"{split}.npy: expected "):
                ShardDataset(out, split)
            assert verify(out)
        for data in (stored(np.array({"a": 1})), b"\x93NUMPY\x01\x00\x76\x00{'descr'".ljust(200)):
            with_sums(out, f"{split}.npy", data)
            with pytest.raises(DataError, match=f"{split}.npy: damaged"):
                ShardDataset(out, split)
        with_sums(out, f"{split}.npy", whole)
    end = np.load(out / "train.npy")  # the end of a member is fine: so the index names raw pixels
    begin, length = int(end["offset"][0]) + 1, int(end["length"][0]) - 1
    shard = (out / "train-000000.tar").read_bytes()
    end[0] = 0, begin, length, end["label"][0], zlib.crc32(shard[begin : begin + length])
    with_sums(out, "train.npy", stored(end))
    assert verify(out) == []


def test_what_dataset_json_must_say(tmp_path, out):
    """By a right checksum; whoever reads it says that it is damaged, or of which version."""
    right = json.loads((out / "dataset.json").read_bytes())
    shards = right["shards"]
    damaged = "damaged .*; prepare the folder again"
    cases = [(right | {"version": v}, f"expected version 1, got {v}; prepare the folder again")
             for v in (-1, 0, 2, "1", None)]  # fmt: skip
    cases += [(content, damaged) for content in ([1], 7, None, "text", {}, {"version": 1})]
    cases += [
        (right | change, damaged)
        for change in (
            {"size": "8"}, {"size": 0}, {"size": 4097}, {"size": -1}, {"form": "round"},
            {"form": ["raw"]}, {"shards": [1, 2]}, {"shards": {"train": 3, "val": []}},
            {"shards": {"train": ["a"], "val": [1]}}, {"shards": {**shards, "val": []}},
            {"shards": {**shards, "train": []}}, {"shards": {**shards, "train": [-1]}},
            {"shards": {**shards, "val": [5, -1]}}, {"plan": [1]}, {"plan": None},
        )
    ]  # fmt: skip
    for content, message in [*cases, (b"{", damaged)]:
        data = content if type(content) is bytes else json.dumps(content).encode()
        with_sums(out, "dataset.json", data)
        for function in (
            lambda: open_data(out),
            lambda: made(tmp_path / "in", out),
            lambda: read_about(out, read_sums(out)),
        ):
            with pytest.raises(DataError, match=f"dataset.json: {message}") as found:
                function()
            assert "\n" not in str(found.value)
        assert verify(out) == [str(found.value)], content
        with_sums(out, "dataset.json", json.dumps(right).encode())
    assert read_about(out, read_sums(out)) == right
    for size in (1, 4096):
        with_sums(out, "dataset.json", json.dumps(right | {"size": size}).encode())
        assert read_about(out, read_sums(out))["size"] == size


def test_tables_with_a_right_checksum(out):
    moments = dict(np.load(out / "moments.npz"))
    for change in (
        {"sum": np.zeros(3)}, {"count": np.array(0)}, {"count": np.array([1, 2])},
        {"sum": moments["sum"][:8]}, {"count": moments["count"] + 1},
        {"count": moments["count"] - 1},
    ):  # fmt: skip
        data = io.BytesIO()
        np.savez(data, **moments | change)
        with_sums(out, "moments.npz", data.getvalue())
        with pytest.raises(DataError, match="moments.npz: damaged"):
            ShardDataset(out, "train").moments()
    with_sums(out, "classes.tsv", b"0\tn01\n1\tn02\tn02\n")
    with pytest.raises(DataError, match="classes.tsv: expected lines of label, id, name"):
        ShardDataset(out, "train")
    with_sums(out, "train-000000.tar", b"x" * (out / "train-000000.tar").stat().st_size)
    assert any("train-000000.tar: damaged at byte 0" in line for line in verify(out))


def test_a_finished_folder_is_read_whatever_else_lies_in_it(out):
    """As what is left of a run that was killed after its last file."""
    whole = [each.labels.tolist() for each in open_data(out)]
    (out / "parts").mkdir()
    (out / "parts/plan.json").write_text("{}")
    (out / "ILSVRC").mkdir()
    (out / "ILSVRC2012_img_val.tar").write_bytes(b"")
    assert [each.labels.tolist() for each in open_data(out)] == whole


def test_a_side_that_prepared_pictures_do_not_have(out):
    assert open_data(out, largest=16)[0].shape == (16, 16, 3)
    for asked in ({"size": 5}, {"largest": 5}):
        with pytest.raises(DataError, match=r"cannot be resized; prepare it again: .*--size 5 "):
            open_data(out, **asked)
