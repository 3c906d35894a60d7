"""Checkpoints: whole or recognised as damaged, whatever happens to the file or the writer."""

from __future__ import annotations

import hashlib
import os

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open

from tinynet import saving
from tinynet.errors import CheckpointError
from tinynet.training import checkpoint as files
from tinynet.training.checkpoint import Checkpoint


def make(rng, step=0):
    return Checkpoint(
        model={"a.conv1.weight": rng.normal(size=(4, 1, 3, 3)).astype(np.float32)},
        optimizer={"velocity.conv1.weight.0": rng.normal(size=(4, 9)).astype(np.float32)},
        arrays={"mean": rng.normal(size=(8, 8, 1)).astype(np.float32)},
        state={"step": step, "classes": ['quoted "sha256":"' + "f" * 64 + '"', "Gänse"], "x": 0.1},
    )


def test_round_trip(rng, tmp_path):
    written = make(rng)
    files.save(tmp_path / "c.safetensors", written)
    read = files.load(tmp_path / "c.safetensors")
    for room in ("model", "optimizer", "arrays"):
        before, after = getattr(written, room), getattr(read, room)
        assert before.keys() == after.keys()
        for name in before:
            np.testing.assert_array_equal(before[name], after[name])
            assert before[name].dtype == after[name].dtype
    assert read.state == written.state
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]  # nothing left aside


def test_others_can_read_it(rng, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    written = make(rng)
    files.save(tmp_path / "c.safetensors", written)
    read = safetensors.load_file(tmp_path / "c.safetensors")
    np.testing.assert_array_equal(read["model.a.conv1.weight"], written.model["a.conv1.weight"])
    assert read.keys() == {
        "model.a.conv1.weight", "optimizer.velocity.conv1.weight.0", "arrays.mean"
    }  # fmt: skip


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_permissions_are_those_of_any_new_file(rng, tmp_path):
    (tmp_path / "other").touch()
    files.save(tmp_path / "c.safetensors", make(rng))
    assert (tmp_path / "c.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_transposed_arrays_are_written_as_seen(tmp_path):
    array = np.arange(12.0).reshape(3, 4).T
    files.save(tmp_path / "c.safetensors", Checkpoint({"w": array}))
    np.testing.assert_array_equal(files.load(tmp_path / "c.safetensors").model["w"], array)


def test_every_flipped_bit_and_every_cut_is_recognised(rng, tmp_path):
    path = tmp_path / "c.safetensors"
    files.save(path, make(rng))
    whole = path.read_bytes()
    for position in range(len(whole)):  # one bit of every byte
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"c\.safetensors"):
            files.load(path)
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"c\.safetensors"):
            files.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        files.load(path)


