"""The one MATLAB file ImageNet needs: the table of classes in its devkit's `data/meta.mat`.

MAT-file level 5 (MathWorks, "MAT-File Format"): a header of 128 bytes, then elements, each a tag
(type and length, uint32 each; or both as uint16 when the data fits the next four bytes) and its
data, padded to eight bytes. An element of type 15 is another one, zlib-compressed; one of type 14
is a matrix: elements for flags, dimensions, name, then the contents. A struct array lists its
field names, then for each entry, field by field, one matrix.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet.errors import DataError

_MATRIX, _COMPRESSED = 14, 15
_STRUCT, _CHAR = 2, 4
_NUMBERS = {
    1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8",
    13: "<u8",
}  # fmt: skip
_ENCODINGS = {4: "utf-16-le", 16: "utf-8", 17: "utf-16-le"}  # of all other types: Latin-1
# A crafted file of 89 kB unpacked to lists of 1.6 GB. The real one has 1,860 classes of eight
# fields, so some 15,000 elements in a row, and a few million bytes.
_MAX_BYTES = 32 << 20  # unpacked
_MAX_ELEMENTS = 1 << 18  # in one row
_MAX_NAMES = 1 << 12  # bytes of all fields' names


def read_struct_array(data: bytes, variable: str, name: str) -> list[dict[str, Any]]:
    """The entries of a struct array as dictionaries of strings and numbers.

    Fields of other kinds are None. Raises DataError that names the file.
    """
    try:
        if data[124:128] != b"\x00\x01IM":
            raise ValueError("not a little-endian MATLAB 5 file")
        left = _MAX_BYTES
        for kind, body in _elements(data[128:]):
            if kind == _COMPRESSED:
                inner = zlib.decompressobj().decompress(body, left)
                left -= len(inner)
                if left <= 0:
                    raise ValueError(f"unpacks to more than {_MAX_BYTES:,} bytes")
                kind, body = next(_elements(inner))
            if kind == _MATRIX:
                parts = list(_elements(body))
                if parts[2][1] == variable.encode() and parts[0][1][0] == _STRUCT:
                    return _entries(parts)
        raise ValueError(f"no struct array named {variable} in it")
    except (ValueError, IndexError, StopIteration, struct.error, zlib.error) as error:
        raise DataError(f"{name}: {error or 'damaged'}") from error


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The (type, data) of each element in a row of them."""
    position = count = 0
    while position + 8 <= len(data):
        if (count := count + 1) > _MAX_ELEMENTS:
            raise ValueError(f"more than {_MAX_ELEMENTS:,} elements in a row")
        kind, length = struct.unpack_from("<II", data, position)
        if kind >> 16:  # the short form: length above type, data inside the tag
            kind, length = kind & 0xFFFF, kind >> 16
            start, step = position + 4, 8
        else:
            start = position + 8
            step = 8 + length + (-length % 8 if kind != _COMPRESSED else 0)
        if start + length > len(data):
            raise ValueError(f"cut short at byte {position}")
        yield kind, data[start : start + length]
        position += step


def _entries(parts: list[tuple[int, bytes]]) -> list[dict[str, Any]]:
    width = struct.unpack("<i", parts[3][1])[0]  # bytes a field name
    if len(parts[4][1]) > _MAX_NAMES:
        raise ValueError(f"{len(parts[4][1]):,} bytes of fields' names")
    names = [
        parts[4][1][i : i + width].split(b"\0")[0].decode("latin1")
        for i in range(0, len(parts[4][1]), width)
    ]
    values = [_value(body) for _, body in parts[5:]]
    if not names or len(values) % len(names):
        raise ValueError(f"{len(values)} values for entries of {len(names)} fields")
    rows = range(0, len(values), len(names))
    return [dict(zip(names, values[row : row + len(names)], strict=True)) for row in rows]


def _value(body: bytes) -> Any:
    """A string, a number, or None for anything else."""
    parts = list(_elements(body))
    if len(parts) < 4 or not parts[0][1]:
        return None
    kind, data = parts[3]
    if parts[0][1][0] == _CHAR:
        return data.decode(_ENCODINGS.get(kind, "latin1"), "replace")
    if kind in _NUMBERS and parts[0][1][0] > _CHAR:
        numbers = np.frombuffer(data, _NUMBERS[kind])
        return numbers[0].item() if len(numbers) == 1 else None
    return None
