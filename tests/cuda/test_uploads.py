"""From the host to a GPU and back: the ring of pinned slots, and what is staged before."""

from __future__ import annotations

import importlib
import threading
from typing import Any

import fake_cupy
import numpy as np
import pytest
from test_host import innermost

import tinynet
from tinynet.data import Batch
from tinynet.devices import Device
from tinynet.training.inputs import Inputs


def test_upload_and_download_keep_values_and_layout(gpu: Device, rng: np.random.Generator) -> None:
    for array in (
        innermost(rng, 8, 3, 20, 20),  # several slots
        rng.standard_normal((3, 4)),
        rng.integers(0, 9, 5),
        np.array(True),
        np.empty((0, 3), np.float32),
        rng.integers(0, 255, (4, 5, 6, 3), np.uint8)[:, ::2],
    ):
        on_gpu = gpu.upload(array)
        np.testing.assert_array_equal(gpu.download(on_gpu), array)
        assert on_gpu.dtype == array.dtype
        if array.size and array.flags.c_contiguous != array.T.flags.c_contiguous:
            assert on_gpu.strides == array.strides


def test_uploads_wait_only_for_pinned_memory_that_is_still_read(machine: fake_cupy.Machine) -> None:
    gpu = tinynet.device("cuda")
    gpu.upload(np.zeros(1 << 13, np.uint8))  # two slots of four
    assert machine.host_waits == 0
    gpu.upload(np.zeros(1 << 14, np.uint8))  # the first two once more
    assert 1 <= machine.host_waits <= 2
    gpu.synchronize()
    before = machine.host_waits
    gpu.upload(np.zeros(1 << 14, np.uint8))  # each of the four in its turn
    assert machine.host_waits == before


def test_a_number_takes_no_large_slot(machine: fake_cupy.Machine) -> None:
    """Of pinned memory, and of the GPU's: a slot of 64 bytes here, and not one of 4096."""
    gpu, before = tinynet.device("cuda"), machine.pinned
    for _ in range(9):  # twice round its ring
        gpu.upload(np.float32(3))
    assert before - machine.pinned == 4 * 64
    gpu.upload(np.zeros(65, np.uint8))
    assert before - machine.pinned == 4 * 64 + 4096
    rest = gpu._uploads._large.free[0].landing[65:]
    assert (gpu.download(rest) == 0xFF).all()  # as it was: no byte more travels than was given


# --- staged: a thread fills the slots before ------------------------------------------------------


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch, machine: fake_cupy.Machine) -> list[threading.Thread]:
    """The threads that filled a large slot, one for each time."""
    uploads, threads = importlib.import_module("tinynet.devices.cuda.uploads"), []
    fill = uploads._Slot.fill

    def noting(slot: Any, source: np.ndarray) -> None:
        if len(slot.pinned) == uploads.SLOT:
            threads.append(threading.current_thread())
        fill(slot, source)

    monkeypatch.setattr(uploads._Slot, "fill", noting)
    return threads


def batches(rng: np.random.Generator, count: int, size: int) -> list[Batch]:
    """So many of four pictures."""
    zeros = np.zeros(4, np.int32)
    return [
        Batch(
            pictures=rng.integers(0, 256, (4, size, size, 3), np.uint8), labels=zeros.astype(int),
            top=zeros, left=zeros, flip=zeros.astype(bool), colour=None, indices=np.arange(4),
        )
        for _ in range(count)
    ]  # fmt: skip