def test_what_is_no_checkpoint(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        files.load(tmp_path / "missing.safetensors")
    with pytest.raises(CheckpointError, match="cannot be read"):
        files.load(tmp_path)
    (tmp_path / "text.safetensors").write_text("hello, this is not a checkpoint at all")
    with pytest.raises(CheckpointError, match="not a checkpoint of tinynet"):
        files.load(tmp_path / "text.safetensors")
    safetensors.save_file(
        {"w": np.zeros(3)}, tmp_path / "other.safetensors"
    )  # somebody else's file
    with pytest.raises(CheckpointError, match="expected a checkpoint, got weights alone"):
        files.load(tmp_path / "other.safetensors")
    for name in ("sha256", "state"):  # a checkpoint's that lost one of them
        safetensors.save_file({"w": np.zeros(3)}, tmp_path / "less.safetensors", {name: "{}"})
        with pytest.raises(CheckpointError, match="less.safetensors is damaged"):
            files.load(tmp_path / "less.safetensors")


def test_newest_whole_passes_over_damaged_ones(rng, tmp_path):
    for step in (10, 20, 30):
        files.save(files.path_of(tmp_path, step), make(rng, step))
    os.truncate(files.path_of(tmp_path, 30), 200)
    path, found, damaged = files.newest_whole(tmp_path)
    assert path == files.path_of(tmp_path, 20)
    assert found.state["step"] == 20
    assert damaged == [files.path_of(tmp_path, 30)]
    for step in (10, 20):
        os.truncate(files.path_of(tmp_path, step), 200)
    with pytest.raises(CheckpointError, match="every checkpoint .* damaged.*30.*20.*10"):
        files.newest_whole(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint to go on from"):
        files.newest_whole(tmp_path / "empty")


def test_the_best_one_is_the_last_choice(rng, tmp_path):
    """It may be old: it is taken when all others are damaged, and not before."""
    for step in (10, 20):
        files.save(files.path_of(tmp_path, step), make(rng, step))
    files.keep_best(files.path_of(tmp_path, 10))
    files.path_of(tmp_path, 10).unlink()
    assert files.newest_whole(tmp_path)[0] == files.path_of(tmp_path, 20)
    os.truncate(files.path_of(tmp_path, 20), 200)
    path, found, damaged = files.newest_whole(tmp_path)
    assert path == tmp_path / files.BEST and found.state["step"] == 10
    assert damaged == [files.path_of(tmp_path, 20)]
    os.truncate(tmp_path / files.BEST, 200)
    with pytest.raises(CheckpointError, match=r"damaged \(step-00000020.*, best.safetensors\)"):
        files.newest_whole(tmp_path)


@pytest.mark.parametrize(
    "state",
    ["[" * 100_000, '{"a": ' * 100_000, "7", "[7]", "null", "", "{", "NaN", None],
    ids=lambda state: repr(state)[:10],
)
def test_a_state_that_no_run_wrote_is_named(state, tmp_path):
    """Its checksum is right, so it is what somebody wrote."""
    path, metadata = tmp_path / "c.safetensors", {"format": "tinynet"}
    metadata |= {} if state is None else {"state": state}
    arrays = {"w": np.zeros(1)}  # the oldest safetensors reads no file without one
    metadata["sha256"] = files._digest(arrays, metadata)
    saving.write_arrays(path, arrays, metadata)
    with pytest.raises(CheckpointError, match=r"c\.safetensors is not a checkpoint of a run"):
        files.load(path)


@pytest.mark.parametrize(
    "where, name, error",
    [(os, "fsync", OSError), (saving, "save_file", SafetensorError)],  # the library's own error
)
def test_a_failed_write_leaves_the_old_file(where, name, error, rng, tmp_path, monkeypatch):
    path = tmp_path / "c.safetensors"
    files.save(path, make(rng, 1))

    def full(*arguments):
        raise error("No space left on device")

    monkeypatch.setattr(where, name, full)
    with pytest.raises(OSError, match="No space left"):
        files.save(path, make(rng, 2))
    assert files.load(path).state["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["c.safetensors"]


def test_missing_folder_is_an_oserror_that_names_it(rng, tmp_path):
    with pytest.raises(OSError, match="nowhere"):
        files.save(tmp_path / "nowhere" / "c.safetensors", make(rng))


def test_best_and_the_last_few_are_kept(rng, tmp_path):
    for step in range(1, 7):
        path = files.path_of(tmp_path, step)
        files.save(path, make(rng, step))
        if step in (2, 3):
            files.keep_best(path)
        files.prune(tmp_path, keep=2)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.safetensors", "step-00000005.safetensors", "step-00000006.safetensors"]
    assert files.load(tmp_path / files.BEST).state["step"] == 3


def test_best_without_hard_links(rng, tmp_path, monkeypatch):
    def no_links(source, target):
        raise PermissionError("this file system has no hard links")

    monkeypatch.setattr(os, "link", no_links)
    path = files.path_of(tmp_path, 4)
    files.save(path, make(rng, 4))
    files.keep_best(path)
    assert files.load(tmp_path / files.BEST).state["step"] == 4


def test_the_checksum_is_of_metadata_names_types_shapes_and_values(rng, tmp_path):
    """By its definition: a checkpoint of one version has to load in all later ones."""
    arrays = {
        "model.b": rng.normal(size=(2, 3)),
        "model.a": np.full((), 2, np.float32),
        "arrays.none": np.ones((0, 2), np.int64),
    }
    files.save_arrays(tmp_path / "c.safetensors", arrays, {"step": 1})
    with safe_open(tmp_path / "c.safetensors", framework="numpy") as file:
        found = file.metadata()
    text = '{"format": "tinynet", "state": "{\\"step\\": 1}"}'
    expected = hashlib.sha256(text.encode())
    for name, lies in [("arrays.none", "int64 (0, 2)"), ("model.a", "float32 (1,)"),
                       ("model.b", "float64 (2, 3)")]:  # fmt: skip
        expected.update(f"{name} {lies}".encode() + arrays[name].tobytes(order="C"))
    assert found.pop("sha256") == expected.hexdigest()
    assert found == {"format": "tinynet", "state": '{"step": 1}'}
    assert files.load(tmp_path / "c.safetensors").model["b"].tolist() == arrays["model.b"].tolist()


def test_a_file_that_holds_more_than_a_run_wrote_is_refused(tmp_path):
    files.save_arrays(tmp_path / "c.safetensors", {"model.w": np.ones(1), "other.w": np.ones(1)})
    with pytest.raises(CheckpointError, match="not a checkpoint of a run: it holds other.w"):
        files.load(tmp_path / "c.safetensors")
