"""The CPU's memory pool: large arrays from memory that is used again instead of being returned to
the system.

Memory fresh from the system costs a page fault at the first touch of every page: a tenth of an
AlexNet step's time. A step asks for the same sizes again and again, so the pool keeps what is
freed and hands it out again.

It takes large segments from the system, cuts ranges from them, and joins a range that comes back
with its free neighbours, so that sizes may differ from request to request (keeping whole blocks by
size needed 60 % more memory for the same effect).

How it knows that an array is gone: NumPy keeps a reference from an array, and from every view of
it, to the object that owns the memory. Here that object is a `_Lease`; when the last view dies, so
does the lease, and its range comes back.
"""

from __future__ import annotations

import bisect
import threading
from collections import deque
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

SMALL = 1 << 16  # bytes; below this, malloc is quicker than we are
ALIGN = 64  # bytes: a cache line
SEGMENT = 1 << 30  # bytes taken from the system at once; of these, pages never touched cost nothing


class MemoryStats(NamedTuple):
    """Bytes of a device's memory: in living arrays, held from the system (living and idle), and the
    most ever used.
    """

    used: int
    held: int
    peak: int


class _Lease:
    __slots__ = ("__array_interface__", "pool", "range")

    def __init__(self, pool: Pool, range: tuple[int, int], shape: tuple[int, ...], dtype: np.dtype):
        self.pool, self.range = pool, range
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (range[0], False),
        }

    def __del__(self) -> None:
        # Only an append, which is atomic: this may run anywhere, also inside Pool.empty.
        self.pool.returned.append(self.range)


class Pool:
    """Ranges of memory (start address, stop address), in use or free. Thread-safe."""

    def __init__(self) -> None:
        self.returned: deque[tuple[int, int]] = deque()
        self.free: list[tuple[int, int]] = []  # sorted, no two of them touching
        self.segments: list[np.ndarray] = []
        self.used = self.peak = 0
        self.lock = threading.RLock()

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An uninitialised C-contiguous array, like numpy.empty."""
        dtype = np.dtype(dtype)
        nbytes = prod(shape) * dtype.itemsize
        if nbytes < SMALL:
            return np.empty(shape, dtype)
        nbytes = -(-nbytes // ALIGN) * ALIGN
        with self.lock:
            self._collect()
            start, stop = self._take(nbytes)
            if stop > start + nbytes:
                bisect.insort(self.free, (start + nbytes, stop))
            self.used += nbytes
            self.peak = max(self.peak, self.used)
        return np.asarray(_Lease(self, (start, start + nbytes), tuple(shape), dtype))

    def stats(self) -> MemoryStats:
        """Bytes used, held and the peak of used. Arrays under 64 KB are not counted."""
        with self.lock:
            self._collect()
            return MemoryStats(
                self.used, sum(segment.nbytes for segment in self.segments), self.peak
            )

    def reset_peak(self) -> None:
        """Start the peak again, at what is used now."""
        self.peak = self.stats().used

    def _take(self, nbytes: int) -> tuple[int, int]:
        """The smallest free range of at least that size, or a new segment."""
        fits = [r for r in self.free if r[1] - r[0] >= nbytes]
        if fits:
            best = min(fits, key=lambda r: r[1] - r[0])
            self.free.remove(best)
            return best
        segment = np.empty(max(SEGMENT, nbytes) + ALIGN, np.uint8)
        self.segments.append(segment)
        start = -(-segment.ctypes.data // ALIGN) * ALIGN
        return start, start + max(SEGMENT, nbytes)

    def _collect(self) -> None:
        """What came back becomes free, joined with its neighbours."""
        while self.returned:
            start, stop = self.returned.popleft()
            self.used -= stop - start
            i = bisect.bisect(self.free, (start, stop))
            if i < len(self.free) and self.free[i][0] == stop:
                stop = self.free.pop(i)[1]
            if i > 0 and self.free[i - 1][1] == start:
                i -= 1
                start = self.free.pop(i)[0]
            self.free.insert(i, (start, stop))


pool = Pool()
