"""Pieces of a kernel on a small team of threads.

NumPy's copies and element-wise loops use one core, and release the interpreter lock while they
run. So a kernel cuts its work into pieces, and the pieces run on a few threads with BLAS held to
one thread meanwhile. How the work is cut never depends on the number of threads, so the results are
the same bits for any number of them.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from tinynet.devices.cores import available_cores

Piece = TypeVar("Piece")


def _get_and_set(library: Any) -> tuple[Callable, Callable]:
    """The functions of a BLAS that get and set the number of its threads.

    OpenBLAS's own where its threads are one team for the process: threadpoolctl's, from 3.7 on, do
    nothing in all Python threads but one, and cost 1 us each.
    """
    if library.internal_api == "openblas" and library.threading_layer != "openmp":
        for prefix in ("", "scipy_"):
            for suffix in ("", "64_", "_64"):
                names = (f"{prefix}openblas_{verb}_num_threads{suffix}" for verb in ("get", "set"))
                found = [getattr(library.dynlib, name, None) for name in names]
                if found[0] and found[1]:
                    return found[0], found[1]
    return library.get_num_threads, library.set_num_threads


_blas = [_get_and_set(b) for b in ThreadpoolController().select(user_api="blas").lib_controllers]
_num_threads: int  # set at the end of this file

_lock = threading.RLock()  # held to change what follows
_team: _Team | None = None
_blas_holders: set[object] = set()  # who needs BLAS on one thread
_blas_before: list[int] | None = None  # the threads that it had; None: it has them


def set_num_threads(n: int) -> None:
    """Use `n` threads (>= 1) for the CPU kernels; the default is TINYNET_NUM_THREADS, or else one a
    core.

    The results do not depend on it. Raises ValueError for anything but a positive integer.
    """
    global _num_threads, _team
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"set_num_threads: expected an integer of at least 1, got {n!r}")
    with _lock:
        old, _num_threads, _team = _team, int(n), None
    if old is not None:
        old.end()


def get_num_threads() -> int:
    """The number of threads that the CPU kernels use."""
    return _num_threads


def parallel_for(
    function: Callable[[Piece], object], pieces: Iterable[Piece], alone: bool = False
) -> None:
    """Call `function(piece)` for every piece, on up to `get_num_threads()` threads, or on this one
    `alone`; return when all are done.

    Pieces must not write to the same memory. The first exception of any piece is raised here, when
    no thread works at a piece any more; so is an interrupt.
    """
    pieces = list(pieces)
    threads = 1 if alone else min(_num_threads, len(pieces))
    work = _Work(function, pieces, helpers=max(1, threads) - 1)
    try:
        _hold_blas(work)
        if work.places:
            _the_team().help(work)
        work.take_part()
    finally:
        while True:  # once more if an interrupt comes: nobody may still write when we return
            try:
                work.wait()
                _let_blas_go(work)
                break
            except BaseException as interrupt:
                work.errors[:0] = [interrupt]
    if work.errors:
        error = work.errors.pop(0)
        try:
            raise error
        finally:
            del error  # it knows this frame: a circle would keep arrays alive


class Job(NamedTuple):
    """Work in pieces, and the result once all are done."""

    function: Callable[[Any], object]
    pieces: Sequence[Any]
    result: Callable[[], Any]


NO_JOB = Job(lambda piece: None, (), lambda: None)  # its result is None


ENOUGH = 1 << 22  # multiplications that are worth a hand-over: 50 to 100 us


def run_job(job: Job) -> Any:
    """The result of a job."""
    parallel_for(job.function, job.pieces)
    return job.result()


def run_jobs(jobs: Sequence[Job], multiplications: int) -> list[Any]:
    """The results of jobs that do not need each other; each takes so many multiplications.

    By one hand-over to the threads, if they are enough. Each thread begins with another job, and
    reads what that one needs: with a convolution's dx on one core and dw on the other less data
    goes from core to core than with halves of both.
    """
    tasks = [(job.function, piece) for job in jobs for piece in job.pieces]
    parallel_for(lambda task: task[0](task[1]), tasks, alone=multiplications < ENOUGH)
    return [job.result() for job in jobs]


class _Work:
    """The pieces of one parallel_for."""

    def __init__(self, function: Callable, pieces: list, helpers: int):
        self.function: Any = function
        # Neighbouring pieces for each thread, the first for the caller: they often read the same
        # data. Each piece goes to one thread: who has done its own goes on with the next one's.
        self.shares = [iter(pieces)]
        # One for each helper, who holds it while it works. The caller takes it to wait for the
        # helper, or to come before it: a helper that finds it taken goes away, and a small job does
        # not wait for a thread to wake up (30 us).
        self.places: list[Any] = []
        if helpers:
            bounds = [i * len(pieces) // (helpers + 1) for i in range(helpers + 2)]
            self.shares = [iter(pieces[a:b]) for a, b in itertools.pairwise(bounds)]
            self.places = [threading.RLock() for _ in range(helpers)]
        self.errors: list[BaseException] = []

    def take_part(self, share: int = 0) -> None:
        """Work at pieces until none is left, beginning with those of a share."""
        left = itertools.chain(*self.shares[share:], *self.shares[:share])
        try:
            for piece in left:
                self.function(piece)
        except BaseException as error:
            self.errors.append(error)
            for _ in left:  # nobody begins another piece
                pass

    def help(self, number: int) -> None:
        """What a helper does; the first has number 0."""
        place = self.places[number]
        if place.acquire(blocking=False):
            try:
                self.take_part(number + 1)
            finally:
                place.release()

    def wait(self) -> None:
        """Until no helper works at a piece, and none will."""
        for place in self.places:
            place.acquire()
        self.function = None  # or a helper that wakes up late would keep arrays alive


class _Team:
    """Threads that wait for work."""

    def __init__(self, size: int):
        self.size = size
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.threads: list[threading.Thread] = []

    def help(self, work: _Work) -> None:
        """Hand the work over to as many threads as it has places."""
        with _lock:
            while len(self.threads) < self.size:
                thread = threading.Thread(target=self._serve, name="tinynet", daemon=True)
                thread.start()  # an interrupt from here to the next line: one thread more
                self.threads.append(thread)
        for number in range(len(work.places)):
            self.queue.put((work, number))

    def end(self) -> None:
        """Let the threads end when they have done what is in the queue."""
        self.queue.put(None)

    def _serve(self) -> None:
        while (task := self.queue.get()) is not None:
            work, number = task
            work.help(number)
            del task, work
        self.queue.put(None)  # for the next one


def _the_team() -> _Team:
    global _team
    with _lock:
        if _team is None:
            _team = _Team(_num_threads - 1)
        return _team


def _hold_blas(holder: object) -> None:
    """Set BLAS to one thread, until the last holder lets it go. 2 us for both."""
    global _blas_before
    with _lock:
        if _blas_before is None:
            _blas_before = [get() for get, _ in _blas]
        _blas_holders.add(holder)
        for _, set_threads in _blas:
            set_threads(1)


def _let_blas_go(holder: object) -> None:
    """Give BLAS its threads back, unless somebody else holds it. It may be called again."""
    global _blas_before
    with _lock:
        _blas_holders.discard(holder)
        if not _blas_holders and _blas_before is not None:
            for (_, set_threads), threads in zip(_blas, _blas_before, strict=True):
                set_threads(threads)
            _blas_before = None


def piece_size(total: int, smallest: int, largest: int) -> int:
    """How large to make the pieces of some work: eight of them, unless they would be too small or
    too large.

    Too small, and the threads spend their time handing the interpreter lock to each other, which
    costs some 50 us a time: a NumPy call on a piece should take longer than that. Too large, and a
    piece does not stay in the cache. Results do not depend on the number of threads, so it is not
    asked.
    """
    return max(smallest, min(largest, -(-total // 8)))


def ranges(n: int, step: int) -> list[slice]:
    """[0, n) in slices of `step`, the last one shorter."""
    return [slice(i, min(i + step, n)) for i in range(0, n, step)]


def parts(n: int, count: int) -> list[slice]:
    """[0, n) in at most `count` slices of one length, the last one shorter."""
    return ranges(n, max(1, -(-n // count)))


def pieces_of(n: int, *, each: int, most: int, least: int = 1) -> list[slice]:
    """[0, n) in slices that hold `most` elements at most, where one of n holds `each`; but `least`
    of n at least.
    """
    return ranges(n, max(least, most // max(1, each)))


def _forget_threads() -> None:  # a fork copies no thread, also none of those that held BLAS
    global _team, _lock
    _team, _lock = None, threading.RLock()
    _blas_holders.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def _default_num_threads() -> int:
    text = os.environ.get("TINYNET_NUM_THREADS")
    if text is None:
        return available_cores()
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"TINYNET_NUM_THREADS: expected an integer of at least 1, got {text!r}")
    return int(text)


set_num_threads(_default_num_threads())
