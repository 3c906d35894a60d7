"""Worker processes that decode and cut pictures into shared memory.

Each worker has a pipe of its own and no lock is shared, so a worker killed at any moment leaves
nothing locked: its pipe closes, which the parent sees, names, and answers with a new worker that
gets the same tasks again. Batches come back in order whoever loads them.
"""

from __future__ import annotations

import logging
import math
import mmap
import multiprocessing
import os
import signal
import tempfile
import weakref
from collections.abc import Callable, Generator, Iterator
from multiprocessing import connection, reduction
from typing import Any

import numpy as np

from tinynet.data.batch import Batch, crop_pictures
from tinynet.data.dataset import Dataset
from tinynet.data.pictures import keep_freed_memory
from tinynet.errors import DataError

log = logging.getLogger("tinynet.data")

MAX_DEATHS = 3  # of one worker in a row, without a batch between them
TIMEOUT = 300.0  # seconds without a word from any worker


class _Block:
    """Memory for one batch, shared with workers by passing its file descriptor: it has no name in
    the file system, so nothing is left behind however this process ends."""

    def __init__(self, size: int):
        if hasattr(os, "memfd_create"):  # Linux; a file without a name elsewhere
            self.file = open(os.memfd_create("tinynet-batch"), "r+b", buffering=0)
        else:
            self.file = tempfile.TemporaryFile(buffering=0)
        weakref.finalize(self, self.file.close)
        self.file.truncate(size)
        self.memory = mmap.mmap(self.file.fileno(), size)
        self.size = size


class Process:
    """A spawned process that runs `target(pipe, *args)` until its pipe closes."""

    def __init__(self, name: str, target: Callable, *args: object):
        context = multiprocessing.get_context("spawn")
        self.name = name
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(theirs, *args), daemon=True)
        self.process.start()
        theirs.close()  # so that its end is closed when the process dies, and we see that

    def died_of(self) -> str:
        """Who it was and how it ended, for a message."""
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            how = f"was killed by {signal.Signals(-code).name}"
        else:
            how = f"ended with status {code}"
        return f"{self.name} (pid {self.process.pid}) {how}"

    def end(self) -> None:
        """End it now, in the middle of its work if need be."""
        self.pipe.close()
        self.process.kill()  # which, unlike terminate(), ends a stopped process too
        self.process.join(5)


