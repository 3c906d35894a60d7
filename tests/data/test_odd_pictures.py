"""One picture file: what is odd but right is read; what would be wrong, or take for ever, is
refused.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from tinynet.data import pictures
from tinynet.data.pictures import MAX_BYTES, decode, oddities, open_picture, read_file, with_end
from tinynet.data.prepare import Options, prepare
from tinynet.errors import DataError


@pytest.fixture
def photo(rng) -> Image.Image:
    return Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8)).resize((120, 90))


def saved(image: Image.Image, form="JPEG", **options) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


# ---- a JPEG without its end marker


KINDS = [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_marker_is_whole(photo, options, missing):
    data = saved(photo, **options)
    assert np.array_equal(decode(data[:-missing], "x"), decode(data, "x"))
    assert with_end(data[:-missing]) == data and with_end(data) is data
    assert with_end(data + b"more") == data + b"more"


@pytest.mark.parametrize("options", [*KINDS, {"restart_marker_blocks": 3}], ids=str)
def test_a_jpeg_that_lacks_more_is_refused(photo, options):
    """But where the byte that lacks has only bits that change no pixel: in one picture of 500."""
    data = saved(photo, **options)
    for missing in [*range(3, 60), *range(60, len(data), 97)]:
        try:
            found = decode(data[:-missing], "x.jpg")
        except DataError as error:
            assert str(error).startswith("x.jpg: ")
        else:
            assert missing == 3 and np.array_equal(found, decode(data, "x.jpg"))


@pytest.mark.parametrize("seed", [21, 71, 461])
def test_two_missing_bits_that_are_seen_together_only_are_missed(seed):
    """Each alone changes no pixel, with the libjpeg of Pillow's wheels; with another one these are
    pictures as any."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    data = saved(small.resize((120, 90)), progressive=True)
    with pytest.raises(DataError, match="truncated"):
        decode(data[:-3], "x.jpg")


def test_a_scan_or_an_interval_that_is_missing_as_a_whole_is_missed(photo):
    """The data ends where a scan ends, or where a restart marker would be."""
    data = saved(photo, progressive=True)
    starts = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda"]
    data2 = saved(photo, restart_marker_rows=1)
    restarts = [i for i in range(len(data2)) if data2[i] == 0xFF and data2[i + 1] & 0xF8 == 0xD0]
    assert len(starts) > 5 and len(restarts) > 3
    cuts = [data[:start] for start in starts[1:]] + [data2[:place] for place in restarts]
    for cut in cuts:
        assert with_end(cut) is cut
        with pytest.raises(DataError, match="truncated"):
            decode(cut, "x.jpg")


def test_the_end_marker_is_found_behind_a_thumbnail(photo):
    small, plain = saved(photo.resize((16, 12))), saved(photo)
    data = plain[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + plain[2:]
    assert data.count(b"\xff\xda") == data.count(b"\xff\xd9") == 2
    assert with_end(data[:-2]) == data


def test_it_is_given_its_end_marker_when_it_is_prepared(tmp_path, photo):
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "a.jpg").write_bytes(saved(photo.resize((16, 16)))[:-2])
    prepare(tmp_path, tmp_path / "out", Options(size=16), workers=1, progress=False)
    lines = (tmp_path / "out/report.tsv").read_text().splitlines()
    assert len(lines) == 5
    assert lines[1] == "train\tcat/a.jpg\tconverted\tgiven the end marker it lacked"
    whole = saved(photo.resize((16, 16)))
    assert whole in (tmp_path / "out/train-000000.tar").read_bytes()


# ---- EXIF


@pytest.mark.parametrize("value", [0, 1, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(photo, value):
    exif = Image.Exif()
    exif[0x0112] = value
    data = saved(photo, exif=exif)
    assert oddities(open_picture(data, "x.jpg"), "x.jpg", 90) == []
    assert np.array_equal(decode(data, "x.jpg"), decode(saved(photo), "x.jpg"))


@pytest.mark.parametrize("value", range(2, 9))
def test_every_orientation_is_undone(photo, value):
    """As Pillow's own function does it."""
    exif = Image.Exif()
    exif[0x0112] = value
    data = saved(photo, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode(data, "x.jpg"), np.asarray(upright))
    assert oddities(open_picture(data, "x.jpg"), "x.jpg", 90) == ["turned upright as its EXIF says"]
    tiff = saved(photo, "TIFF", exif=exif)
    assert decode(tiff, "x.tif").shape == np.asarray(upright).shape


@pytest.mark.filterwarnings("ignore")  # of Pillow's; pytest undoes what tinynet.data has set
@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0",
        b"Exif\0\0XX*\0\x08\0\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x07\0\xff\xff\xff\xff" * 20,
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x02\0\0\0\x04ab\0\0",  # an orientation of letters
    ],
)
def test_an_exif_block_that_cannot_be_read_turns_nothing(photo, block):
    plain = saved(photo)
    data = plain[:2] + b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block + plain[2:]
    assert np.array_equal(decode(data, "x.jpg", 60), decode(plain, "x.jpg", 60))
    assert oddities(open_picture(data, "x.jpg"), "x.jpg", 60) == []


# ---- kinds of pictures


def test_of_an_animation_the_first_picture_is_taken(photo):
    frames = [photo.convert("P"), Image.new("P", photo.size), Image.new("P", photo.size, 7)]
    for form, first in (("GIF", frames[0].convert("RGB")), ("WEBP", photo), ("TIFF", photo)):
        images = frames if form == "GIF" else [photo, Image.new("RGB", photo.size)]
        options = {"lossless": True} if form == "WEBP" else {}
        data = saved(images[0], form, save_all=True, append_images=images[1:], **options)
        assert np.array_equal(decode(data, "x"), np.asarray(first)), form
        assert "the first of several pictures" in oddities(open_picture(data, "x"), "x", 90)


