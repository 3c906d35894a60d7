"""Files of others byte by byte: all that their forms allow, written by their tools or not."""

from __future__ import annotations

import io
import itertools
import math
import pickle
import pickletools
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinynet import ModelFileError
from tinynet.foreign import read_caffe, read_torch
from tinynet.foreign import torch as foreign
from tinynet.foreign.caffe import fields
from tinynet.foreign.torch import Part, Stored, _array, unpickled

# ------------------------------------------------------------------------- Caffe's: protobuf


def number(n: int) -> bytes:
    groups = []
    while n > 127:
        groups.append(n & 127 | 128)
        n >>= 7
    return bytes([*groups, n])


def whole(field: int, value: int) -> bytes:
    return number(8 * field) + number(value)


def part(field: int, value: bytes) -> bytes:
    return number(8 * field + 2) + number(len(value)) + value


def eight(field: int, value: float) -> bytes:
    return number(8 * field + 1) + struct.pack("<d", value)


def four(field: int, value: float) -> bytes:
    return number(8 * field + 5) + struct.pack("<f", value)


def test_fields_of_every_kind(rng):
    """A message is a row of fields, in any order, each told by its own number."""
    kinds = {
        whole: lambda: int(rng.integers(0, 2 ** int(rng.integers(1, 63)))),
        part: lambda: rng.bytes(int(rng.choice([0, 1, 127, 128, 300]))),
        eight: lambda: float(rng.normal()),
        four: lambda: float(np.float32(rng.normal())),
    }
    told, data = [], b""
    for make in [*kinds, *rng.choice([*kinds], 30)]:
        field, value = int(rng.choice([1, 15, 16, 100, 2047, 2048])), kinds[make]()
        data += make(field, value)
        told.append((field, value))
    found = []
    for (field, value), (_, expected) in zip(fields(memoryview(data)), told, strict=True):
        if isinstance(expected, float):
            value = struct.unpack("<d" if len(value) == 8 else "<f", value)[0]
        found.append((field, bytes(value) if isinstance(value, memoryview) else value))
    assert found == told


@pytest.mark.parametrize(
    "data",
    [whole(1, 5)[:1], b"\x80" * 12, part(1, b"abc")[:-1], eight(1, 2.0)[:-1], four(1, 2.0)[:-1],
     number(8 * 1 + 3), number(8 * 1 + 4), number(8 * 1 + 7) + b"1234567"],
)  # fmt: skip
def test_fields_that_end_nowhere(data):
    with pytest.raises((ValueError, IndexError)):
        list(fields(memoryview(whole(3, 7) + data)))
    assert list(fields(memoryview(b""))) == []


def test_a_number_is_of_ten_bytes_at_most():
    """They hold 64 bits; a negative one has all ten."""
    assert list(fields(memoryview(whole(1, 2**64 - 1)))) == [(1, 2**64 - 1)]
    with pytest.raises(ValueError, match="a number without an end at byte 1"):
        list(fields(memoryview(whole(1, 2**70))))


FLAT = np.arange(6.0)
SHAPES = {
    "in a row": part(7, part(1, number(2) + number(3))),
    "one by one": part(7, whole(1, 2) + whole(1, 3)),
    "of 2013": b"".join(whole(n, size) for n, size in enumerate((1, 1, 2, 3), 1)),
}
VALUES = {
    "floats": part(5, FLAT.astype("<f4").tobytes()),
    "floats one by one": b"".join(four(5, x) for x in FLAT),
    "doubles": part(8, FLAT.astype("<f8").tobytes()),
    "doubles one by one": b"".join(eight(8, x) for x in FLAT),
    "in two parts": part(5, FLAT[:2].astype("<f4").tobytes())
    + part(5, FLAT[2:].astype("<f4").tobytes()),
}


def layer(name: str, *blobs: bytes, old: bool = False) -> bytes:
    """Beside it stand fields that do not matter: a type, numbers of four and of eight bytes."""
    own, of_name, of_blob = (2, 4, 6) if old else (100, 1, 7)
    rest = whole(5, 4) + eight(20, 1.5) + four(21, 2.5) + part(30, b"text")
    inside = rest + part(of_name, name.encode()) + b"".join(part(of_blob, b) for b in blobs)
    return part(own, inside)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_blob_in_every_form(shape: str, values: str, old: bool, tmp_path: Path) -> None:
    path, gradient = tmp_path / "net", part(6, FLAT.astype("<f4").tobytes())
    blob = SHAPES[shape] + gradient + VALUES[values]
    path.write_bytes(
        part(1, b"net") + layer("conv", blob, SHAPES["of 2013"] + VALUES["doubles"], old=old)
        + layer("relu", old=old)
    )  # fmt: skip
    found = read_caffe(path)
    assert list(found) == ["conv", "relu"] and found["relu"] == [] and len(found["conv"]) == 2
    expected = FLAT.reshape((1, 1, 2, 3) if shape == "of 2013" else (2, 3)).astype(np.float32)
    np.testing.assert_array_equal(found["conv"][0], expected)
    assert found["conv"][0].dtype == np.float32 and found["conv"][0].flags.writeable


