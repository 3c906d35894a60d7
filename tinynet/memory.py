"""The CPU's memory pool: large arrays from blocks that are used again instead of being returned to the system.

A block fresh from the system costs a page fault for every page at its first touch. A training step asks for the same
sizes again and again, so the pool keeps what is let go and hands it out at the next request of about that size.

How it knows that an array is gone: NumPy keeps a reference from an array, and from every view of it, to the object that
owns the memory. Here that object is a `_Lease`; when the last view dies, so does the lease, and its block comes back.
"""

from __future__ import annotations

import threading
from collections import deque
from math import prod
from typing import NamedTuple

import numpy as np

SMALL = 1 << 16  # bytes; below this, malloc is quicker than we are
ALIGN = 64  # bytes: a cache line


class MemoryStats(NamedTuple):
    """Bytes of a device's memory: in living arrays, held from the system (living and idle), and the most ever used."""

    used: int
    held: int
    peak: int


class _Lease:
    __slots__ = ("__array_interface__", "block", "pool")

    def __init__(self, pool: Pool, block: np.ndarray, shape: tuple[int, ...], dtype: np.dtype):
        self.pool, self.block = pool, block
        address = block.__array_interface__["data"][0]
        aligned = -(-address // ALIGN) * ALIGN
        self.__array_interface__ = {
            "version": 3, "shape": shape, "typestr": dtype.str, "data": (aligned, False),
        }

    def __del__(self) -> None:
        # Only an append, which is atomic: this may run anywhere, also inside Pool.empty.
        self.pool.returned.append(self.block)


class Pool:
    """Blocks of memory, in use or idle. Thread-safe."""

    def __init__(self) -> None:
        self.returned: deque[np.ndarray] = deque()
        self.idle: list[np.ndarray] = []
        self.used = self.held = self.peak = 0
        self.lock = threading.RLock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised C-contiguous array, like numpy.empty."""
        dtype = np.dtype(dtype)
        nbytes = prod(shape) * dtype.itemsize
        if nbytes < SMALL:
            return np.empty(shape, dtype)
        with self.lock:
            self._collect()
            block = self._idle_block(nbytes + ALIGN)
            if block is None:
                block = self._new_block(nbytes + ALIGN)
            self.used += block.nbytes
            self.peak = max(self.peak, self.used)
        return np.asarray(_Lease(self, block, tuple(shape), dtype))

    def stats(self) -> MemoryStats:
        """Bytes used, held and the peak of used. Arrays under 64 KB are not counted."""
        with self.lock:
            self._collect()
            return MemoryStats(self.used, self.held, self.peak)

    def release(self) -> None:
        """Give idle blocks back to the system."""
        with self.lock:
            self._collect()
            self._drop(self.held)

    def _collect(self) -> None:
        while self.returned:
            block = self.returned.popleft()
            self.used -= block.nbytes
            self.idle.append(block)

    def _idle_block(self, nbytes: int) -> np.ndarray | None:
        fits = [b for b in self.idle if nbytes <= b.nbytes <= nbytes + nbytes // 8]
        if not fits:
            return None
        best = min(fits, key=lambda b: b.nbytes)
        self.idle = [b for b in self.idle if b is not best]
        return best

    def _new_block(self, nbytes: int) -> np.ndarray:
        # What is held stays within a tenth of the most ever used: idle blocks of other sizes go first.
        limit = max(self.peak, self.used + nbytes) * 11 // 10
        self._drop(self.held + nbytes - limit)
        block = np.empty(nbytes, np.uint8)
        self.held += nbytes
        return block

    def _drop(self, nbytes: int) -> None:
        while nbytes > 0 and self.idle:
            block = self.idle.pop(0)  # the one that has been idle longest
            self.held -= block.nbytes
            nbytes -= block.nbytes


pool = Pool()
