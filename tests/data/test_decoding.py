"""`decode` against its definition by plain Pillow, for every pair of kind, turn, shape and size;
and what is refused or listed at the very limits.
"""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
from pairs import pairwise
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from tinynet.data import pictures
from tinynet.data.pictures import (
    MAX_BYTES,
    check_size,
    decode,
    list_pictures,
    oddities,
    open_picture,
    read_file,
)
from tinynet.errors import DataError

KINDS = {
    "JPEG": ("RGB", "L", "CMYK"),
    "PNG": ("RGB", "L", "LA", "RGBA", "1", "P", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "TIFF": ("RGB", "L", "CMYK", "I;16", "I;16B"),
    "BMP": ("RGB", "L", "P"),
    "GIF": ("P",),
}


def photo(rng, size: tuple[int, int]) -> Image.Image:
    """Smooth enough for a JPEG, with an alpha of its own."""
    coarse = rng.integers(0, 256, (5, 6, 4), np.uint8)
    return Image.fromarray(coarse, "RGBA").resize(size, Image.Resampling.BICUBIC)


def in_mode(image: Image.Image, mode: str, rng) -> Image.Image:
    if mode.startswith("I;16"):  # high and low bytes have nothing in common
        grey = rng.integers(0, 1 << 16, image.size[::-1], np.uint16)
        order = ">u2" if mode == "I;16B" else "<u2"
        return Image.frombytes(mode, image.size, grey.astype(order).tobytes())
    if mode == "P":
        return image.convert("RGB").quantize(50)
    return image.convert(mode)


def saved(image: Image.Image, form="JPEG", **options) -> bytes:
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def rgb(image: Image.Image) -> Image.Image:
    """The whole picture, upright."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) // 256).astype(np.uint8)).convert("RGB")
    return image.convert("RGBA" if image.mode == "P" else image.mode).convert("RGB")


def defined(image: Image.Image, size: int | None, whole: bool) -> np.ndarray:
    image = rgb(image)
    width, height = image.size
    short = min(width, height)
    if size is None:
        return np.asarray(image)
    if whole:
        target = [round(side * size / short) for side in (width, height)]
        return np.asarray(image if short == size else image.resize(target, BICUBIC))
    x, y = (width - short) // 2, (height - short) // 2
    if short == size:
        return np.asarray(image)[y : y + size, x : x + size]
    return np.asarray(image.resize((size, size), BICUBIC, box=(x, y, x + short, y + short)))


BICUBIC = Image.Resampling.BICUBIC
OPTIONS: dict[str, tuple] = dict(
    kind=tuple((form, mode) for form, modes in KINDS.items() for mode in modes),
    turn=(None, 2, 3, 4, 5, 6, 7, 8),
    shape=((40, 29), (29, 40), (33, 33), (61, 20), (20, 47), (20, 20)),
    size=(None, 20, 13, 64),
    whole=(False, True),
)


def test_every_pair_of_kind_turn_shape_and_size(rng):
    """To the bit, as long as a JPEG is not decoded at half its size."""
    for case in pairwise(OPTIONS):
        form, mode = case["kind"]
        options: dict = {"lossless": True, "exact": True} if form == "WEBP" else {}
        if case["turn"] and form in ("JPEG", "PNG", "WEBP", "TIFF"):
            options["exif"] = exif = Image.Exif()
            exif[0x0112] = case["turn"]
        data = saved(in_mode(photo(rng, case["shape"]), mode, rng), form, **options)
        expected = defined(Image.open(io.BytesIO(data)), case["size"], case["whole"])
        found = decode(data, "x", case["size"], case["whole"])
        assert found.dtype == np.uint8 and np.array_equal(found, expected), case


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency(rng):
    """Transparency is dropped: the colours below it show. Pillow would warn of it."""
    image = photo(rng, (30, 20)).convert("RGB").quantize(16)
    for transparency in (3, bytes(range(0, 256, 16))):
        data = saved(image, "PNG", transparency=transparency)
        assert np.array_equal(decode(data, "x"), np.asarray(image.convert("RGB")))


def test_a_large_jpeg_is_decoded_at_half_its_size_if_that_is_twice_what_is_asked_for(rng):
    """Which is quicker, and changes the result little."""
    fine = Image.fromarray(rng.integers(0, 256, (65, 80, 3), np.uint8)).resize((320, 260), BICUBIC)
    data = saved(fine, quality=95)
    image = Image.open(io.BytesIO(data))
    for size in (260, 100, 86, 66):
        assert np.array_equal(decode(data, "x", size), defined(image, size, False)), size
    for size in (65, 33, 20):
        exact, found = defined(image, size, False).astype(int), decode(data, "x", size)
        assert 0 < np.abs(found - exact).mean() < 6, size  # a quarter of it: 9 to 30


@pytest.mark.parametrize("whole", [False, True])
def test_a_jpeg_without_its_end_is_cut_like_any_other(rng, whole):
    data = saved(photo(rng, (50, 30)).convert("RGB"))
    found = decode(data[:-2], "x", 12, whole)
    assert found.shape == ((12, 20, 3) if whole else (12, 12, 3))
    assert np.array_equal(found, decode(data, "x", 12, whole))


def test_the_longer_side_is_rounded_to_the_nearest():
    for width, long in ((44, 29), (46, 31), (47, 31), (49, 33)):
        image = Image.new("RGB", (width, 30))
        assert decode(saved(image, "BMP"), "x", 20, whole=True).shape == (20, long, 3)
        turned = image.transpose(Image.Transpose.ROTATE_90)
        assert decode(saved(turned, "BMP"), "x", 20, whole=True).shape == (long, 20, 3)


def test_what_is_enlarged_is_told():
    """From more than four times smaller on."""
    image = Image.open(io.BytesIO(saved(Image.new("RGB", (9, 5)))))
    assert oddities(image, "a.jpg", 20) == []
    assert oddities(image, "a.jpg", 21) == ["enlarged from 9 x 5"]


def scanned() -> PngInfo:
    """Bytes in a PNG that would be scans in a JPEG."""
    info = PngInfo()
    info.add(b"zzZz", b"\xff\xda" * 99)
    return info


def test_scans_of_every_kind_of_jpeg_are_counted(rng, monkeypatch):
    plain = photo(rng, (40, 30)).convert("RGB")
    two = saved(plain, "MPO", save_all=True, append_images=[plain])
    many = saved(plain, progressive=True)
    assert (two.count(b"\xff\xda"), many.count(b"\xff\xda")) == (2, 10)
    for data, scans in ((two, 2), (many, 10)):
        monkeypatch.setattr(pictures, "MAX_SCANNED", scans << 20)
        assert decode(data, "x").shape == (30, 40, 3)
        monkeypatch.setattr(pictures, "MAX_SCANNED", (scans << 20) - 1)
        with pytest.raises(DataError, match=f"x: {scans} scans of 40 x 30 pixels: not decoded"):
            decode(data, "x")
    assert decode(saved(plain, "PNG", pnginfo=scanned()), "x").shape == (30, 40, 3)


def test_limits_are_allowed(monkeypatch, tmp_path):
    check_size(MAX_BYTES, "x")
    with pytest.raises(DataError, match="x: 268,435,457 bytes, more than"):
        check_size(MAX_BYTES + 1, "x")
    data = saved(Image.new("RGB", (40, 30)), "PNG")
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1200)
    assert open_picture(data, "x").size == (40, 30)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 1199)
    with pytest.raises(DataError, match="x: 40 x 30 pixels, more than 1,199"):
        open_picture(data, "x")
    monkeypatch.setattr(pictures, "MAX_BYTES", len(data))
    (tmp_path / "x.png").write_bytes(data)
    assert read_file(tmp_path / "x.png") == data
    monkeypatch.undo()
    assert decode(saved(Image.new("RGB", (320, 20))), "x", 10, whole=True).shape == (10, 160, 3)
    with pytest.raises(DataError, match="322 x 20 is too long and thin"):
        decode(saved(Image.new("RGB", (322, 20))), "x", 10, whole=True)


def test_other_formats_are_no_pictures(rng):
    image = photo(rng, (9, 9)).convert("RGB")
    for form in ("PPM", "TGA", "ICO", "PDF"):
        with pytest.raises(DataError, match=r"x: not a picture \(JPEG, PNG, WEBP, BMP, GIF, TIFF"):
            decode(saved(image, form), "x")


def test_what_has_a_pictures_name_and_is_no_file(tmp_path):
    for name in ("b.JPG", "a.png", ".hidden.png"):
        (tmp_path / name).write_text("x")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "linked.gif").symlink_to(tmp_path / "a.png")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / ".hidden").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.jpg")  # to open it would wait for ever
    found, others = list_pictures(tmp_path)
    assert [os.path.basename(path) for path in found] == ["a.png", "b.JPG", "linked.gif"]
    assert others == {".jpg file": 1 + hasattr(os, "mkfifo"), "folder": 1}
