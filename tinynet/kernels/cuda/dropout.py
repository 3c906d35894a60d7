"""Dropout: tinynet/kernels/dropout.py on a GPU, with the same masks."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import dropout_backward
from tinynet.kernels.cuda.launch import Source, batch_first

__all__ = ["dropout_backward", "dropout_forward"]
_cu = Source("dropout.cu")


def dropout_forward(
    x: Any, p: float, seed: int, call: int, inverted: bool = True
) -> tuple[Any, Any]:
    """Any shape -> y and the mask."""
    mask = cupy.empty(x.shape[1:] + x.shape[:1], bool)  # elements are numbered batch innermost
    _cu.dropout_mask((-(-x.size // 16), 1), mask, seed, call, round(p * 65536), x.size)
    mask = batch_first(mask)
    return dropout_backward(x, mask, p, inverted), mask
