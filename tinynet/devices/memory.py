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

An interrupt (Ctrl-C) may come after any call. So nothing of ours runs when a lease dies: a weak
reference to it is appended to `returned`, in C. And what `empty` and `_collect`
change, they change at once, in lines without a call: no range is lost.
"""

from __future__ import annotations

import bisect
import threading
import weakref
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
    __slots__ = ("__array_interface__", "__weakref__")

    def __init__(self, start: int, shape: tuple[int, ...], dtype: np.dtype):
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": dtype.str,
            "data": (start, False),
        }


class Pool:
    """Ranges of memory (start address, stop address), in use or free. Thread-safe."""

    def __init__(self) -> None:
        # id of a weak reference to a lease -> that reference, and the range
        self.leased: dict[int, tuple[weakref.ref, int, int]] = {}
        self.returned: deque[weakref.ref] = deque()  # to leases that died since
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
            i = self._best(nbytes)
            start, stop = self.free[i]
            lease = _Lease(start, tuple(shape), dtype)
            reference = weakref.ref(lease, self.returned.append)
            key, peak = id(reference), max(self.peak, self.used + nbytes)
            # No call from here on, or an interrupt could leave half of it done.
            self.free[i : i + 1] = [(start + nbytes, stop)] if stop > start + nbytes else []
            self.leased[key] = reference, start, start + nbytes
            self.used += nbytes
            self.peak = peak
        return np.asarray(lease)

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

    def _best(self, nbytes: int) -> int:
        """Where in `free` the smallest range of at least that size is; from a new segment, if there
        was none.
        """
        fits = [(stop - start, i) for i, (start, stop) in enumerate(self.free)]
        fits = [fit for fit in fits if fit[0] >= nbytes]
        if fits:
            return min(fits)[1]
        segment = np.empty(max(SEGMENT, nbytes) + ALIGN, np.uint8)
        start = -(-segment.ctypes.data // ALIGN) * ALIGN
        whole = start, start + max(SEGMENT, nbytes)
        i = bisect.bisect(self.free, whole)
        self.segments += [segment]
        self.free[i:i] = [whole]
        return i

    def _collect(self) -> None:
        """What came back becomes free, joined with its neighbours."""
        while self.returned:
            key = id(self.returned[0])
            if key not in self.leased:  # an interrupt came before the range was taken
                del self.returned[0]
                continue
            _, start, stop = self.leased[key]
            i = bisect.bisect(self.free, (start, stop))
            low, high, whole = i, i, [start, stop]
            if i < len(self.free) and self.free[i][0] == stop:
                high, whole[1] = i + 1, self.free[i][1]
            if i > 0 and self.free[i - 1][1] == start:
                low, whole[0] = i - 1, self.free[i - 1][0]
            # No call from here on.
            self.free[low:high] = [(whole[0], whole[1])]
            self.used -= stop - start
            del self.leased[key], self.returned[0]


pool = Pool()
