"""Loading ahead, by threads and by processes: how far, by whom, and that nothing is left over."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from multiprocessing import reduction

import numpy as np
import pytest

from tinynet.data import ArrayDataset, Dataset, Loader
from tinynet.data.workers import MAX_DEATHS, Process, WorkerPool, _Block, _serve, _Worker
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


def drawn(rng) -> ArrayDataset:
    return ArrayDataset(rng.integers(0, 256, (50, 12, 10, 3), np.uint8), np.arange(50) % 4, "abcd")


def same(a, b) -> bool:
    """Whether two epochs are the same, field by field."""
    return all(
        np.array_equal(one, other)
        for m, n in zip(a, b, strict=True)
        for one, other in zip(vars(m).values(), vars(n).values(), strict=True)
    )


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


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=linux)])
def test_nothing_that_loads_keeps_the_program_from_ending(workers, forks):
    """Python waits for every thread and process that is no daemon, and these wait for us."""
    with Loader(Counted(), 4, crop=3, train=False, workers=workers) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        others = [t for t in threading.enumerate() if t is not threading.main_thread()]
        others += multiprocessing.active_children()
        daemons = [each.daemon for each in others]
        epoch.close()
    assert daemons and all(daemons)


def test_batches_of_a_thread_that_are_kept_are_not_written_over():
    kept = list(Loader(Counted(), 4, crop=3, train=False).epoch(0))
    assert sum(values(kept), []) == list(range(40))


@pytest.mark.parametrize("shape", [(4, 4), (3, 4), (4, 3), (2, 2), (3,)])
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
@pytest.mark.parametrize("deaths", [MAX_DEATHS - 1, MAX_DEATHS])
def test_a_worker_may_die_so_often_in_a_row_and_no_more(forks, caplog, tmp_path, deaths):
    """Each of two, over its first batch; a third worker goes on and forgives nobody anything."""

    class Deadly(Counted):
        def picture(self, i):
            died = len(list(tmp_path.glob(f"{i} *")))
            if i in (0, 2) and died < deaths:
                (tmp_path / f"{i} {died}").touch()
                os._exit(7)
            return super().picture(i)

    with Loader(Deadly(), 2, crop=3, train=False, workers=3) as loader:
        if deaths < MAX_DEATHS:
            assert len(list(loader.epoch(0))) == 20
            assert len(caplog.messages) == 2 * deaths
        else:
            with pytest.raises(DataError, match=f"{MAX_DEATHS} times in a row") as error:
                list(loader.epoch(0))
            worker = str(error.value).partition(" (pid")[0]
            told = [line for line in caplog.messages if line.startswith(worker)]
            assert len(told) == MAX_DEATHS - 1  # the last is the error


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
    workers = loader._pool.workers
    os.kill(workers[0].process.pid, signal.SIGSTOP)
    loader.close()
    assert [worker.process.exitcode for worker in workers] == [-signal.SIGKILL] * 2
    assert all(worker.pipe.closed for worker in workers)
    assert loader._pool.workers == []
    another = Loader(Counted(), 2, crop=3, train=False, workers=1)
    with pytest.raises(ZeroDivisionError), another:  # also where its user fails
        next(another.epoch(0))
        raise ZeroDivisionError
    assert another._pool.workers == []


@linux
def test_memory_of_batches_is_used_again_and_files_are_closed(forks, monkeypatch):
    def blocks(process: int | str) -> int:
        """How many files of blocks a process has open."""
        files = [f"/proc/{process}/fd/{name}" for name in os.listdir(f"/proc/{process}/fd")]
        names = [os.readlink(file) for file in files if os.path.lexists(file)]
        return sum("tinynet-batch" in name for name in names)

    sent, send = [], reduction.send_handle
    monkeypatch.setattr(reduction, "send_handle", lambda *to: sent.append(to) or send(*to))
    born_with = blocks(os.getpid())  # by a fork: of other tests' loaders
    with Loader(Counted(), 2, crop=3, train=False, workers=1, ahead=1) as loader:
        for number in range(4):
            for batch in loader.epoch(number):
                del batch
        assert 1 <= len(loader._pool.free) <= 4
        assert len(sent) <= 4  # each block is sent once
        # in the worker each block is mapped, and its file closed again
        assert blocks(loader._pool.workers[0].process.pid) <= born_with + 1


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


def test_workers_give_the_same_batches(rng):
    """Also those that are started as on other systems."""
    dataset, workers = drawn(rng), 2
    colour = np.eye(3, dtype=np.float32)
    for train in (True, False):
        plain = Loader(dataset, 8, crop=7, train=train, colour=colour)
        with Loader(dataset, 8, crop=7, train=train, colour=colour, workers=workers) as loader:
            assert same(plain.epoch(0), loader.epoch(0))
            assert same(plain.epoch(1, start=3), loader.epoch(1, start=3))


def test_an_epoch_left_early_does_not_disturb_the_next(rng, forks):
    dataset = drawn(rng)
    for workers in (0, 1):
        with Loader(dataset, 8, crop=7, train=True, workers=workers) as loader:
            epoch = loader.epoch(0)
            next(epoch)
            epoch.close()
            assert same(loader.epoch(1), Loader(dataset, 8, crop=7, train=True).epoch(1))


def test_batches_that_are_kept_are_not_written_over(rng, forks):
    dataset = drawn(rng)
    with Loader(dataset, 4, crop=7, train=True, workers=1, ahead=1) as loader:
        part = next(loader.epoch(0)).pictures[1:2, 2:5]  # a view keeps the memory as well
        expected = part.copy()
        kept = list(loader.epoch(1))
        assert same(kept, Loader(dataset, 4, crop=7, train=True).epoch(1))
        assert np.array_equal(part, expected)
        blocks = len(loader._pool.free)
        del kept
        gc.collect()
        assert len(loader._pool.free) > blocks  # and what is not kept is used again


def test_a_killed_worker_is_named_and_replaced(rng, forks, caplog):
    dataset = drawn(rng)
    with Loader(dataset, 2, crop=7, train=True, workers=2) as loader:
        batches = []
        with caplog.at_level(logging.WARNING):
            for batch in loader.epoch(0):
                batches.append(batch)
                if len(batches) in (2, 9):
                    victim = loader._pool.workers[len(batches) % 2].process.pid
                    os.kill(victim, signal.SIGKILL)
        assert same(batches, Loader(dataset, 2, crop=7, train=True).epoch(0))
    assert "SIGKILL" in caplog.text and f"pid {victim}" in caplog.text


def test_what_a_worker_died_of_is_told_though_no_other_can_start(rng, forks, monkeypatch, caplog):
    with Loader(drawn(rng), 2, crop=7, train=True, workers=1) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        monkeypatch.setattr("tinynet.data.workers._Worker", fails)
        os.kill(loader._pool.workers[0].process.pid, signal.SIGKILL)
        with caplog.at_level(logging.WARNING), pytest.raises(OSError, match="no more processes"):
            list(epoch)
        monkeypatch.undo()
    assert "SIGKILL" in caplog.text


def fails(*_):
    raise OSError("no more processes")


def test_a_worker_that_stands_still_ends_the_run(rng, forks, monkeypatch):
    with Loader(drawn(rng), 2, crop=7, train=True, workers=2) as loader:
        epoch = loader.epoch(0)
        next(epoch)
        monkeypatch.setattr("tinynet.data.workers.TIMEOUT", 1)
        os.kill(loader._pool.workers[0].process.pid, signal.SIGSTOP)
        pids = ", ".join(str(worker.process.pid) for worker in loader._pool.workers)
        message = rf"no loader worker \(pids {pids}\) has answered for 1 s"
        with pytest.raises(DataError, match=message):
            list(epoch)
        assert loader._pool.workers == [] and not loader._pool.running


def test_workers_end_with_the_loader(rng):
    loader = Loader(drawn(rng), 8, crop=7, train=True, workers=1)
    next(loader.epoch(0))
    processes = [worker.process for worker in loader._pool.workers]
    del loader
    gc.collect()
    for process in processes:
        process.join(10)
        assert process.exitcode is not None


class Bad(Dataset):
    """A data set whose pictures cannot be read."""

    def __init__(self):
        self.labels, self.classes, self.shape = np.zeros(10, np.int64), ["a"], (2, 2, 1)

    def picture(self, i):
        raise DataError("train-000001.tar: picture 17 is damaged")


class Tasks:
    """Stands for a worker's pipe: tasks to be done, and what was answered."""

    def __init__(self, *tasks, broken=False):
        self.tasks, self.answers, self.broken = list(tasks), [], broken

    def recv(self):
        if not self.tasks:
            raise EOFError
        return self.tasks.pop(0)

    def send(self, answer):
        if self.broken:
            raise BrokenPipeError
        self.answers.append(answer)