def test_another_thread_fills_the_slots_of_pictures(
    filled: list[threading.Thread], monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """For both devices of a pair; what arrives is what the CPU sees."""
    uploads = importlib.import_module("tinynet.devices.cuda.uploads")
    monkeypatch.setattr(uploads, "SLOTS", 8)  # of which six hold three batches
    mean = np.full((24, 24, 3), 100, np.float32)
    given = batches(rng, 9, 24)  # 6912 bytes each: two slots of four
    one, two = (tinynet.device(name) for name in ("cuda:0", "cuda:1"))
    inputs, expected = Inputs(one, mean, 20, 1.0, two), Inputs("cpu", mean, 20)
    filled.clear()  # by the mean pictures
    seen = 0
    for batch in inputs.ahead(batch for batch in given):
        (here, there), _ = inputs(batch)
        for x in (here, there):
            np.testing.assert_array_equal(x.numpy(), expected(batch)[0].numpy())
        seen += 1
    assert seen == len(given)
    assert len(filled) == 2 * 2 * len(given) and threading.main_thread() not in filled


@pytest.mark.parametrize("name", ["cuda", "cpu"])
def test_batches_are_closed_with_what_is_made_of_them(
    name: str, machine: fake_cupy.Machine, rng: np.random.Generator
) -> None:
    """A loader's worker, say, must not go on until someone collects the garbage."""
    inputs = Inputs(tinynet.device(name), np.zeros((8, 8, 3), np.float32), 8)
    given = (batch for batch in batches(rng, 9, 8))
    ahead = inputs.ahead(given)
    assert (ahead is given) == (name == "cpu")  # which needs no thread
    next(ahead)
    ahead.close()
    assert given.gi_frame is None


def test_a_cpu_needs_no_thread(rng: np.random.Generator) -> None:
    inputs = Inputs("cpu", np.zeros((8, 8, 3), np.float32), 8)
    given = (batch for batch in batches(rng, 2, 8))
    assert inputs.ahead(given) is given


@pytest.mark.parametrize("nbytes", [65, 4096, 4097, 8192, 8193, 20000])
def test_what_is_staged_arrives_whole(
    machine: fake_cupy.Machine, rng: np.random.Generator, nbytes: int
) -> None:
    """Also what is more than half of the ring, or than the whole of it."""
    gpu = tinynet.device("cuda")
    for _ in range(3):
        first, second = (rng.integers(0, 256, nbytes, np.uint8) for _ in range(2))
        gpu.stage(first)
        gpu.stage(second)
        gpu.stage(second)  # once more: nothing
        other = rng.integers(0, 256, nbytes, np.uint8)  # not staged, and first
        for array in (other, second, first, first):
            np.testing.assert_array_equal(gpu.download(gpu.upload(array)), array)


def test_what_is_staged_and_never_uploaded_holds_no_slot(
    machine: fake_cupy.Machine, filled: list[threading.Thread], rng: np.random.Generator
) -> None:
    gpu = tinynet.device("cuda")
    for nbytes in (4096, 20000):  # the second one takes all the slots that there are
        for _ in range(10):
            gpu.stage(np.zeros(nbytes, np.uint8))
    assert len(filled) == 10 + 10 * 3 and gpu._uploads._large.taken == 0
    array = rng.integers(0, 256, 30000, np.uint8)
    np.testing.assert_array_equal(gpu.download(gpu.upload(array)), array)


def test_each_slot_is_given_back_once(machine: fake_cupy.Machine, rng: np.random.Generator) -> None:
    """However often an array is staged, uploaded and changed, and when it ends."""
    gpu = tinynet.device("cuda")
    ring = gpu._uploads._large
    for nbytes in (5000, 20000):  # two slots; more than the three that may be staged
        array = rng.integers(0, 256, nbytes, np.uint8)
        for _ in range(3):
            gpu.stage(array)
            taken = ring.taken
            gpu.stage(array)
            assert ring.taken == taken == min(-(-nbytes // 4096), 3)
            for _ in range(2):  # what was staged, and what has been changed since
                np.testing.assert_array_equal(gpu.download(gpu.upload(array)), array)
                array += 1
                assert ring.taken == 0
        gpu.stage(array)
        del array
        assert ring.taken == 0 and len({id(slot) for slot in ring.free}) == ring.made <= 4


def test_small_arrays_and_other_orders_are_not_staged(
    filled: list[threading.Thread], rng: np.random.Generator
) -> None:
    gpu = tinynet.device("cuda")
    for array in (np.zeros(64, np.uint8), innermost(rng, 8, 3, 20, 20)):
        gpu.stage(array)
        assert not filled
        np.testing.assert_array_equal(gpu.download(gpu.upload(array)), array)


def test_slots_are_taken_under_the_lock(
    machine: fake_cupy.Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads, held = tinynet.device("cuda")._uploads, []
    for ring in (uploads._small, uploads._large):
        monkeypatch.setattr(
            ring, "take", lambda take=ring.take: (held.append(uploads.lock.locked()), take())[1]
        )
    staged = np.zeros(5000, np.uint8)
    tinynet.device("cuda").stage(staged)
    for array in (staged, np.zeros(5000, np.uint8), np.zeros(5, np.uint8)):
        tinynet.device("cuda").upload(array)
    assert held == [True] * (2 + 2 + 1)