def test_a_blob_of_both_years_and_an_empty_one(tmp_path: Path) -> None:
    both = SHAPES["of 2013"] + SHAPES["in a row"] + VALUES["floats"]
    (tmp_path / "net").write_bytes(layer("conv", both, b""))
    assert [blob.shape for blob in read_caffe(tmp_path / "net")["conv"]] == [(2, 3), (0, 0, 0, 0)]


@pytest.mark.parametrize(
    "data, words",
    [
        (layer("a") + layer("b"), "no layer with weights"),
        (b"", "no layer with weights"),
        (layer("a", SHAPES["in a row"] + VALUES["floats"][:-4]), "ends nowhere"),
        (layer("a", part(7, part(1, b"\7")) + VALUES["floats"]), r"shape \[7\] with 6 values"),
        (layer("a", part(7, part(1, b"\5")) + VALUES["floats"]), r"shape \[5\] with 6 values"),
    ],
)
def test_caffe_files_that_hold_no_net(data: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "net"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=words):
        read_caffe(path)


@pytest.mark.parametrize("read", [read_caffe, read_torch])
def test_what_is_no_file_at_all(read: Any, tmp_path: Path) -> None:
    for path, why in ((tmp_path, "Is a directory"), (tmp_path / "none", "No such file")):
        with pytest.raises(ModelFileError, match=f"{path} cannot be read: {why}"):
            read(path)


# ------------------------------------------------------------------------- torch's

torch = pytest.importorskip("torch")
KINDS = ("float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool")


