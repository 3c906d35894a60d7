"""The sum of the squares of an array, of which a norm is made.

    y = sum over i of x_i^2

In float64: the squares of float32 overflow from 2e19 on. The pieces are added in their order, so
the bits do not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np

from tinynet.devices.scratch import Scratch
from tinynet.devices.threads import parallel_for, ranges
from tinynet.kernels.layout import PIECE

_squares = Scratch()


def square_sum(x: np.ndarray) -> np.ndarray:
    """Any shape -> an array () of float64."""
    flat = x.reshape(-1)
    pieces = ranges(flat.size, PIECE)
    sums = np.empty(len(pieces))

    def piece(k: int) -> None:
        part = flat[pieces[k]]
        squares = _squares.array(part.shape, sums.dtype)
        sums[k] = np.multiply(part, part, out=squares, dtype=sums.dtype).sum()

    parallel_for(piece, range(len(pieces)))
    return np.asarray(sums.sum())
