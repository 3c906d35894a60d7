"""The sum of squares of tinynet/kernels/clip.py on a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.launch import THREADS, Source

_cu = Source("clip.cu")
# Elements that one block adds up: few enough that many blocks run, many enough that few sums are
# left to the second launch. A guess.
RUN = 1 << 14


def square_sum(x: Any) -> Any:
    """Any shape -> an array () of float64; nothing waits for the GPU."""
    blocks = -(-x.size // RUN)
    sums, total = cupy.empty(blocks, np.float64), cupy.empty((), np.float64)
    _cu.power_sums((blocks * THREADS, 1), cupy.ascontiguousarray(x), sums, RUN, x.size, POWER=2)
    _cu.power_sums((THREADS, 1), sums, total, blocks, blocks, POWER=1)
    return total
