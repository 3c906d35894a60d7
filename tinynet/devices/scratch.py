"""Working memory of the CPU kernels: arrays that a thread gets again at its next call."""

from __future__ import annotations

import threading
from math import prod

import numpy as np
from numpy.typing import DTypeLike


class Scratch(threading.local):
    """Memory for one array of one kernel, in each thread a memory of its own.

    A kernel's file makes one for each array that it works in, so no other kernel can write there.
    A piece of work finds the memory of the piece before it, still warm in the core's cache:

        _squares = Scratch()
        squares = np.multiply(x, x, out=_squares.array(x.shape, x.dtype))
    """

    def __init__(self) -> None:  # runs once in each thread
        self._memory = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """An uninitialised array; this thread's array of the call before is overwritten."""
        nbytes = prod(shape) * np.dtype(dtype).itemsize
        if self._memory.nbytes < nbytes:
            self._memory = np.empty(nbytes, np.uint8)
        return self._memory[:nbytes].view(dtype).reshape(shape)
