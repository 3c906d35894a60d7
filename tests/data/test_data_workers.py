"""Loading ahead, by threads and by processes: how far, by whom, and that nothing is left over."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from tinynet.data import ArrayDataset, Loader, PaddedDataset, PartDataset
from tinynet.data.dataset import Moments
from tinynet.data.workers import MAX_DEATHS, WorkerPool
from tinynet.errors import DataError

linux = pytest.mark.skipif(sys.platform != "linux", reason="forks, and asks /proc")


class Counted(ArrayDataset):
    """A data set that counts the pictures that were asked for."""

    def __init__(self, count=40):
        pictures = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 1))
        super().__init__(pictures.astype(np.uint8), np.arange(count) % 2, ["a", "b"])
        self.asked = 0

    def picture(self, i):
        self.asked += 1
        return super().picture(i)


def values(batches):
    return [batch.pictures[:, 0, 0, 0].tolist() for batch in batches]


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name == "tinynet-background"]


# ---- a thread


def test_a_thread_loads_no_further_ahead_than_it_is_told():
    dataset = Counted()
    epoch = Loader(dataset, 4, crop=3, train=False, ahead=2).epoch(0)
    next(epoch)
    time.sleep(0.3)
    assert dataset.asked <= 4 * (1 + 2 + 1)  # the one we have, those that wait, the next in hand
    assert len(list(epoch)) == 9
    assert dataset.asked == 40


def test_no_thread_is_left_over():
    before = len(loader_threads())
    epoch = Loader(Counted(), 4, crop=3, train=False).epoch(0)
    next(epoch)
    assert len(loader_threads()) == before + 1
    epoch.close()
    assert len(loader_threads()) == before
    list(Loader(Counted(), 4, crop=3, train=False).epoch(0))
    assert len(loader_threads()) == before


def test_batches_of_a_thread_that_are_kept_are_not_written_over():
    kept = list(Loader(Counted(), 4, crop=3, train=False).epoch(0))
    assert sum(values(kept), []) == list(range(40))


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (2, 2), (3,)])
def test_colour_axes_of_another_set_are_refused(shape):
    pictures = np.zeros((8, 4, 4, 3), np.uint8)
    dataset = ArrayDataset(pictures, np.zeros(8), ["a"])
    with pytest.raises(DataError, match=r"expected colour axes of \(3, 3\)"):
        Loader(dataset, 4, crop=3, train=True, colour=np.zeros(shape, np.float32))


# ---- processes


@linux
def test_processes_share_the_work_and_are_ahead_by_so_many_each(forks):
    with Loader(Counted(), 4, crop=3, train=False, workers=2, ahead=3) as loader:
        epoch = loader.epoch(0)
        first = next(epoch)
        tasks = [len(worker.tasks) for worker in loader._pool.workers]
        done = [worker.number for worker in loader._pool.workers if len(worker.tasks) < 3]
        assert sum(tasks) <= 5 and max(tasks) <= 3 and done  # six were given, one or more are done
        rest = list(epoch)
        assert values([first, *rest]) == [list(range(k, k + 4)) for k in range(0, 40, 4)]


@linux
def test_two_epochs_of_one_loader_cannot_run_at_once(forks):
    with Loader(Counted(), 4, crop=3, train=False, workers=1) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        with pytest.raises(DataError, match="still running: close it"):
            next(loader.epoch(1))
        epoch.close()
    with Loader(Counted(), 4, crop=3, train=False, workers=1) as loader:
        next(loader.epoch(0))  # nobody has it any more
        assert len(list(loader.epoch(1))) == 10


@linux
def test_a_short_batch_before_full_ones(forks):
    """Memory is made for full batches, whichever comes first."""
    with Loader(Counted(38), 4, crop=3, train=False, workers=1, ahead=1) as loader:
        assert values(loader.epoch(0, start=9)) == [[36, 37]]
        assert sum(values(loader.epoch(0)), []) == list(range(38))


@linux
def test_deaths_are_counted_in_a_row(forks):
    """As often as a worker may die in a row it may die with a batch in between."""
    with Loader(Counted(), 2, crop=3, train=False, workers=1, ahead=1) as loader:
        found = []
        for batch in loader.epoch(0):
            found += batch.pictures[:, 0, 0, 0].tolist()
            if len(found) % 10 == 0 and len(found) <= 10 * (MAX_DEATHS + 1):
                os.kill(loader._pool.workers[0].process.pid, signal.SIGKILL)
        assert found == list(range(40))
        assert len(loader._pool.workers) == 1


@linux
def test_a_worker_that_always_dies_ends_the_run_and_all_others(forks):
    class Deadly(Counted):
        def picture(self, i):
            if i == 5:
                os._exit(7)
            return super().picture(i)

    with Loader(Deadly(), 2, crop=3, train=False, workers=2) as loader:
        message = (
            r"worker \d \(pid \d+\) ended with status 7, 3 times in a row: is there enough mem"
        )
        with pytest.raises(DataError, match=message):
            list(loader.epoch(0))
        assert loader._pool.workers == [] and not loader._pool.running


@linux
def test_ctrl_c_is_not_for_workers(forks, caplog):
    with Loader(Counted(), 2, crop=3, train=False, workers=1, ahead=1) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        os.kill(loader._pool.workers[0].process.pid, signal.SIGINT)
        assert len(list(epoch)) == 19
    assert not caplog.records


@linux
def test_closed_processes_have_ended_even_one_that_stands_still(forks):
    loader = Loader(Counted(), 2, crop=3, train=False, workers=2)
    epoch = loader.epoch(0)
    next(epoch)
    processes = [worker.process for worker in loader._pool.workers]
    os.kill(processes[0].pid, signal.SIGSTOP)
    loader.close()
    assert [process.exitcode for process in processes] == [-signal.SIGKILL] * 2
    assert loader._pool.workers == []


@linux
def test_memory_of_batches_is_used_again_and_files_are_closed(forks):
    with Loader(Counted(), 2, crop=3, train=False, workers=1, ahead=1) as loader:
        for number in range(4):
            for batch in loader.epoch(number):
                del batch
        folder = f"/proc/{loader._pool.workers[0].process.pid}/fd"
        names = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
        assert 1 <= len(loader._pool.free) <= 4
        # in the worker each block is mapped, and its file closed again (but those it was born with)
        assert sum("tinynet-batch" in name for name in names) <= 1


@linux
def test_a_pool_after_an_error_is_closed_and_starts_again(forks):
    class Once(Counted):
        def picture(self, i):
            if i == 5 and os.path.exists(self.mark):
                raise DataError("picture 5 is damaged")
            return super().picture(i)

    dataset = Once()
    dataset.mark = __file__
    with Loader(dataset, 4, crop=3, train=False, workers=1) as loader:
        with pytest.raises(DataError, match="^picture 5 is damaged$"):
            list(loader.epoch(0))
        assert loader._pool.workers == [] and not loader._pool.running
        dataset.mark = __file__ + "-not"
        assert sum(values(loader.epoch(0)), []) == list(range(40))


@linux
def test_all_workers_are_given_work_before_the_first_batch_is_taken(forks):
    """As many batches as all of them may have waiting; then one more for each that is taken."""
    planned = []

    def counted(plans):
        for plan in plans:
            planned.append(plan)
            yield plan

    loader = Loader(Counted(), 4, crop=3, train=False, workers=2, ahead=3)
    run = loader._pool.run(counted(loader._plan(0, 0)))
    for taken in range(10):
        next(run)
        assert len(planned) == min(taken + 6, 10)
    assert next(run, None) is None
    loader.close()


@linux
def test_an_error_in_a_worker_that_is_none_of_the_data_ends_the_run(forks):
    class Wrong(Counted):
        def picture(self, i):
            return super().picture(i)[:, : 4 if i != 9 else 2]

    with Loader(Wrong(), 4, crop=3, train=False, workers=2) as loader:
        with pytest.raises(DataError, match=r"^ValueError.*could not broadcast"):
            list(loader.epoch(0))
        assert loader._pool.workers == []


@linux
def test_an_error_behind_the_batch_where_an_epoch_was_left(forks):
    """A worker that fails over a batch nobody will see: told, and the next epoch is whole."""

    class Odd(Counted):
        def picture(self, i):
            if i == 6 and self.labels[0] == 0:
                raise ZeroDivisionError("picture 6")
            return super().picture(i)

    dataset = Odd()
    with Loader(dataset, 4, crop=3, train=False, workers=1, ahead=3) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        with pytest.raises(DataError, match="ZeroDivisionError.'picture 6'"):
            epoch.close()
        dataset.labels[0] = 1
        assert sum(values(loader.epoch(0)), []) == list(range(40))


def test_a_pool_of_no_batches(forks):
    pool = WorkerPool(Counted(), 1, 1, (4, 3, 4, 1))
    assert list(pool.run(iter(()))) == []
    pool.close()


# ---- sums


def test_moments_are_exact_beyond_what_float32_holds():
    """66,000 pictures of 255, one of 253: an odd sum of 25 bits. Products of 300 x 300: 33 bits."""
    pictures = np.full((66_001, 1, 1, 1), 255, np.uint8)
    pictures[7] = 253
    moments = Moments((1, 1, 1))
    moments.add(pictures)
    assert moments.sum.tolist() == [[[66_000 * 255 + 253]]]
    large = Moments((300, 300, 2))
    picture = np.full((300, 300, 2), 255, np.uint8)
    picture[3, 5] = 254, 253
    large.add(picture[None])
    assert large.products.tolist() == [
        [89_999 * 255**2 + 254**2, 89_999 * 255**2 + 254 * 253],
        [89_999 * 255**2 + 254 * 253, 89_999 * 255**2 + 253**2],
    ]


def test_moments_merge_and_go_to_arrays_and_back(rng):
    pictures = rng.integers(0, 256, (10, 3, 5, 2), np.uint8)
    whole, first, second = (Moments((3, 5, 2)) for _ in range(3))
    whole.add(pictures)
    first.add(pictures[:4])
    second.add(pictures[4:])
    first.merge(Moments.from_arrays(second.arrays()))
    for name, array in whole.arrays().items():
        assert np.array_equal(first.arrays()[name], array), name
    assert first.count == 10


# ---- data sets of every kind


@pytest.mark.parametrize("kind", ["array", "padded", "part", "part of padded", "padded part"])
@pytest.mark.parametrize("in_memory", [True, False])
def test_what_a_data_set_offers_is_what_its_pictures_are(rng, kind, in_memory):
    """However it is made of another one; pictures are asked for one by one, and held together."""
    pictures = rng.integers(0, 256, (9, 4, 7, 3), np.uint8)
    labels = rng.permutation(np.arange(9) % 4)
    found = ArrayDataset(pictures, labels, list("abcd"), "here")
    found.in_memory = in_memory
    for word in kind.split()[::-1]:
        if word == "padded":
            found = PaddedDataset(found, 2)
            pictures = np.pad(pictures, ((0, 0), (2, 2), (2, 2), (0, 0)))
        if word == "part":
            found = PartDataset(found, 6)
            places = [0, 1, 3, 4, 6, 7]  # i * 9 // 6
            pictures, labels = pictures[places], labels[places]
    held = [found.picture(i) for i in range(len(found))]
    assert np.array_equal(held, pictures) and found.shape == pictures.shape[1:]
    assert found.labels.tolist() == labels.tolist() and found.labels.dtype == np.int64
    assert found.classes == list("abcd") and found.source == "here"
    assert found.in_memory is in_memory
    whole = pictures.astype(np.float64)
    assert np.array_equal(found.moments().mean(), whole.mean(axis=0).astype(np.float32))
    covariance = np.cov(whole.reshape(-1, 3).T, bias=True)
    np.testing.assert_allclose(found.moments().covariance(), covariance, rtol=1e-9)


def test_a_part_is_spread_evenly(rng):
    """Over a set that is sorted by class: so many of each class, to within one."""
    whole = ArrayDataset(
        rng.integers(0, 256, (90, 2, 2, 1), np.uint8), np.repeat([0, 1, 2], 30), list("abc")
    )
    for count in range(1, 91):
        part = PartDataset(whole, count)
        each, steps = np.bincount(part.labels, minlength=3), np.diff(part.places)
        assert len(part) == count and each.max() - each.min() <= 1
        assert (steps >= 90 // count).all() and (steps <= -(-90 // count)).all()
    for count in (0, -1, 91):
        with pytest.raises(DataError, match=f"a count of 1 to 90, the pictures .*, got {count}"):
            PartDataset(whole, count)
