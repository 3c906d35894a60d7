"""The memory pool, scratch, and what a device says of its memory."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref

import numpy as np
import pytest

import tinynet
from tinynet.devices import memory
from tinynet.devices.memory import ALIGN, SEGMENT, SMALL, Pool

# The memory pool


def test_small_arrays_are_numpys():
    pool = Pool()
    a = pool.empty((SMALL // 8 - 1,), np.float64)
    assert a.base is None and pool.stats() == (0, 0, 0)
    assert pool.empty((), np.float32).shape == () and pool.empty((0, 3), np.float32).shape == (0, 3)


def test_ranges_come_back_when_the_last_view_is_gone():
    pool = Pool()
    a = pool.empty((1000, 100), np.float64)
    assert (
        a.flags.c_contiguous
        and a.flags.writeable
        and a.dtype == np.float64
        and a.shape == (1000, 100)
    )
    a[:] = 3
    held = pool.stats().held
    assert pool.stats() == (800_000, held, 800_000) and held >= SEGMENT
    view = a[5:, 3][::2].view(np.int64)
    del a
    assert pool.stats().used == 800_000
    del view
    assert pool.stats() == (0, held, 800_000)
    pool.empty((SMALL,), np.uint8)  # less than the most
    assert pool.stats() == (0, held, 800_000)
    b = pool.empty((1000, 100), np.float64)
    assert pool.stats() == (800_000, held, 800_000) and (b == 3).all()  # the same memory again


def test_a_peak_that_starts_again_starts_at_what_lives():
    pool = Pool()
    a, b = (pool.empty((SMALL,), np.uint8) for _ in range(2))
    assert pool.stats().peak == 2 * SMALL
    del a  # nothing was asked of the pool since
    pool.reset_peak()
    assert pool.stats().peak == SMALL
    del b
    pool.reset_peak()
    assert pool.stats().peak == 0


def test_arrays_are_aligned_and_never_overlap():
    pool = Pool()
    arrays = []
    for n in (SMALL, SMALL + 1, 3 * SMALL + 7, SMALL, 2 * SMALL):
        arrays.append(pool.empty((n,), np.uint8))
        arrays[-1][:] = len(arrays)
    for i, a in enumerate(arrays):
        assert a.ctypes.data % ALIGN == 0 and (a == i + 1).all()


def test_free_neighbours_are_joined():
    """Whatever the order in which ranges come back, in the end all is one again, and nothing more
    was taken.
    """
    for order in itertools.permutations(range(4)):
        pool = Pool()
        arrays = {
            i: pool.empty((n,), np.uint8)
            for i, n in enumerate((SMALL, 2 * SMALL, SMALL + 1, 5 * SMALL))
        }
        whole = pool.stats().held
        for i in order:
            del arrays[i]
        pool.stats()
        assert len(pool.free) == 1 and pool.free[0][1] - pool.free[0][0] == SEGMENT
        assert pool.stats().held == whole


def test_the_smallest_range_that_fits_is_taken():
    pool = Pool()
    a, _wall, b = (pool.empty((n * SMALL,), np.uint8) for n in (4, 1, 2))
    _wall2 = pool.empty((SMALL,), np.uint8)
    large, address = a.ctypes.data, b.ctypes.data
    del a, b
    assert pool.empty((2 * SMALL,), np.uint8).ctypes.data == address  # though it is not the first
    more = pool.empty((2 * SMALL + 1,), np.uint8)  # a byte more than fits
    assert more.ctypes.data == large
    assert pool.empty((2 * SMALL,), np.uint8).ctypes.data == address


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_segments_may_come_from_anywhere(order, monkeypatch):
    """What is free is sorted by address, so what comes back finds its neighbours."""
    system, places, pool = np.empty(30 * SMALL, np.uint8), iter(order), Pool()
    monkeypatch.setattr(memory, "SEGMENT", 4 * SMALL)

    def empty(size, dtype):
        at = 10 * SMALL * next(places)
        return system[at : at + size]

    with monkeypatch.context() as patched:
        patched.setattr(memory.np, "empty", empty)
        arrays = [pool.empty((3 * SMALL,), np.uint8) for _ in order]
    assert pool.free == sorted(pool.free) and len(pool.free) == 3
    addresses = [array.ctypes.data for array in arrays]
    assert sorted(range(3), key=order.__getitem__) == sorted(range(3), key=addresses.__getitem__)
    del arrays
    pool.stats()
    assert [(start, stop - start) for start, stop in pool.free] == [
        (address, 4 * SMALL) for address in sorted(addresses)
    ]


def test_more_than_a_segment_can_be_asked_for():
    pool = Pool()
    a = pool.empty((SEGMENT + 1,), np.uint8)
    a[-1] = 7
    assert pool.stats().held > pool.stats().used >= SEGMENT + 1 and len(pool.segments) == 1


def test_all_that_changes_the_ranges_runs_under_the_lock():
    """The lock of a thread that may come once more: what Ctrl-C's handler asks for, it gets."""
    got = []

    def try_it():
        got.append(pool.lock.acquire(blocking=False))
        if got[-1]:
            pool.lock.release()

    class Watched(Pool):
        def _collect(self):  # whether another thread gets the lock
            self._best(0)
            super()._collect()

        def _best(self, nbytes):
            thread = threading.Thread(target=try_it)
            thread.start()
            thread.join()
            return super()._best(nbytes)

    pool = Watched()
    pool.empty((SMALL,), np.uint8)
    pool.stats()
    assert got == [False] * 3
    with pool.lock:
        assert pool.lock.acquire(blocking=False)
        pool.lock.release()


def test_any_number_of_arrays_may_end_between_two_calls():
    pool = Pool()
    arrays = [pool.empty((SMALL,), np.uint8) for _ in range(3000)]
    assert pool.stats().used == 3000 * SMALL
    del arrays[::2]
    assert pool.stats().used == 1500 * SMALL and len(pool.free) == 1501
    del arrays
    assert pool.stats().used == 0 and len(pool.free) == 1
    assert not pool.leased and not pool.returned


def test_a_lease_that_nobody_knows_is_passed_over():
    """An interrupt came before the pool noted it."""
    pool = Pool()
    a = pool.empty((SMALL,), np.uint8)
    stranger = weakref.ref(Pool())
    pool.returned.append(stranger)
    del a
    assert pool.stats().used == 0 and not pool.returned


def test_memory_stats_of_the_device():
    gc.collect()
    before = tinynet.device("cpu").memory_stats()
    a = memory.pool.empty((1 << 20,), np.float32)
    after = tinynet.device("cpu:1").memory_stats()
    assert (
        after.used - before.used >= 4 << 20
        and after.peak >= after.used
        and after.held >= after.used
    )
    b = memory.pool.empty((1 << 18,), np.float32)
    del a
    tinynet.device("cpu:1").reset_peak()
    again = tinynet.device("cpu").memory_stats()
    assert b.nbytes <= again.used == again.peak < after.peak