def test_a_jpeg_with_further_pictures_behind_it_is_a_jpeg(photo):
    data = saved(photo, "MPO", save_all=True, append_images=[photo])
    assert open_picture(data, "x.jpg").format == "MPO"
    assert oddities(open_picture(data, "x.jpg"), "x.jpg", 90) == []
    assert decode(data, "x.jpg").shape == (90, 120, 3)


def test_numbers_whose_range_is_not_known_are_refused():
    ramp = np.linspace(0, 1, 100, dtype=np.float32).reshape(10, 10)
    with pytest.raises(DataError, match="x.tif: pixels are floating-point numbers"):
        decode(saved(Image.fromarray(ramp), "TIFF"), "x.tif")
    deep = Image.fromarray((ramp * 1_000_000).astype(np.int32))
    with pytest.raises(DataError, match="x.tif: grey values from 0 to 1000000, more than 16 bits"):
        decode(saved(deep, "TIFF"), "x.tif")
    right = Image.fromarray((ramp * 65535).astype(np.uint16))
    assert abs(int(decode(saved(right, "TIFF"), "x.tif").max()) - 255) == 0


@pytest.mark.parametrize("form", ["WEBP", "BMP", "GIF", "TIFF"])
def test_damaged_files_of_every_kind(rng, photo, form):
    data = saved(photo, form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(150):
            bad = bytearray(data[: int(rng.integers(1, len(data) + 1))])
            for place in rng.integers(0, len(bad), 3):
                bad[place] = int(rng.integers(256))
            try:
                assert decode(bytes(bad), "bad", 24).shape == (24, 24, 3)
            except DataError as error:
                assert str(error).startswith("bad: ") and "\n" not in str(error)


# ---- what would take for ever, or all memory


def scans(photo: Image.Image, count: int) -> bytes:
    """A progressive JPEG whose last scan comes `count` times more."""
    data = saved(photo, progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * count + b"\xff\xd9"


def test_scans_are_counted_before_they_are_decoded(photo, monkeypatch):
    large = scans(photo.resize((3000, 2000)), 400)
    start = time.perf_counter()
    with pytest.raises(DataError, match="x.jpg: 410 scans of 3000 x 2000 pixels: not decoded"):
        decode(large, "x.jpg", 24)
    assert time.perf_counter() - start < 2
    assert decode(saved(photo.resize((3000, 2000)), progressive=True), "x.jpg", 24).any()
    assert decode(scans(photo, 50), "x.jpg", 24).any()  # little work
    monkeypatch.setattr(pictures, "MAX_SCANNED", 59 << 20)
    with pytest.raises(DataError, match="60 scans of 120 x 90"):
        decode(scans(photo, 50), "x.jpg", 24)


def claiming(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and has no pixels."""
    data = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    for chunk in (b"IHDR" + header, b"IDAT", b"IEND"):
        data += struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return data


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("side", "words"), [(20_000, "more than 100,000,000 pixels"), (11_000, "11000 x 11000 pixels")]
)
def test_a_huge_picture_is_refused_in_our_words(side, words):
    with pytest.raises(DataError, match=f"x.png: {words}.*not decoded"):
        decode(claiming(side, side), "x.png", 8)


def test_pillows_warnings_are_not_shown(tmp_path):
    """Not even by a Python that makes errors of warnings."""
    (tmp_path / "x.png").write_bytes(claiming(9500, 9500))
    code = (
        "import sys, pathlib; from tinynet.data.pictures import open_picture\n"
        "print(open_picture(pathlib.Path(sys.argv[1]).read_bytes(), 'x').size)"
    )
    command = [sys.executable, "-W", "error", "-c", code, tmp_path / "x.png"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.stdout == "(9500, 9500)\n" and run.stderr == ""


def test_a_huge_file_is_not_read(tmp_path):
    with open(tmp_path / "x.tif", "wb") as file:
        file.truncate(MAX_BYTES + 1)
    tracemalloc.start()
    with pytest.raises(
        DataError, match="x.tif: 268,435,457 bytes, more than 268,435,456: not read"
    ):
        read_file(tmp_path / "x.tif")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


# ---- how a picture is made smaller, or larger


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("size", [(48, 48), (60, 48), (48, 60)])
def test_every_pixel_counts_in_a_smaller_picture(size, whole):
    """A chess board of single pixels becomes an even grey, and any picture keeps its mean."""
    board = np.indices(size).sum(axis=0) % 2 * np.uint8(200)
    data = saved(Image.fromarray(board.astype(np.uint8)), "PNG")
    small = decode(data, "x.png", 12, whole)
    inner = small[2:-2, 2:-2].astype(int)
    assert abs(inner.mean() - 100) < 1 and np.abs(inner - 100).max() < 8


@pytest.mark.parametrize("whole", [False, True])
def test_edges_are_sharp_in_a_larger_picture(whole):
    """By cubic pieces: they go beyond both sides of an edge, as straight lines do not."""
    edge = np.full((10, 10), 50, np.uint8)
    edge[:, 5:] = 150
    large = decode(saved(Image.fromarray(edge), "PNG"), "x.png", 40, whole).astype(int)
    assert large.min() < 48 and large.max() > 152 and large.shape == (40, 40, 3)
    assert (np.diff(large[20, 15:25, 0]) > 0).any() and len(set(large[20, 15:25, 0])) > 4
