"""Pieces of a kernel on a small pool of threads.

NumPy's copies and element-wise loops use one core, and release the interpreter lock while they
run. So a kernel cuts its work into pieces, and the pieces run on a few threads with BLAS held to
one thread meanwhile. How the work is cut never depends on the number of threads, so the results are
the same bits for any number of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from tinynet.devices.cores import available_cores

Piece = TypeVar("Piece")

_blas = ThreadpoolController()
_num_threads = 1
_pool: ThreadPoolExecutor | None = None


def set_num_threads(n: int) -> None:
    """Use `n` threads (>= 1) for the CPU kernels; the default is TINYNET_NUM_THREADS, or else one a
    core.

    The results do not depend on it. Raises ValueError for anything but a positive integer.
    """
    global _num_threads, _pool
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 1:
        raise ValueError(f"set_num_threads: expected an integer of at least 1, got {n!r}")
    _num_threads, _pool = int(n), None


def get_num_threads() -> int:
    """The number of threads that the CPU kernels use."""
    return _num_threads


def parallel_for(function: Callable[[Piece], object], pieces: Iterable[Piece]) -> None:
    """Call `function(piece)` for every piece, on up to `get_num_threads()` threads; return when all
    are done.

    Pieces must not write to the same memory. The first exception of any piece is raised here.
    """
    global _pool
    pieces = list(pieces)
    helpers = min(_num_threads, len(pieces)) - 1
    queue = iter(pieces)  # a list's iterator hands each piece to exactly one thread

    def work() -> None:
        try:
            for piece in queue:
                function(piece)
        except BaseException:
            for _ in queue:  # nobody starts another piece
                pass
            raise

    with one_blas_thread():
        if helpers > 0 and _pool is None:
            _pool = ThreadPoolExecutor(_num_threads, thread_name_prefix="tinynet")
        futures = [_pool.submit(work) for _ in range(helpers)] if _pool else []
        try:
            work()
        finally:
            errors = [future.exception() for future in futures]
    for error in errors:
        if error is not None:
            raise error


def one_blas_thread() -> AbstractContextManager[object]:
    """A context in which BLAS works on one thread: the bits of a matrix product then depend on
    nothing but its inputs. 12 us.
    """
    return _blas.limit(limits=1, user_api="blas")


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


def _forget_pool() -> None:  # threads do not survive a fork
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def _default_num_threads() -> int:
    text = os.environ.get("TINYNET_NUM_THREADS")
    if text is None:
        return available_cores()
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"TINYNET_NUM_THREADS: expected an integer of at least 1, got {text!r}")
    return int(text)


set_num_threads(_default_num_threads())
