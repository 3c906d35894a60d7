"""Decoding one picture file safely: whatever its bytes are, a uint8 RGB picture or a DataError."""

from __future__ import annotations

import ctypes
import io
import os
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from tinynet.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png")
MAX_PIXELS = 100_000_000  # a picture that claims more is refused before it is decoded
_ORIENTATION = 0x0112  # the EXIF tag
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h
_MODES = {"L": "grey", "1": "black and white", "P": "palette", "I;16": "16-bit grey"}


def keep_freed_memory() -> None:
    """Ask glibc to reuse freed memory rather than give it back: for processes that only decode.

    Otherwise each picture's buffers are mapped, cleared and unmapped again by the kernel, which
    can take as long as the decoding (1,075 against 1,980 pictures/s of 256 x 256).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)


def list_pictures(folder: Path) -> list[str]:
    """The picture files of a folder by their endings, sorted by name; hidden files left aside."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.path
            for entry in entries
            if entry.name.lower().endswith(EXTENSIONS)
            and not entry.name.startswith(".")
            and entry.is_file()
        )


def open_picture(data: bytes, name: str) -> Image.Image:
    """The picture's header, with nothing decoded yet. Raises DataError that names the file."""
    try:
        image = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except Image.UnidentifiedImageError:
        raise DataError(f"{name}: not a JPEG or PNG picture") from None
    except Exception as error:  # the bytes are not ours: Pillow may raise anything over them
        raise DataError(f"{name}: {error or type(error).__name__}") from error
    if image.format == "PNG":
        _check_png(data, name)
    if image.width * image.height > MAX_PIXELS:
        raise DataError(
            f"{name}: {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: not decoded"
        )
    return image


def _check_png(data: bytes, name: str) -> None:
    """Compare every chunk's CRC-32, which Pillow does not do for the pixels'."""
    position, kind = 8, b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        kind, end = data[position + 4 : position + 8], position + 8 + length
        if end + 4 > len(data):
            raise DataError(f"{name}: truncated PNG file")
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise DataError(f"{name}: damaged PNG file, a checksum differs at byte {position}")
        position = end + 4


def decode(data: bytes, name: str, size: int | None = None, whole: bool = False) -> np.ndarray:
    """Decode JPEG or PNG bytes to RGB, uint8 (H, W, 3).

    With `size`, the picture's shorter side becomes `size` and the centre `size` x `size` is cut
    out (ALEXNET 2012, section 2), or with `whole` nothing is cut. Grey, CMYK, palette and 16-bit
    pictures become RGB; one that EXIF calls rotated is turned upright; transparency is dropped.
    Raises DataError that names the file when it is truncated, damaged or no picture.
    """
    image = open_picture(data, name)
    try:
        return np.asarray(_resize(_to_rgb(image, size), size, whole))
    except Exception as error:  # as above
        raise DataError(f"{name}: {error or type(error).__name__}") from error


def oddities(image: Image.Image, name: str, size: int) -> list[str]:
    """What is unusual about a picture that `decode` handles, in words, for a report."""
    notes = []
    if image.format != "JPEG" and name.lower().endswith((".jpg", ".jpeg")):
        notes.append(f"a {image.format} file in spite of its name")
    if image.mode != "RGB":
        notes.append(f"{_MODES.get(image.mode, image.mode)} made RGB")
    if image.getexif().get(_ORIENTATION, 1) != 1:
        notes.append("turned upright as its EXIF says")
    if min(image.size) * 4 < size:
        notes.append(f"enlarged from {image.width} x {image.height}")
    return notes


def _to_rgb(image: Image.Image, size: int | None) -> Image.Image:
    if size is not None:
        # libjpeg can decode at 1/2, 1/4, 1/8: used while at least twice `size` is left over.
        image.draft(None, (2 * size, 2 * size))
    image.load()
    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _resize(image: Image.Image, size: int | None, whole: bool) -> Image.Image:
    width, height = image.size
    if size is None or (min(width, height) == size and (whole or width == height)):
        return image
    short = min(width, height)
    if whole:
        long = round(max(width, height) * size / short)
        if long > 16 * size:
            raise DataError(f"{width} x {height} is too long and thin to be kept whole")
        target = (size, long) if width < height else (long, size)
        return image.resize(target, Image.Resampling.BICUBIC)
    # Cutting the centre square first, then resizing, gives the same picture for less work, and
    # keeps a 1 x 20,000 picture from growing to 256 x 5,120,000.
    left, top = (width - short) // 2, (height - short) // 2
    box = (left, top, left + short, top + short)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
