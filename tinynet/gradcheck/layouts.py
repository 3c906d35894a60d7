"""The same values in other orders of memory. A picture batch has four axes and so 24 orders, each
axis forward or backward: a kernel that counts on one of them is wrong for the others.
"""

from __future__ import annotations

import numpy as np


def like(template: np.ndarray, values: np.ndarray) -> np.ndarray:
    """`values` in memory that is strided like the template's; densely if elements of the template
    share memory.
    """
    strides = [s // template.itemsize * values.itemsize for s in template.strides]
    reach = [s * (n - 1) for s, n in zip(strides, values.shape, strict=True)]
    memory = np.empty(sum(map(abs, reach)) + values.itemsize, np.uint8)
    first = -sum(min(r, 0) for r in reach)
    copy = np.ndarray(values.shape, values.dtype, memory, first, strides)
    copy[...] = values
    return copy if np.array_equal(copy, values, equal_nan=True) else values.copy()


def c_order(x: np.ndarray) -> np.ndarray:
    """The last axis runs fastest: what NumPy makes, and most tests send."""
    return np.array(x, order="C")


def batch_innermost(x: np.ndarray) -> np.ndarray:
    """The first axis runs fastest: tinynet's pictures."""
    return np.array(x) if x.ndim < 2 else np.moveaxis(c_order(np.moveaxis(x, 0, -1)), -1, 0)


def backwards(x: np.ndarray) -> np.ndarray:
    """Axes in reverse, and every axis from its end: no operation leaves an array so by chance."""
    back = tuple(slice(None, None, -1) for _ in x.shape)
    return np.asarray(c_order(x[back].T).T[back])


def columns_first(x: np.ndarray) -> np.ndarray:
    """Axes in reverse: what `transpose` leaves."""
    return np.array(x, order="F")


def a_slice(x: np.ndarray) -> np.ndarray:
    """Rows of memory with others between them: what `concat` sends back. NaN lies there, so that
    nobody reads it without being noticed.
    """
    return _into(slice(x.shape[-1]), x) if x.ndim else x.copy()


def with_gaps(x: np.ndarray) -> np.ndarray:
    """Every other element of the last axis."""
    return _into(slice(None, None, 2), x) if x.ndim else x.copy()


def _into(part: slice, x: np.ndarray) -> np.ndarray:
    """x as a part of the last axis of an array twice as wide."""
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    wide[..., part] = x
    return wide[..., part]


LAYOUTS = {
    "C order": c_order,
    "batch innermost": batch_innermost,
    "backwards": backwards,
    "columns first": columns_first,
    "a slice": a_slice,
    "with gaps": with_gaps,
}
