"""Weights of torch's own files (.pth, .pt), without torch and without running what they say.

Such a file holds a pickle: a program for a small machine, which may call any function of Python.
The machine here knows lists, dicts, texts, numbers, and the ways in which torch writes a tensor. It
imports nothing and calls nothing; at anything else it stops.

Since version 1.6 the file is a zip archive, data.pkl and a file a storage; before, several pickles
in a row and then the storages.
"""

from __future__ import annotations

import io
import math
import os
import pickletools
import struct
import zipfile
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np

from tinynet.errors import ModelFileError

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of an old file
LARGEST = 1 << 26  # bytes of a pickle: it holds names and shapes, no values
DTYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip


@dataclass(frozen=True)
class Name:
    """A function or class that a pickle names."""

    text: str


@dataclass(frozen=True)
class Stored:
    """A storage: so many numbers of a type, under a key."""

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class Part:
    """A tensor: a part of a storage."""

    storage: Stored
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """The tensors of a state dict by name; also one that lies under "state_dict" in a dict.

    ModelFileError for anything else: a whole Module is code.
    """
    try:
        with open(path, "rb") as file:
            if zipfile.is_zipfile(file):
                return _from_zip(file)
            file.seek(0)
            if file.read(2) == b"PK":  # a zip archive has its directory at the end
                raise ValueError("its end is missing")
            file.seek(0)
            return _from_row(file)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from None
    except (
        ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError,
        EOFError, RuntimeError, struct.error, zipfile.BadZipFile,
    ) as error:  # fmt: skip
        raise ModelFileError(
            f"{path}: expected torch.save(net.state_dict(), path), got something else, or it is "
            f"damaged ({error or type(error).__name__})"
        ) from None


def _from_zip(file: IO[bytes]) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(file) as archive:
        entries = {each.filename.partition("/")[2]: each for each in archive.infolist()}
        if any(each.compress_type != zipfile.ZIP_STORED for each in entries.values()):
            raise ValueError("compressed entries, which torch never writes")
        parts = _tensors(unpickled(io.BytesIO(archive.read(entries["data.pkl"]))))
        big = "byteorder" in entries and archive.read(entries["byteorder"]).strip() == b"big"
        storages = {
            each.key: np.frombuffer(
                archive.read(entries[f"data/{each.key}"]),
                each.dtype.newbyteorder(">" if big else "<"),
            )
            for each in {part.storage for part in parts.values()}
        }
    return {name: _array(part, storages) for name, part in parts.items()}


def _from_row(file: IO[bytes]) -> dict[str, np.ndarray]:
    if unpickled(file) != MAGIC:
        raise ValueError("no file of torch")
    unpickled(file)  # the version of this form
    about = unpickled(file)
    known: dict[str, Stored] = {}  # an optimizer's, too: all of them follow in a row
    parts, keys = _tensors(unpickled(file, known)), unpickled(file)
    storages = {}
    order: Literal["<", ">"] = "<" if about["little_endian"] else ">"
    for key in keys:
        each = known[key]
        count = int(np.frombuffer(file.read(8), order + "i8")[0])
        if not 0 <= count <= each.count:
            raise ValueError(f"a storage of {count} numbers instead of {each.count}")
        data = file.read(count * each.dtype.itemsize)
        storages[key] = np.frombuffer(data, each.dtype.newbyteorder(order))
    return {name: _array(part, storages) for name, part in parts.items()}


def _tensors(tree: Any) -> dict[str, Part]:
    """A state dict's tensors; what else lies in it is refused."""
    if isinstance(tree, dict) and isinstance(tree.get("state_dict"), dict):
        tree = tree["state_dict"]
    if not isinstance(tree, dict) or not tree:
        raise ValueError("no dict of tensors")
    for name, part in tree.items():
        if not isinstance(name, str) or not isinstance(part, Part):
            raise ValueError(f"{name}, which is no tensor")
    return tree


