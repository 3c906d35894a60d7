"""Dropout: tinynet/kernels/dropout.py on a GPU, with the same masks."""

from __future__ import annotations

from typing import Any

from tinynet.devices.cuda import cupy
from tinynet.kernels.cuda.elementwise import dropout_backward
from tinynet.kernels.cuda.launch import Source, batch_first, batch_last

__all__ = ["dropout_backward", "dropout_forward"]
_cu = Source("dropout.cu")


def dropout_forward(x: Any, p: float, seed: int, call: int) -> tuple[Any, Any]:
    """Any shape -> y and the mask."""
    x = batch_last(x)
    y, mask = cupy.empty(x.shape, x.dtype), cupy.empty(x.shape, bool)
    scale = 1 / (1 - p) if p < 1 else 0
    _cu.dropout_forward(
        (-(-x.size // 16), 1), x, y, mask, scale, seed, call, round(p * 65536), x.size
    )
    return batch_first(y), batch_first(mask)
