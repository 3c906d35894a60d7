"""Decoding one picture file safely: whatever its bytes are, a uint8 RGB picture or a DataError."""

from __future__ import annotations

import ctypes
import io
import os
import sys
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from tinynet.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
MAX_BYTES = 1 << 28  # a larger file is refused before it is read
MAX_PIXELS = 100_000_000  # a picture that claims more is refused before it is decoded
MAX_SCANNED = 20 * MAX_PIXELS  # a JPEG's pixels times its scans: a few seconds of decoding
_SMALL_SCAN = 1 << 20  # pixels; a scan of fewer takes no less time than one of as many
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
# JPEG's markers: a scan begins; the picture ends; scans are cut into pieces by restart markers
_SCAN, _END, _RESTARTS = b"\xff\xda", b"\xff\xd9", b"\xff\xdd"
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {  # what makes a picture with this tag upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from malloc.h
_MODES = {"L": "grey", "1": "black and white", "P": "palette"}
_MODES |= {"I;16": "16-bit grey", "I;16B": "16-bit grey"}  # low bytes first, high bytes first

# What Pillow warns of it names no file for; what matters of it is refused or noted here.
warnings.filterwarnings("ignore", module=r"PIL\.")


def keep_freed_memory() -> None:
    """Ask glibc to reuse freed memory rather than give it back: for processes that only decode.

    Otherwise each picture's buffers are mapped, cleared and unmapped again by the kernel, which
    can take as long as the decoding (1,075 against 1,980 pictures/s of 256 x 256).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)


def list_pictures(folder: Path) -> tuple[list[str], Counter[str]]:
    """The picture files of a folder by their endings, sorted by name; and what else lies there,
    counted by kind: {".heic file": 12, "folder": 1}. Hidden files are left aside.
    """
    pictures: list[str] = []
    others: Counter[str] = Counter()
    with os.scandir(folder) as entries:
        for entry in entries:
            ending = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                others["folder"] += 1
            elif ending in EXTENSIONS and entry.is_file():
                pictures.append(entry.path)
            else:
                others[f"{ending or 'other'} file"] += 1
    return sorted(pictures), others


def in_words(others: Counter[str]) -> str:
    """The second result of `list_pictures`: "12 .heic files, 1 folder"; at most five."""
    counts = sorted(others.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{n:,} {kind}{'s' * (n > 1)}" for kind, n in counts[:5]]
    rest = sum(n for _, n in counts[5:])
    return ", ".join(words + [f"{rest:,} of other kinds"] * (rest > 0))


def read_file(path: str | Path) -> bytes:
    """The bytes of a picture file. DataError if they are too many to be one, OSError."""
    with open(path, "rb") as file:
        check_size(os.fstat(file.fileno()).st_size, str(path))
        return file.read()


def check_size(size: int, name: str) -> None:
    """DataError if a file of so many bytes is too large to be read as a picture."""
    if size > MAX_BYTES:
        raise DataError(f"{name}: {size:,} bytes, more than {MAX_BYTES:,}: not read")


def open_picture(data: bytes, name: str) -> Image.Image:
    """The picture's header, with nothing decoded yet. Raises DataError that names the file."""
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.UnidentifiedImageError:
        raise DataError(f"{name}: not a picture ({', '.join(_FORMATS)})") from None
    except Image.DecompressionBombError:
        raise DataError(f"{name}: more than {MAX_PIXELS:,} pixels: not decoded") from None
    except Exception as error:  # the bytes are not ours: Pillow may raise anything over them
        raise DataError(f"{name}: {error or type(error).__name__}") from error
    if image.format == "PNG":
        _check_png(data, name)
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise DataError(
            f"{name}: {image.width} x {image.height} pixels, more than {MAX_PIXELS:,}: not decoded"
        )
    # Each scan of a progressive JPEG goes over all pixels once more: 200 scans of a large picture
    # would take 40 s. The marker cannot occur inside a scan; a thumbnail adds one or two.
    scans = data.count(_SCAN) if image.format in ("JPEG", "MPO") else 1
    if scans * max(pixels, _SMALL_SCAN) > MAX_SCANNED:
        raise DataError(
            f"{name}: {scans} scans of {image.width} x {image.height} pixels: not decoded"
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
    """Decode the bytes of a picture file to RGB, uint8 (H, W, 3).

    With `size`, the picture's shorter side becomes `size` and the centre `size` x `size` is cut
    out (ALEXNET 2012, section 2), or with `whole` nothing is cut. Grey, CMYK, palette and 16-bit
    pictures become RGB; one that EXIF calls rotated is turned upright; transparency is dropped; of
    an animation the first picture is taken. A JPEG that lacks its end marker and nothing else is
    read. Raises DataError that names the file when it is truncated, damaged or no picture.
    """
    try:
        return _decode(data, name, size, whole)
    except DataError:
        whole_file = with_end(data)
        if whole_file is data:
            raise
        return _decode(whole_file, name, size, whole)


def _decode(data: bytes, name: str, size: int | None, whole: bool) -> np.ndarray:
    image = open_picture(data, name)
    try:
        return np.asarray(_resize(_to_rgb(image, size), size, whole))
    except Exception as error:  # as above
        raise DataError(f"{name}: {error or type(error).__name__}") from error


def with_end(data: bytes) -> bytes:
    """A JPEG that lacks its end marker, and nothing else, with it; any other data as it is.

    libjpeg fills what is missing with grey and says nothing. So the same data is decoded with
    several endings: what follows a whole scan is not looked at, what follows a cut one is taken for
    pixels. A whole scan, or a whole piece between restart markers, might be missing without that,
    so all scans must be announced, and no restarts.
    """
    start = _first_scan(data)
    if start < 0 or data.find(_END, start) >= 0 or _RESTARTS in data[:start]:
        return data
    bare = data.removesuffix(_END[:1])
    try:
        image = open_picture(data, "")
        if not _has_all_scans(bare, start, len(image.getbands())):
            return data
        # Their first two bits are all there are: 00 (as libjpeg fills), 01, 10, 11. A bit that is
        # missing can be too small for the picture alone, and seen with the next one only.
        fillers = (b"", b"\x5a" * 4096, b"\xa5" * 4096, b"\xcc" * 4096)
        found = {open_picture(bare + filler + _END, "").tobytes() for filler in fillers}
    except Exception:  # damaged elsewhere too
        return data
    return bare + _END if len(found) == 1 else data


def _first_scan(data: bytes) -> int:
    """The place of a JPEG's first scan, behind all segments (one may hold a thumbnail); or -1."""
    position = 2
    while data[position : position + 2] != _SCAN:
        if data[position : position + 1] != b"\xff":
            return -1
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position if data.startswith(b"\xff\xd8") else -1


def _has_all_scans(data: bytes, scan: int, components: int) -> bool:
    """Whether a JPEG's scans bring every bit of the 64 coefficients of all components."""
    missing = {}  # (component, coefficient) -> how many low bits have not come yet
    while scan >= 0:
        count = data[scan + 4]
        first, last, bits = data[scan + 5 + 2 * count : scan + 8 + 2 * count]
        for component in data[scan + 5 : scan + 5 + 2 * count : 2]:
            for k in range(first, last + 1):
                missing[component, k] = bits & 15
        scan = data.find(_SCAN, scan + len(_SCAN))
    return len(missing) == 64 * components and not any(missing.values())


def oddities(image: Image.Image, name: str, size: int) -> list[str]:
    """What is unusual about a picture that `decode` handles, in words, for a report."""
    notes = []
    jpeg = image.format in ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it
    if not jpeg and name.lower().endswith((".jpg", ".jpeg")):
        notes.append(f"a {image.format} file in spite of its name")
    if image.mode != "RGB":
        notes.append(f"{_MODES.get(image.mode, image.mode)} made RGB")
    if not jpeg and _is_animated(image):
        notes.append("the first of several pictures")
    if _orientation(image) in _TURNS:
        notes.append("turned upright as its EXIF says")
    if min(image.size) * 4 < size:
        notes.append(f"enlarged from {image.width} x {image.height}")
    return notes


def _is_animated(image: Image.Image) -> bool:
    try:
        return getattr(image, "is_animated", False)
    except Exception:  # Pillow looks for a second picture, over bytes that are not ours
        return False


def _orientation(image: Image.Image) -> int:
    """The EXIF tag, 1 (upright) if there is none, or if the block cannot be read."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # the block is not ours: Pillow may raise anything over it
        return 1


def _to_rgb(image: Image.Image, size: int | None) -> Image.Image:
    if size is not None:
        # libjpeg can decode at 1/2, 1/4, 1/8: used while at least twice `size` is left over.
        image.draft(None, (2 * size, 2 * size))
    image.load()
    # After loading, since Pillow turns a TIFF by itself and then forgets the tag.
    if (turn := _TURNS.get(_orientation(image))) is not None:
        image = image.transpose(turn)
    if image.mode == "F":
        raise DataError("pixels are floating-point numbers, of which the range is not known")
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip to white
        grey = np.asarray(image)
        low, high = grey.min(), grey.max()
        if low < 0 or high > 0xFFFF:
            raise DataError(f"grey values from {low} to {high}, more than 16 bits")
        image = Image.fromarray((grey >> 8).astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _resize(image: Image.Image, size: int | None, whole: bool) -> Image.Image:
    width, height = image.size
    if size is None or (min(width, height) == size and (whole or width == height)):
        return image
    short = min(width, height)
    if whole:
        target = round(width * size / short), round(height * size / short)
        if max(target) > 16 * size:
            raise DataError(f"{width} x {height} is too long and thin to be kept whole")
        return image.resize(target, Image.Resampling.BICUBIC)
    # The centre square is cut first, then resized: less work, and a picture of 1 x 20,000 does not
    # grow to 256 x 5,120,000. The paper resizes first; the two differ by 2 grey levels, mostly at
    # edges, since the pixels of the smaller picture lie elsewhere.
    left, top = (width - short) // 2, (height - short) // 2
    box = (left, top, left + short, top + short)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
