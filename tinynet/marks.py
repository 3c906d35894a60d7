"""Has an array been changed? Its mark tells."""

from __future__ import annotations

from typing import Any

from numpy import ndarray

SAMPLES = 1024  # elements of an array that are looked at, at least


def mark(array: Any) -> bytes | None:
    """Up to 2 * SAMPLES elements, spread evenly: all of a small array (0.1 us), some of a large one
    (1 us).

    So a change of a whole array is always noticed; a change of a few elements in a large one may
    pass. Not on a GPU, where reading would wait for the device.
    """
    if not isinstance(array, ndarray):
        return None
    if array.size <= SAMPLES:
        return array.tobytes()
    # One contiguous run of memory, the batch first or last, is a view of one axis: five times
    # quicker to step through than `flat`.
    if array.flags.c_contiguous:
        elements: Any = array.reshape(-1)
    else:
        batch_last = array.transpose(*range(1, array.ndim), 0)
        elements = batch_last.reshape(-1) if batch_last.flags.c_contiguous else array.flat
    return elements[:: array.size // SAMPLES].tobytes()
