"""tinynet.save and tinynet.load: what goes into a file comes out of it, or nothing is changed."""

from __future__ import annotations

import os

import numpy as np
import pytest
from safetensors import safe_open

import tinynet
from tinynet import nn
from tinynet.saving import write_parts

WHOLE = np.arange(24.0).reshape(4, 6)
ARRAYS = {
    "rows": WHOLE,
    "turned": WHOLE.T,
    "with gaps": WHOLE[::2, 1::2],
    "backwards": WHOLE[::-1],
    "one": np.array(2.5),
    "none": np.zeros((0, 3)),
}
DTYPES = [np.float32, np.float64, np.float16, np.int64, np.int32, np.int8, np.uint8, np.bool_]


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_saved_is_loaded(dtype, tmp_path):
    """Whatever its type and however it lies in memory, as a tensor and as an array."""
    arrays = {name: array.astype(dtype, order="K") for name, array in ARRAYS.items()}
    tensors = {f"tensor {name}": tinynet.tensor(array) for name, array in arrays.items()}
    tinynet.save(arrays | tensors, tmp_path / "x.safetensors")
    found = tinynet.load(str(tmp_path / "x.safetensors"))  # a path may be a text
    assert found.keys() == arrays.keys() | tensors.keys()
    for name, array in arrays.items():
        for each in (found[name], found[f"tensor {name}"]):
            assert each.dtype == dtype and each.shape == array.shape and not each.requires_grad
            np.testing.assert_array_equal(each.numpy(), array)
    with safe_open(tmp_path / "x.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "tinynet"}


def test_a_net_comes_back_on_the_device_that_is_named(tmp_path):
    net = nn.Linear(3, 2).to("cpu:1")
    tinynet.save(net.state_dict(), tmp_path / "x.safetensors")
    for device in ("cpu", "cpu:1"):
        found = tinynet.load(tmp_path / "x.safetensors", device=device)
        assert {x.device for x in found.values()} == {tinynet.device(device)}
    other = nn.Linear(3, 2)
    other.load_state_dict(tinynet.load(tmp_path / "x.safetensors"))
    assert other.weight.numpy().tobytes() == net.weight.numpy().tobytes()
    found["weight"].data[...] = 0  # what is loaded is the caller's own
    again = tinynet.load(tmp_path / "x.safetensors")
    assert again["weight"].numpy().tobytes() == net.weight.numpy().tobytes()


@pytest.mark.parametrize("given", [np.ones(3), {1: np.ones(3)}, {"a": np.ones(3), 2: 1.0}, None])
def test_what_is_not_saved_changes_nothing(given, tmp_path):
    path = tmp_path / "x.safetensors"
    tinynet.save({"a": WHOLE}, path)
    with pytest.raises(TypeError, match="save: expected tensors by name"):
        tinynet.save(given, path)
    assert tinynet.load(path)["a"].numpy().tolist() == WHOLE.tolist()
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_kill_left_is_in_nobodys_way(tmp_path):
    """The library's own half-written file among it."""
    part = tmp_path / "x.safetensors.part"
    part.mkdir()
    (part / "x.safetensors").write_bytes(b"half")
    (part / ".tmp1a2b3c").write_bytes(b"half")
    tinynet.save({"a": WHOLE}, tmp_path / "x.safetensors")
    assert tinynet.load(tmp_path / "x.safetensors")["a"].numpy().tolist() == WHOLE.tolist()
    (tmp_path / "t.txt.part").write_bytes(b"a longer half")
    write_parts(tmp_path / "t.txt", [b"whole"])
    assert (tmp_path / "t.txt").read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.txt", "x.safetensors"]


def test_parts_are_written_in_their_order_or_not_at_all(tmp_path):
    write_parts(tmp_path / "x", [b"head", WHOLE, b"", np.arange(3, dtype=np.uint8)])
    assert (tmp_path / "x").read_bytes() == b"head" + WHOLE.tobytes() + bytes([0, 1, 2])

    def failing():
        yield b"new"
        raise ZeroDivisionError

    before = (tmp_path / "x").read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_parts(tmp_path / "x", failing())
    assert (tmp_path / "x").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("place", [0, 1])  # the file, then the folder that it is in
@pytest.mark.parametrize(
    "write",
    [lambda path: tinynet.save({"a": WHOLE}, path), lambda path: write_parts(path, [b"whole"])],
)
def test_nothing_stays_open_when_the_disk_fails(write, place, tmp_path, monkeypatch):
    seen = []

    def sync(descriptor):
        seen.append(descriptor)
        if len(seen) > place:
            raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(OSError, match="the disk is gone"):
        write(tmp_path / "x")
    assert len(seen) == place + 1
    for descriptor in seen:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_what_cannot_be_loaded(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        tinynet.load(tmp_path / "nowhere.safetensors")
    with pytest.raises(ValueError, match=f"expected a safetensors file, got a folder: {tmp_path}"):
        tinynet.load(tmp_path)
    tinynet.save({"a": WHOLE}, tmp_path / "x.safetensors")
    os.truncate(tmp_path / "x.safetensors", 100)
    with pytest.raises(ValueError, match="expected a safetensors file, got .*x.safetensors"):
        tinynet.load(tmp_path / "x.safetensors")
