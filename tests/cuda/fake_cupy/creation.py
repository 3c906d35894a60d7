"""New arrays, and copies between the host and a GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from fake_cupy.arrays import call, ndarray, new, on_current
from fake_cupy.machine import machine
from fake_cupy.streams import current_gpu, current_stream, operate


def filled(value: Any, shape: Any, dtype: Any = float) -> ndarray:
    array = new(shape, dtype)
    operate("full", current_stream(), [], [array._block])
    array._values.fill(value)
    return array


def asarray(a: Any, dtype: Any = None) -> ndarray:
    if isinstance(a, ndarray):
        if a._block.device_id != current_gpu():  # CuPy copies it here, and records no event
            raise AssertionError("asarray of another GPU's array copies it to the current GPU")
        return a if dtype is None or np.dtype(dtype) == a.dtype else a.astype(dtype)
    values = np.asarray(a, dtype)
    out = new(values.shape, values.dtype)
    operate("asarray", current_stream(), [], [out._block])
    np.copyto(out._values, values)
    return out


def asnumpy(a: ndarray) -> np.ndarray:
    on_current(a)
    return a.get()


def ascontiguousarray(a: ndarray, dtype: Any = None) -> ndarray:
    if a.flags.c_contiguous:
        return a if a.ndim else a.reshape(1)
    return call(np.ascontiguousarray, "ascontiguousarray", (a,), {}, fresh=True)


def as_strided(a: ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> ndarray:
    machine.used_names.add("lib.stride_tricks.as_strided")
    reach = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + a.itemsize
    assert 0 in shape or reach <= a.nbytes, "as_strided: past the end of the array"
    return a._view(np.lib.stride_tricks.as_strided(a._values, shape, strides))


def take_wrapped(values: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    """take_along_axis as CuPy has it: an index out of range begins again, without a word."""
    return np.take_along_axis(values, indices % values.shape[axis], axis)


def take_along_axis(a: ndarray, indices: ndarray, axis: int) -> ndarray:
    machine.used_names.add("take_along_axis")
    return call(take_wrapped, "take_along_axis", (a, indices, axis), {})


def concatenate(arrays: Any, axis: int = 0) -> ndarray:
    """In C order, whatever the order of the arguments."""
    joined = lambda parts: np.ascontiguousarray(np.concatenate(parts, axis))  # noqa: E731
    return call(joined, "concatenate", (list(arrays),), {}, fresh=True)