def test_the_life_of_a_worker(rng, monkeypatch, tmp_path):
    """What it answers, here in this process: done, what was wrong, nothing when nobody listens any
    more. Before that it leaves signals to its parent, and asks for memory to be kept.
    """
    file, ignored, kept = open(tmp_path / "block", "w+b"), [], []
    file.truncate(4 * 7 * 7 * 3)
    monkeypatch.setattr("signal.signal", lambda number, handler: ignored.append((number, handler)))
    monkeypatch.setattr("tinynet.data.workers.keep_freed_memory", lambda: kept.append(True))
    monkeypatch.setattr("multiprocessing.reduction.recv_handle", lambda pipe: os.dup(file.fileno()))
    dataset, zeros = drawn(rng), np.zeros(4, np.int32)
    block = "block", "memory", 4 * 7 * 7 * 3
    task = 5, "memory", (4, 7, 7, 3), np.array([3, 1, 4, 1]), zeros, zeros
    pipe = Tasks(block, task, (6, "no such memory", *task[2:]))
    _serve(pipe, dataset)
    assert set(ignored) == {(signal.SIGINT, signal.SIG_IGN), (signal.SIGHUP, signal.SIG_IGN)}
    assert kept == [True]
    assert pipe.answers == [(5, None, {}), (6, "KeyError('no such memory')", {})]
    written = np.frombuffer(file.read(), np.uint8).reshape(4, 7, 7, 3)
    assert np.array_equal(written[2], dataset.picture(4)[:7, :7])
    pipe = Tasks(block, task)
    _serve(pipe, Bad())
    problem = "train-000001.tar: picture 17 is damaged"
    assert pipe.answers == [(5, None, dict.fromkeys([3, 1, 4], problem))]
    pipe = Tasks(block, task, task, broken=True)
    _serve(pipe, dataset)
    assert len(pipe.tasks) == 1  # it left
    file.close()


