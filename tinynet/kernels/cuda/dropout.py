"""Dropout: tinynet/kernels/dropout.py on a GPU, with the same masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import dropout_backward
from tinynet.kernels.cuda.launch import Source, batch_first

__all__ = ["dropout_backward", "dropout_forward"]
_cu = Source("dropout.cu")


def dropout_forward(
    x: Any,
    p: float,
    seed: int,
    call: int,
    inverted: bool = True,
    rows: slice | None = None,
    total: int = 0,
) -> tuple[Any, Any]:
    """Any shape -> y and the mask. rows: x is these rows of a batch of `total`, so is the mask."""
    N = x.shape[:1] if rows is None else (total,)
    mask = cupy.empty(x.shape[1:] + N, bool)  # elements are numbered batch innermost
    _cu.dropout_mask(
        (-(-mask.size // 16), 1), mask, np.uint64(seed), np.uint64(call), round(p * 65536),
        mask.size,
    )  # fmt: skip
    if rows is not None:
        mask = cupy.ascontiguousarray(mask[..., rows])
    mask = batch_first(mask)
    return dropout_backward(x, mask, p, inverted), mask