def _array(part: Part, storages: dict[str, np.ndarray]) -> np.ndarray:
    flat = storages[part.storage.key]
    count = math.prod(part.shape)
    steps = [(n - 1) * s for n, s in zip(part.shape, part.strides, strict=True)]
    last = part.offset + sum(steps)
    fits = all(n >= 0 for n in (part.offset, *part.shape, *part.strides))
    if not fits or count > len(flat) or (count and last >= len(flat)):
        raise ValueError(f"a tensor {part.shape} outside of its storage")
    if count == 0:
        return np.zeros(part.shape, part.storage.dtype)
    strides = [s * flat.itemsize for s in part.strides]
    view = np.lib.stride_tricks.as_strided(flat[part.offset :], part.shape, strides)
    return view.astype(part.storage.dtype)


def unpickled(file: IO[bytes], storages: dict[str, Stored] | None = None) -> Any:
    """What the next pickle of a file says, by the machine described above; `storages` gets those
    that it names.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    marks: list[int] = []
    start = file.tell()

    def since_mark() -> list[Any]:
        at = marks.pop()
        taken = stack[at:]
        del stack[at:]
        return taken

    def put(target: Any, pairs: list[Any]) -> None:
        names, values = pairs[::2], pairs[1::2]
        if not isinstance(target, dict) or not all(isinstance(n, (str, int)) for n in names):
            raise ValueError("a dict whose keys are no names")  # others may take years to hash
        target.update(zip(names, values, strict=True))

    arg: Any  # what an opcode brings, if it brings something
    for opcode, arg, place in pickletools.genops(file):
        if (place or 0) - start > LARGEST:
            raise ValueError("a pickle of more than names and shapes")
        op = opcode.name
        if op in ("PROTO", "FRAME"):
            continue
        if op == "STOP":
            break
        if op == "MARK":
            marks.append(len(stack))
        elif op in ("NONE", "NEWTRUE", "NEWFALSE"):
            stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[op])
        elif op in ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT") or "UNICODE" in op:
            stack.append(arg)
        elif op == "GLOBAL":
            stack.append(Name(arg))
        elif op == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(Name(f"{module} {name}"))
        elif op in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": {}, "EMPTY_LIST": [], "EMPTY_TUPLE": ()}[op])
        elif op in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(op[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif op == "TUPLE":
            stack.append(tuple(since_mark()))
        elif op in ("APPEND", "APPENDS"):
            taken = [stack.pop()] if op == "APPEND" else since_mark()
            stack[-1].extend(taken)
        elif op in ("SETITEM", "SETITEMS"):
            pairs = [stack.pop(-2), stack.pop()] if op == "SETITEM" else since_mark()
            put(stack[-1], pairs)
        elif op in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if op == "MEMOIZE" else arg] = stack[-1]
        elif op in ("BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
        elif op == "BINPERSID":
            stack.append(_storage(stack.pop()))
            if storages is not None:
                storages[stack[-1].key] = stack[-1]
        elif op == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(_called(function, arguments))
        elif op == "BUILD":  # a state dict carries versions of its layers
            stack.pop()
            if not isinstance(stack[-1], dict):
                raise ValueError("an object of a class")
        else:
            raise ValueError(f"{op} in a pickle")
    return stack.pop()


def _storage(said: Any) -> Stored:
    word, kind, key, _, count, *_ = said
    name = kind.text.rpartition(" ")[2]
    if word != "storage" or name not in DTYPES or not isinstance(key, str):
        raise ValueError(f"a storage of {name}")
    return Stored(key, np.dtype(DTYPES[name]), int(count))


def _called(function: Any, arguments: Any) -> Any:
    """What the few functions in a state dict would give."""
    name = function.text if isinstance(function, Name) else ""
    if name == "collections OrderedDict" and arguments == ():
        return {}
    if name == "torch._utils _rebuild_tensor_v2":
        storage, offset, shape, strides, *_ = arguments
        whole = all(isinstance(n, int) for n in (offset, *shape, *strides))
        if not isinstance(storage, Stored) or not whole:
            raise ValueError("a tensor without a storage")
        return Part(storage, offset, shape, strides)
    if name == "torch._utils _rebuild_parameter" and isinstance(arguments[0], Part):
        return arguments[0]
    raise ValueError(f"{name or 'a call'}, which would be run")
