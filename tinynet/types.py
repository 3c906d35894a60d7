"""NumPy types of elements, by torch's names: `tinynet.zeros(3, dtype=tinynet.int64)`.."""

from __future__ import annotations

import numpy as np

__all__ = [
    "bool", "double", "float", "float32", "float64", "int", "int32", "int64", "long", "uint8",
]  # fmt: skip

float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
uint8 = np.dtype(np.uint8)
bool = np.dtype(np.bool_)
double, float, int, long = float64, float32, int32, int64