@pytest.mark.parametrize("error", [BrokenPipeError, ConnectionResetError, OSError])
@pytest.mark.parametrize("known", [False, True])
def test_a_task_that_a_dead_worker_was_given_is_given_to_the_next(known, error):
    """Whatever its pipe says of its death, and at whichever of the messages."""

    class Dead:
        def send(self, message):
            raise error("dead")

    worker, block = _Worker.__new__(_Worker), _Block(24)
    worker.tasks, worker.known, worker.pipe = {}, {block} if known else set(), Dead()
    (batch, *_) = Loader(Counted(), 2, crop=3, train=False)._plan(0, 0)
    worker.give(7, batch, block, (2, 3, 4, 1))
    assert worker.tasks == {7: (batch, block, (2, 3, 4, 1))}
    assert worker.known == ({block} if known else set())


def test_who_is_quicker_gets_more_to_do(monkeypatch):
    """One of two workers answers only when a batch of its own is waited for."""

    class Hand:
        def __init__(self):
            self.tasks, self.given = {}, 0

        def give(self, number, batch, block, shape):
            self.tasks[number], self.given = batch, self.given + 1

        def end(self):
            pass

    def collect(done):
        quick.tasks = done.update(quick.tasks) or {}
        if not done or min(done) > min(slow.tasks, default=99):
            number = min(slow.tasks)
            done[number] = slow.tasks.pop(number)

    monkeypatch.setattr("tinynet.data.workers._Block", lambda size: size)
    pool = WorkerPool(Counted(), 2, 2, (4, 3, 4, 1))
    pool.workers = slow, quick = Hand(), Hand()
    monkeypatch.setattr(pool, "_collect", collect)
    plans = list(Loader(Counted(80), 4, crop=3, train=False)._plan(0, 0))
    assert [batch is plan for batch, plan in zip(pool.run(iter(plans)), plans, strict=True)]
    assert quick.given > slow.given > 0 and quick.given + slow.given == 20


def test_how_a_process_ended_is_waited_for():
    """Its pipe closes before its status can be asked for."""

    class Ending:
        pid, exitcode = 7, None

        def __init__(self, status):
            self.status = status

        def join(self, seconds):
            self.exitcode = self.status

    process = Process.__new__(Process)
    process.name = "worker 3"
    for status, how in ((-9, "was killed by SIGKILL"), (3, "ended with status 3")):
        process.process = Ending(status)
        assert process.died_of() == f"worker 3 (pid 7) {how}"


def test_shared_memory_without_memfd(monkeypatch):
    monkeypatch.delattr(os, "memfd_create", raising=False)
    block = _Block(100)
    assert len(block.memory) == 100 and os.fstat(block.file.fileno()).st_size == 100
