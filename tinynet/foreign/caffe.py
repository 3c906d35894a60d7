"""Weights of a .caffemodel: a message of protobuf, read by its numbers alone.

A message is a row of fields. Each begins with a number: 8 times the field's own plus how its value
is written: 0 a number of any length, 1 and 5 of eight and of four bytes, 2 a length and so many
bytes (a text, another message, many numbers). The numbers below are those of `src/caffe/proto/
caffe.proto` in BVLC/caffe.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.errors import ModelFileError

# A layer's fields: of NetParameter, its name, its blobs; as Caffe writes them now, and before 2014.
LAYERS = {100: (1, 7), 2: (4, 6)}
# A blob's: shape, floats, doubles; before 2014 its four sizes stood in four fields.
SHAPE, FLOATS, DOUBLES, SIZES = 7, 5, 8, (1, 2, 3, 4)


def read_caffe(path: str | os.PathLike) -> dict[str, list[np.ndarray]]:
    """The blobs of each layer in the file's order: "conv1" -> [weight, bias], "norm1" -> [].

    ModelFileError.
    """
    try:
        return _layers(memoryview(Path(path).read_bytes()))
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except (ValueError, IndexError, MemoryError) as error:
        raise ModelFileError(
            f"{path}: expected a .caffemodel, got none, or a damaged one ({error})"
        ) from None


def _layers(data: memoryview) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {}
    for number, layer in fields(data):
        if number not in LAYERS or not isinstance(layer, memoryview):
            continue
        name_field, blob_field = LAYERS[number]
        parts = list(fields(layer))
        names = [bytes(v) for n, v in parts if n == name_field and isinstance(v, memoryview)]
        blobs = [_blob(v) for n, v in parts if n == blob_field and isinstance(v, memoryview)]
        found[names[0].decode() if names else ""] = blobs
    if not any(found.values()):
        raise ValueError("no layer with weights")
    return found


def _blob(data: memoryview) -> np.ndarray:
    sizes, old, parts = [], dict.fromkeys(SIZES, 0), []
    for number, value in fields(data):
        if number in SIZES and isinstance(value, int):
            old[number] = value
        elif number == SHAPE and isinstance(value, memoryview):
            for n, dims in fields(value):
                if n == 1:
                    sizes += list(_numbers(dims)) if isinstance(dims, memoryview) else [dims]
        elif number in (FLOATS, DOUBLES) and isinstance(value, memoryview):
            parts.append(np.frombuffer(value, "<f4" if number == FLOATS else "<f8"))
    array = np.concatenate(parts).astype(np.float32) if parts else np.zeros(0, np.float32)
    shape = sizes or list(old.values())
    if math.prod(shape) != array.size:
        raise ValueError(f"a blob of shape {shape} with {array.size:,} values")
    return array.reshape(shape)


def fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field: an int, or the bytes. ValueError where they make no sense."""
    at = 0
    while at < len(data):
        key, at = _number(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _number(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind, -1)
        if kind == 2:
            size, at = _number(data, at)
        if size < 0 or at + size > len(data):
            raise ValueError(f"a field of kind {kind} at byte {at} that ends nowhere")
        yield key >> 3, data[at : at + size]
        at += size


def _numbers(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _number(data, at)
        yield value


def _number(data: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where it ends: seven bits a byte, the lowest first; the
    eighth says that another one follows.
    """
    value = 0
    for i, byte in enumerate(data[at : at + 10]):  # ten groups hold 64 bits
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    raise ValueError(f"a number without an end at byte {at}")
