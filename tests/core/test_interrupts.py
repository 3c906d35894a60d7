"""Threads and memory under interrupts, exceptions and several users: nothing stays held, nothing is
lost, nobody writes after the end.
"""

from __future__ import annotations

import gc
import itertools
import signal
import sys
import threading
import time
import weakref

import numpy as np
import pytest
from interrupts import at_every_place
from threadpoolctl import threadpool_info, threadpool_limits

import tinynet
import tinynet.functional as F
from tinynet.devices import memory, threads
from tinynet.devices.memory import SMALL, Pool


def blas():
    return [info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def two_threads():
    before = tinynet.get_num_threads()
    tinynet.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    tinynet.set_num_threads(before)


def test_numpys_own_blas_is_found():  # else it is never held, and no test here would notice
    name = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    if not any(known in name for known in ("openblas", "mkl", "blis")):
        pytest.skip(f"NumPy was built with {name}, whose threads cannot be set")
    assert threads._blas and blas()


def test_blas_has_its_threads_again_after_two_users_at_once():
    before = blas()
    inside, first_left = threading.Event(), threading.Event()
    seen = []

    def user():  # begins first and ends last
        def piece(_):
            inside.set()
            first_left.wait(20)
            seen.append(blas())

        threads.parallel_for(piece, [0])

    thread = threading.Thread(target=user)
    thread.start()
    inside.wait(20)
    threads.parallel_for(lambda _: seen.append(blas()), [0])
    assert blas() == [1] * len(before)  # the other one still needs it so
    first_left.set()
    thread.join()
    assert seen == [[1] * len(before)] * 2
    assert blas() == before


def test_blas_is_let_go_after_an_exception_and_inside_another_work():
    before = blas()

    def outer(_):
        threads.parallel_for(lambda _: None, [0, 1])
        assert blas() == [1] * len(before)
        raise KeyError

    with pytest.raises(KeyError):
        threads.parallel_for(outer, [0])
    assert blas() == before


@pytest.mark.parametrize("multiplications", [0, threads.ENOUGH])
def test_jobs_of_any_size_have_blas_on_one_thread(multiplications):
    """A product on several may have other bits."""
    before, seen = blas(), []
    job = threads.Job(lambda piece: seen.append(blas()), (0, 1), lambda: None)
    threads.run_jobs([job, job], multiplications)
    threads.run_job(job)
    assert seen == [[1] * len(before)] * 6 and blas() == before


@pytest.mark.parametrize("pieces", [1, 3])
def test_an_interrupt_at_any_place_leaves_no_blas_held_and_no_piece_running(pieces):
    before, running = blas(), []

    def piece(i):
        running.append(i)
        running.remove(i)

    def check():
        assert not running and blas() == before
        assert not threads._blas_holders

    threads.parallel_for(piece, range(2))  # the team is there
    files = {threads.__file__}
    assert at_every_place(lambda: threads.parallel_for(piece, range(pieces)), files, check) > 20


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
@pytest.mark.skipif(sys.gettrace() is not None, reason="coverage.py holds locks, too, for good")
def test_real_interrupts_leave_no_blas_held():
    before = blas()

    def interrupt(*_):
        raise KeyboardInterrupt

    threads.parallel_for(lambda _: None, [0, 1])  # Python's own Thread.start takes none well
    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        for number in range(100):
            try:  # once more after half a second: one that comes in a destructor is lost
                signal.setitimer(signal.ITIMER_REAL, 1e-4 + 1e-6 * number, 0.5)
                while True:
                    threads.parallel_for(lambda _: None, [0, 1])
            except KeyboardInterrupt:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert blas() == before
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_nobody_writes_when_an_exception_is_raised(error):
    """The caller fails at once; a helper is in the middle of its piece, for which BLAS is held."""
    main, begun, written = threading.get_ident(), threading.Event(), []

    def piece(_):
        if threading.get_ident() == main:
            begun.wait(20)
            raise error
        begun.set()
        time.sleep(0.05)
        written.extend(blas())

    with pytest.raises(error):
        threads.parallel_for(piece, range(2))
    assert written == [1] * len(blas())


@pytest.mark.parametrize("fails", [False, True])
def test_an_interrupt_while_the_caller_waits_is_raised_after_the_wait(fails):
    """Also if a piece has failed: who pressed Ctrl-C wants an end, not the next attempt."""
    main, written = threading.get_ident(), []
    begun = threading.Event()

    def piece(_):
        if threading.get_ident() == main:
            begun.wait(20)
            if fails:
                raise KeyError
        else:
            begun.set()
            time.sleep(0.05)
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.05)
            written.append("late")

    with pytest.raises(KeyboardInterrupt):
        threads.parallel_for(piece, range(2))
        time.sleep(1)
    assert written == ["late"]