def leave_signals_to_parent() -> None:
    """Ctrl-C and a closed terminal reach every process of the group: the parent answers them."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


class _Worker(Process):
    """A process that fills batches, and the tasks it has been given and not yet answered."""

    def __init__(self, number: int, dataset: Dataset):
        super().__init__(f"loader worker {number}", _serve, dataset)
        self.number = number
        self.tasks: dict[int, tuple[Batch, _Block, tuple[int, ...]]] = {}
        self.known: set[_Block] = set()
        self.deaths = 0

    def give(self, number: int, batch: Batch, block: _Block, shape: tuple[int, ...]) -> None:
        self.tasks[number] = batch, block, shape
        try:
            if block not in self.known:
                self.pipe.send(("block", id(block), block.size))
                reduction.send_handle(self.pipe, block.file.fileno(), self.process.pid)
                self.known.add(block)
            self.pipe.send((number, id(block), shape, batch.indices, batch.top, batch.left))
        except OSError:
            pass  # it has died: the parent sees that when it next looks for answers


class WorkerPool:
    """`workers` processes that serve a data set; they start with the first run.

    `shape` is (N, h, w, C) of the pictures of a full batch, `ahead` the batches a worker may have
    waiting.
    """

    def __init__(self, dataset: Dataset, workers: int, ahead: int, shape: tuple[int, ...]):
        if os.name == "nt":
            raise ValueError(
                f"Loader: expected workers=0 on Windows, where processes cannot share a file "
                f"without a name, got {workers}; load in this process"
            )
        self.dataset = dataset
        self.count = workers
        self.ahead = ahead
        self.shape = shape
        self.workers: list[_Worker] = []
        self.free: list[_Block] = []
        self.running = False

    def run(self, plans: Iterator[Batch]) -> Generator[Batch, None, None]:
        """Each planned batch with its pictures filled in, in order.

        The pictures lie in shared memory, which is used again once nobody refers to them.
        """
        if not self.workers:
            self.workers = [_Worker(number, self.dataset) for number in range(self.count)]
        if self.running:
            raise DataError("an epoch of this loader is still running: close it, or make another")
        self.running = True
        done: dict[int, Batch] = {}
        given = taken = 0
        try:
            while True:
                while given - taken < self.count * self.ahead:
                    batch = next(plans, None)
                    if batch is None:
                        break
                    shape = (len(batch.indices), *self.shape[1:])
                    block = self.free.pop() if self.free else _Block(math.prod(self.shape))
                    worker = min(self.workers, key=lambda worker: len(worker.tasks))
                    worker.give(given, batch, block, shape)
                    given += 1
                if taken == given:
                    return
                while taken not in done:
                    self._collect(done)
                yield done.pop(taken)
                taken += 1
        finally:
            try:
                while any(worker.tasks for worker in self.workers):  # of an epoch left early
                    self._collect({})
            finally:
                self.running = False

    def _collect(self, done: dict[int, Batch]) -> None:
        """Wait for the next answers and put the finished batches into `done`. Ends all processes
        where it raises DataError.
        """
        pipes = {worker.pipe: worker for worker in self.workers}
        ready: list[Any] = list(connection.wait(list(pipes), TIMEOUT))
        if not ready:
            pids = ", ".join(str(worker.process.pid) for worker in self.workers)
            self.close()
            raise DataError(f"no loader worker (pids {pids}) has answered for {TIMEOUT:.0f} s")
        for pipe in ready:
            worker = pipes[pipe]
            try:
                number, problem, damaged = pipe.recv()
            except (EOFError, OSError):
                self._replace(worker)
                continue
            if problem is not None:
                self.close()
                raise DataError(problem)
            batch, block, shape = worker.tasks.pop(number)
            worker.deaths = 0
            batch.damaged = damaged
            batch.pictures = np.ndarray(shape, np.uint8, buffer=block.memory)
            # Views of an array keep it alive, so its end is the end of every use of the block.
            weakref.finalize(batch.pictures, self.free.append, block).atexit = False
            done[number] = batch

    def _replace(self, worker: _Worker) -> None:
        cause = worker.died_of()
        if worker.deaths + 1 == MAX_DEATHS:
            self.close()
            raise DataError(
                f"{cause}, {MAX_DEATHS} times in a row: is there enough memory (fewer workers take "
                f'less), and is the program\'s main part under `if __name__ == "__main__":`?'
            )
        log.warning("%s: started again", cause)
        new = _Worker(worker.number, self.dataset)
        new.deaths = worker.deaths + 1
        self.workers[self.workers.index(worker)] = new
        for number, task in worker.tasks.items():
            new.give(number, *task)

    def close(self) -> None:
        """End the processes. A worker in the middle of a batch is not waited for."""
        workers, self.workers = self.workers, []
        for worker in workers:
            worker.end()


def _serve(pipe: connection.Connection, dataset: Dataset) -> None:
    """The worker's life: take a task, fill the memory it names, answer, until the pipe closes."""
    leave_signals_to_parent()
    keep_freed_memory()
    blocks: dict[int, mmap.mmap] = {}
    while True:
        try:
            task = pipe.recv()
            if task[0] == "block":
                _, name, size = task
                handle = reduction.recv_handle(pipe)
                blocks[name] = mmap.mmap(handle, size)
                os.close(handle)
                continue
        except (EOFError, OSError):
            return
        number, name, shape, indices, top, left = task
        problem, damaged = None, {}
        try:
            out = np.ndarray(shape, np.uint8, buffer=blocks[name])
            damaged = crop_pictures(dataset, indices, top, left, out)
        except Exception as error:  # whatever it is, the parent raises it
            problem = repr(error)
        try:
            pipe.send((number, problem, damaged))
        except OSError:
            return
