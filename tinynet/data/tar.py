"""Reading tar archives one does not trust.

A tar file is a row of 512-byte headers, each followed by its file padded to 512 bytes, and ends
with a block of zeros (POSIX.1-1988 "ustar"). Here nothing is ever unpacked to a path: members are
(name, offset, size), to be read from the archive where they lie. Long names (GNU "L", POSIX "x")
are understood and bounded; links and devices are refused.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tinynet.errors import DataError

BLOCK = 512
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_MAX_NAME = 1 << 16


class Member(NamedTuple):
    name: str
    offset: int  # of its first byte in the file that holds the archive
    size: int


def tar_members(file: BinaryIO, name: str, start: int = 0, end: int | None = None) -> Iterator:
    """The regular files of a tar archive that fills bytes `start` to `end` of `file`.

    Raises DataError that names the archive and the place where it is damaged or cut short.
    """
    if end is None:
        end = file.seek(0, io.SEEK_END)
    position, long_name = start, None
    while True:
        file.seek(position)
        block = file.read(BLOCK) if position + BLOCK <= end else b""
        if len(block) < BLOCK:
            raise DataError(f"{name}: cut short after {position - start:,} bytes")
        if not any(block):
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise DataError(f"{name}: damaged at byte {position - start:,} ({error})") from error
        data = position + BLOCK
        position = data + -(-header.size // BLOCK) * BLOCK
        if header.size < 0 or position > end:
            raise DataError(f"{name}: cut short inside {header.name}")
        if header.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
            if header.size > _MAX_NAME:
                raise DataError(f"{name}: a name of {header.size:,} bytes at byte {data - start:,}")
            file.seek(data)
            long_name = _long_name(header.type, file.read(header.size)) or long_name
            continue
        if header.type in _FILES:
            yield Member(long_name or header.name, data, header.size)
        elif header.type not in (tarfile.DIRTYPE, tarfile.XGLTYPE):
            raise DataError(f"{name}: expected only files, got {header.name}, a link or device")
        long_name = None  # it was that of this file, or of this folder


def _long_name(kind: bytes, data: bytes) -> str | None:
    if kind == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    for line in data.split(b"\n"):  # POSIX: "LENGTH key=value\n"
        key, _, value = line.partition(b" ")[2].partition(b"=")
        if key == b"path":
            return value.decode("utf-8", "surrogateescape")
    return None


def read_packed(path: Path, wanted: Callable[[str], bool], limit: int) -> dict[str, bytes]:
    """The wanted files of a small .tar.gz or .tar, by name without folders, held in memory.

    An archive that unpacks to more than `limit` bytes is refused before it fills the memory.
    """
    opener = gzip.open if path.suffix in (".gz", ".tgz") else open
    try:
        with opener(path, "rb") as file:
            data = file.read(limit + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or cut short ({error}); fetch it again") from error
    if len(data) > limit:
        raise DataError(f"{path}: unpacks to more than {limit:,} bytes; is it the right file?")
    files = {}
    for member in tar_members(io.BytesIO(data), str(path)):
        name = member.name.rpartition("/")[2]
        if wanted(name):
            files[name] = data[member.offset : member.offset + member.size]
    return files


def tar_member(name: str, data: bytes) -> bytes:
    """A member for an archive being written: header, data, padding. The same bytes every time."""
    header = tarfile.TarInfo(name)
    header.size = len(data)
    return header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK)