def test_finished_work_keeps_no_array_alive_in_the_queue_of_a_busy_team():
    main, begun, end = threading.get_ident(), threading.Event(), threading.Event()

    def long(_):
        if threading.current_thread().name == "tinynet":
            begun.set()
            end.wait(20)
        else:
            begun.wait(20)

    other = threading.Thread(target=threads.parallel_for, args=(long, [0, 1]))
    other.start()
    begun.wait(20)
    array, by = np.zeros(10), []
    alive = weakref.ref(array)

    def piece(_, array=array):
        by.append(threading.get_ident())

    threads.parallel_for(piece, range(3))
    del piece, array
    assert alive() is None and by == [main] * 3
    end.set()
    other.join()


def test_finished_work_keeps_no_array_alive():
    """Neither in the hands of a helper, nor in a circle with the exception."""
    for fails in (False, True):
        array = np.zeros(10)
        alive = weakref.ref(array)

        def piece(_, array=array, fails=fails):
            if fails:
                raise KeyError

        gc.disable()
        try:
            threads.parallel_for(piece, range(2))
        except KeyError:
            pass
        finally:
            gc.enable()
        del piece, array
        deadline = time.monotonic() + 10
        while alive() is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        assert alive() is None


def test_a_new_number_of_threads_ends_the_old_ones():
    def count():
        ours = [thread for thread in threading.enumerate() if thread.name == "tinynet"]
        assert all(thread.daemon for thread in ours)  # or no program would end
        return len(ours)

    for number in (3, 5, 2, 1):
        tinynet.set_num_threads(number)
        threads.parallel_for(lambda _: time.sleep(0.001), range(20))
        deadline = time.monotonic() + 10
        while count() != number - 1 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert count() == number - 1


def test_several_users_share_the_threads(rng):
    a = tinynet.tensor(rng.normal(size=(600, 300)).astype(np.float32))
    expected, wrong = F.relu(a @ a.transpose()).numpy(), []

    def user():
        for _ in range(10):
            if not np.array_equal(F.relu(a @ a.transpose()).data, expected):
                wrong.append(1)

    users = [threading.Thread(target=user) for _ in range(3)]
    for one in users:
        one.start()
    for one in users:
        one.join()
    assert not wrong


# Memory


def whole(pool):
    """Every byte of the segments is either leased or free, once."""
    with pool.lock:
        pool._collect()
        taken = [(start, stop) for _, start, stop in pool.leased.values()]
        ranges = sorted([*pool.free, *taken])
    assert all(start < stop for start, stop in ranges)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(ranges))
    assert all(a[1] < b[0] for a, b in itertools.pairwise(pool.free))
    assert pool.used == sum(stop - start for start, stop in taken)
    held = sum(segment.nbytes - memory.ALIGN for segment in pool.segments)
    assert sum(stop - start for start, stop in ranges) == held


def test_an_interrupt_at_any_place_loses_no_memory(monkeypatch):
    monkeypatch.setattr(memory, "SEGMENT", 8 * SMALL)
    pool, kept = Pool(), []

    def work(pool=pool):
        a, b, c = (pool.empty((SMALL + n,), np.uint8) for n in (0, 100, 0))
        del b
        kept[:] = [pool.empty((SMALL // 2 + 10,), np.uint16), a]
        del c
        pool.empty((20 * SMALL,), np.uint8)

    work(Pool())  # for coverage.py
    assert at_every_place(work, {memory.__file__}, lambda: whole(pool)) > 30
    kept.clear()
    gc.collect()
    whole(pool)
    assert pool.stats().used == 0


def test_any_requests_leave_every_byte_in_one_range(rng, monkeypatch):
    """Sizes around those that just fit, and arrays that go in any order; none lies in another."""
    monkeypatch.setattr(memory, "SEGMENT", 8 * SMALL)
    pool, kept, most = Pool(), [], 0
    for number in range(300):
        if kept and rng.random() < 0.5:
            del kept[rng.integers(len(kept))]
        else:
            nbytes = int(rng.integers(1, 5)) * SMALL + int(rng.choice([0, 0, 1, 64]))
            kept.append((pool.empty((nbytes,), np.uint8), number % 256))
            kept[-1][0][[0, -1]] = number % 256
        whole(pool)
        most = max(most, pool.used)
        assert all(array[0] == array[-1] == value for array, value in kept)
    assert pool.stats().peak == most
    kept.clear()
    whole(pool)
    assert len(pool.free) == len(pool.segments) and pool.used == 0


def test_nothing_of_ours_runs_when_an_array_dies():
    """Python code in a destructor could take an interrupt, and lose it."""
    pool, ran = Pool(), []
    array = pool.empty((SMALL,), np.uint8)
    view = array[10:]
    del array
    sys.setprofile(lambda frame, event, _: ran.append(frame.f_code.co_name))
    del view
    sys.setprofile(None)
    assert len(pool.returned) == 1 and set(ran) <= {"test_nothing_of_ours_runs_when_an_array_dies"}
    assert pool.stats().used == 0
