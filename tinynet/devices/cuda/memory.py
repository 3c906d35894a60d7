"""The memory of GPUs: CuPy's pool, the most ever used, and an error that helps."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from tinynet.devices.cuda.installation import cupy
from tinynet.devices.cuda.lane import active
from tinynet.devices.memory import MemoryStats
from tinynet.errors import OutOfMemoryError

pool = cupy.cuda.MemoryPool()
UNIT = 512  # CuPy's pool gives multiples of it


class _Peak:
    """The most bytes of a GPU that were ever used at once.

    CuPy's pool goes through all blocks in use to add them up. So they are added up only when the
    peak can have been passed: when more was asked for since the last time than lay between.
    """

    def __init__(self) -> None:
        self.bytes = self._between = 0
        self._lock = threading.Lock()

    def asked(self, nbytes: int) -> None:
        """So many bytes more are used, of the GPU that is current."""
        with self._lock:
            self._between -= nbytes + UNIT
            if self._between < 0:
                used = pool.used_bytes()
                self.bytes = max(self.bytes, used)
                self._between = self.bytes - used

    def reset(self) -> None:
        """Start again from what is used now."""
        with self._lock:
            self.bytes, self._between = pool.used_bytes(), 0


_peaks: defaultdict[int, _Peak] = defaultdict(_Peak)  # by GPU


def stats(gpu: int) -> MemoryStats:
    """Of that GPU, which is the current one."""
    return MemoryStats(pool.used_bytes(), pool.total_bytes(), _peaks[gpu].bytes)


def reset_peak(gpu: int) -> None:
    """Let the peak of that GPU, which is the current one, start again from what is used now."""
    _peaks[gpu].reset()


def allocate(nbytes: int) -> Any:
    """Memory of the current GPU, for CuPy's arrays. OutOfMemoryError says what would fit."""
    gpu = cupy.cuda.runtime.getDevice()
    try:
        memory = pool.malloc(nbytes)
    except cupy.cuda.memory.OutOfMemoryError:
        raise _out_of_memory(gpu, nbytes) from None
    _peaks[gpu].asked(nbytes)
    if active.stack:
        lane = active.stack[-1].lane
        if lane.waits and lane.pending(memory.ptr, memory.ptr + nbytes):
            lane.queue_waits()  # a copy elsewhere still reads what lay in this block before
    return memory


def pinned(nbytes: int) -> np.ndarray:
    """Bytes of the host that a GPU copies from and to while the host goes on."""
    try:
        return import_module("cupyx").empty_pinned((nbytes,), np.uint8)
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise OutOfMemoryError(
            f"cuda: the host gives no {_size(nbytes)} of pinned memory ({error}): free some of the "
            f"host's memory, or raise the limit on locked memory (ulimit -l)"
        ) from None


def _out_of_memory(gpu: int, asked: int) -> OutOfMemoryError:
    free, total = cupy.cuda.runtime.memGetInfo()
    used = pool.used_bytes()
    free += pool.total_bytes() - used
    # The innermost activation with a name: an upload or `empty` inside an operation has none.
    running = next((a for a in reversed(active.stack) if a.operation), None)
    operation, arrays = (running.operation, running.arrays) if running else ("", ())
    batch = _batch_size(arrays)
    advice = "use a smaller batch size"
    if batch > 1:
        # As if all that is in use grew with the batch. Weights do not, and later layers will want
        # more: an upper bound.
        advice = (
            f"of a batch of {batch}, at most {batch * (used + free) // (used + asked)} would fit"
        )
    return OutOfMemoryError(
        f"cuda:{gpu}: {operation or 'an operation'} asked for {_size(asked)}, but {_size(free)} of "
        f"{_size(total)} are free "
        f"(tinynet uses {_size(used)}): {advice}"
    )


def _batch_size(arrays: Sequence[Any]) -> int:
    """N of the first array (N, ...) among what the operation was given; 1 if there is none."""
    shapes = (array.shape for array in arrays if isinstance(array, cupy.ndarray))
    return next((shape[0] for shape in shapes if len(shape) > 1), 1)


def _size(nbytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if abs(nbytes) < 1024:
            return f"{nbytes:.4g} {unit}"
        nbytes /= 1024
    return f"{nbytes:.2f} GiB"