def saved(state: Any, zipped: bool = True, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    return buffer.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_all_types_and_pickles_of_all_years(zipped: bool, protocol: int, tmp_path: Path) -> None:
    base = torch.arange(-4, 8).reshape(3, 4)
    state = {kind: base.to(getattr(torch, kind)) for kind in KINDS}
    state |= {f"{kind} turned": x.T[1:] for kind, x in state.items()}
    state |= {f"number {i}": torch.tensor(float(i)) for i in range(300)}  # more than a byte counts
    state |= {"parameter": torch.nn.Parameter(base.float()), "none": torch.zeros(0, 3)}
    state["view"] = torch.arange(24).reshape(2, 3, 4)[:, 1:, ::2].transpose(0, 2)
    norm = torch.nn.BatchNorm1d(3).state_dict()  # with a version of each layer
    adam = {"state": {0: {"step": torch.ones(1)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    for tree in (norm, {"state_dict": norm, "epoch": 3, "optimizer": adam}, state):
        (tmp_path / "net.pth").write_bytes(saved(tree, zipped, protocol))
        found, expected = read_torch(tmp_path / "net.pth"), tree.get("state_dict", tree)
        assert list(found) == list(expected)
        for name, x in expected.items():
            x = x.detach().numpy()
            np.testing.assert_array_equal(found[name], x)
            assert found[name].dtype == x.dtype and found[name].flags.writeable
    found["float32"][...] = 0
    assert found["float32 turned"].any()  # one storage here, two arrays there


def test_values_of_the_other_byte_order(tmp_path: Path) -> None:
    """As a big-endian machine writes them; what comes out is this machine's."""
    state = {kind: torch.arange(1, 7).to(getattr(torch, kind)) for kind in KINDS}
    source = zipfile.ZipFile(io.BytesIO(saved(state)))
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as target:
        kinds = iter(KINDS)
        for entry in source.infolist():
            data = source.read(entry)
            if "/data/" in entry.filename:
                data = np.frombuffer(data, next(kinds)).byteswap().tobytes()
            target.writestr(entry.filename, b"big" if "byteorder" in entry.filename else data)
    for name, x in read_torch(tmp_path / "net.pth").items():
        np.testing.assert_array_equal(x, state[name].numpy())
        assert x.dtype == np.dtype(name) and x.dtype.isnative


@pytest.mark.parametrize(
    "offset, shape, strides, fits",  # in 12 numbers
    [
        (0, (12,), (1,), True), (1, (12,), (1,), False), (2, (2, 5), (5, 1), True),
        (3, (2, 5), (5, 1), False), (0, (2, 2), (10, 1), True), (0, (2, 2), (11, 1), False),
        (-1, (2,), (1,), False), (5, (2,), (-1,), False), (0, (-1,), (1,), False),
        (0, (13,), (0,), False), (12, (0, 3), (3, 1), True), (11, (), (), True),
        (12, (), (), False),
    ],
)  # fmt: skip
def test_a_tensor_lies_inside_of_its_storage(
    offset: int, shape: tuple, strides: tuple, fits: bool
) -> None:
    flat = np.arange(12, dtype=np.float32)
    part = Part(Stored("0", flat.dtype, 12), offset, shape, strides)
    if fits:
        assert _array(part, {"0": flat}).shape == shape
    else:
        with pytest.raises(ValueError, match="outside of its storage"):
            _array(part, {"0": flat})


def test_an_old_file_in_any_order_of_bytes_and_of_storages(tmp_path: Path) -> None:
    """Its fifth pickle says in which order they follow, its third one where a number begins."""
    state = {"a": torch.arange(3.0), "b": torch.arange(5, dtype=torch.int32)}
    data, pickles = saved(state, zipped=False), []
    stream = io.BytesIO(data)
    for _ in range(5):
        start = stream.tell()
        assert [op.name for op, *_ in pickletools.genops(stream)][-1] == "STOP"
        pickles.append(data[start : stream.tell()])
    keys, storages = pickle.loads(pickles[4]), {}
    for key in keys:
        (count,) = struct.unpack("<q", stream.read(8))
        storages[key] = np.frombuffer(stream.read(4 * count), "<u4")
    for sign, order in itertools.product("<>", (keys, keys[::-1])):
        pickles[2] = pickle.dumps({"little_endian": sign == "<"}, 2)
        pickles[4] = pickle.dumps(order, 2)
        for key in order:
            numbers = storages[key].astype(f"{sign}u4")
            pickles.append(struct.pack(f"{sign}q", len(numbers)) + numbers.tobytes())
        (tmp_path / "net.pth").write_bytes(b"".join(pickles))
        del pickles[5:]
        for name, x in read_torch(tmp_path / "net.pth").items():
            np.testing.assert_array_equal(x, state[name].numpy())


def test_a_pickle_holds_names_and_shapes_alone(tmp_path: Path, monkeypatch: Any) -> None:
    """64 MB of them are no net's: nobody waits for what is a gigabyte of zeros in a small file."""
    (tmp_path / "net.pth").write_bytes(saved({"w": torch.zeros(5)}))
    read_torch(tmp_path / "net.pth")
    monkeypatch.setattr(sys.modules["tinynet.foreign.torch"], "LARGEST", 50)
    with pytest.raises(ModelFileError, match="a pickle of more than names and shapes"):
        read_torch(tmp_path / "net.pth")
    with pytest.raises(ValueError, match="an object of a class"):  # a list with attributes
        unpickled(io.BytesIO(b"\x80\x02]}b."))


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_half_a_file_says_so(cut: float, tmp_path: Path) -> None:
    data = saved({"w": torch.zeros(500)})
    (tmp_path / "net.pth").write_bytes(data[: int(cut * len(data))])
    with pytest.raises(ModelFileError, match="its end is missing"):
        read_torch(tmp_path / "net.pth")


@pytest.mark.parametrize("count", [-1, 13, 2**40])
def test_a_storage_of_another_length_than_it_said(count: int, tmp_path: Path) -> None:
    data, said = saved({"w": torch.arange(12.0)}, zipped=False), struct.pack("<q", 12)
    assert data.count(said) == 1
    (tmp_path / "net.pth").write_bytes(data.replace(said, struct.pack("<q", count)) + bytes(8))
    with pytest.raises(ModelFileError, match=f"a storage of {count} numbers instead of 12"):
        read_torch(tmp_path / "net.pth")


class Said(pickle.Pickler):
    """Writes a storage as torch does."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.said if isinstance(obj, Storage) else None


class Storage:
    def __init__(self, *said: Any) -> None:
        self.said = said


class Rebuilt:
    """Written as torch writes a tensor."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, self.arguments


def with_storages(what: Any) -> bytes:
    file = io.BytesIO()
    Said(file, 2).dump(what)
    return file.getvalue()


EVERY = {
    "PROTO", "FRAME", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1",
    "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "EMPTY_DICT", "EMPTY_LIST",
    "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "APPEND", "APPENDS", "SETITEM",
    "SETITEMS", "BINPUT", "LONG_BINPUT", "MEMOIZE", "BINGET", "LONG_BINGET", "GLOBAL",
    "STACK_GLOBAL", "REDUCE", "BINPERSID",
}  # fmt: skip
WORDS = [f"word {n}" for n in range(300)]  # more than a byte counts
TREE = {
    "one": [1], "numbers": [0, 255, 256, 65535, 65536, -1, 2**31 - 1, 2**31, -(2**70), 0.5],
    "others": [None, True, False, "", "x" * 300], "rows": ((), (1,), (1, 2), (1, 2, 3), (1,) * 4),
    "inside": {"one": {}, 2: {"a": [], "b": [[]]}, 3: {"c": ()}}, "words": WORDS,
    "again": WORDS[::-1], "lists": [WORDS, WORDS],
}  # fmt: skip


def test_every_word_that_a_pickle_of_weights_may_use() -> None:
    """In each protocol: the tree that went in, what was shared still shared."""
    seen = set()
    for protocol in (2, 3, 4, 5):
        data = pickle.dumps(TREE, protocol)
        found = unpickled(io.BytesIO(data))
        assert found == TREE and repr(found) == repr(TREE)  # True is no 1
        assert found["words"] is found["lists"][0] is found["lists"][1]
        assert found["inside"]["one"] is not found["inside"][2]
        assert found["inside"][2]["a"] is not found["inside"][2]["b"]
        net = saved({"weight": torch.zeros(2)}, zipped=False, protocol=protocol)
        stream = io.BytesIO(net)
        for _ in range(4):
            seen |= {op.name for op, *_ in pickletools.genops(stream)}
        seen |= {op.name for op, *_ in pickletools.genops(data)}
    assert seen >= EVERY


FLOATS = Storage("storage", torch.FloatStorage, "0", "cpu", 2)


@pytest.mark.parametrize(
    "data, why",
    [
        (pickle.dumps({1, 2}, 4), "EMPTY_SET in a pickle"),
        (pickle.dumps(1j, 4), "builtins complex, which would be run"),
        (with_storages({"w": Storage("storage", Path, "0", "cpu", 2)}), "a storage of Path"),
        (b"ctorch._utils\n_rebuild_parameter\n(K\x01tR.",
         "torch._utils _rebuild_parameter, which would be run"),
        (b"ccollections\nOrderedDict\n]\x85R.", "collections OrderedDict, which would be run"),
        (b"cbuiltins\nlist\n)R.", "builtins list, which would be run"),
        (with_storages(Rebuilt("3", 0, (2,), (1,))), "a tensor without a storage"),
        (with_storages(Rebuilt(FLOATS, 0.5, (2,), (1,))), "a tensor without a storage"),
        (with_storages(Rebuilt(FLOATS, 0, (2.0,), (1,))), "a tensor without a storage"),
        (with_storages(Rebuilt(FLOATS, 0, (2,), ("1",))), "a tensor without a storage"),
    ],
)  # fmt: skip
def test_what_a_pickle_of_weights_does_not_hold(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{why}$"):
        unpickled(io.BytesIO(data))


ODD_PICKLES = {  # what Python says of them if nobody looks
    IndexError: b"R.", TypeError: b"ctorch._utils\n_rebuild_tensor_v2\nK\x01R.",
    KeyError: b"h\x07.", ValueError: b"",
    AttributeError: with_storages(Storage("storage", 5, "0", "cpu", 2)),
    OverflowError: with_storages(Storage("storage", np.dtype, "0", "cpu", math.inf)).replace(
        b"cnumpy\ndtype", b"ctorch\nFloatStorage"
    ),
}  # fmt: skip
FLAGS = {"encrypted": 1, "patched": 32, "strongly encrypted": 64}  # RuntimeErrors of zipfile


@pytest.mark.parametrize("odd", [*ODD_PICKLES, *FLAGS])
def test_whatever_an_odd_file_makes_of_the_reader_it_is_said_in_words(
    odd: Any, tmp_path: Path
) -> None:
    path = tmp_path / "net.pth"
    if odd in FLAGS:
        data = bytearray(saved({"w": torch.zeros(2)}))
        for mark, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # in both headers of every entry
            at = data.find(mark)
            while at >= 0:
                data[at + place] |= FLAGS[odd]
                at = data.find(mark, at + 4)
        path.write_bytes(data)
    else:
        about = (foreign.MAGIC, 1001, {"little_endian": True})
        path.write_bytes(b"".join(pickle.dumps(each, 2) for each in about) + ODD_PICKLES[odd])
    with pytest.raises(ModelFileError, match="got something else, or it is damaged"):
        read_torch(path)


def test_a_pickle_is_as_long_as_names_and_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted from where it begins: old files hold several, one after the other."""
    data = pickle.dumps(["w" * 40] * 3, 2)
    monkeypatch.setattr(foreign, "LARGEST", len(data) - 1)  # the place of its last byte
    file = io.BytesIO(data * 3)
    assert [unpickled(file) for _ in range(3)] == [["w" * 40] * 3] * 3
    monkeypatch.setattr(foreign, "LARGEST", len(data) - 2)
    with pytest.raises(ValueError, match="a pickle of more than names and shapes"):
        unpickled(io.BytesIO(data))
